"""Reports of Trivy, Grype and Harbor."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from our_findings import COMPONENTS, finding, result

from scanner_reports import IMAGE, OTHER, grype, harbor, statement, trivy, trivy_found, vex
from tidewaiter.advisories.adapters import openvex
from tidewaiter.advisories.adapters.joining import join
from tidewaiter.advisories.adapters.reader import read
from tidewaiter.advisories.adapters.reported import ScannerReport
from tidewaiter.advisories.adapters.suppression import Subject, apply
from tidewaiter.advisories.exploited import Exploitation
from tidewaiter.advisories.reports.encoding import ReportFormat, encode
from tidewaiter.advisories.reports.report import Report
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.sbom.subject import Subject as About

CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def only(report: ScannerReport) -> Any:
    (found,) = report.findings
    return found


def test_trivys_report() -> None:
    """Package, fixes, severity, score of the source that rated it, and the digests of the image are read."""
    said = trivy_found("CVE-2024-1", "libattr1", "1:2.5.1-4+b1", fixed="1:2.5.2-1, 1:2.6", word="CRITICAL")
    said["PkgIdentifier"] = {"PURL": "pkg:deb/debian/libattr1@2.5.1-4%2Bb1?arch=amd64&distro=debian-12.5&epoch=1"}
    said |= {
        "SeveritySource": "debian",
        "CVSS": {"nvd": {"V3Vector": CRITICAL}, "other": {"V3Vector": CRITICAL.replace("C:H", "C:N")}},
        "PublishedDate": "2024-05-01T00:00:00Z",
    }
    report = read(trivy(said, kind="debian"), "r")
    assert (report.scanner, report.version, set(report.digests)) == ("trivy", "0.70.0", {IMAGE})
    found = only(report)
    assert (found.advisory, found.kind, found.name, found.version) == ("CVE-2024-1", "deb", "libattr1", "1:2.5.1-4+b1")
    assert found.fixed_in == ("1:2.5.2-1", "1:2.6")
    assert (found.severity, found.score, found.vector) == ("critical", 9.8, CRITICAL)


def test_a_package_of_trivy_without_a_package_url() -> None:
    """Its kind is told by the type of the result, as in reports of old versions."""
    found = only(read(trivy(trivy_found("CVE-2024-1", "Jinja2", "2.10"), kind="python-pkg"), "r"))
    assert (found.kind, found.name, found.version, found.purl) == (
        "python",
        "Jinja2",
        "2.10",
        "pkg:generic/Jinja2@2.10",
    )
    assert only(read(trivy(trivy_found("CVE-2024-1", "x", "1"), kind="unheard-of"), "r")).kind is None


def test_grypes_report() -> None:
    """The ids of related vulnerabilities are aliases; the score comes from them when the match has none."""
    said = {"id": "GHSA-1", "severity": "Negligible", "fix": {"versions": ["2.10.1"], "state": "fixed"}}
    report = read(grype((said, {"name": "jinja2", "version": "2.10", "type": "python", "purl": ""})), "r")
    assert (report.scanner, report.version, set(report.digests)) == ("grype", "0.121.2", {IMAGE, OTHER})
    found = only(report)
    assert (found.advisory, found.kind, found.severity, found.fixed_in) == ("GHSA-1", "python", "low", ("2.10.1",))
    document = json.loads(grype((said, {"name": "jinja2", "version": "2.10"})))
    document["matches"][0]["relatedVulnerabilities"] = [{"id": "CVE-1", "cvss": [{"vector": CRITICAL}]}]
    document["source"] = {"type": "directory", "target": "/somewhere"}
    found = only(read(json.dumps(document).encode(), "r"))
    assert (found.aliases, found.score) == (("CVE-1",), 9.8)


@pytest.mark.parametrize("bare", [True, False])
def test_harbors_report(bare: bool) -> None:
    """It is read as scanner adapters write it, and as Harbor's API hands it out; the scanner behind Harbor is named."""
    said = {"id": "CVE-1", "package": "libc6", "version": "2.36", "fix_version": "2.37", "severity": "High"}
    data = harbor({**said, "artifact_digests": [IMAGE], "preferred_cvss": {"vector_v3": CRITICAL}})
    report = read(json.dumps(next(iter(json.loads(data).values()))).encode() if bare else data, "r")
    assert (report.scanner, report.version, set(report.digests)) == ("harbor/trivy", "v0.59", {IMAGE})
    found = only(report)
    assert (found.name, found.kind, found.severity, found.fixed_in, found.score) == (
        "libc6",
        None,
        "high",
        ("2.37",),
        9.8,
    )


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.security.vulnerability.report; version=1.1",
        "application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0",
    ],
)
def test_every_field_that_harbor_writes(media_type: str) -> None:
    """An answer of the API with all fields and nulls that Harbor's types have, under both media types that it knows.

    Its shape is that of `Report`, `VulnerabilityItem` and `CVSS` in src/pkg/scan/vuln/report.go of goharbor/harbor at
    c50c7dd, in the object that `GetVulnerabilitiesAddition` makes; the first entry is the example of their comments.
    """
    (inside,) = json.loads((Path(__file__).parent / "harbor_report.json").read_bytes()).values()
    report = read(json.dumps({media_type: inside}).encode(), "r")
    assert (report.scanner, report.version) == ("harbor/trivy", "v0.59.1")
    assert report.digests == {"sha256:ee1d00c5250b5a886b09be2d5f9506add35dfb557f1ef37a7e4b8f0138f32956"}
    found = {one.advisory: (one.name, one.version, one.severity, one.score, one.fixed_in) for one in report.findings}
    assert found == {
        "CVE-2017-8283": ("dpkg", "1.17.27", "high", 9.8, ("1.18.24",)),
        "CVE-2018-20796": ("glibc", "2.24-11+deb9u3", "low", None, ()),
        "CVE-2019-18276": ("bash", "4.4-5", "unknown", None, ()),
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"SchemaVersion": 1}',
        b'{"SchemaVersion": "2"}',
        b'{"SchemaVersion": 2, "SchemaVersion": 2}',
        b'{"SchemaVersion": 2, "Results": {}}',
        trivy(trivy_found("", "x", "1")),
        trivy(trivy_found("CVE-1", "", "1")),
        b'{"matches": 1, "descriptor": {}}',
        b'{"matches": [{"vulnerability": {"id": "CVE-1"}, "artifact": {}}], "descriptor": {}}',
        b'{"scanner": {}, "vulnerabilities": []}',
        b'{"application/vnd.security.vulnerability.report; version=1.1": []}',
        b'{"bomFormat": "CycloneDX"}',
        b"\xff",
    ],
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    """Anything else than a report of a known shape is bad input, and the error names it."""
    with pytest.raises(InputError, match=r"^here: "):
        read(data, "here")


def test_a_report_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many findings and names as the limit are read, one more is not; nesting is bounded as in SBOMs."""
    monkeypatch.setattr(limits, "REPORT_FINDINGS", 2)
    monkeypatch.setattr(limits, "REPORT_IDS", 2)
    one = trivy_found("CVE-1", "x", "1")
    assert len(read(trivy(one, one), "r").findings) == 2
    with pytest.raises(LimitError, match="more than 2 findings"):
        read(trivy(one, one, one), "r")
    match = ({"id": "GHSA-1"}, {"name": "x", "version": "1"})
    assert only(read(grype(match, related=("CVE-1", "CVE-2")), "r")).aliases == ("CVE-1", "CVE-2")
    with pytest.raises(LimitError, match="GHSA-1 has more than 2 names"):
        read(grype(match, related=("CVE-1", "CVE-2", "CVE-3")), "r")
    with pytest.raises(LimitError, match="nested"):
        read(b'{"SchemaVersion": 2, "x": ' + b"[" * 70 + b"]" * 70 + b"}", "r")


def test_texts_of_a_report_are_made_harmless() -> None:
    """Control characters do not get into findings, and long texts are cut."""
    found = only(read(trivy(trivy_found("CVE-1\x1b[2J", "na\nme" + "x" * 2000, "1\u202e", word="\x1b")), "r"))
    assert (found.advisory, found.version, found.severity) == ("CVE-1 [2J", "1", "unknown")
    assert found.name.startswith("na me")
    assert len(found.name) == 500


WHOLE = [
    (read, trivy(trivy_found("CVE-1", "jinja2", "2.10", fixed="2.11", purl="pkg:pypi/jinja2@2.10"))),
    (read, grype(({"id": "CVE-1", "cvss": [{"vector": CRITICAL}]}, {"name": "x", "version": "1"}), related=("CVE-2",))),
    (read, harbor({"id": "CVE-1", "package": "x", "version": "1", "preferred_cvss": {"vector_v3": CRITICAL}})),
    (openvex.read, vex(statement("CVE-1", products=[{"@id": "pkg:oci/a", "subcomponents": [{"@id": "b"}]}]))),
]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to every value inside `value`."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(found for key, one in inside for found in places(one, (*way, key)))]


@given(st.sampled_from(WHOLE), st.data())
@settings(max_examples=300, deadline=None)
def test_one_wrong_value_is_read_or_refused(whole: Any, data: st.DataObject) -> None:
    """Whatever stands at one place of a document, it is bad input, or findings that every format can say."""
    reading, text = whole
    document = {"whole": json.loads(text)}
    way = ("whole", *data.draw(st.sampled_from(places(document["whole"]))))
    around: Any = document
    for key in way[:-1]:
        around = around[key]
    around[way[-1]] = data.draw(VALUES)
    try:
        found = reading(json.dumps(document["whole"]).encode(), "r")
    except InputError:
        return
    if isinstance(found, ScannerReport):
        joined = join(result(finding()), COMPONENTS, [found], exploitation=lambda _names: Exploitation())
    else:
        joined = apply(result(finding()), Subject(IMAGE, ""), COMPONENTS, [found])
    report = Report(subject=About(name="app", digest=IMAGE), components=COMPONENTS, result=joined)
    assert all(encode(report, name) for name in get_args(ReportFormat))
