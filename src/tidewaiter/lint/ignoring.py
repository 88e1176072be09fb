"""What somebody wants left as it is: `# tidewaiter: ignore RULE: reason`, or `[[lint.ignore]]` in the project file.

A comment speaks of the line that it stands on; where it stands alone, of what begins on the next line that is no
comment. Without a reason it ignores nothing, and is a finding itself.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from tidewaiter.core.project import LintIgnore
from tidewaiter.lint.finding import Finding, Span
from tidewaiter.lint.text import Text

_COMMENT = re.compile(r"(?P<code>.*?)#\s*tidewaiter:\s*ignore\b(?P<rest>.*)")
_RULES = re.compile(r"\s+(?P<rules>[a-z0-9/*-]+(?:\s*,\s*[a-z0-9/*-]+)*)\s*(?::\s*(?P<reason>\S.*))?")

ELSEWHERE = ("secrets/", "confusion/", "dependencies/", "ruff/", "bandit/")
"""Beginnings of rules that are not ours: `tidewaiter analyse` looks for them, and knows whether a comment is used."""
WITHOUT_REASON = "lint/ignore-without-reason"
UNUSED = "lint/ignore-unused"


class _Comment(msgspec.Struct):
    patterns: tuple[str, ...]
    reason: str
    span: Span
    target: int
    """The line that it speaks of."""
    used: bool = False


def _comments(text: Text) -> Iterator[_Comment]:
    for number, line in enumerate(text.lines, 1):
        if "tidewaiter:" not in line or (found := _COMMENT.match(line)) is None:
            continue
        said = _RULES.fullmatch(found["rest"])
        target = number
        if not found["code"].strip():
            target += 1
            while text.line(target).lstrip().startswith("#"):
                target += 1
        patterns = tuple(part.strip() for part in said["rules"].split(",")) if said else ()
        yield _Comment(patterns, (said["reason"] or "").strip() if said else "", text.whole(number), target)


def _about(text: Text, rule: str, comment: _Comment) -> Finding:
    missing = rule == WITHOUT_REASON
    return Finding(
        rule=rule,
        severity="warning" if missing else "info",
        path=text.path,
        span=comment.span,
        message="This says neither which rule is ignored nor why." if missing else "Nothing is found here to ignore.",
        why="Whoever reads it next must be able to tell whether the reason still holds.",
        remedy="Write `# tidewaiter: ignore RULE: reason`." if missing else "Delete the comment.",
    )


def apply(text: Text, findings: Sequence[Finding], settled: Iterable[LintIgnore]) -> Iterator[Finding]:
    """The findings of a text, those that are ignored with their reason; and what is wrong with the comments."""
    comments = list(_comments(text))
    for finding in findings:
        reason = next((one.reason for one in settled if _settles(one, finding)), None)
        by: Literal["comment", "project"] | None = None if reason is None else "project"
        for comment in comments:
            if (
                comment.reason
                and finding.span.line <= comment.target <= finding.span.end_line
                and _starts(finding, comment)
                and any(fnmatchcase(finding.rule, pattern) for pattern in comment.patterns)
            ):
                comment.used = True
                reason, by = (comment.reason, "comment") if reason is None else (reason, by)
        yield msgspec.structs.replace(finding, ignored=reason, ignored_by=by)
    for comment in comments:
        if not comment.reason:
            yield _about(text, WITHOUT_REASON, comment)
        elif not comment.used and not all(pattern.startswith(ELSEWHERE) for pattern in comment.patterns):
            yield _about(text, UNUSED, comment)


def reasons(text: Text, findings: Sequence[Finding], settled: Iterable[LintIgnore]) -> list[str | None]:
    """Why each of the findings is to be left as it is; None when it counts. Nothing is said of the comments."""
    return [one.ignored for one in itertools.islice(apply(text, findings, tuple(settled)), len(findings))]


def _starts(finding: Finding, comment: _Comment) -> bool:
    """A comment on its own line speaks of what begins behind it, one behind code of what its line is part of."""
    return comment.target in {finding.span.line, comment.span.line}


def _settles(one: LintIgnore, finding: Finding) -> bool:
    return fnmatchcase(finding.rule, one.rule) and (
        not one.paths or any(fnmatchcase(finding.path, pattern) for pattern in one.paths)
    )
