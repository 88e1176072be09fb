"""Reports for a CI: which are wanted, and what each says of a way, however far it came.

A way that came to no findings makes reports that say so: a failed scan, a test that ended in an error. None of them can
be taken for one without findings.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote
from xml.etree import ElementTree as ET

import msgspec

from tidewaiter import __version__
from tidewaiter.advisories.reports import gitlab, sarif
from tidewaiter.advisories.reports.report import Report, fingerprint
from tidewaiter.core import clock, durable
from tidewaiter.core.errors import InputError
from tidewaiter.pipelines import looking
from tidewaiter.pipelines.continuous import summary
from tidewaiter.pipelines.continuous.comparison import Comparison
from tidewaiter.pipelines.continuous.surroundings import Surroundings
from tidewaiter.pipelines.continuous.way import Way
from tidewaiter.pipelines.static import documents as of_sources
from tidewaiter.policy.verdict import Violation

Kind = Literal["junit", "sarif", "gitlab-container-scanning", "gitlab-dependency-scanning", "markdown"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Wanted(msgspec.Struct, frozen=True):
    """A report, and the file that it goes to."""

    kind: Kind
    path: Path


def wanted(words: Sequence[str]) -> tuple[Wanted, ...]:
    """The reports that `KIND=FILE` name.

    Raises:
        InputError: there is no such kind, no file, or one file for two reports.
    """
    found: list[Wanted] = []
    for word in words:
        name, _, path = word.partition("=")
        kind = next((one for one in KINDS if one == name), None)
        if kind is None or not path or "\0" in path:
            raise InputError(
                f"--report {word[:100]!r} is no report",
                next_step=f"Write KIND=FILE; kinds: {', '.join(KINDS)}.",
                code="usage",
            )
        if any(one.path == Path(path) for one in found):
            raise InputError(
                f"--report names {path} twice", next_step="Give each report a file of its own.", code="usage"
            )
        found.append(Wanted(kind, Path(path)))
    return tuple(found)


def write(
    asked: Sequence[Wanted], way: Way, around: Surroundings | None, compared: Callable[[], Comparison | str]
) -> None:
    """Write all reports that are asked for, each atomically; `compared` is called when one says what changed.

    Raises:
        StorageError: a file could not be written.
    """
    kinds = {one.kind for one in asked}
    for one in asked:
        if one.kind == "markdown":
            data = summary.write(way, around, compared())
        elif one.kind == "junit":
            data = _junit(way)
        elif one.kind == "sarif":
            data = _sarif(way)
        elif one.kind == "gitlab-container-scanning":
            data = _container(way, without_pinned="gitlab-dependency-scanning" in kinds)
        else:
            data = _dependencies(way)
        durable.write_atomically(one.path.absolute(), data)


def _report(way: Way) -> Report | None:
    if way.facts is None or way.scan is None:
        return None
    return Report(subject=looking.subject_of(way.facts), components=way.facts.components, result=way.scan)


def _why(way: Way) -> str:
    return way.error.message if way.error is not None else "it came to no findings"


# GitLab


def _is_pinned(way: Way) -> Callable[[str], bool]:
    """Whether the package of a URL comes from the lock of the project's requirements."""
    has = way.project.file.python is not None
    return lambda purl: has and purl.startswith("pkg:pypi/")


def _container(way: Way, *, without_pinned: bool) -> bytes:
    report = _report(way)
    if report is None:
        return gitlab.failed("container_scanning", _why(way), clock.rfc3339(clock.now()))
    pinned = _is_pinned(way)
    purls = (one.component_purl for one in report.all_findings)
    return gitlab.encode(report, without={one for one in purls if without_pinned and pinned(one)})


def _dependencies(way: Way) -> bytes:
    report = _report(way)
    if report is None:
        return gitlab.failed("dependency_scanning", _why(way), clock.rfc3339(clock.now()))
    lock = way.project.python_lock if way.project.file.python is not None else way.project.path
    return gitlab.encode_dependencies(report, _from_root(way, lock), _is_pinned(way))


def _from_root(way: Way, path: Path) -> str:
    """`path` as the repository calls it; the project's folder is taken for its root where that is not known."""
    for above in (way.project.directory, *way.project.directory.parents):
        if (above / ".git").exists():
            return path.relative_to(above).as_posix()
    return path.relative_to(way.project.directory).as_posix()


# JUnit


def _junit(way: Way) -> bytes:
    """A test for each rule that did not hold, each that only warns, each finding in the sources, and for the way."""
    section = way.project.file.image
    suite = ET.Element("testsuite")
    verdict = way.verdict
    if verdict is not None:
        for one in verdict.violations:
            undetermined = one.severity == "undetermined"
            _violation(suite, one, "error" if undetermined else "failure")
        for one in verdict.warnings:
            _violation(suite, one, "system-out")
        for waived in verdict.waived:
            said = f"waived by {waived.waiver} until {waived.expires_at}: {waived.reason}"
            ET.SubElement(_case(suite, "policy", waived.violation.rule), "skipped", message=_text(said))
    if way.error is not None and (verdict is None or verdict.allowed):
        case = _case(suite, "ci", section.environment)
        kind = "failure" if way.error.exit_code == 1 else "error"
        ET.SubElement(case, kind, message=_text(way.error.message), type=way.error.code).text = _text(
            way.error.next_step
        )
    elif verdict is not None and verdict.allowed:
        _case(suite, "ci", f"allowed for {section.environment}")
    count = {kind: str(len(suite.findall(f"testcase/{kind}"))) for kind in ("failure", "error", "skipped")}
    totals = {"tests": str(len(suite)), "failures": count["failure"], "errors": count["error"]}
    suite.attrib |= {"name": _text(f"tidewaiter ci {section.name}"), **totals, "skipped": count["skipped"]}
    root = ET.Element("testsuites", {"name": "tidewaiter"})
    root.append(suite)
    if way.sources is not None:
        # Parsed back: it was written here a moment ago.
        root.append(ET.fromstring(of_sources.junit(way.sources)))  # noqa: S314 - our own document
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _violation(suite: ET.Element, one: Violation, kind: str) -> None:
    case = _case(suite, "policy", one.rule)
    text = _text("\n".join((*one.evidence, f"change: {one.remedy}")))
    if kind == "system-out":
        ET.SubElement(case, kind).text = _text(f"warning: {one.message}\n{text}")
    else:
        ET.SubElement(case, kind, message=_text(one.message), type=one.severity).text = text


def _case(suite: ET.Element, group: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", {"classname": group, "name": _text(name), "time": "0"})


def _text(said: str) -> str:
    """Without what XML 1.0 has no way to write."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in said)


# SARIF


def _sarif(way: Way) -> bytes:
    """One log with a run each for the image's findings, for policy and for the sources."""
    name = way.project.file.image.name
    runs: list[dict[str, Any]] = []
    report = _report(way)
    if report is not None:
        runs += msgspec.json.decode(sarif.encode(report))["runs"]
        runs[-1]["automationDetails"] = {"id": f"tidewaiter/image/{name}/"}
    if way.sources is not None:
        runs += of_sources.sarif(way.sources)["runs"]
        runs[-1]["automationDetails"] = {"id": f"tidewaiter/sources/{name}/"}
        folder = _from_root(way, way.project.path).rpartition("/")[0]
        _move(runs[-1], f"{quote(folder)}/" if folder else "")
    runs.append(_policy_run(way))
    return msgspec.json.encode(
        {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": runs}
    )


def _move(run: dict[str, Any], below: str) -> None:
    """Let locations start at the repository's root: code hosts know files by that."""
    for result in run["results"]:
        for location in result["locations"]:
            place = location["physicalLocation"]["artifactLocation"]
            place["uri"] = below + place["uri"]


def _policy_run(way: Way) -> dict[str, Any]:
    verdict = way.verdict
    items = [] if verdict is None else [(one, "error") for one in verdict.violations]
    items += [] if verdict is None else [(one, "warning") for one in verdict.warnings]
    rules = sorted({one.rule for one, _ in items})
    ended = way.error is not None and verdict is None
    place = {"artifactLocation": {"uri": quote(_from_root(way, way.project.path))}, "region": {"startLine": 1}}
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "tidewaiter",
                "version": __version__,
                "rules": [{"id": rule, "name": "Policy"} for rule in rules],
            }
        },
        "automationDetails": {"id": f"tidewaiter/policy/{way.project.file.image.name}/"},
        "invocations": [
            {
                "executionSuccessful": not ended,
                "toolExecutionNotifications": [{"level": "error", "message": {"text": _why(way)}}] if ended else [],
            }
        ],
        "results": [
            {
                "ruleId": one.rule,
                "ruleIndex": rules.index(one.rule),
                "level": level,
                "message": {"text": " ".join((one.message, *one.evidence[:10], one.remedy))},
                "locations": [{"physicalLocation": place}],
                "partialFingerprints": {"rule/v1": fingerprint(one.rule)},
            }
            for one, level in items
        ],
        "columnKind": "unicodeCodePoints",
    }
    return run
