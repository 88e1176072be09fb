"""The text of a Dockerfile cut into instructions, as BuildKit's parser cuts it.

Lines, comments, continuations and arguments are cut here, by patterns: a library does the same letter by letter and
takes several times as long. What needs a shell's lexer, markers of here-documents, is left to that library; tests hold
both against each other.
"""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from e2b_dockerfile_utils import DockerfileHeredoc, DockerfileSyntaxError, ShellLex, parse_heredoc

_BLANK = " \t\n\v\f\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_BLANKS = _BLANK.replace("-", "".join(map(chr, range(0x2001, 0x200A))))
"""What Go calls a space; Python's `str.isspace` says so of four more."""
_GAP = re.compile(r"[\t\v\f\r ]+")
_HEALTH = re.compile(f"([^{_BLANK}]+)[{_BLANK}]*(.*)", re.DOTALL)
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_QUOTED = re.compile(r"['\"\\`]")


class _Patterns(NamedTuple):
    """How words look when that letter escapes."""

    word: re.Pattern[str]
    """Up to the next blank outside quotes; its groups are an escape with nothing behind it, which is dropped."""
    flag: re.Pattern[str]


def _patterns(letter: str) -> _Patterns:
    e = re.escape(letter)
    plain = rf"[^{_BLANK}'\"{e}]+|{e}."
    double = rf"\"(?:[^\"{e}]|{e}.)*(?:\"|({e})?\Z)"
    # Within single quotes nothing escapes, but for flags.
    single = rf"'(?:[^'{e}]|{e}.)*(?:'|{e}?\Z)"
    return _Patterns(
        re.compile(rf"(?:{plain}|({e})\Z|'[^']*(?:'|\Z)|{double})+", re.DOTALL),
        re.compile(rf"(?:{plain}|{e}\Z|{single}|{double})+", re.DOTALL),
    )


_ESCAPES = {letter: _patterns(letter) for letter in "\\`"}
_Arguments = tuple[list[str], bool]


class Statement(NamedTuple):
    """One instruction."""

    name: str
    """In capitals."""
    flags: list[str]
    """Quotes removed."""
    args: list[str]
    """Of `ENV` and `LABEL` triples of key, value, and `=` or nothing; of `ONBUILD` none."""
    json: bool
    heredocs: list[str]
    """Their texts."""
    start_line: int
    end_line: int
    put_off: "Statement | None" = None
    """What stands behind `ONBUILD`; None for what is no instruction."""


def statements(content: str) -> tuple[list[Statement], str]:
    """The instructions in a text, and the letter that escapes in it.

    Raises:
        DockerfileSyntaxError: BuildKit would refuse the text; it knows the line.
    """
    lines = content.removeprefix("\ufeff").split("\n")
    if not lines[-1]:
        lines.pop()
    escape, at = _directives(lines)
    found: list[Statement] = []
    while at < len(lines):
        line = lines[at].rstrip("\r").lstrip(_BLANKS)
        at += 1
        if not line or line[0] == "#":
            continue
        start = at
        line, goes_on = _cut(line, escape)
        while goes_on and at < len(lines):
            more = lines[at].rstrip("\r")
            at += 1
            begins = more.lstrip(_BLANKS)
            if begins and begins[0] != "#":
                more, goes_on = _cut(more, escape)
                line += more
        one = _statement(line, escape, start, at)
        acting = one.put_off or one
        if "<<" in line and acting.name in _WITH_HEREDOCS and not acting.json:
            at = _heredocs(acting, line, lines, at)
            one = one._replace(end_line=at, put_off=one.put_off and one.put_off._replace(end_line=at))
        found.append(one)
    return found, escape


def _directives(lines: list[str]) -> tuple[str, int]:
    """What escapes, and how many lines say such things."""
    escape, seen = "\\", set[str]()
    for at, line in enumerate(lines):
        said = _DIRECTIVE.match(line.rstrip("\r").lstrip(_BLANKS))
        name = said[1].lower() if said else ""
        if said is None or name not in _DIRECTIVES:
            return escape, at
        if name in seen:
            raise DockerfileSyntaxError(f"only one {name} parser directive can be used", at + 1)
        seen.add(name)
        if name == "escape":
            if said[2] not in _ESCAPES:
                raise DockerfileSyntaxError(f"invalid escape token '{said[2]}' does not match ` or \\", at + 1)
            escape = said[2]
    return escape, len(lines)


def _cut(line: str, escape: str) -> tuple[str, bool]:
    """A line without the mark that it goes on, and whether it had one."""
    bare = line.rstrip(" \t")
    if bare.endswith(escape) and not bare.endswith(escape * 2):
        return bare[:-1], True
    return line, False


def _statement(line: str, escape: str, start: int, end: int) -> Statement:
    parts = _GAP.split(line.strip(), maxsplit=1)
    name = parts[0].upper()
    read = _READERS.get(name)
    if read is None:
        raise DockerfileSyntaxError(f"unknown instruction: {parts[0]}", start)
    rest, flags = _flags(parts[1], escape) if len(parts) > 1 else ("", [])
    if name == "ONBUILD":
        return Statement(name, flags, [], False, [], start, end, _put_off(rest.strip(), escape, start, end))
    try:
        args, is_json = read(rest.strip(), escape)
    except (ValueError, RecursionError) as error:
        raise DockerfileSyntaxError(str(error), start) from None
    return Statement(name, flags, args, is_json, [], start, end)


def _put_off(text: str, escape: str, start: int, end: int) -> Statement | None:
    """What `ONBUILD` puts off; None for what is no instruction, which only the build that it is put off to refuses."""
    name = _GAP.split(text, maxsplit=1)[0].upper()
    if not name:
        raise DockerfileSyntaxError("ONBUILD requires at least one argument", start)
    if name == "ONBUILD":
        raise DockerfileSyntaxError("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", start)
    if name in {"FROM", "MAINTAINER"}:
        raise DockerfileSyntaxError(f"{name} isn't allowed as an ONBUILD trigger", start)
    return _statement(text, escape, start, end) if name in _READERS else None


def _flags(text: str, escape: str) -> tuple[str, list[str]]:
    """What stands behind the flags, and the flags."""
    flags: list[str] = []
    text = text.lstrip(_BLANKS)
    while text.startswith("--"):
        found = _ESCAPES[escape].flag.match(text)
        word, text = (found[0], text[found.end() :]) if found else (text, "")
        word = _bare(word, escape) if _QUOTED.search(word) else word
        if word == "--":
            break
        flags.append(word)
        text = text.lstrip(_BLANKS)
    return text, flags


def _bare(word: str, escape: str) -> str:
    """A word without quotes and escapes."""
    found: list[str] = []
    quote, letters = "", iter(word)
    for letter in letters:
        if letter == escape:
            found.append(next(letters, ""))
        elif letter == quote:
            quote = ""
        elif not quote and letter in "'\"":
            quote = letter
        else:
            found.append(letter)
    return "".join(found)


def _heredocs(one: Statement, line: str, lines: list[str], at: int) -> int:
    """Take the here-documents of an instruction out of the lines from `at` on; how many lines there are by then."""
    for marker in _markers(line, one.start_line):
        start = at
        while True:
            if at == len(lines):
                raise DockerfileSyntaxError("unterminated heredoc", one.start_line)
            end = lines[at].rstrip("\r")
            at += 1
            if (end.lstrip("\t") if marker.chomp else end) == marker.name:
                break
        one.heredocs.append("".join(f"{text}\n" for text in lines[start : at - 1]))
    return at


def _markers(line: str, start: int) -> list[DockerfileHeredoc]:
    try:
        words = ShellLex("\\", raw_quotes=True, raw_escapes=True).process_words(line)
    except ValueError:
        return []
    try:
        return [found for word in words if (found := parse_heredoc(word)) is not None]
    except ValueError as error:
        raise DockerfileSyntaxError(str(error), start) from None


def _words(rest: str, escape: str) -> list[str]:
    """Words with their quotes and escapes; a blank within quotes parts nothing."""
    if not _QUOTED.search(rest):
        return [word for word in _SPLIT.split(rest) if word]
    found = []
    for match in _ESCAPES[escape].word.finditer(rest):
        dropped = match[1] is not None or match[2] is not None
        if word := match[0][:-1] if dropped else match[0]:
            found.append(word)
    return found


_SPLIT = re.compile(f"[{_BLANK}]+")


def _one(rest: str, _: str) -> _Arguments:
    return ([rest] if rest else []), False


def _none(_: str, __: str) -> _Arguments:
    return [], False


def _parted(rest: str, _: str) -> _Arguments:
    return (_GAP.split(rest) if rest else []), False


def _array(rest: str) -> list[str] | None:
    """The texts of a JSON array; None when it is something else. Raises `ValueError` when it holds no texts."""
    if not rest.startswith("["):
        return None
    try:
        found = json.loads(rest)
    except ValueError:
        return None
    if not all(isinstance(one, str) for one in found):
        raise ValueError("Only strings are supported in JSON arrays")
    return list(found)


def _command(rest: str, _: str) -> _Arguments:
    found = _array(rest)
    return _one(rest, "") if found is None else (found, True)


def _health(rest: str, _: str) -> _Arguments:
    found = _HEALTH.match(rest)
    if found is None:
        return [], False
    args, is_json = _command(found[2], "")
    return [found[1], *args], is_json


def _places(rest: str, _: str) -> _Arguments:
    found = _array(rest)
    return _parted(rest, "") if found is None else (found, True)


def _paths(rest: str, escape: str) -> _Arguments:
    found = _array(rest)
    return (_words(rest, escape), False) if found is None else (found, True)


def _variables(rest: str, escape: str) -> _Arguments:
    return _words(rest, escape), False


def _pairs(name: str) -> Callable[[str, str], _Arguments]:
    def read(rest: str, escape: str) -> _Arguments:
        words = _words(rest, escape)
        if words and "=" not in words[0]:
            parts = _GAP.split(rest, maxsplit=1)
            if len(parts) < 2:
                raise ValueError(f"{name} must have two arguments")
            return [*parts, ""], False
        args: list[str] = []
        for word in words:
            key, sign, value = word.partition("=")
            if not sign:
                raise ValueError(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value')
            args += (key, value, sign)
        return args, False

    return read


_READERS: dict[str, Callable[[str, str], _Arguments]] = {
    "ADD": _paths,
    "ARG": _variables,
    "CMD": _command,
    "COPY": _paths,
    "ENTRYPOINT": _command,
    "ENV": _pairs("ENV"),
    "EXPOSE": _parted,
    "FROM": _parted,
    "HEALTHCHECK": _health,
    "LABEL": _pairs("LABEL"),
    "MAINTAINER": _one,
    "ONBUILD": _none,
    "RUN": _command,
    "SHELL": _command,
    "STOPSIGNAL": _one,
    "USER": _one,
    "VOLUME": _places,
    "WORKDIR": _one,
}
