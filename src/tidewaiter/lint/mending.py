"""Edits of YAML that keep every comment and the indentation."""

import re

from tidewaiter.lint.finding import Edit, Span
from tidewaiter.lint.tree import Map, Scalar

_INDENTED = re.compile(r"[ -]*")


def added(into: Map, *lines: str) -> tuple[Edit, ...]:
    """The edit that puts `lines` (indented among themselves) into a map; none where that is not surely safe."""
    if not into.entries:
        return ()
    text = into.text
    keys = [key for key, _ in into.entries.values()]
    line, column = text.place(keys[0].start)
    if into.flow:
        here = Span(line, column, line, column)
        return (Edit(here, f"{lines[0]}, "),) if keys[0].plain and len(lines) == 1 else ()
    if not _INDENTED.fullmatch(text.line(line)[: column - 1]):
        return ()
    end = "\r\n" if "\r\n" in text.content else "\n"
    indent = " " * (column - 1)
    for key, value in into.entries.values():
        first, at = text.place(key.start)
        if isinstance(value, Scalar) and value.style not in {"|", ">"} and at == column:
            last = len(text.line(first)) + 1
            if text.place(max(value.end, key.end))[0] == first:
                here = Span(first, last, first, last)
                return (Edit(here, "".join(end + indent + one for one in lines)),)
    return (Edit(Span(line, column, line, column), "".join(one + end + indent for one in lines)),)


def replaced(old: Scalar, new: str) -> tuple[Edit, ...]:
    """The edit that writes another value in a scalar's place."""
    return (Edit(old.span, new),) if old.style not in {"|", ">"} else ()
