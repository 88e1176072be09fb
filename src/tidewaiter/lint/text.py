"""A text with lines and columns, as findings name them."""

import bisect
from functools import cached_property

from tidewaiter.lint.finding import Edit, Span


class Text:
    """The text of the file `path`. Only a newline ends a line, as builders and YAML's users see it."""

    def __init__(
        self,
        path: str,
        content: str,
        *,
        beside: frozenset[str] = frozenset(),
        taints: tuple[str, ...] | None = None,
    ) -> None:
        self.path = path
        self.content = content
        self.beside = beside
        """Names in its folder, as far as they are known."""
        self.taints = taints
        """Of the GPU nodes that it is meant for; None when they are not known."""

    @cached_property
    def lines(self) -> list[str]:
        """The lines without their ends (also without a carriage return)."""
        return [line.removesuffix("\r") for line in self.content.split("\n")]

    @cached_property
    def _starts(self) -> list[int]:
        starts = [0]
        for line in self.content.split("\n"):
            starts.append(starts[-1] + len(line) + 1)
        return starts[:-1]

    def line(self, number: int) -> str:
        """The line with that number, counted from 1; empty beyond the end."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def whole(self, first: int, last: int | None = None) -> Span:
        """The lines `first` to `last` without the indentation of the first and blanks at the end of the last."""
        last = min(max(last or first, first), len(self.lines))
        opening = self.line(first)
        start = len(opening) - len(opening.lstrip()) + 1
        return Span(first, start, last, max(len(self.line(last).rstrip()) + 1, start if first == last else 1))

    def find(self, word: str, first: int, last: int | None = None) -> Span:
        """Where `word` first stands in the lines `first` to `last`; these lines when it does not."""
        for number in range(first, (last or first) + 1):
            at = self.line(number).find(word)
            if at >= 0 and word:
                return Span(number, at + 1, number, at + 1 + len(word))
        return self.whole(first, last)

    def offset(self, line: int, column: int) -> int:
        """How many characters stand before that place."""
        if line > len(self._starts):
            return len(self.content)
        return min(self._starts[line - 1] + column - 1, len(self.content))

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of the character at `offset`."""
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


def edited(text: Text, edits: list[Edit]) -> tuple[str, list[Edit]]:
    """The text with the edits in it, and those that were left out because another one changes the same place."""
    spans = sorted(
        ((text.offset(e.span.line, e.span.column), text.offset(e.span.end_line, e.span.end_column), e) for e in edits),
        key=lambda item: (item[0], item[1]),
    )
    parts: list[str] = []
    left_out: list[Edit] = []
    done = 0
    last: Edit | None = None
    for start, end, edit in spans:
        if edit == last:
            continue
        if start < done or (last is not None and start == done == end and last.span == edit.span):
            left_out.append(edit)
            continue
        parts += [text.content[done:start], edit.text]
        done, last = end, edit
    return "".join([*parts, text.content[done:]]), left_out
