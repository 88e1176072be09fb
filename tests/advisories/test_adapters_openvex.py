"""VEX documents, and what they suppress."""

import json
from typing import Any

import pytest
from our_findings import COMPONENTS, JINJA, LIBC, LIBC_BIN, finding, result

from scanner_reports import IMAGE, OTHER, statement, vex
from tidewaiter.advisories.adapters.openvex import read
from tidewaiter.advisories.adapters.suppression import Subject, apply
from tidewaiter.advisories.finding import Finding, ScanResult
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci import digest as digests

SUBJECT = Subject(IMAGE, f"pkg:oci/app@{IMAGE}?arch=amd64&repository_url=example.org/team/app&tag=1")
LATER = "2024-07-01T02:00:00+02:00"


def judged(*documents: bytes, ours: Finding | None = None, more: tuple[Finding, ...] = ()) -> ScanResult:
    found = result(ours or finding(JINJA, "PYSEC-1", "CVE-1"), *more)
    return apply(found, SUBJECT, COMPONENTS, [read(data, f"vex-{number}") for number, data in enumerate(documents)])


@pytest.mark.parametrize("status", ["not_affected", "fixed"])
def test_a_suppressed_finding_stays_visible_with_its_reason(status: str) -> None:
    """It is kept apart, and says which statement of which document is the reason."""
    data = vex(statement("CVE-1", status=status, impact_statement="Templates are our own.", timestamp=LATER))
    found = judged(data)
    assert found.findings == ()
    (one,) = found.suppressed
    assert (one.advisory, one.vex.status if one.vex else "") == ("PYSEC-1", status)
    assert one.vex is not None
    assert one.vex.justification == ("vulnerable_code_not_in_execute_path" if status == "not_affected" else "")
    assert (one.vex.statement, one.vex.author) == ("Templates are our own.", "Team")
    assert (one.vex.timestamp, one.vex.source) == ("2024-07-01T00:00:00Z", "https://example.org/vex/1")
    assert one.vex.document == digests.of(data)
    assert found.notes == ()


@pytest.mark.parametrize("status", ["affected", "under_investigation"])
def test_other_statements_suppress_nothing(status: str) -> None:
    """The finding counts, and shows the statement."""
    found = judged(vex(statement("CVE-1", status=status)))
    assert found.suppressed == ()
    assert [one.vex.status for one in found.findings if one.vex] == [status]


@pytest.mark.parametrize("names", [("PYSEC-1",), ("GHSA-9", "CVE-1"), ("CVE-1",)])
def test_a_statement_names_the_vulnerability_by_any_of_its_ids(names: tuple[str, ...]) -> None:
    """Ids and aliases of the finding and of the statement count alike."""
    assert len(judged(vex(statement(*names))).suppressed) == 1


def test_a_statement_about_another_vulnerability_is_noted() -> None:
    """It suppresses nothing, and the user is told that it met nothing."""
    found = judged(vex(statement("CVE-2"), statement("CVE-1", products=[])))
    assert (len(found.findings), found.suppressed) == (1, ())
    assert found.notes == ("vex-0: 2 of 2 statements are about nothing found here",)


@pytest.mark.parametrize(
    ("product", "applies"),
    [
        ({"@id": "pkg:pypi/jinja2@2.10"}, True),
        ({"@id": "pkg:pypi/Jinja2"}, True),
        ({"identifiers": {"purl": "pkg:pypi/jinja2@2.10"}}, True),
        ("pkg:pypi/jinja2@2.10", True),
        ({"@id": "pkg:pypi/jinja2@2.11"}, False),
        ({"@id": "pkg:pypi/jinja2@2.10?file_name=x.whl"}, False),
        ({"@id": "pkg:npm/jinja2@2.10"}, False),
        ({"@id": "jinja2"}, False),
        ({"@id": "pkg:"}, False),
        ({"hashes": {"sha-256": IMAGE.removeprefix("sha256:").upper()}}, True),
        ({"hashes": {"sha-256": OTHER.removeprefix("sha256:")}}, False),
        ({"@id": f"pkg:oci/any@{IMAGE}"}, True),
        ({"@id": f"pkg:oci/any@{IMAGE.replace(':', '%3A')}"}, True),
        ({"@id": f"pkg:docker/any@{IMAGE}"}, True),
        ({"@id": f"pkg:oci/app@{OTHER}"}, False),
        ({"@id": f"example.org/team/app@{IMAGE}"}, True),
        ({"@id": "pkg:oci/app"}, True),
        ({"@id": "pkg:oci/app?repository_url=example.org/team/app"}, True),
        ({"@id": "pkg:oci/app?repository_url=example.org/other/app"}, False),
        ({"@id": "pkg:oci/ap"}, False),
    ],
)
def test_products(product: Any, applies: bool) -> None:
    """A product is the package or the image: by package URL, as exact as it is written, or by digest."""
    assert len(judged(vex(statement("CVE-1", products=[product]))).suppressed) == applies


@pytest.mark.parametrize(
    ("parts", "applies"),
    [([{"@id": "pkg:pypi/jinja2"}], True), (["pkg:pypi/jinja2@2.10"], True), ([{"@id": "pkg:pypi/other"}], False)],
)
def test_parts_of_an_image(parts: Any, applies: bool) -> None:
    """With subcomponents a statement about an image is about those packages only."""
    product = {"@id": f"pkg:oci/app@{IMAGE}", "subcomponents": parts}
    assert len(judged(vex(statement("CVE-1", products=[product]))).suppressed) == applies
    other = {"@id": f"pkg:oci/app@{OTHER}", "subcomponents": parts}
    assert judged(vex(statement("CVE-1", products=[other]))).suppressed == ()


def test_debians_source_packages() -> None:
    """A package URL with `arch=source` means every binary package of the source; without it, the binary package."""
    mine = finding(LIBC, "DEBIAN-CVE-3", "CVE-3")
    also = finding(LIBC_BIN, "DEBIAN-CVE-3", "CVE-3")
    source = {"@id": "pkg:deb/debian/glibc@2.36-9%2Bdeb12u3?arch=source"}
    binary = {"@id": "pkg:deb/debian/libc6"}
    elsewhere = {"@id": "pkg:deb/debian/glibc@2.36-9%2Bdeb12u4?arch=source"}
    for product, names in ((source, {"libc6", "libc-bin"}), (binary, {"libc6"}), (elsewhere, set())):
        found = judged(vex(statement("CVE-3", products=[product])), ours=mine, more=(also,))
        assert {one.name for one in found.suppressed} == names


def test_a_bulletin_is_not_suppressed_by_one_of_its_vulnerabilities() -> None:
    """A finding about several CVEs goes away only when its own id is named."""
    bulletin = finding(JINJA, "RHSA-9", "CVE-1", "CVE-2")
    assert judged(vex(statement("CVE-1")), ours=bulletin).suppressed == ()
    assert len(judged(vex(statement("RHSA-9")), ours=bulletin).suppressed) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_the_latest_statement_holds(turned: bool) -> None:
    """Whatever the order of documents, a later statement replaces an earlier one."""
    early = vex(statement("CVE-1"))
    late = vex(statement("CVE-1", status="affected", action_statement="Wait."), timestamp=LATER)
    found = judged(*((late, early) if turned else (early, late)))
    assert [one.vex.status for one in found.findings if one.vex] == ["affected"]
    assert found.notes == ()
    back = judged(late, vex(statement("CVE-1", last_updated="2024-08-01T00:00:00Z")))
    assert len(back.suppressed) == 1


@pytest.mark.parametrize("timestamp", ["2024-06-01T00:00:00Z", ""])
def test_statements_that_contradict_each_other_hold_for_nothing(timestamp: str) -> None:
    """Of the same time, or without one: the finding counts, and a note says why."""
    found = judged(
        vex(statement("CVE-1"), timestamp=timestamp), vex(statement("CVE-1", status="affected"), timestamp=timestamp)
    )
    assert found.suppressed == ()
    assert [one.vex for one in found.findings] == [None]
    (note,) = found.notes
    assert "PYSEC-1 in Jinja2 2.10 contradict each other: affected (https://example.org/vex/1)" in note


def test_statements_that_agree_in_what_follows_do_not_contradict() -> None:
    """Not affected and fixed at the same time both mean that the finding does not count."""
    assert len(judged(vex(statement("CVE-1"), statement("CVE-1", status="fixed"))).suppressed) == 1


def test_an_old_document() -> None:
    """Before 0.2.0 vulnerability and products were texts, and subcomponents stood beside them."""
    said = {
        "vulnerability": "CVE-1",
        "products": [f"pkg:oci/app@{IMAGE}"],
        "subcomponents": ["pkg:pypi/jinja2"],
        "status": "not_affected",
        "impact_statement": "Not used.",
    }
    data = json.loads(vex(said)) | {"@context": "https://openvex.dev/ns"}
    assert len(judged(json.dumps(data).encode()).suppressed) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"statements": []}',
        b'{"@context": ["https://openvex.dev/ns"], "statements": []}',
        b'{"@context": "https://cyclonedx.org", "statements": []}',
        vex(statement("")),
        vex(statement("CVE-1", status="fine")),
        vex(statement("CVE-1", justification="")),
        vex(statement("CVE-1", justification="because")),
        vex(statement("CVE-1", timestamp="yesterday")),
        vex(statement("CVE-1"), timestamp=5),
        vex(statement("CVE-1", products={})),
    ],
)
def test_what_is_no_vex_document_is_refused(data: bytes) -> None:
    """Nothing of a document counts when a part of it is not what OpenVEX allows."""
    with pytest.raises(InputError, match=r"^here: "):
        read(data, "here")


def test_a_document_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many statements, products and aliases as the limits are read, one more is not."""
    monkeypatch.setattr(limits, "VEX_STATEMENTS", 2)
    monkeypatch.setattr(limits, "VEX_PRODUCTS", 3)
    monkeypatch.setattr(limits, "REPORT_IDS", 1)
    one = statement("CVE-1", "GHSA-1")
    assert len(read(vex(one, one), "v").statements) == 2
    with pytest.raises(LimitError, match="more than 2 statements"):
        read(vex(one, one, one), "v")
    product = {"@id": "pkg:oci/app", "subcomponents": [{"@id": "a"}, {"@id": "b"}]}
    assert read(vex(statement("CVE-1", products=[product])), "v").statements
    with pytest.raises(LimitError, match="more than 3 products"):
        read(vex(statement("CVE-1", products=[product, "pkg:oci/b"])), "v")
    with pytest.raises(LimitError, match="more than 1 aliases"):
        read(vex(statement("CVE-1", "GHSA-1", "GHSA-2")), "v")
