"""What a step of a rewrite is given, and what it says."""

import re
from collections.abc import Callable

import msgspec

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction
from tidewaiter.lint.finding import Edit, Span
from tidewaiter.lint.shell import Command, Word
from tidewaiter.lint.text import Text


def _no_file(_path: str) -> str | None:
    return None


def _no_digest(_image: str) -> str | None:
    return None


class Around(msgspec.Struct, frozen=True):
    """What lies around a Dockerfile."""

    read: Callable[[str], str | None] = _no_file
    """The text of a file of the build context; None when there is none."""
    digest: Callable[[str], str | None] = _no_digest
    """`sha256:…` of an image as `FROM` names it; None when nobody knows."""


class Step(msgspec.Struct, frozen=True):
    """What a step would change, and what it leaves."""

    edits: tuple[Edit, ...] = ()
    done: tuple[str, ...] = ()
    """What the edits do, a sentence each."""
    left: tuple[str, ...] = ()
    """What is left as it is, and why; a sentence each."""


Rewrite = Callable[[Dockerfile, Around], Step]


def left(why: str) -> Step:
    """A step that changes nothing."""
    return Step(left=(why,))


def insertion(text: Text, offset: int, content: str) -> Edit:
    """Puts `content` in front of the character at `offset`."""
    return replacement(text, offset, offset, content)


def replacement(text: Text, start: int, end: int, content: str) -> Edit:
    """Puts `content` in the place of these characters."""
    return Edit(Span(*text.place(start), *text.place(end)), content)


def before(text: Text, one: Instruction, content: str) -> Edit:
    """Puts lines in front of an instruction and the comments that stand right above it."""
    line = one.lines[0]
    while line > 1 and text.line(line - 1).lstrip().startswith("#") and not _is_directive(text, line - 1):
        line -= 1
    return insertion(text, text.offset(line, 1), content)


def _is_directive(text: Text, number: int) -> bool:
    """Whether a comment says something to the builder: only the first lines can."""
    return all("=" in text.line(line) for line in range(1, number + 1))


def behind(text: Text, one: Instruction, content: str) -> Edit:
    """Puts `content`, lines with their ends, behind an instruction."""
    last = one.lines[1]
    at = text.offset(last, len(text.line(last)) + 1)
    return insertion(text, at, "\n" + content.removesuffix("\n"))


def without(text: Text, one: Instruction) -> Edit:
    """Takes the lines of an instruction out."""
    first, last = one.lines
    return replacement(text, text.offset(first, 1), text.offset(last + 1, 1), "")


def source(text: Text, one: Instruction) -> str:
    """An instruction as it is written, without indentation and the end of its last line."""
    span = one.span
    return text.content[text.offset(span.line, span.column) : text.offset(span.end_line, span.end_column)]


def has_comment(text: Text, one: Instruction) -> bool:
    """Whether a comment may stand within an instruction."""
    return "#" in source(text, one)


def placed(one: Instruction, command: Command) -> bool:
    """Whether words of the command stand where they say: within quotes and exec form they do not."""
    starts = [word.start for word in command.words]
    return not one.json and len(set(starts)) == len(starts)


def word_out(file: Dockerfile, word: Word) -> Edit:
    """Takes a word out, and with it the blanks in front or, when it has a line of its own, that line."""
    content, escape = file.text.content, re.escape(file.escape)
    start, end = word.start, word.end
    while content[start - 1] in " \t":
        start -= 1
    if content[start - 1] == "\n":
        if continued := re.compile(rf"[ \t]*{escape}[ \t]*\r?\n").match(content, end):
            return replacement(file.text, start, continued.end(), "")
        if re.compile(r"[ \t]*(?:\r?\n|\Z)").match(content, end):
            # The line above must not go on to nothing.
            above = re.compile(rf"[ \t]*{escape}[ \t]*\r?\n\Z").search(content, 0, start)
            start = above.start() if above else start
    return replacement(file.text, start, end, "")
