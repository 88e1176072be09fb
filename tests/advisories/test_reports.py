"""Findings as SARIF, CycloneDX VEX, OpenVEX, GitLab's report and JUnit."""

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from our_findings import COMPONENTS, JINJA, LIBC, finding, result

from scanner_reports import IMAGE, statement, trivy, trivy_found, vex
from tidewaiter.advisories.adapters import openvex, reader
from tidewaiter.advisories.adapters.joining import join
from tidewaiter.advisories.adapters.suppression import Subject as Judged
from tidewaiter.advisories.adapters.suppression import apply
from tidewaiter.advisories.exploited import Exploitation
from tidewaiter.advisories.finding import NotChecked
from tidewaiter.advisories.reports.encoding import ReportFormat, encode
from tidewaiter.advisories.reports.report import Report
from tidewaiter.sbom.subject import Subject, purl

FORMATS: tuple[ReportFormat, ...] = ("sarif", "cyclonedx-vex", "openvex", "gitlab", "junit")
SUBJECT = Subject(
    name="example.org/team/app:1",
    digest=IMAGE,
    created="2024-01-01T00:00:00.123Z",
    distribution="debian",
    distribution_version="12",
    unread=("var/lib/rpm: not readable",),
)
LAYER = "sha256:" + "a" * 64
HOSTILE = 'x\x00<&"\ud7ff]]>\x1b\ufffe'


def report(*, hostile: str = "") -> Report:
    """Two findings that count, one of them reported by Trivy too, one that is suppressed, and a package not checked."""
    components = [msgspec.structs.replace(one, location=f"usr/lib/{one.name} [x]", layer=LAYER) for one in COMPONENTS]
    gap = NotChecked(purl="pkg:x/y", name="y", version="1", ecosystem="Conda" + hostile, reason="no data" + hostile)
    found = result(
        finding(JINJA, "PYSEC-1" + hostile, "CVE-1", severity="high", score=7.5, vector="CVSS:3.1/" + hostile),
        finding(JINJA, "PYSEC-2", "GHSA-2", fixed_in=()),
        finding(LIBC, "DEBIAN-CVE-3", "CVE-3", severity="low"),
        not_checked=(gap,),
    )
    said = trivy_found("CVE-1", "jinja2", "2.10", fixed="2.11", purl=JINJA.purl)
    found = join(found, components, [reader.read(trivy(said), "r")], exploitation=lambda _names: Exploitation())
    document = openvex.read(vex(statement("CVE-3", products=[f"pkg:oci/app@{IMAGE}"])), "v")
    found = apply(found, Judged(IMAGE, purl(SUBJECT)), components, [document])
    subject = msgspec.structs.replace(SUBJECT, name=SUBJECT.name + hostile) if hostile else SUBJECT
    return Report(subject=subject, components=tuple(components), result=found)


def document(name: ReportFormat, **more: Any) -> Any:
    return json.loads(encode(report(**more), name))


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_report_gives_the_same_bytes(name: ReportFormat) -> None:
    """No clock and no random number: another run differs only when what it says differs."""
    assert encode(report(), name) == encode(report(), name)
    assert encode(report(), name) != encode(msgspec.structs.replace(report(), result=result()), name)


def test_sarif() -> None:
    """A rule for each advisory, a result for each package with file, layer, fix and what scanners differ in."""
    (run,) = document("sarif")["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["DEBIAN-CVE-3", "PYSEC-1", "PYSEC-2"]
    assert [rule["properties"].get("security-severity") for rule in rules] == ["0.1", "7.5", None]
    results = {one["ruleId"]: one for one in run["results"]}
    assert all(rules[one["ruleIndex"]]["id"] == id_ for id_, one in results.items())
    assert {id_: one["level"] for id_, one in results.items()} == {
        "PYSEC-1": "error",
        "PYSEC-2": "warning",
        "DEBIAN-CVE-3": "note",
    }
    (location,) = results["PYSEC-1"]["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "usr/lib/Jinja2%20%5Bx%5D"
    assert location["logicalLocations"][0]["fullyQualifiedName"] == JINJA.purl
    assert location["message"]["text"] == f"layer {LAYER}"
    assert results["PYSEC-1"]["properties"]["reportedBy"] == ["tidewaiter", "trivy"]
    assert results["PYSEC-1"]["properties"]["disagreement"] == ["fixed_in"]
    assert "suppressions" not in results["PYSEC-1"]
    assert results["DEBIAN-CVE-3"]["suppressions"][0]["justification"].startswith(
        "not_affected: vulnerable_code_not_in"
    )
    notes = [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    assert notes == ["1 packages of Conda were not checked: no data (y 1)", "not read: var/lib/rpm: not readable"]


def test_cyclonedx_vex_is_valid() -> None:
    """The reference implementation accepts it; every vulnerability points to a package of the document."""
    data = encode(report(), "cyclonedx-vex")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    bom = json.loads(data)
    refs = {one["bom-ref"] for one in bom["components"]}
    found = {one["id"]: one for one in bom["vulnerabilities"]}
    assert {one["affects"][0]["ref"] for one in found.values()} == refs == {JINJA.purl, LIBC.purl}
    assert found["DEBIAN-CVE-3"]["analysis"] == {
        "state": "not_affected",
        "justification": "code_not_reachable",
        "lastUpdated": "2024-06-01T00:00:00Z",
    }
    assert found["PYSEC-2"]["analysis"] == {"state": "in_triage"}
    assert found["PYSEC-1"]["ratings"][0]["score"] == 7.5


def test_openvex_goes_round() -> None:
    """What we write we read: nobody judged two findings, and the third stays suppressed as it was."""
    data = encode(report(), "openvex")
    said = {one["vulnerability"]["name"]: one for one in json.loads(data)["statements"]}
    assert {name: one["status"] for name, one in said.items()} == {
        "PYSEC-1": "under_investigation",
        "PYSEC-2": "under_investigation",
        "DEBIAN-CVE-3": "not_affected",
    }
    plain = msgspec.structs.replace(report().result, suppressed=(), findings=report().all_findings)
    again = apply(plain, Judged(IMAGE, ""), COMPONENTS, [openvex.read(data, "ours")])
    assert [one.advisory for one in again.suppressed] == ["DEBIAN-CVE-3"]
    assert again.suppressed[0].vex is not None
    assert again.suppressed[0].vex.justification == "vulnerable_code_not_in_execute_path"
    assert (len(again.findings), again.notes) == (2, ())


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ({"status": "not_affected"}, {"justification"}),
        ({"status": "not_affected", "justification": "", "impact_statement": "Unused."}, {"impact_statement"}),
        ({"status": "not_affected", "impact_statement": "Unused."}, {"justification"}),
        ({"status": "affected"}, {"action_statement"}),
        ({"status": "fixed"}, set()),
        ({"status": "under_investigation"}, set()),
    ],
)
def test_openvex_gives_the_reason_that_a_status_needs(said: Any, fields: set[str]) -> None:
    """One of justification and impact statement for not_affected, an action for affected, as the schema demands."""
    found = apply(
        result(finding()), Judged(IMAGE, ""), COMPONENTS, [openvex.read(vex(statement("PYSEC-1", **said)), "v")]
    )
    data = encode(Report(subject=SUBJECT, components=COMPONENTS, result=found), "openvex")
    (one,) = json.loads(data)["statements"]
    assert one.keys() & {"justification", "impact_statement", "action_statement"} == fields
    assert all(one[field] for field in fields)


def test_gitlab() -> None:
    """Every field that the schema 15.0.7 requires is there and of the values and lengths that it allows."""
    made = document("gitlab")
    scan = made["scan"]
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
    assert (made["version"], scan["type"], scan["status"]) == ("15.0.7", "container_scanning", "success")
    assert moment.fullmatch(scan["start_time"])
    assert moment.fullmatch(scan["end_time"])
    for program in (scan["analyzer"], scan["scanner"]):
        assert program["id"] and program["name"] and program["version"] and program["vendor"]["name"]  # noqa: PT018  # one thought: none is empty
    assert scan["messages"] == [{"level": "warn", "value": "1 packages of Conda were not checked: no data (y 1)"}]
    found = {one["name"]: one for one in made["vulnerabilities"]}
    assert len({one["id"] for one in found.values()}) == 3
    assert {name: one["severity"] for name, one in found.items()} == {
        "PYSEC-1 in Jinja2": "High",
        "PYSEC-2 in Jinja2": "Unknown",
        "DEBIAN-CVE-3 in libc6": "Low",
    }
    first = found["PYSEC-1 in Jinja2"]
    assert [one["value"] for one in first["identifiers"]] == ["CVE-1", "PYSEC-1"]
    assert all(one["url"].startswith("https://") for one in first["identifiers"])
    assert first["location"] == {
        "dependency": {"package": {"name": "Jinja2"}, "version": "2.10"},
        "operating_system": "debian 12",
        "image": "example.org/team/app:1",
    }
    assert "flags" not in first
    assert found["DEBIAN-CVE-3 in libc6"]["flags"][0]["type"] == "flagged-as-likely-false-positive"


def test_junit() -> None:
    """Findings fail, suppressed ones are skipped, what was not checked is an error; the totals are right."""
    root = ET.fromstring(encode(report(), "junit"))
    (suite,) = root
    outcome = {case.get("name"): case[0].tag for case in suite}
    assert outcome == {
        "[HIGH] PYSEC-1": "failure",
        "[UNKNOWN] PYSEC-2": "failure",
        "[LOW] DEBIAN-CVE-3": "skipped",
        "Conda": "error",
        "unread metadata": "error",
    }
    totals = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert totals == {"tests": "5", "failures": "2", "errors": "2", "skipped": "1"}


def test_a_clean_image_passes() -> None:
    """JUnit shows one test that passed; the other documents list nothing."""
    subject = msgspec.structs.replace(SUBJECT, unread=())
    clean = Report(subject=subject, components=COMPONENTS, result=result())
    (suite,) = ET.fromstring(encode(clean, "junit"))
    assert [(case.get("name"), len(case)) for case in suite] == [("no known vulnerability in the 3 packages", 0)]
    assert json.loads(encode(clean, "sarif"))["runs"][0]["results"] == []
    assert json.loads(encode(clean, "gitlab"))["vulnerabilities"] == []
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(encode(clean, "cyclonedx-vex").decode()) is None


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_texts_stay_inside_their_fields(name: ReportFormat) -> None:
    """Names that hold markup and control characters give a document that parses, and addresses without them."""
    data = encode(report(hostile=HOSTILE), name)
    if name == "junit":
        (suite,) = ET.fromstring(data)
        assert (suite.get("name") or "").endswith('app:1x?<&"\ud7ff]]>??')
        return
    text = json.dumps(json.loads(data))
    assert re.findall(r'"(https?://[^"]*[<>\\\s][^"]*)"', text) == []
    if name == "cyclonedx-vex":
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
