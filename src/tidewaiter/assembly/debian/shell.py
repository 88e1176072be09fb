"""The part of the shell language that maintainer scripts are written in (POSIX.1-2017, chapter 2), as a tree.

Only what is needed to say which commands a script would run. What is not understood (here-documents, arithmetic)
raises `Unreadable`, so that the script counts as unknown.
"""

import re
from collections.abc import Callable

import msgspec

from tidewaiter.core import limits

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+|\\\n)
    |(?P<comment>\#[^\n]*)
    |(?P<redirect>\d*(?:>>|>\||>&|<&|&>|>|<(?!<))[ \t]*(?:&?\d+|&?-|"[^"\n]*"|'[^'\n]*'|[^\s;&|()<>]+))
    |(?P<operator>;;|&&|\|\||[;&|()\n])
    |(?P<word>(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|\$\((?:[^()]|\([^()]*\))*\)|\$\{[^}\n]*\}|[^\s;&|()<>'"\\])+)""",
    re.VERBOSE | re.DOTALL,
)
_FUNCTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unreadable(ValueError):  # noqa: N818  # an answer, caught by `first_install`, no error of the program
    """The script uses more of the shell than is read here."""


class Simple(msgspec.Struct, frozen=True):
    """A command and its arguments, quotes kept; `redirects` as written."""

    words: tuple[str, ...]
    redirects: tuple[str, ...]


class Chain(msgspec.Struct, frozen=True):
    """Commands joined by `&&`, `||`, `|` or, one after the other, `;`."""

    first: "Node"
    rest: tuple[tuple[str, "Node"], ...]


class Negation(msgspec.Struct, frozen=True):
    """`! COMMAND`."""

    node: "Node"


class If(msgspec.Struct, frozen=True):
    """Conditions with their branches, in order; a branch without a condition is `else`."""

    branches: tuple[tuple["Node | None", "Node"], ...]


class Case(msgspec.Struct, frozen=True):
    """A word and, in order, patterns with their branches."""

    word: str
    branches: tuple[tuple[tuple[str, ...], "Node"], ...]


class Loop(msgspec.Struct, frozen=True):
    """`for`, with the name that it sets, or `while` or `until`, with their condition."""

    name: str
    condition: "Node | None"
    body: "Node"


class Function(msgspec.Struct, frozen=True):
    """A definition; nothing runs until it is called."""

    name: str
    body: "Node"


Node = Simple | Chain | Negation | If | Case | Loop | Function

NOTHING = Simple((), ())


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(text[at : at + 60].partition("\n")[0])
        at = match.end()
        kind = str(match.lastgroup)
        if kind not in {"space", "comment"}:
            found.append((kind, match[0]))
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self, *wanted: str) -> str:
        _, text = self._peek()
        if wanted and text not in wanted:
            raise Unreadable(f"{text!r} where {' or '.join(wanted)} should stand")
        self._at += 1
        return text

    def _skip(self, *texts: str) -> None:
        while self._peek()[0] == "operator" and self._peek()[1] in texts:
            self._at += 1

    def script(self) -> Node:
        found = self._list(())
        if self._peek()[0] != "end":
            raise Unreadable(self._peek()[1])
        return found

    def _list(self, ends: tuple[str, ...]) -> Node:
        self._depth += 1
        if self._depth > limits.SCRIPT_DEPTH:
            raise Unreadable("it is nested too deeply")
        items: list[Node] = []
        self._skip(";", "\n")
        while self._peek()[0] != "end" and self._peek()[1] not in ends:
            items.append(self._joined(("&&", "||"), lambda: self._joined(("|",), self._command)))
            if self._peek()[1] == "&":
                raise Unreadable("a command in the background")
            if self._peek()[0] != "end" and self._peek()[1] not in {*ends, ";", "\n"}:
                raise Unreadable(self._peek()[1])
            self._skip(";", "\n")
        self._depth -= 1
        return Chain(items[0], tuple((";", item) for item in items[1:])) if items else NOTHING

    def _joined(self, operators: tuple[str, ...], part: Callable[[], Node]) -> Node:
        first = part()
        rest = []
        while self._peek()[1] in operators and self._peek()[0] == "operator":
            operator = self._take()
            self._skip("\n")
            rest.append((operator, part()))
        return Chain(first, tuple(rest)) if rest else first

    def _command(self) -> Node:  # noqa: PLR0911  # one line for each kind of command
        kind, text = self._peek()
        following = [token[1] for token in self._tokens[self._at + 1 : self._at + 3]]
        if kind == "word" and following == ["(", ")"] and _FUNCTION.fullmatch(text):
            self._at += 3
            self._skip("\n")
            return Function(text, self._command())
        if text == "!":
            self._take()
            return Negation(self._command())
        if text == "if":
            return self._if()
        if text == "case":
            return self._case()
        if text in {"for", "while", "until"}:
            return self._loop()
        if text == "{":
            self._take()
            body = self._list(("}",))
            self._take("}")
            return self._redirected(body)
        return self._simple()

    def _redirected(self, node: Node) -> Node:
        redirects = []
        while self._peek()[0] == "redirect":
            redirects.append(self._take())
        return Chain(node, ((";", Simple((), tuple(redirects))),)) if redirects else node

    def _if(self) -> Node:
        branches: list[tuple[Node | None, Node]] = []
        while self._take("if", "elif", "else", "fi") != "fi":
            condition = None
            if self._tokens[self._at - 1][1] != "else":
                condition = self._list(("then",))
                self._take("then")
            branches.append((condition, self._list(("elif", "else", "fi"))))
        return self._redirected(If(tuple(branches)))

    def _case(self) -> Node:
        self._take("case")
        word = self._take()
        self._skip("\n")
        self._take("in")
        self._skip("\n")
        branches = []
        while self._peek()[1] != "esac":
            self._skip("(")
            patterns = [self._take()]
            while self._peek()[1] == "|":
                self._take()
                patterns.append(self._take())
            self._take(")")
            branches.append((tuple(patterns), self._list((";;", "esac"))))
            self._skip(";;", "\n")
        self._take("esac")
        return Case(word, tuple(branches))

    def _loop(self) -> Node:
        name, condition = "", None
        if self._take() == "for":
            name = self._take()
            while self._peek()[1] not in {";", "\n", "do", ""}:  # the last is the end
                self._take()
            self._skip(";", "\n")
        else:
            condition = self._list(("do",))
        self._take("do")
        body = self._list(("done",))
        self._take("done")
        return self._redirected(Loop(name, condition, body))

    def _simple(self) -> Node:
        words: list[str] = []
        redirects: list[str] = []
        while self._peek()[0] in {"word", "redirect"}:
            kind, text = self._peek()
            (words if kind == "word" else redirects).append(text)
            self._at += 1
        if not words and not redirects:
            raise Unreadable(self._peek()[1] or "the end of the script")
        return Simple(tuple(words), tuple(redirects))


def parse(text: str) -> Node:
    """The script as a tree.

    Raises:
        Unreadable: it uses more of the shell than is read here.
    """
    if len(text) > limits.DEB_CONTROL_BYTES or "<<" in text:
        raise Unreadable("a here-document")
    try:
        return _Parser(text).script()
    except IndexError as error:
        raise Unreadable("the end of the script") from error
    except RecursionError as error:  # of what is no list, such as `! ! !`
        raise Unreadable("it is nested too deeply") from error
