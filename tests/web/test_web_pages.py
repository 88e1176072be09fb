"""The pages, asked through the application itself."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import web_sample
from starlette.testclient import TestClient

from tidewaiter.core import settings as all_settings
from tidewaiter.web.app import create

MNIST = f"/images/vision/mnist@{web_sample.digest('mnist')}"
HOSTILE = f"/images/zz/hostile@{web_sample.digest('hostile')}"
VOID = {"meta", "link", "img", "input", "br", "rect"}


class _Page(HTMLParser):
    """Reads a page as a browser would: elements, their attributes, the text, and whether tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def _get(client: TestClient, path: str, status: int = 200) -> _Page:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = _Page(answer.text)
    assert page.open == []
    return page


def test_the_list_shows_the_facts_of_each_image(client: TestClient) -> None:
    """Name, tag and its state, verdict with environment, findings, gaps, size, signature, commit: all on one line."""
    text = _get(client, "/").text
    row = text[text.index("vision/mnist") : text.index("speech/whisper-finetune")]
    for fact in ("6f1c0e5ad1b8 cleared", "Allowed staging", "1 high 2 medium 1 unknown 6 not checked", "260.7 MB"):
        assert fact in row
    assert "Signed local 2 hours ago 6f1c0e5ad1b8" in row
    assert "5 images in this catalog" in text


def test_the_list_tells_what_is_not_known(client: TestClient) -> None:
    """No verdict, no scan, no signature and an expired verdict are said as such, never left blank or green."""
    text = _get(client, "/").text
    row = text[text.index("research/diffusion-notebook") : text.index("nlp/bert-serving")]
    assert "not decided research not scanned" in row
    assert "none" in row
    assert "dirty" in row
    row = text[text.index("speech/whisper-finetune") : text.index("research/diffusion-notebook")]
    assert "Expired research" in row
    assert "Allowed" not in row


@pytest.mark.parametrize("path", ["/", MNIST])
def test_the_age_of_the_advisories_is_always_shown(client: TestClient, path: str) -> None:
    """List and image page both say how old the data is, and mark it when it is old."""
    text = _get(client, path).text
    assert re.search(r"Old advisory data\. Advisories as of 10 Oct 2024 \( ?[\d,]+ days ago", text)


def test_the_image_page_shows_everything(client: TestClient) -> None:
    """Summary, verdicts with rule, evidence and remedy, findings, packages, layers, signature, lineage, SBOM links."""
    page = _get(client, MNIST)
    for fact in (
        web_sample.digest("mnist"),
        web_sample.COMMIT,
        web_sample.digest("base.lock"),
        web_sample.digest("pylock.toml"),
        "65532:65532",
        "Denied production",
        "vulnerabilities.fixable high",
        "werkzeug 3.0.1: GHSA-2g68-c3qc-8985 (high), fixed in 3.0.3",
        "Raise werkzeug to 3.0.3 in requirements.in",
        "GHSA-9wx4-h78v-vm56 CVE-2024-35195 requests 2.31.0 2.32.0",
        "no fix known tensorflow",
        "tensorflow-cpu 2.15.1 python 213.8 MB",
        web_sample.KEY,
        "A key marked local",
        "https://git.example.org/vision/mnist",
    ):
        assert fact in page.text
    links = [link["href"] for link in page.all("a")]
    for kind in ("cyclonedx", "spdx"):
        assert f"/api/v1/images/{web_sample.digest('mnist')}/sbom/{kind}" in links


def test_the_way_of_an_image_says_what_is_not_known(client: TestClient) -> None:
    """The commit's time of an old record, and when it ran, are not known; when it was cleared is."""
    page = client.get("/images/vision/mnist:6f1c0e5ad1b8").text
    way = page[page.index("From the commit to running") :].partition("</table>")[0]
    assert way.count("not known") == 2
    assert "for staging" in way


def test_attestations_are_listed_with_their_keys(client: TestClient) -> None:
    """Each says its type, key, format and date; one that nobody verified says so, and signatures stand above alone."""
    text = _get(client, MNIST).text
    rows = text[text.index("Attestations of this image") : text.index("Lineage", text.index("Attestations of this"))]
    assert re.search(rf"spdx local {web_sample.KEY} bundle 2 hours ago", rows)
    assert re.search("https://x.test/<b> not verified . bundle", rows)
    assert "Attestations 2" in text
    assert "cosign/sign" not in rows


def test_a_package_without_data_is_never_shown_as_clean(client: TestClient) -> None:
    """A Debian package, for which there is no data, says "not checked" where others say 0."""
    text = _get(client, MNIST).text
    packages = text[text.index("Packages in the image, by name") : text.index("Layers, base first")]
    assert "libc6 2.36-9+deb12u9 deb GPL-2.0-only AND LGPL-2.1-only 1 not checked" in packages
    assert "numpy 1.26.4 python BSD-3-Clause 3 0" in packages


def test_packages_are_filtered(client: TestClient) -> None:
    """The filter looks at name, version, kind and licence; what it hides is said."""
    text = _get(client, MNIST + "?package=ZLIB").text
    packages = text[text.index("Packages in the image, by name") : text.index("Layers, base first")]
    assert "1 of 18 match" in text
    assert "zlib1g" in packages
    assert "numpy" not in packages
    assert "No package matches" in _get(client, MNIST + "?package=nosuch").text


@pytest.mark.parametrize("name", [str(web_sample.digest("mnist")), "vision/mnist:6f1c0e5ad1b8"])
def test_an_image_has_more_than_one_address(client: TestClient, name: str) -> None:
    """The digest alone and NAME:TAG lead to the same page."""
    assert web_sample.COMMIT in _get(client, f"/images/{name}").text


@pytest.mark.parametrize("path", ["/", HOSTILE, "/uses?of=pkg:pypi/hostile0", HOSTILE + "?package=%3Cscript%3E"])
def test_hostile_texts_are_harmless(client: TestClient, path: str) -> None:
    """Script, bidirectional overrides and endless names stand as text: no element, attribute or order comes of them."""
    answer = client.get(path)
    page = _Page(answer.text)
    assert page.open == []
    assert page.all("script") == []
    assert not [value for _, attributes in page.elements for name, value in attributes.items() if name.startswith("on")]
    assert not [link for link in page.all("a") if (link.get("href") or "").lower().startswith("javascript:")]
    assert not any(character in answer.text for character in "\u202e\u202c\0")
    assert "long-" * 100 not in answer.text
    assert "style" not in {name for _, attributes in page.elements for name in attributes}


def test_hostile_texts_are_shown(client: TestClient) -> None:
    """What was made harmless can still be read, with its odd characters named."""
    text = _get(client, HOSTILE).text
    assert web_sample.SCRIPT in text
    assert "[U+202E]gnp.exe[U+202C]" in text
    assert "(4,000 characters)" in text


def test_a_search_leads_to_images_packages_and_advisories(client: TestClient) -> None:
    """A name filters the list; an advisory or purl leads to the images that it concerns."""
    assert "1 image for “ mnist ”" in _get(client, "/?search=mnist").text
    assert "Nothing matches" in _get(client, "/?search=nosuch").text
    for search in ("CVE-2024-35195", "cve-2024-35195", "GHSA-9WX4-H78V-VM56", "pkg:pypi/numpy"):
        answer = client.get("/", params={"search": search})
        assert answer.history[0].status_code == 303
        assert "3 found" in _Page(answer.text).text


def test_an_empty_catalog_says_what_to_run(tmp_path: Path) -> None:
    """On an empty home the list names the first command."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "new")})
    with TestClient(create(settings)) as client:
        text = _get(client, "/").text
    assert "No image yet" in text
    assert "tidewaiter ci PROJECT" in text


def test_a_long_list_has_pages(tmp_path: Path) -> None:
    """More images than a page holds are reached by links, and a page number out of range is an error or the last."""
    import datetime as dt

    from tidewaiter.catalog.catalog import Catalog

    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    with Catalog.open(settings) as catalog:
        for number in range(60):
            name = f"team/m{number:02}"
            catalog.record_build(web_sample._build(name, web_sample.digest(name), web_sample.layers("x"), now))
    with TestClient(create(settings)) as client:
        first = _get(client, "/?search=team")
        assert "/?search=team&page=2" in [link["href"] for link in first.all("a")]
        second = _get(client, "/?search=team&page=2")
        assert "Page 2 of 2" in second.text
        assert len([link for link in second.all("a") if (link["href"] or "").startswith("/images/")]) == 10
        assert "Page 2 of 2" in _get(client, "/?page=99999").text
        assert "page" in _get(client, "/?page=0", 422).text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/images/vision/mnist:nosuch", 404),
        (f"/images/{web_sample.digest('nosuch')}", 404),
        ("/images/sha256:short", 400),
        ("/images/Not%20A%20Name", 400),
        ("/images/%F0%28%8C%28", 400),
        ("/static/../app.py", 404),
        ("/static/nosuch.css", 404),
        ("/?search=" + "x" * 300, 422),
    ],
)
def test_errors_are_pages(client: TestClient, path: str, status: int) -> None:
    """A wrong address gives a readable page with the right status, and a way on."""
    page = _get(client, path, status)
    assert "/" in [link.get("href") for link in page.all("a")]
    assert "Traceback" not in page.text


def test_only_get_is_answered(client: TestClient) -> None:
    """Nothing can be changed over HTTP; HEAD works as GET does."""
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = client.request(method, "/")
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]
    head = client.head("/")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path", ["/", MNIST, "/nothing", "/static/style.css", "/api/v1/images", "/healthz", "/?page=x"]
)
def test_every_answer_has_the_security_headers(client: TestClient, path: str) -> None:
    """Nothing may be loaded from elsewhere or run, and no other site may frame it: errors and files included."""
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_pages_load_nothing_from_elsewhere(client: TestClient) -> None:
    """Every address in link, img, script and form is a path of this server, and no documentation page with a CDN."""
    for path in ("/", MNIST, "/nothing"):
        page = _Page(client.get(path).text)
        targets = [
            e.get("href") or e.get("src") or e.get("action") for t in ("link", "img", "form") for e in page.all(t)
        ]
        assert targets
        assert all((target or "").startswith(("/", "#")) and not (target or "").startswith("//") for target in targets)
    assert client.get("/docs").status_code == 404
    assert client.get("/redoc").status_code == 404


@pytest.mark.parametrize("path", ["/", MNIST, "/uses?of=pkg:pypi/numpy"])
def test_pages_can_be_used_without_eyes_or_mouse(client: TestClient, path: str) -> None:
    """One h1, a language, captions on tables, a label for every input, a skip link, unique ids, roles on cards."""
    page = _Page(client.get(path).text)
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("caption")) == len(page.all("table")) > 0
    labelled = {label["for"] for label in page.all("label")}
    assert {field["id"] for field in page.all("input")} <= labelled
    assert page.all("a")[0]["href"] == "#main"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(table.get("role") == "table" for table in page.all("table"))
    assert all(row.get("role") == "row" for row in page.all("tr"))
    local = [link["href"] or "" for link in page.all("a") if (link["href"] or "").startswith("#")]
    assert {target[1:] for target in local} <= set(ids)


def test_a_host_that_is_not_ours_gets_no_answer(tmp_path: Path) -> None:
    """With hosts given, a request for any other name (DNS rebinding) is refused before a page is made."""
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with TestClient(create(settings, hosts=frozenset({"localhost", "[::1]"}))) as client:
        for host in ("localhost", "localhost:8484", "LOCALHOST", "[::1]:8484", "[::1]"):
            assert client.get("/", headers={"host": host}).status_code == 200
        for host in ("evil.example", "localhost.evil.example:8484", "", "[::1].evil", "127.0.0.1"):
            answer = client.get("/", headers={"host": host})
            assert answer.status_code == 421
            assert "Images" not in answer.text


def test_a_broken_catalog_is_said(tmp_path: Path) -> None:
    """Page and health check answer 503 with the reason when the catalog is damaged, and recover when it is mended."""
    (tmp_path / "catalog.db").write_bytes(b"not a database" * 1000)
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with TestClient(create(settings)) as client:
        assert "no database" in _get(client, "/", 503).text
        assert client.get("/readyz").status_code == 503
        (tmp_path / "catalog.db").unlink()
        assert client.get("/readyz").status_code == 200
