"""SARIF 2.1.0 (OASIS), as code hosts read it: an advisory is a rule, a package is where it is found."""

from typing import Any
from urllib.parse import quote

import msgspec

from tidewaiter import __version__
from tidewaiter.advisories.finding import Finding
from tidewaiter.advisories.reports.report import (
    Report,
    address,
    fingerprint,
    headline,
    reason,
    remedy,
    suppressed,
)
from tidewaiter.sbom.component import Component

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "none": "note"}
# What GitHub sorts by where an advisory has a level without a score: the lowest score of that level.
_SCORES = {"critical": "9.0", "high": "7.0", "medium": "4.0", "low": "0.1", "none": "0.0"}


def _rule(finding: Finding, all_of_it: list[Finding]) -> dict[str, Any]:
    properties: dict[str, Any] = {"tags": ["security", "vulnerability", *finding.aliases]}
    score = max((one.score for one in all_of_it if one.score is not None), default=None)
    said = f"{score:.1f}" if score is not None else _SCORES.get(finding.severity)
    if said is not None:
        properties["security-severity"] = said
    packages = ", ".join(sorted({one.found_as for one in all_of_it}))
    return {
        "id": finding.advisory,
        "name": "VulnerablePackage",
        "shortDescription": {"text": f"{finding.advisory} in {packages}"},
        "helpUri": address(finding.advisory),
        "properties": properties,
    }


def _location(finding: Finding, component: Component | None) -> dict[str, Any]:
    path = component.location if component else ""
    physical: dict[str, Any] = {
        # Code hosts refuse results without a file and a line.
        "artifactLocation": {"uri": quote(path.lstrip("/") or finding.name, safe="/"), "uriBaseId": "IMAGE"},
        "region": {"startLine": 1},
    }
    found: dict[str, Any] = {
        "physicalLocation": physical,
        "logicalLocations": [{"fullyQualifiedName": finding.component_purl, "kind": "package"}],
    }
    if component and component.layer:
        found["message"] = {"text": f"layer {component.layer}"}
    return found


def _result(finding: Finding, index: int, component: Component | None) -> dict[str, Any]:
    words = "; ".join(
        f"{word.scanner} says {word.severity}, fixed in {', '.join(word.fixed_in) or 'no version'}"
        for word in finding.words
    )
    document: dict[str, Any] = {
        "ruleId": finding.advisory,
        "ruleIndex": index,
        "level": _LEVELS.get(finding.severity, "warning"),
        "message": {
            "text": f"{headline(finding)} ({finding.severity}). {remedy(finding)}{f' {words}.' if words else ''}"
        },
        "locations": [_location(finding, component)],
        "partialFingerprints": {"advisoryAndPackage/v1": fingerprint(finding.advisory, finding.component_purl)},
        "properties": {
            "severity": finding.severity,
            "reportedBy": list(finding.reported_by),
            "disagreement": list(finding.disagreement),
            "fixedIn": list(finding.fixed_in),
        },
    }
    if suppressed(finding):
        document["suppressions"] = [{"kind": "external", "status": "accepted", "justification": reason(finding)}]
    return document


def encode(report: Report) -> bytes:
    """The document as JSON. What was not checked stands among the notifications of the run."""
    groups: dict[str, list[Finding]] = {}
    for finding in report.all_findings:
        groups.setdefault(finding.advisory, []).append(finding)
    rules = sorted(groups)
    index = {advisory: number for number, advisory in enumerate(rules)}
    components = report.by_purl
    gaps = [gap.text for gap in report.gaps] + [f"not read: {line}" for line in report.subject.unread]
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "tidewaiter",
                "version": __version__,
                "rules": [_rule(groups[advisory][0], groups[advisory]) for advisory in rules],
            }
        },
        "automationDetails": {"id": f"tidewaiter/{report.subject.name}/"},
        "originalUriBaseIds": {"IMAGE": {"description": {"text": "The root of the image's file system."}}},
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [{"level": "warning", "message": {"text": text}} for text in gaps],
            }
        ],
        "results": [
            _result(one, index[one.advisory], components.get(one.component_purl)) for one in report.all_findings
        ],
        "columnKind": "unicodeCodePoints",
        "properties": {"image": report.subject.name, "digest": report.subject.digest},
    }
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return msgspec.json.encode(document)
