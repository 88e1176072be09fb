"""The pages of pipelines: the list, a run with its steps and log, and nothing in it that its sources put there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import asking, claims, ending, steps
from tidewaiter.catalog.runs.claims import Claim, Limits
from tidewaiter.catalog.runs.records import Asked, Source, Trigger
from tidewaiter.catalog.runs.steps import Said
from tidewaiter.core import clock
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable import shapes
from tidewaiter.web.app import create

HOSTILE = "<script>alert(1)</script>\u202e"
REPOSITORY = "https://git.example/vision"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")})


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    with Catalog.open(settings) as opened:
        yield opened


@pytest.fixture
def client(settings: Settings, catalog: Catalog) -> Iterator[TestClient]:
    with TestClient(create(settings, anonymous=True)) as made:
        yield made


def asked(catalog: Catalog, repository: str = REPOSITORY, by: str = "alice", url: str = "") -> str:
    source = Source(repository=repository, commit="ab" * 20, ref="refs/heads/main")
    wanted = Asked(kind="clear", source=source, trigger=Trigger(kind="api", by=by, url=url))
    with catalog.database.writing() as connection:
        return asking.ask(connection, wanted, at=clock.now(), by=by).id


def claimed(catalog: Catalog) -> Claim:
    """The next run, taken up by a worker."""
    with catalog.database.writing() as connection:
        claims.enter(connection, "worker-1", concurrency=1, version="1", at=clock.now())
        found = claims.claim(connection, "worker-1", Limits(0, 0, {}), at=clock.now())
    assert found is not None
    return found


def do(catalog: Catalog, claim: Claim, name: str, *lines: str, state: str = "done", error: str = "") -> None:
    """A step of the run that said these lines."""
    number = shapes.SHAPES["clear"].steps.index(name) + 1
    why = {"code": "x", "message": error, "next": "Mend it."} if error else None
    with catalog.database.writing() as connection:
        steps.begin(connection, claim, number, name, at=clock.now())
        steps.say(connection, claim, [Said(clock.now(), name, line) for line in lines])
        if state != "running":
            steps.end(connection, claim, number, state, at=clock.now(), answer={"found": name}, error=why)  # type: ignore[arg-type]  # a state


def test_nobody_ran_anything_yet(client: TestClient) -> None:
    """The empty list says how to begin."""
    assert "tidewaiter pipeline run PROJECT" in client.get("/pipelines").text


def test_runs_are_listed_by_state_and_place(client: TestClient, catalog: Catalog) -> None:
    """The last first; a state or a repository narrows the list, and a state that there is not is an error."""
    first, second = asked(catalog), asked(catalog, "https://git.example/other")
    claimed(catalog)
    text = client.get("/pipelines").text
    assert text.index(second) < text.index(first)
    running = client.get("/pipelines?state=running").text
    assert first in running
    assert second not in running
    assert second in client.get("/pipelines", params={"repository": "https://git.example/other"}).text
    assert "No such run" in client.get("/pipelines?state=poisoned").text
    assert client.get("/pipelines?state=lost").status_code == 400


def test_long_lists_go_on(client: TestClient, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link at the end leads to the runs before, each once."""
    from tidewaiter.core import limits

    monkeypatch.setattr(limits, "PAGE_ROWS", 2)
    names = [asked(catalog) for _ in range(5)]
    path, seen = "/pipelines", []
    while path:
        text = client.get(path).text
        seen += sorted((one for one in names if one in text), key=text.index)
        _, _, rest = text.partition('rel="next" href="')
        path = f"/pipelines{rest.partition(chr(34))[0]}" if rest else ""
    assert seen == names[::-1]


def test_a_run_shows_all_its_steps(client: TestClient, catalog: Catalog) -> None:
    """Those that were done, the one that runs, and those to come, with what was said and found."""
    name = asked(catalog)
    claim = claimed(catalog)
    do(catalog, claim, "fetch", "fetching it")
    do(catalog, claim, "analyse", "looking", state="running")
    text = client.get(f"/pipelines/{name}").text
    assert text.count('<li class="done">') == 1
    assert text.count('<li class="running">') == 1
    assert text.count('<li class="pending">') == len(shapes.SHAPES["clear"].steps) - 2
    assert "fetching it" in text
    assert "on <bdi>worker-1</bdi>" in text
    assert "as it is said" in text


def test_a_failure_says_why_and_what_next(client: TestClient, catalog: Catalog) -> None:
    """The step that failed, the error of the run, and the way on."""
    name = asked(catalog)
    claim = claimed(catalog)
    do(catalog, claim, "fetch", state="failed", error="no such host")
    with catalog.database.writing() as connection:
        why = {"code": "network", "message": "no such host", "next": "Check `origin`."}
        ending.end(connection, claim.row, "failed", at=clock.now(), error=why)
    text = client.get(f"/pipelines/{name}").text
    assert "Failed" in text
    assert "no such host" in text
    assert "Check <code>origin</code>." in text
    with catalog.database.writing() as connection:
        ending.end(connection, claim.row, "failed", at=clock.now(), error={"code": "x", "message": "no next step"})
    assert "no next step" in client.get(f"/pipelines/{name}").text
    assert 'data-ended="yes"' in text


def test_a_result_leads_to_its_image(client: TestClient, catalog: Catalog) -> None:
    """What came of it links to the page of the image."""
    name = asked(catalog)
    claim = claimed(catalog)
    digest = "sha256:" + "c" * 64
    with catalog.database.writing() as connection:
        ending.end(connection, claim.row, "done", at=clock.now(), result={"digest": digest, "reference": "team/a:1"})
    text = client.get(f"/pipelines/{name}").text
    assert f'href="/images/{digest.replace(":", "%3A")}"' in text
    assert "team/a:1" in text


def test_what_sources_say_stays_text(client: TestClient, catalog: Catalog) -> None:
    """Names, lines and errors of a build cannot become part of the page."""
    name = asked(catalog, HOSTILE, by=HOSTILE)
    claim = claimed(catalog)
    do(catalog, claim, "fetch", HOSTILE, state="failed", error=HOSTILE)
    for path in (f"/pipelines/{name}", f"/pipelines/{name}/now", "/pipelines"):
        text = client.get(path).text
        assert "<script>alert" not in text
        assert "\u202e" not in text


def test_only_the_page_of_a_run_may_have_a_script(client: TestClient, catalog: Catalog) -> None:
    """Everywhere else no script runs, whoever wrote it; there only those of this server."""
    name = asked(catalog)
    policy = {path: client.get(path).headers["content-security-policy"] for path in ("/", f"/pipelines/{name}")}
    assert "script-src" not in policy["/"]
    assert policy[f"/pipelines/{name}"].endswith("; script-src 'self'; connect-src 'self'")
    assert client.get("/static/run.js").headers["content-type"].startswith("text/javascript")


def test_a_run_that_is_not_there(client: TestClient) -> None:
    """404 as a page."""
    answer = client.get("/pipelines/run-nothing")
    assert answer.status_code == 404
    assert "there is no run" in answer.text


def test_where_it_was_asked_for_is_a_link_when_it_is_one(client: TestClient, catalog: Catalog) -> None:
    """The page of a job or commit is linked; what is no address of the web is shown as the text that it is."""
    linked = client.get(f"/pipelines/{asked(catalog, url='https://git.example/c/1')}").text
    assert '<a href="https://git.example/c/1"' in linked
    odd = client.get(f"/pipelines/{asked(catalog, url='javascript:alert(1)')}").text
    assert "<bdi>javascript:alert(1)</bdi>" in odd
    assert 'href="javascript' not in odd
    for text in (linked, odd, client.get(f"/pipelines/{asked(catalog)}").text):
        assert "None" not in text
