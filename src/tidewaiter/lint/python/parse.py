"""A Python script as rules read it: its syntax tree, and the full names of what it calls. Nothing of it is run."""

import ast
import re
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from tidewaiter.core.errors import InputError
from tidewaiter.lint.finding import Span
from tidewaiter.lint.text import Text

_ABOUT = re.compile(r"tensorflow|keras|tensorboard", re.IGNORECASE)
# Python 3 reads neither: a script for Python 2, for which there are no rules.
_PYTHON_2 = re.compile(
    r"^[ \t]*(?:print[ \t]+[\"'\w(]|except[ \t]+[\w.]+,[ \t]*\w+:|exec[ \t]+[\"'\w])|lambda[ \t]*\(", re.MULTILINE
)
# A later Python may read what this one does not: parameters of types, and quotes within f-strings.
_LATER = re.compile(r"^[ \t]*(?:(?:async[ \t]+)?(?:def|class)[ \t]+\w+\[|type[ \t]+\w+.*=)|\b[fF][\"']", re.MULTILINE)
_ALIASES = (
    ("tensorflow.compat.v1.", "tensorflow."),
    ("tensorflow.compat.v2.", "tensorflow."),
    ("tensorflow.python.keras.", "keras."),
    ("tensorflow.keras.", "keras."),
    ("tf_keras.", "keras."),
    ("keras.api.", "keras."),
)
_DEPTH = 200
"""How many blocks within each other are looked into; every `elif` is one."""
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Call(NamedTuple):
    """A call, in the order in which a scope makes them."""

    node: ast.Call
    name: str
    """Full name of what is called, `keras.layers.Dense`; empty when it is not a name."""
    branches: tuple[tuple[int, str], ...]
    """The branches of `if`, `try` and `match` that it stands in: the statement and the branch."""

    def excludes(self, other: "Call") -> bool:
        """Whether both stand in different branches of one statement, so that a run makes one of them at most."""
        mine = dict(self.branches)
        return any(mine.get(statement, branch) != branch for statement, branch in other.branches)

    def argument(self, position: int, keyword: str) -> ast.expr | None:
        """The argument at that place or of that name."""
        if len(self.node.args) > position and not any(isinstance(one, ast.Starred) for one in self.node.args):
            return self.node.args[position]
        return next((one.value for one in self.node.keywords if one.arg == keyword), None)


class Scope(NamedTuple):
    """The module, or one function."""

    node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef
    calls: tuple[Call, ...]
    """Those that it makes itself, not those of functions and classes within."""


class Script:
    """A parsed script."""

    def __init__(self, text: Text, tree: ast.Module) -> None:
        self.text = text
        self.tree = tree
        self._names = dict(_imports(tree))

    def span(self, node: ast.expr | ast.stmt) -> Span:
        """The place of a node, columns in characters."""
        last = node.end_lineno or node.lineno
        return Span(
            node.lineno,
            self._column(node.lineno, node.col_offset),
            last,
            self._column(last, node.end_col_offset or node.col_offset),
        )

    def _column(self, line: int, offset: int) -> int:
        text = self.text.line(line)
        return (offset if text.isascii() else len(text.encode()[:offset].decode(errors="ignore"))) + 1

    def name(self, node: ast.AST) -> str:
        """The full name of a name or attribute, imports followed; empty for anything else."""
        written = dotted(node)
        if not written:
            return ""
        first, dot, rest = written.partition(".")
        full = f"{self._names.get(first, first)}{dot}{rest}"
        for long, short in _ALIASES:
            if full.startswith(long):
                full = short + full.removeprefix(long)
        return full

    @cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """The module first, then its functions, those of classes too."""
        found = [Scope(self.tree, tuple(self._calls(self.tree.body, ())))]
        found += (
            Scope(node, tuple(self._calls(node.body, ())))
            for node in _statements(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        return tuple(found)

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """All calls that are made in scopes."""
        return tuple(call for scope in self.scopes for call in scope.calls)

    def _calls(self, body: list[ast.stmt], branches: tuple[tuple[int, str], ...], depth: int = 0) -> Iterator[Call]:
        for statement in body if depth < _DEPTH else ():
            blocks = [
                (field, value)
                for field, value in ast.iter_fields(statement)
                if isinstance(value, list)
                and value
                and isinstance(value[0], ast.stmt | ast.excepthandler | ast.match_case)
            ]
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            yield from self._expressions(statement, branches)
            forks = isinstance(statement, ast.If | ast.Match)
            for field, value in blocks:
                for index, one in enumerate(value if not isinstance(value[0], ast.stmt) else [None]):
                    inner = value if one is None else one.body
                    branch = f"{field}{index}"
                    yield from self._calls(
                        inner, (*branches, (id(statement), branch)) if forks else branches, depth + 1
                    )

    def _expressions(self, statement: ast.stmt, branches: tuple[tuple[int, str], ...]) -> Iterator[Call]:
        """The calls in a statement's own expressions; what is called first comes first."""
        waiting: list[ast.AST] = [
            child
            for child in ast.iter_child_nodes(statement)
            if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case)
        ]
        found: list[ast.Call] = []
        while waiting:
            node = waiting.pop()
            if isinstance(node, _SCOPES):
                continue
            if isinstance(node, ast.Call):
                found.append(node)
            waiting.extend(ast.iter_child_nodes(node))
        found.sort(key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0))
        yield from (Call(node, self.name(node.func), branches) for node in found)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements, and what parts them into branches, in the order of `ast.walk`, which looks at expressions, too."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        yield node
        for field in _BLOCKS:
            waiting.extend(getattr(node, field, ()))


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that imports bind, with what they stand for."""
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                yield (one.asname, one.name) if one.asname else (one.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for one in node.names:
                yield one.asname or one.name, f"{node.module}.{one.name}"


def dotted(node: ast.AST) -> str:
    """A name or attribute as it is written; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def text_of(node: ast.expr | None) -> str | None:
    """The text of a constant; None for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def parse(text: Text) -> Script:
    """The script in the text; an empty one for scripts that have to do with none of what rules know.

    Raises:
        InputError: Python cannot read it; the message starts with path and line.
    """
    if not _ABOUT.search(text.content):
        return Script(text, ast.Module([], []))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler thinks of escapes in strings
            return Script(text, ast.parse(text.content))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if _PYTHON_2.search(text.content) or (sys.version_info < (3, 14) and _LATER.search(text.content)):
            return Script(text, ast.Module([], []))
        line = getattr(error, "lineno", None) or 1
        message = getattr(error, "msg", None) or "it nests too deeply"
        raise InputError(
            f"{text.path}:{line}: {message}", next_step="Mend this line; Python refuses it, too.", code="bad_python"
        ) from error
