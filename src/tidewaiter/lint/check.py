"""A file, asked about by every rule of its kind."""

import re
from collections.abc import Iterable, Iterator

from tidewaiter.core.errors import InputError
from tidewaiter.core.project import LintSection
from tidewaiter.lint import ignoring, kinds
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Finding, Severity
from tidewaiter.lint.rule import of_kind
from tidewaiter.lint.text import Text

_NO_PLACE = "how it is written leaves no place for a change that is surely safe"
_LINE = re.compile(r":(\d+):")


def check(source: Source, wanted: LintSection) -> list[Finding]:
    """What the rules find in a file, by place; also what is ignored, which says why."""
    text = Text(source.path, source.content, beside=source.beside, taints=wanted.taints)
    found = sorted(_found(source, text, wanted), key=lambda one: one.order)
    return sorted(ignoring.apply(text, found, wanted.ignore), key=lambda one: one.order)


def _found(source: Source, text: Text, wanted: LintSection) -> Iterator[Finding]:
    parse = kinds.parser(source.kind)
    if parse is None:
        return
    try:
        parsed = parse(text)
    except InputError as error:
        yield _malformed(source, text, error)
        return
    ask = kinds.asker(source.kind)
    for rule in of_kind(source.kind):
        severity = wanted.severity.get(rule.id, rule.severity)
        if severity == "off":
            continue
        for one in ask(parsed, rule.check):
            yield Finding(
                rule=rule.id,
                severity=severity,
                path=source.path,
                span=one.span,
                message=one.message,
                why=rule.why,
                remedy=one.remedy,
                edits=one.edits,
                left="" if one.edits or not rule.mends else one.left or _NO_PLACE,
            )


def _malformed(source: Source, text: Text, error: InputError) -> Finding:
    found = _LINE.search(error.message)
    line = min(int(found[1]), max(len(text.lines), 1)) if found else 1
    return Finding(
        rule=f"{source.kind}/syntax",
        severity="error",
        path=source.path,
        span=text.whole(line),
        message=error.message.partition(": ")[2] if found else error.message,
        why="What cannot be parsed is refused by whatever reads it next, or read as something else.",
        remedy=error.next_step,
    )


def counting(findings: Iterable[Finding], threshold: Severity) -> int:
    """How many of them are at least as bad as the threshold and not ignored."""
    reached = {"error": {"error"}, "warning": {"error", "warning"}, "info": {"error", "warning", "info"}}[threshold]
    return sum(one.ignored is None and one.severity in reached for one in findings)
