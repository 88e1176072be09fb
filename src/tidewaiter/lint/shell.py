"""Commands in a shell's text: words with their places, and what stands between them. Nothing is expanded or run.

It knows what rules must tell apart: quotes, `$(…)`, lists, pipes, background, redirections, comments, here-documents
are left to whoever cut the text. What it cannot make sense of ends where the text ends; it never fails.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

_OPERATOR = r"&(?!>)&?|\|[|&]?|;;?|[()\n]"
_REDIRECTION = re.compile(r"\d*(?:&>|<(?!\()|>(?!\())[<>&|-]*")
_LINE_END = re.compile(r"[ \t\r\f\v]*\n")
_PLAIN = re.compile(r"[^ \t\r\f\v\n;|&()<>\"'$`\\]+")
_PLAIN_INSIDE = re.compile(r"[^\"$`\\]+")
_KEYWORDS = frozenset(
    {"if", "then", "else", "elif", "while", "until", "do", "{", "!", "time", "fi", "done", "esac", "}"}
)
_END = "end"
_PREFIXES = frozenset({"exec", "sudo", "env", "nohup", "nice", "command", "builtin"})
_BLANK = " \t\r\f\v"
_ENDING = _BLANK + "\n;|&()<>"
_SIMPLE = r"(?:[^ \t\r\f\v\n;|&()<>\"'$`\\]++|\"[^\"$`\\]*+\"|'[^']*+')(?=[ \t\r\f\v\n;|()]|&(?!>)|\Z)"
"""A whole word without quotes or all within one pair, nothing in it to expand: nearly every word."""


class _Patterns(NamedTuple):
    gap: re.Pattern[str]
    """What stands between words: blanks, comments, ends of lines that go on."""
    token: re.Pattern[str]
    """The same, and behind it a simple word (group 1), an operator (2), the first letter of anything else (3) or the
    end."""


def _patterns(escape: str, *, joined: bool) -> _Patterns:
    passed = r"(?:[^\S\n]*(?:#[^\n]*)?(?:\n|\Z))*" if joined else ""
    gap = rf"(?>(?:[{_BLANK}]+|#[^\n]*|{re.escape(escape)}[{_BLANK}]*\n{passed})*)"
    return _Patterns(re.compile(gap), re.compile(rf"{gap}(?:({_SIMPLE})|({_OPERATOR})|(.)|\Z)", re.DOTALL))


_PATTERNS = {(letter, joined): _patterns(letter, joined=joined) for letter in "\\`" for joined in (False, True)}


class Word(msgspec.Struct, frozen=True, gc=False):
    """One word, quotes removed; variables stand in it as they were written."""

    value: str
    start: int
    """Characters before it in the text."""
    end: int
    quoted: bool
    """Whether any of it stood in quotes."""


class Command:
    """One simple command."""

    __slots__ = ("after", "arguments", "assignments", "before", "program", "words")

    def __init__(self, words: tuple[Word, ...], assignments: tuple[Word, ...], before: str, after: str) -> None:
        self.words = words
        """Without assignments in front of it, and without redirections."""
        self.assignments = assignments
        self.before = before
        """The operator in front of it; empty at the beginning."""
        self.after = after
        """The operator behind it; empty at the end."""
        self.arguments = _arguments(words)
        """The words from the program on; `sudo`, `exec` and their like do not count."""
        self.program = self.arguments[0].rpartition("/")[2] if words else ""
        """Its file name without folders."""

    @property
    def start(self) -> int:
        return (self.assignments or self.words)[0].start

    @property
    def end(self) -> int:
        return (self.words or self.assignments)[-1].end


def _arguments(words: tuple[Word, ...]) -> tuple[str, ...]:
    found = [word.value for word in words]
    at, last = 0, len(found) - 1
    while at < last and found[at].rpartition("/")[2] in _PREFIXES:
        at += 1
        while at < last and (found[at].startswith("-") or "=" in found[at]):
            at += 1
    return tuple(found[at:] if at else found)


class _Reader:
    def __init__(self, text: str, escape: str, *, joined: bool, offset: int) -> None:
        self.text = text
        self.at = 0
        self.escape = escape
        self.joined = joined
        self.offset = offset
        self.patterns = _PATTERNS[escape, joined]
        self.inner: list[tuple[int, str]] = []
        """Texts of `$(…)` and backticks with their places."""

    def _continues(self) -> int:
        """Length of an escaped end of line here; in a Dockerfile comments and empty lines behind it are no text."""
        text, at = self.text, self.at
        if not text.startswith(self.escape, at) or (found := _LINE_END.match(text, at + 1)) is None:
            return 0
        end = found.end()
        while end < len(text):
            stop = text.find("\n", end)
            stop = len(text) if stop < 0 else stop
            line = text[end:stop].strip()
            if not self.joined or (line and not line.startswith("#")):
                break
            end = stop + 1
        return min(end, len(text)) - at

    def skip(self) -> None:
        """Go on to the next word or operator."""
        found = self.patterns.gap.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def tokens(self) -> Iterator[Word | str]:
        """Words and operators, `_END` last; redirections are passed over."""
        text, offset = self.text, self.offset
        while True:
            for found in self.patterns.token.finditer(text, self.at):
                kind = found.lastindex
                if kind == 1:
                    start, end = found.span(1)
                    whole = found[1]
                    quoted = whole[0] in "\"'"
                    yield Word(whole[1:-1] if quoted else whole, start + offset, end + offset, quoted)
                elif kind == 2:
                    yield found[2]
                elif kind == 3:
                    self.at = found.start(3)
                    break
                else:
                    yield _END
                    return
            if not self.redirection():
                yield self.word()

    def redirection(self) -> bool:
        """Take a redirection with its target, when one is here."""
        found = _REDIRECTION.match(self.text, self.at)
        if found is None:
            return False
        self.at = found.end()
        self.skip()
        if self.at < len(self.text) and self.text[self.at] not in "\n;|&()":
            self.word()
        return True

    def _nested(self, opening: str, closing: str) -> str:
        """What stands between brackets that nest, both taken."""
        start = self.at
        depth = 0
        while self.at < len(self.text):
            letter = self.text[self.at]
            self.at += 1
            if letter == "'" and opening == "(":
                end = self.text.find("'", self.at)
                self.at = len(self.text) if end < 0 else end + 1
            elif letter == "\\":
                self.at += 1
            elif letter == opening:
                depth += 1
            elif letter == closing:
                depth -= 1
                if depth == 0:
                    break
        return self.text[start : self.at]

    def _dollar(self) -> str:
        start = self.at
        self.at += 1
        following = self.text[self.at : self.at + 1]
        if following == "(":
            inside = self.at + 1
            self._nested("(", ")")
            if not self.text.startswith("(", inside):  # `$((…))` is arithmetic
                self.inner.append((inside, self.text[inside : self.at - 1]))
        elif following == "{":
            self._nested("{", "}")
        return self.text[start : self.at]

    def _single(self) -> str:
        """What stands in single quotes, both taken."""
        end = self.text.find("'", self.at + 1)
        end = len(self.text) if end < 0 else end
        start, self.at = self.at + 1, end + 1
        return self.text[start:end]

    def _backticks(self) -> str:
        start = self.at
        end = self.text.find("`", start + 1)
        end = len(self.text) if end < 0 else end
        self.inner.append((start + 1, self.text[start + 1 : end]))
        self.at = end + 1
        return self.text[start : self.at]

    def _part(self, *, quoted: bool) -> str:
        """The next part of a word, taken: what is expanded, an escaped or a plain character."""
        letter = self.text[self.at]
        if letter == "$":
            return self._dollar()
        if letter == "`" and self.escape != "`":
            return self._backticks()
        if length := self._continues():
            self.at += length
            return ""
        if letter == "\\" and self.at + 1 < len(self.text):
            following = self.text[self.at + 1]
            self.at += 2
            return following if not quoted or following in '"\\$`' else letter + following
        self.at += 1
        return letter

    def word(self) -> Word:
        """The word here, taken."""
        text, start = self.text, self.at
        parts: list[str] = []
        quoted = inside = False
        while self.at < len(text):
            letter = text[self.at]
            if found := (_PLAIN_INSIDE if inside else _PLAIN).match(text, self.at):
                parts.append(found[0])
                self.at = found.end()
            elif letter == '"':
                self.at, inside, quoted = self.at + 1, not inside, True
            elif letter == "'" and not inside:
                quoted = True
                parts.append(self._single())
            elif not inside and self.at > start and letter in _ENDING:
                break
            else:
                # A lone `<` or `>` of a process substitution is a word of its own.
                parts.append(self._part(quoted=inside))
        self.at = min(self.at, len(text))
        return Word("".join(parts), start + self.offset, self.at + self.offset, quoted)


def _assigns(word: Word) -> bool:
    name, sign, _ = word.value.partition("=")
    return bool(sign) and name.removesuffix("+").isidentifier()


def commands(
    text: str, *, escape: str = "\\", joined: bool = False, depth: int = 4, offset: int = 0
) -> Iterator[Command]:
    """The simple commands in `text`, in order; those within `$(…)` after the one that they stand in.

    Args:
        text: of a script, or behind `RUN`.
        escape: what continues a line.
        joined: whether it is an instruction of a Dockerfile, whose lines are joined before a shell sees them.
        depth: how deep `$(…)` is looked into.
        offset: characters of the file before `text`; places count from the file's beginning.
    """
    reader = _Reader(text, escape, joined=joined, offset=offset)
    words: list[Word] = []
    assignments: list[Word] = []
    before = ""
    for taken in reader.tokens():
        if isinstance(taken, Word):
            if words:
                words.append(taken)
            elif taken.quoted or taken.value not in _KEYWORDS:
                (assignments if _assigns(taken) else words).append(taken)
            continue
        after = "" if taken == _END else taken
        if words or assignments:
            yield Command(tuple(words), tuple(assignments), before, after)
            words, assignments = [], []
            before = after
        elif after != "\n":
            before = after
        inner, reader.inner = reader.inner, []
        for start, inside in inner if depth else ():
            yield from commands(inside, escape=escape, joined=joined, depth=depth - 1, offset=offset + start)
