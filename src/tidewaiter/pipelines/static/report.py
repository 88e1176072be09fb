"""What the analysis of a project's sources found, what it could not look at, and which of it stops a build."""

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from tidewaiter.core.errors import RefusedError

Severity = Literal["critical", "high", "medium", "low", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the worst on."""
Kind = Literal["lint", "secrets", "confusion", "dependencies"]
Tool = Literal["tidewaiter", "ruff", "bandit"]


class StaticFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake in one place. No text of it holds a secret that was found."""

    tool: Tool
    kind: Kind
    rule: str
    """`KIND/NAME`, as `[[static.ignore]]` and comments name it."""
    severity: Severity
    file: str
    """From the folder that was looked at, with forward slashes."""
    line: int
    """Counted from 1; 0 when it is about the whole file."""
    column: int
    """In characters, counted from 1."""
    message: str
    remedy: str
    ignored: str | None = None
    """Why somebody wants it left as it is; None when it counts."""
    stops: bool = False
    """Whether a build ends because of it."""

    @property
    def order(self) -> tuple[int, str, int, int, str]:
        """The worst first, then by place."""
        return SEVERITIES.index(self.severity), self.file, self.line, self.column, self.rule


class NotChecked(msgspec.Struct, frozen=True):
    """Something that could not be looked at, and why. It is never taken for "nothing found"."""

    what: str
    reason: str


class StaticReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an analysis; `findings` are ordered, the worst first."""

    findings: tuple[StaticFinding, ...]
    not_checked: tuple[NotChecked, ...]
    files: int
    """Files whose text was read."""
    fail_on: tuple[str, ...]
    """What stops, as the project says it."""

    @property
    def stopping(self) -> tuple[StaticFinding, ...]:
        """The findings for which nothing may be built."""
        return tuple(one for one in self.findings if one.stops)


def stops(finding: StaticFinding, fail_on: Sequence[str]) -> bool:
    """Whether a finding that counts is at least as bad as one of the words, each `KIND`, `SEVERITY` or both."""
    if finding.ignored is not None:
        return False
    for word in fail_on:
        kind, _, severity = word.rpartition(":") if ":" in word or word in SEVERITIES else (word, "", SEVERITIES[-1])
        worst: tuple[str, ...] = SEVERITIES[: SEVERITIES.index(severity) + 1]
        if kind in {"", finding.kind} and finding.severity in worst:
            return True
    return False


def require(report: StaticReport) -> None:
    """Raise `RefusedError` when a finding stops the build."""
    found = report.stopping
    if not found:
        return
    first = found[0]
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    raise RefusedError(
        f"the analysis of the sources found what stops a build: {_place(first)}: {first.message} [{first.rule}]{more}",
        next_step=f"{first.remedy} `tidewaiter analyse` shows all of it.",
        code="analysis_failed",
    )


def _place(finding: StaticFinding) -> str:
    return f"{finding.file}:{finding.line}" if finding.line else finding.file
