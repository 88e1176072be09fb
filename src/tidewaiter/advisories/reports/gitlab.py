"""GitLab's reports of container scanning and of dependency scanning (security-report-schemas, 15.x)."""

from collections.abc import Callable, Collection
from typing import Any, Literal

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


Kind = Literal["container_scanning", "dependency_scanning"]


def _vulnerability(report: Report, finding: Finding, location: dict[str, Any]) -> dict[str, Any]:
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
        "location": _dependency(finding) | location,
    }
    if is_suppressed(finding):
        document["flags"] = [
            {"type": "flagged-as-likely-false-positive", "origin": "VEX", "description": reason(finding)}
        ]
    return document


def _dependency(finding: Finding) -> dict[str, Any]:
    return {"dependency": {"package": {"name": finding.name}, "version": finding.version}}


def _scan(kind: Kind, moment: str, messages: list[dict[str, str]], *, failed: bool = False) -> dict[str, Any]:
    program = {"id": "tidewaiter", "name": "Tidewaiter", "vendor": {"name": "Tidewaiter"}, "version": __version__}
    plain = moment.partition(".")[0].removesuffix("Z")  # the schema wants no time zone, and whole seconds
    return {
        "analyzer": program,
        "scanner": program,
        "type": kind,
        "start_time": plain,
        "end_time": plain,
        "status": "failure" if failed else "success",
        "messages": messages,
    }


def _gaps(report: Report) -> list[dict[str, str]]:
    return [{"level": "warn", "value": gap.text} for gap in report.gaps]


def encode(report: Report, *, without: Collection[str] = ()) -> bytes:
    """The container scanning report as JSON. What was not checked stands among the messages of the scan.

    Packages whose URLs stand in `without` are left out, for another report has them.
    """
    system = f"{report.subject.distribution} {report.subject.distribution_version}".strip() or "unknown"
    location = {"operating_system": system, "image": report.subject.name}
    document = {
        "version": VERSION,
        "scan": _scan("container_scanning", report.at, _gaps(report)),
        "vulnerabilities": [
            _vulnerability(report, one, location) for one in report.all_findings if one.component_purl not in without
        ],
    }
    return msgspec.json.encode(document)


def encode_dependencies(report: Report, file: str, wanted: Callable[[str], bool]) -> bytes:
    """The dependency scanning report as JSON: of the packages that the lock `file` (from the repository's root) pins.

    `wanted` tells by its URL whether a package is one of them.
    """
    pinned = [one for one in report.components if wanted(one.purl)]
    document = {
        "version": VERSION,
        "scan": _scan("dependency_scanning", report.at, _gaps(report)),
        "vulnerabilities": [
            _vulnerability(report, one, {"file": file}) for one in report.all_findings if wanted(one.component_purl)
        ],
        "dependency_files": [
            {
                "path": file,
                "package_manager": "pip",
                "dependencies": [{"package": {"name": one.name}, "version": one.version} for one in pinned],
            }
        ],
    }
    return msgspec.json.encode(document)


def failed(kind: Kind, why: str, moment: str) -> bytes:
    """The report of a scan that came to no end at `moment` (RFC 3339): nobody can take it for one without findings."""
    document: dict[str, Any] = {
        "version": VERSION,
        "scan": _scan(kind, moment, [{"level": "fatal", "value": why}], failed=True),
        "vulnerabilities": [],
    }
    return msgspec.json.encode(document | ({"dependency_files": []} if kind == "dependency_scanning" else {}))
