"""CycloneDX 1.6 JSON with vulnerabilities: the packages that have some, and what is known of each."""

from typing import Any

import msgspec

from tidewaiter import __version__
from tidewaiter.advisories.finding import Finding
from tidewaiter.advisories.reports.report import Report, address, identifier, remedy
from tidewaiter.sbom.component import Component
from tidewaiter.sbom.subject import Subject, purl, timestamp

_STATES = {
    "not_affected": "not_affected",
    "affected": "exploitable",
    "fixed": "resolved",
    "under_investigation": "in_triage",
}
# CycloneDX and OpenVEX have different labels; where one has no counterpart, the nearest says no more than it.
_JUSTIFICATIONS = {
    "component_not_present": "code_not_present",
    "vulnerable_code_not_present": "code_not_present",
    "vulnerable_code_not_in_execute_path": "code_not_reachable",
    "vulnerable_code_cannot_be_controlled_by_adversary": "requires_environment",
    "inline_mitigations_already_exist": "protected_by_mitigating_control",
}
_METHODS = (("CVSS:4", "CVSSv4"), ("CVSS:3.1", "CVSSv31"), ("CVSS:3.0", "CVSSv3"))


def _rating(finding: Finding) -> dict[str, Any]:
    found: dict[str, Any] = {"severity": finding.severity}
    if finding.score is not None and finding.vector:
        method = next((name for start, name in _METHODS if finding.vector.startswith(start)), "CVSSv2")
        found |= {"score": finding.score, "method": method, "vector": finding.vector}
    return found


def _analysis(finding: Finding) -> dict[str, Any]:
    vex = finding.vex
    if vex is None:
        return {"state": "in_triage"}  # a version was matched; whether the code is reached was not looked at
    found: dict[str, Any] = {"state": _STATES[vex.status]}
    if vex.status == "not_affected" and vex.justification:
        found["justification"] = _JUSTIFICATIONS[vex.justification]
    if vex.statement:
        found["detail"] = vex.statement
    if vex.timestamp:
        found["lastUpdated"] = vex.timestamp
    return found


def _moment(text: str) -> str:
    return timestamp(Subject(name="", digest="", created=text)) if text else ""


def _vulnerability(finding: Finding) -> dict[str, Any]:
    document: dict[str, Any] = {
        "bom-ref": f"{finding.advisory}#{finding.component_purl}",
        "id": finding.advisory,
        "source": {"name": finding.source, "url": address(finding.advisory)},
        "references": [{"id": one, "source": {"name": one, "url": address(one)}} for one in finding.aliases],
        "ratings": [_rating(finding)],
        "recommendation": remedy(finding),
        "published": _moment(finding.published),
        "updated": _moment(finding.modified),
        "analysis": _analysis(finding),
        "affects": [{"ref": finding.component_purl}],
        "properties": [{"name": "tidewaiter:reported_by", "value": name} for name in finding.reported_by]
        + [{"name": "tidewaiter:disagreement", "value": kind} for kind in finding.disagreement],
    }
    return {key: value for key, value in document.items() if value not in ("", [])}


def _component(finding: Finding, component: Component | None) -> dict[str, Any]:
    return {
        "type": "machine-learning-model" if component and component.kind == "model" else "library",
        "bom-ref": finding.component_purl,
        "name": finding.name,
        "version": finding.version,
        "purl": finding.component_purl,
    }


def encode(report: Report) -> bytes:
    """The document as JSON; packages without a vulnerability are not in it."""
    known = report.by_purl
    packages = {one.component_purl: _component(one, known.get(one.component_purl)) for one in report.all_findings}
    image = purl(report.subject)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": identifier(report, "cyclonedx-vex").urn,
        "version": 1,
        "metadata": {
            "timestamp": report.at,
            "tools": {"components": [{"type": "application", "name": "tidewaiter", "version": __version__}]},
            "component": {
                "type": "container",
                "bom-ref": image,
                "name": report.subject.name,
                "version": report.subject.digest,
                "purl": image,
            },
            "properties": [{"name": "tidewaiter:not_checked", "value": gap.text} for gap in report.gaps],
        },
        "components": [packages[one] for one in sorted(packages)],
        "vulnerabilities": [_vulnerability(one) for one in report.all_findings],
    }
    return msgspec.json.encode(document)
