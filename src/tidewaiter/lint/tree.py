"""YAML and JSON as values that know their places, read as Kubernetes' and Compose's parsers (both in Go) read them.

Size, depth and number of values are bounded, an alias counted as all that it stands for; a file over a bound, or with
an alias within itself, is refused. Tags are not looked at. A key that is written twice keeps its first value here and
stands in `Map.repeated`.
"""

import re
from collections.abc import Iterator
from functools import cached_property

import yaml

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.lint.finding import Span
from tidewaiter.lint.text import Text

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TRUE = frozenset({"true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF"})
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_STYLES = frozenset({"'", '"', "|", ">"})
_FILLED_LATER = re.compile(r"PLACE[-_]?HOLDER|REPLACE_?ME|\{\{|\$\{|\$\(|\$[A-Za-z_]|<[A-Za-z_ -]+>|\{%")

Value = str | int | float | bool | None


class Node:
    """A part of a document."""

    __slots__ = ("end", "start", "text")

    def __init__(self, text: Text, start: int, end: int) -> None:
        self.text = text
        self.start = start
        """Characters before it in the text."""
        self.end = end

    @property
    def span(self) -> Span:
        return Span(*self.text.place(self.start), *self.text.place(self.end))


class Scalar(Node):
    """A string, number, truth value or null."""

    __slots__ = ("plain", "raw", "style")

    def __init__(self, text: Text, event: yaml.ScalarEvent) -> None:
        self.text = text
        self.start, self.end = _place(event)
        self.raw: str = event.value
        self.style: str = event.style or ""
        self.plain: bool = self.style not in _STYLES

    @property
    def value(self) -> Value:
        """What a parser in Go makes of it: `yes` is true, `0777` is 511, and what stands in quotes is a string."""
        raw = self.raw
        if not self.plain:
            return raw
        if raw in _NULL:
            return None
        if raw in _TRUE or raw in _FALSE:
            return raw in _TRUE
        return _number(raw.replace("_", "")) if raw[0] in "+-.0123456789" else raw

    @property
    def filled_later(self) -> bool:
        """Whether it holds a variable, or what is filled in later, so that what it will be is unknown."""
        return _FILLED_LATER.search(self.raw) is not None


def _place(event: yaml.Event) -> tuple[int, int]:
    """Characters before the beginning and the end of an event; the parsers give both to every one."""
    start, end = event.start_mark, event.end_mark
    return (start.index if start else 0), (end.index if end else 0)


def _number(raw: str) -> Value:
    if _INTEGER.fullmatch(raw) and len(raw) < 32:
        digits = raw.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        value = int(digits, 8) if octal else int(digits, 0)
        return -value if raw[0] == "-" else value
    if _FLOAT.fullmatch(raw):
        return float(raw)
    return raw


class Sequence(Node):
    """A list."""

    __slots__ = ("flow", "items")

    def __init__(self, text: Text, start: int, *, flow: bool) -> None:
        super().__init__(text, start, start)
        self.flow = flow
        self.items: list[Node] = []


class Map(Node):
    """Keys and values, in their order."""

    __slots__ = ("entries", "flow", "merged", "repeated")

    def __init__(self, text: Text, start: int, *, flow: bool) -> None:
        super().__init__(text, start, start)
        self.flow = flow
        self.entries: dict[str, tuple[Scalar, Node]] = {}
        self.repeated: list[Scalar] = []
        self.merged: list[Map] = []
        """What `<<` takes from elsewhere."""

    def entry(self, key: str) -> tuple[Scalar, Node] | None:
        found = self.entries.get(key)
        return found or next((other for one in self.merged if (other := one.entry(key))), None)

    def get(self, *keys: str) -> Node | None:
        """What the keys lead to, one below the other; None where a key or a map is missing, or null stands."""
        here: Node | None = self
        for key in keys:
            if not isinstance(here, Map) or (found := here.entry(key)) is None:
                return None
            here = found[1]
        return None if isinstance(here, Scalar) and here.plain and here.raw in _NULL else here

    def map(self, *keys: str) -> "Map":
        """The map that the keys lead to; an empty one in this one's place when there is none."""
        found = self.get(*keys)
        return found if isinstance(found, Map) else Map(self.text, self.start, flow=True)

    def maps(self, *keys: str) -> list["Map"]:
        """The maps in the list that the keys lead to."""
        return [one for one in self.list(*keys) if isinstance(one, Map)]

    def list(self, *keys: str) -> list[Node]:
        found = self.get(*keys)
        return found.items if isinstance(found, Sequence) else []

    def scalar(self, *keys: str) -> Scalar | None:
        found = self.get(*keys)
        return found if isinstance(found, Scalar) else None

    def value(self, *keys: str) -> Value:
        found = self.scalar(*keys)
        return None if found is None else found.value

    def string(self, *keys: str) -> str:
        """The string there; empty when there is none, a number as it is written."""
        found = self.scalar(*keys)
        return "" if found is None or found.value is None else found.raw

    def span_of(self, key: str) -> Span:
        """Where `key` stands with its value when that is a scalar on the same line; the beginning of this map else."""
        found = self.entry(key)
        if found is None:
            return self.opening
        name, value = found
        end = value.end if isinstance(value, Scalar) and value.style not in {"|", ">"} else name.end
        return Span(*name.text.place(name.start), *name.text.place(max(end, name.end)))

    @property
    def opening(self) -> Span:
        """Its first entry, which is what a reader knows it by."""
        if not self.entries:
            return self.span
        return self.span_of(next(iter(self.entries)))

    def strings(self) -> dict[str, str]:
        """Its entries whose values are scalars."""
        return {key: value.raw for key, (_, value) in self.entries.items() if isinstance(value, Scalar)}


class _Composer:
    """Makes documents of events; no recursion, so depth is only a number."""

    def __init__(self, text: Text) -> None:
        self.text = text
        self.anchors: dict[str, Node] = {}
        self.sizes: dict[int, int] = {}
        """Values in what an anchor names, by the node's identity."""
        self.count = 0
        self.stack: list[tuple[Node, str | None, int]] = []
        """What is open, with its anchor and how much was counted before it."""
        self.keys: list[Scalar | None] = []
        """For each of them the key whose value comes next."""

    def documents(self) -> Iterator[Node]:
        stack, keys = self.stack, self.keys
        for event in yaml.parse(self.text.content, Loader=_LOADER):
            node: Node | None = None
            if isinstance(event, yaml.ScalarEvent):
                node = Scalar(self.text, event)
                self._count(1, node)
                if event.anchor:
                    self._name(event.anchor, node, 1)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._open(event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                node = self._close(event)
            elif isinstance(event, yaml.AliasEvent):
                node = self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
            if node is None:
                continue
            if stack:
                keys[-1] = _put(stack[-1][0], keys[-1], node)
            else:
                yield node

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        made = Map if isinstance(event, yaml.MappingStartEvent) else Sequence
        opened = made(self.text, _place(event)[0], flow=bool(event.flow_style))
        self._count(1, opened)
        if len(self.stack) >= limits.YAML_DEPTH:
            raise _refused(opened, f"it is nested more than {limits.YAML_DEPTH} deep")
        if event.anchor:
            self.anchors.pop(event.anchor, None)
        self.stack.append((opened, event.anchor, self.count))
        self.keys.append(None)

    def _close(self, event: yaml.Event) -> Node:
        node, anchor, before = self.stack.pop()
        self.keys.pop()
        node.end = _place(event)[1]
        self._name(anchor, node, self.count - before + 1)
        return node

    def _count(self, number: int, node: Node) -> None:
        self.count += number
        if self.count > limits.YAML_NODES:
            raise _refused(node, f"it stands for more than {limits.YAML_NODES} values")

    def _name(self, anchor: str | None, node: Node, size: int) -> None:
        if anchor:
            self.anchors[anchor] = node
            self.sizes[id(node)] = size

    def _alias(self, event: yaml.AliasEvent) -> Node:
        node = self.anchors.get(event.anchor or "")
        if node is None:
            line, _ = self.text.place(_place(event)[0])
            raise InputError(
                f"{self.text.path}:{line}: *{event.anchor} names nothing that is complete by then",
                next_step="Write the value, or an anchor above.",
            )
        self._count(self.sizes[id(node)], node)
        return node


def _refused(node: Node, why: str) -> InputError:
    line, _ = node.text.place(node.start)
    return InputError(f"{node.text.path}:{line}: {why}", next_step="Split the file, or write less deep.")


def _put(into: Node, key: Scalar | None, node: Node) -> Scalar | None:
    """Put a node where it belongs; returns the key whose value comes next."""
    if not isinstance(into, Map):
        if isinstance(into, Sequence):
            into.items.append(node)
        return None
    if key is None:
        if isinstance(node, Scalar):
            return node
        line, _ = node.text.place(node.start)
        raise InputError(f"{node.text.path}:{line}: a key is no string", next_step="Write a string as the key.")
    if key.raw == "<<" and key.plain:
        merged = node.items if isinstance(node, Sequence) else [node]
        into.merged += [one for one in merged if isinstance(one, Map)]
    elif key.raw in into.entries:
        into.repeated.append(key)
    else:
        into.entries[key.raw] = (key, node)
    return None


class Tree:
    """A file's documents."""

    def __init__(self, text: Text, documents: tuple[Node, ...]) -> None:
        self.text = text
        self.documents = documents

    @cached_property
    def maps(self) -> tuple[Map, ...]:
        """Every map in it, each once."""
        found: list[Map] = []
        seen: set[int] = set()
        waiting: list[Node] = list(reversed(self.documents))
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            if isinstance(node, Map):
                seen.add(id(node))
                found.append(node)
                waiting += [value for _, value in reversed(node.entries.values()) if not isinstance(value, Scalar)]
            elif isinstance(node, Sequence):
                seen.add(id(node))
                waiting += [value for value in reversed(node.items) if not isinstance(value, Scalar)]
        return tuple(found)


def read(text: Text) -> Tree:
    """The documents of a text; none for a template, which is no YAML before it is filled in.

    Raises:
        InputError: it is no YAML, too deep, too much, or names itself.
    """
    found: list[Node] = []
    try:
        for document in _Composer(text).documents():
            found.append(document)
            if len(found) > limits.YAML_DOCUMENTS:
                raise _refused(document, f"there are more than {limits.YAML_DOCUMENTS} documents")
    except (yaml.YAMLError, InputError, UnicodeError) as error:
        if re.search(r"\{\{|\{%|<%", text.content):
            return Tree(text, ())
        if isinstance(error, InputError):
            raise
        raise _malformed(text, error) from error
    return Tree(text, tuple(found))


def _malformed(text: Text, error: Exception) -> InputError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = text.place(mark.index)[0] if mark is not None and mark.index is not None else 1
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is no YAML"
    return InputError(f"{text.path}:{line}: {problem}", next_step="Mend the YAML; its indentation is spaces only.")
