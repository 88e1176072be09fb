"""JUnit XML, as GitLab and Jenkins read it.

A finding is a failed test, a suppressed one a skipped test, packages that could not be checked a test that ended in an
error. An image without any of them has one test, which passed: an empty suite would look like a run that did nothing.
"""

import re
from xml.etree.ElementTree import Element, SubElement, tostring

from tidewaiter.advisories.finding import Finding
from tidewaiter.advisories.reports.report import Report, address, headline, reason, remedy, suppressed

# Everything but what XML 1.0 calls Char.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(text: str) -> str:
    """`text` with question marks for what no XML document can hold."""
    return _FORBIDDEN.sub("?", text)


def _case(suite: Element, group: str, name: str) -> Element:
    return SubElement(suite, "testcase", {"classname": _clean(group), "name": _clean(name), "time": "0"})


def _outcome(case: Element, kind: str, message: str, text: str = "", **more: str) -> None:
    made = SubElement(case, kind, {"message": _clean(message), **{key: _clean(value) for key, value in more.items()}})
    made.text = _clean(text) or None


def _finding(suite: Element, finding: Finding) -> None:
    case = _case(suite, f"{finding.name} {finding.version}", f"[{finding.severity.upper()}] {finding.advisory}")
    if suppressed(finding):
        _outcome(case, "skipped", f"suppressed: {reason(finding)}")
        return
    also = f"also known as {', '.join(finding.aliases)}\n" if finding.aliases else ""
    text = f"{finding.component_purl}\n{also}reported by {', '.join(finding.reported_by)}\n{address(finding.advisory)}"
    _outcome(case, "failure", f"{headline(finding)}: {remedy(finding)}", text, type=finding.severity)


def encode(report: Report) -> bytes:
    """The document as XML."""
    suite = Element("testsuite")
    for finding in report.all_findings:
        _finding(suite, finding)
    gaps = [(gap.ecosystem or "unknown ecosystem", gap.text) for gap in report.gaps]
    gaps += [("unread metadata", line) for line in report.subject.unread]
    for group, text in gaps:
        _outcome(_case(suite, "not checked", group), "error", text, type="not_checked")
    if not len(suite):
        _case(suite, "advisories", f"no known vulnerability in the {len(report.components)} packages")
    count = {kind: str(len(suite.findall(f"testcase/{kind}"))) for kind in ("failure", "error", "skipped")}
    totals = {"tests": str(len(suite)), "failures": count["failure"], "errors": count["error"]}
    name = _clean(f"tidewaiter scan {report.subject.name}")
    suite.attrib |= {"name": name, **totals, "skipped": count["skipped"], "timestamp": report.at.removesuffix("Z")}
    root = Element("testsuites", {"name": "tidewaiter", **totals})
    root.append(suite)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document
