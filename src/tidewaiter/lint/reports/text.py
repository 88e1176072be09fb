"""Findings for people: place, what, the line with a mark below it, why, what to do."""

from collections.abc import Iterator, Mapping, Sequence

from tidewaiter.lint.finding import Finding
from tidewaiter.lint.text import Text

_WIDTH = 200
"""Characters of a line that are shown."""


def _mark(line: str, finding: Finding) -> str:
    span = finding.span
    end = span.end_column if span.end_line == span.line else len(line.rstrip()) + 1
    # Tabs stay tabs, so that the mark stands below what it means.
    lead = "".join("\t" if letter == "\t" else " " for letter in line[: span.column - 1])
    return lead + "^" * max(min(end, len(line) + 1) - span.column, 1)


def lines(
    findings: Sequence[Finding], texts: Mapping[str, Text], *, reasons: bool, fixed: bool = False
) -> Iterator[str]:
    """The findings that count, a blank line behind each.

    Args:
        findings: in order; ignored ones are left out.
        texts: the files that they are about, by path.
        reasons: whether each says why it matters.
        fixed: whether `--fix` was there already, so that each says why it left it.
    """
    for one in findings:
        if one.ignored is not None:
            continue
        yield f"{one.path}:{one.span.line}:{one.span.column}: {one.severity}: {one.message} [{one.rule}]"
        line = texts[one.path].line(one.span.line)
        if one.span.column <= _WIDTH:
            number = str(one.span.line)
            yield f"  {number} | {line[:_WIDTH]}"
            yield f"  {' ' * len(number)} | {_mark(line[:_WIDTH], one)}"
        if reasons:
            yield f"  why: {one.why}"
        yield f"  do: {one.remedy}" + ("  (--fix does it)" if one.edits and not fixed else "")
        if fixed and one.left:
            yield f"  left by --fix: {one.left}"
        yield ""
