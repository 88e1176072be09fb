"""ruff and bandit, where they are installed: run with fixed options on the files, in children with a deadline.

The programs are looked for on PATH and beside the Python that runs tidewaiter, never in the project: what lies in a
checkout must not be run. Neither reads a configuration of the project, so that its findings are the same everywhere.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tidewaiter.assembly.builder_process import follow
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import DeadlineError, MissingToolError
from tidewaiter.core.files import open_regular
from tidewaiter.pipelines.static.report import NotChecked, Severity, StaticFinding, Tool

_RUFF = "E9,F63,F7,F82,PLE,B"
"""What does not run, what is undefined, and what is probably a mistake; not how code looks."""
_AT_ONCE = 500
"""Files of one command line."""


class _Place(msgspec.Struct):
    row: int
    column: int


class _RuffFinding(msgspec.Struct):
    filename: str
    message: str
    location: _Place | None
    code: str | None = None
    url: str | None = None


class _BanditFinding(msgspec.Struct):
    filename: str
    line_number: int
    issue_text: str
    issue_severity: str
    test_id: str
    test_name: str
    col_offset: int = 0
    more_info: str = ""


class _BanditError(msgspec.Struct):
    filename: str
    reason: str


class _BanditReport(msgspec.Struct):
    results: list[_BanditFinding]
    errors: list[_BanditError] = []


class _Unusable(Exception):  # noqa: N818  # not an error of ours: it becomes a line of `not_checked`
    """A tool gave no answer that counts; the text says why."""


def program(name: Tool) -> str | None:
    """Path of an installed tool; None when there is none."""
    beside = str(Path(sys.executable).parent)
    path = settings.tool_environment().get("PATH", "")
    return shutil.which(name, path=path) or shutil.which(name, path=beside)


def found(folder: Path, files: Sequence[Path], unread: list[NotChecked]) -> Iterator[StaticFinding]:
    """What the installed tools find in the Python files; why one did not look joins `unread`."""
    names = [path for path in files if path.suffix == ".py"]
    if not names:
        return
    for tool, ask in (("ruff", _ruff), ("bandit", _bandit)):
        path = program(tool)  # type: ignore[arg-type]  # both are tools
        if path is None:
            unread.append(NotChecked(tool, "it is not installed here"))
            continue
        try:
            for start in range(0, len(names), _AT_ONCE):
                yield from ask(path, folder, names[start : start + _AT_ONCE], unread)
        except _Unusable as problem:
            unread.append(NotChecked(tool, str(problem)))


def _run(line: Sequence[str], report: Path, folder: Path, good: Sequence[int]) -> bytes:
    """The report that a command wrote to the file `report`; raises `_Unusable`."""
    environment = {
        key: value for key, value in settings.tool_environment().items() if key in {"PATH", "LANG", "TMPDIR"}
    }
    try:
        ended = follow(
            line,
            environment=environment | {"LC_ALL": "C.UTF-8"},
            seconds=limits.ANALYSER_SECONDS,
            tell=lambda _line: None,
            folder=folder,
        )
        if ended.code not in good:
            raise _Unusable(f"it ended with {ended.code}: {' '.join(ended.lines[-2:])[:300]}")
        with open_regular(report) as file:
            data = file.read(limits.ANALYSER_BYTES + 1)
    except (DeadlineError, MissingToolError) as error:
        raise _Unusable(error.message) from error
    except OSError as error:
        raise _Unusable("it wrote no report") from error
    if len(data) > limits.ANALYSER_BYTES:
        raise _Unusable(f"its report is over {limits.ANALYSER_BYTES} bytes")
    return data


def _relative(folder: Path, name: str) -> str:
    path = Path(name)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _ruff(path: str, folder: Path, names: Sequence[Path], _unread: list[NotChecked]) -> Iterator[StaticFinding]:
    with tempfile.TemporaryDirectory(prefix="tidewaiter-") as place:
        report = Path(place, "report.json")
        line = [path, "check", "--isolated", "--no-cache", "--no-fix", "--exit-zero", "--select", _RUFF]
        line += ["--output-format", "json", "--output-file", str(report), "--", *map(str, names)]
        data = _run(line, report, Path(place), (0,))
    try:
        said = msgspec.json.decode(data, type=list[_RuffFinding])
    except (ValueError, RecursionError) as error:
        raise _Unusable(f"its report is malformed: {str(error)[:200]}") from error
    for one in said:
        code = one.code or "invalid-syntax"
        yield StaticFinding(
            tool="ruff",
            kind="lint",
            rule=f"ruff/{code.lower()}",
            severity="medium" if one.code is None or one.code.startswith(("E9", "F", "PLE")) else "low",
            file=_relative(folder, one.filename),
            line=one.location.row if one.location else 0,
            column=one.location.column if one.location else 1,
            message=one.message[:500],
            remedy=f"See {one.url}." if one.url else "Mend the syntax.",
        )


_BANDIT: dict[str, Severity] = {"HIGH": "high", "MEDIUM": "medium"}


def _bandit(path: str, folder: Path, names: Sequence[Path], unread: list[NotChecked]) -> Iterator[StaticFinding]:
    with tempfile.TemporaryDirectory(prefix="tidewaiter-") as place:
        report, nothing = Path(place, "report.json"), Path(place, "bandit.ini")
        nothing.write_text("[bandit]\n")  # else it looks for the project's
        line = [path, "--quiet", "--exit-zero", "--ini", str(nothing), "--format", "json", "--output", str(report)]
        data = _run([*line, *map(str, names)], report, Path(place), (0,))
    try:
        said = msgspec.json.decode(data, type=_BanditReport)
    except (ValueError, RecursionError) as error:
        raise _Unusable(f"its report is malformed: {str(error)[:200]}") from error
    unread += [NotChecked(f"bandit: {_relative(folder, one.filename)}", one.reason[:200]) for one in said.errors]
    for one in said.results:
        # It takes every assert of a test for a mistake, and every password there for one.
        in_tests = any(part in {"test", "tests"} for part in Path(_relative(folder, one.filename)).parts)
        yield StaticFinding(
            tool="bandit",
            kind="lint",
            rule=f"bandit/{one.test_id.lower()}",
            severity="info" if in_tests else _BANDIT.get(one.issue_severity, "low"),
            file=_relative(folder, one.filename),
            line=one.line_number,
            column=one.col_offset + 1,
            message=_without_values(one),
            remedy=f"See {one.more_info}." if one.more_info else "See bandit's documentation.",
        )


def _without_values(one: _BanditFinding) -> str:
    """Its words about a finding; those about passwords quote them."""
    return f"{one.test_name.replace('_', ' ')}." if "password" in one.test_name else one.issue_text[:500]
