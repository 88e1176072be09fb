"""The sources of a project, looked at before anything is built from them. Nothing of them is run.

1. The files that Git tracks or would add, and those that go into the image.
2. The rules of lint, and ruff's and bandit's where these are installed.
3. Secrets.
4. What locks and requirements name: private names that a stranger could answer for, yanked and loose versions.
5. What a comment or the project file wants left as it is, with a reason, does not count; what the project says stops.

What could not be looked at is said beside what was found.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.project import LintIgnore, Project
from tidewaiter.core.settings import Settings
from tidewaiter.lint import files as linted
from tidewaiter.lint import finding as lint
from tidewaiter.lint import ignoring
from tidewaiter.lint.check import check
from tidewaiter.lint.text import Text
from tidewaiter.pipelines.static import dependencies, secrets, sources, tools
from tidewaiter.pipelines.static.report import Kind, NotChecked, Severity, StaticFinding, StaticReport, stops
from tidewaiter.pipelines.static.sources import Read

_SEVERITIES: dict[lint.Severity, Severity] = {"error": "medium", "warning": "low", "info": "info"}
_OF_DEPENDENCIES = frozenset(
    f"requirements/{name}"
    for name in ("unpinned", "no-hashes", "some-hashes", "git-without-commit", "extra-index", "plain-http")
)
"""Rules of lint about where packages come from."""


def analyse(
    settings: Settings, folder: Path, project: Project, *, note: Callable[[str], None], asks: bool = True
) -> StaticReport:
    """What is found in the sources below `folder`.

    Args:
        settings: of this home: indexes, private names, what stops whatever the project says.
        folder: what is looked at; the project lies in it.
        project: whose `[static]` and `[lint]` count, and whose indexes and lock.
        note: told what is being done.
        asks: whether package indexes are asked what they have; without it nothing leaves this machine.

    Raises:
        LimitError: there are over `limits.STATIC_FILES`.
        InputError: settings name an index that cannot be used.
    """
    folder = folder.absolute()
    unread: list[NotChecked] = []
    paths = sources.find(folder, project)  # step 1
    note(f"analysis of {len(paths)} files")
    read = 0
    texts: list[Read] = []
    kept: list[StaticFinding] = []
    for path in paths:
        one = sources.read(folder, path, unread)
        if one is None:
            continue
        read += len(one.content)
        if dependencies.reads(path.name):
            texts.append(one)
        kept += _in_file(one, path, project)  # steps 2 and 3
        if read > limits.STATIC_BYTES:
            unread.append(NotChecked(f"all after {one.path}", f"there are over {limits.STATIC_BYTES} characters"))
            break
        if len(kept) > limits.STATIC_FINDINGS:
            unread.append(
                NotChecked(f"what comes after {one.path}", f"there are over {limits.STATIC_FINDINGS} findings")
            )
            break
    contents = {one.path: one for one in texts}
    others = [*tools.found(folder, paths, unread)]
    others += dependencies.found(settings, folder, project, texts, unread, asks=asks)  # step 4
    for file, of_file in _by_file(others).items():
        one = contents.get(file) or _again(folder, file)
        kept += _weighed(Text(file, one.content if one else ""), of_file, project.file.static.ignore)
    fail_on = tuple(dict.fromkeys((*settings.static_fail_on, *project.file.static.fail_on)))
    counted = (msgspec.structs.replace(one, stops=stops(one, fail_on)) for one in kept)  # step 5
    return StaticReport(
        findings=tuple(sorted(counted, key=lambda one: one.order)[: limits.STATIC_FINDINGS]),
        not_checked=tuple(dict.fromkeys(unread)),
        files=len(paths),
        fail_on=fail_on,
    )


def _again(folder: Path, file: str) -> Read | None:
    path = folder / file
    return sources.read(folder, path, []) if path.is_file() and not path.is_symlink() else None


def _by_file(findings: Iterable[StaticFinding]) -> dict[str, list[StaticFinding]]:
    found: dict[str, list[StaticFinding]] = {}
    for one in findings:
        found.setdefault(one.file, []).append(one)
    return found


def _in_file(one: Read, path: Path, project: Project) -> Iterator[StaticFinding]:
    yield from _linted(one, path, project)
    text = Text(one.path, one.content)
    yield from _weighed(text, list(secrets.found(text)), project.file.static.ignore)


def _linted(one: Read, path: Path, project: Project) -> Iterator[StaticFinding]:
    """Step 2, of our own rules; `[lint]` says what is left out, as `tidewaiter lint` does."""
    wanted = project.file.lint
    kind = linted.kind_of(path.name, one.content)
    if kind is None or any(PurePosixPath(one.path).match(pattern) for pattern in wanted.exclude):
        return
    beside = frozenset(other.name for other in path.parent.iterdir()) if kind == "dockerfile" else frozenset()
    for found in check(linted.Source(one.path, kind, one.content, beside), wanted):
        kind_of: Kind = "dependencies" if found.rule in _OF_DEPENDENCIES else "lint"
        yield StaticFinding(
            tool="tidewaiter",
            kind=kind_of,
            rule=found.rule,
            severity=_SEVERITIES[found.severity],
            file=one.path,
            line=found.span.line,
            column=found.span.column,
            message=found.message,
            remedy=found.remedy,
            ignored=found.ignored,
        )


def _weighed(text: Text, found: Sequence[StaticFinding], settled: Iterable[LintIgnore]) -> list[StaticFinding]:
    """The findings of a text, those that somebody wants left as they are with the reason."""
    reasons = ignoring.reasons(text, [_as_lint(one) for one in found], settled)
    return [msgspec.structs.replace(one, ignored=why) for one, why in zip(found, reasons, strict=True)]


def _as_lint(one: StaticFinding) -> lint.Finding:
    span = lint.Span(max(one.line, 1), one.column, max(one.line, 1), one.column)
    return lint.Finding(
        rule=one.rule, severity="error", path=one.file, span=span, message=one.message, why="", remedy=one.remedy
    )
