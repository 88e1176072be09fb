"""GitLab's container scanning report (security-report-schemas, 15.x)."""

from typing import Any

import msgspec

from tidewaiter import __version__
from tidewaiter.advisories.finding import Finding
from tidewaiter.advisories.reports.report import Report, address, headline, identifier, reason, remedy
from tidewaiter.advisories.reports.report import suppressed as is_suppressed

VERSION = "15.0.7"
"""The schema that GitLab 16 and later accept; nothing newer is used."""
_SEVERITIES = {"critical": "Critical", "high": "High", "medium": "Medium", "low": "Low", "none": "Info"}
_NAME, _SOLUTION, _IDENTIFIERS = 255, 7000, 20
"""Longest texts, and most identifiers, that the schema allows."""


def _identifiers(finding: Finding) -> list[dict[str, str]]:
    """All ids, CVEs first: GitLab compares findings of different runs by the first."""
    ids = sorted({finding.advisory, *finding.aliases}, key=lambda one: (not one.startswith("CVE-"), one))
    kinds = {"CVE": "cve", "GHSA": "ghsa"}
    return [
        {"type": kinds.get(one.partition("-")[0], "osv"), "name": one, "value": one, "url": address(one)}
        for one in ids[:_IDENTIFIERS]
    ]


def _vulnerability(report: Report, finding: Finding, system: str) -> dict[str, Any]:
    words = "; ".join(
        f"{word.scanner}: {word.severity}, fixed in {', '.join(word.fixed_in) or 'no version'}"
        for word in finding.words
    )
    said = f"{headline(finding)}, {finding.severity}, reported by {', '.join(finding.reported_by)}. {words}"
    document: dict[str, Any] = {
        "id": str(identifier(report, finding.advisory, finding.component_purl)),
        "name": f"{finding.advisory} in {finding.name}"[:_NAME],
        "description": said.strip(),
        "severity": _SEVERITIES.get(finding.severity, "Unknown"),
        "solution": remedy(finding)[:_SOLUTION],
        "identifiers": _identifiers(finding),
        "links": [{"url": address(finding.advisory)}],
        "location": {
            "dependency": {"package": {"name": finding.name}, "version": finding.version},
            "operating_system": system,
            "image": report.subject.name,
        },
    }
    if is_suppressed(finding):
        document["flags"] = [
            {"type": "flagged-as-likely-false-positive", "origin": "VEX", "description": reason(finding)}
        ]
    return document


def encode(report: Report) -> bytes:
    """The document as JSON. What was not checked stands among the messages of the scan."""
    system = f"{report.subject.distribution} {report.subject.distribution_version}".strip() or "unknown"
    moment = report.at.removesuffix("Z")  # the schema wants no time zone
    program = {
        "id": "tidewaiter",
        "name": "Tidewaiter",
        "vendor": {"name": "Tidewaiter"},
        "version": __version__,
    }
    document = {
        "version": VERSION,
        "scan": {
            "analyzer": program,
            "scanner": program,
            "type": "container_scanning",
            "start_time": moment,
            "end_time": moment,
            "status": "success",
            "messages": [{"level": "warn", "value": gap.text} for gap in report.gaps],
        },
        "vulnerabilities": [_vulnerability(report, one, system) for one in report.all_findings],
    }
    return msgspec.json.encode(document)
