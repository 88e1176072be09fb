"""An analysis as others read it: text, JSON, SARIF, JUnit. No line of a source file is shown: it may hold a secret."""

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import msgspec

from tidewaiter.lint import finding as lint
from tidewaiter.lint.reports import documents
from tidewaiter.lint.text import Text
from tidewaiter.pipelines.static.report import Severity, StaticFinding, StaticReport

_LEVELS: dict[Severity, lint.Severity] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "info",
    "info": "info",
}
_WHY = {
    "lint": "Lint knows this as a mistake.",
    "secrets": "Whoever can read the repository has the secret, and so has everybody who can read its history.",
    "confusion": "An installer may take a stranger's package for yours, and run it.",
    "dependencies": "What is installed depends on the day, or was taken back by who released it.",
}


def json(report: StaticReport) -> dict[str, Any]:
    """`{findings, not_checked, files, fail_on, stopping}`; `stopping` is how many findings stop a build."""
    document: dict[str, Any] = msgspec.to_builtins(report)
    return document | {"stopping": len(report.stopping)}


def sarif(report: StaticReport) -> dict[str, Any]:
    """A SARIF 2.1.0 log of one run; what is ignored is there as suppressed."""
    found = [_as_lint(one) for one in report.findings]
    # Fingerprints are made of rule, path and message alone: not of lines that may hold secrets.
    return documents.sarif(found, {one.path: Text(one.path, "") for one in found})


def _as_lint(one: StaticFinding) -> lint.Finding:
    line = max(one.line, 1)
    return lint.Finding(
        rule=one.rule,
        severity=_LEVELS[one.severity],
        path=one.file,
        span=lint.Span(line, one.column, line, one.column),
        message=one.message,
        why=_WHY[one.kind],
        remedy=one.remedy,
        ignored=one.ignored,
    )


def junit(report: StaticReport) -> bytes:
    """A JUnit report: a test for each finding, which fails when it stops a build, and for what was not checked."""
    suite = ET.Element("testsuite", name="tidewaiter analyse")
    for one in report.findings:
        place = f"{one.file}:{one.line}" if one.line else one.file
        case = ET.SubElement(suite, "testcase", classname=_text(one.rule), name=_text(place))
        said = _text(f"{one.severity}: {one.message} {one.remedy}")
        if one.ignored is not None:
            ET.SubElement(case, "skipped", message=_text(one.ignored))
        elif one.stops:
            ET.SubElement(case, "failure", message=_text(one.message), type=one.severity).text = said
        else:
            ET.SubElement(case, "system-out").text = said
    for lack in report.not_checked:
        case = ET.SubElement(suite, "testcase", classname="not-checked", name=_text(lack.what))
        ET.SubElement(case, "skipped", message=_text(lack.reason))
    if not len(suite):
        ET.SubElement(suite, "testcase", classname="analyse", name=f"{report.files} files")
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(report.stopping)))
    suite.set("errors", "0")
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in suite)))
    document: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document


def _text(said: str) -> str:
    """Without what XML 1.0 has no way to write."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in said)


def lines(report: StaticReport) -> Iterator[str]:
    """For people: each finding that counts, what to do, and what was not checked."""
    for one in report.findings:
        if one.ignored is not None:
            continue
        place = f"{one.file}:{one.line}:{one.column}" if one.line else one.file
        yield f"{place}: {one.severity}: {one.message} [{one.rule}]" + ("  STOPS" if one.stops else "")
        yield f"  do: {one.remedy}"
    for lack in report.not_checked:
        yield f"not checked: {lack.what}: {lack.reason}"
