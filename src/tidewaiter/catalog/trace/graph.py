"""The graph that a trace is: nodes, edges from what was made to what it was made of, and where it was cut."""

import datetime as dt
from collections import Counter
from typing import Any, Literal, NamedTuple

import msgspec

Kind = Literal[
    "build",
    "commit",
    "image",
    "index",
    "layer",
    "material",
    "model",
    "package",
    "run",
    "tag",
    "workload",
]
Relation = Literal[
    "built_by", "contains", "from", "has", "holds", "lists", "means", "rests_on", "runs", "served_by", "serves", "used"
]
Direction = Literal["up", "down"]


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A thing on the way of an image."""

    id: str
    """`KIND:NAME`, in this graph only once."""
    kind: Kind
    name: str
    detail: dict[str, Any] = {}
    """What is known of it, by kind."""


class Edge(msgspec.Struct, frozen=True, order=True):
    """`source` was made of, contains, names or runs `target`; so the way up leads from source to target."""

    source: str
    target: str
    relation: Relation


class Cut(msgspec.Struct, frozen=True, order=True):
    """Where there is more than the trace shows."""

    direction: Direction
    kind: Kind
    """Of what was left out."""
    shown: int


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Where something comes from, and what it reaches."""

    thing: str
    start: tuple[str, ...]
    """Ids of the nodes that `thing` means."""
    nodes: tuple[Node, ...]
    """In the order in which they were met, the start first."""
    edges: tuple[Edge, ...]
    cut: tuple[Cut, ...]
    """What was left out because of the bounds; empty when nothing was."""
    as_of: dt.datetime | None
    """None: now."""
    unknown: tuple[str, ...]
    """What of that day is not known, in words."""


class Met(NamedTuple):
    """What one step leads to: from the node with a row number to another."""

    origin: int | str
    """Row number of the node that the step began at; of an unknown image its digest."""
    node: Node
    number: int | str
    relation: Relation


class Graph:
    """A trace while it grows: at most `rows` nodes of each kind on the way up, and as many on the way down."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.nodes: dict[str, Node] = {}
        self.numbers: dict[str, int | str] = {}
        self._edges: set[Edge] = set()
        self._met: Counter[tuple[Direction, Kind]] = Counter()
        self._cut: set[tuple[Direction, Kind]] = set()

    def begin(self, node: Node, number: int | str) -> None:
        """A node that the trace starts at."""
        self.nodes[node.id], self.numbers[node.id] = node, number

    def add(self, direction: Direction, origin: str, met: Met) -> bool:
        """Whether the node is new; one that is over the bound is left out, and that is remembered."""
        new = met.node.id not in self.nodes
        if new:
            key = (direction, met.node.kind)
            if self._met[key] >= self.rows:
                self._cut.add(key)
                return False
            self._met[key] += 1
            self.begin(met.node, met.number)
        ends = (origin, met.node.id) if direction == "up" else (met.node.id, origin)
        self._edges.add(Edge(*ends, met.relation))
        return new

    def cut_at(self, direction: Direction, kind: Kind) -> None:
        """Remember that there is more of that kind."""
        self._cut.add((direction, kind))

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Sorted."""
        return tuple(sorted(self._edges))

    @property
    def cut(self) -> tuple[Cut, ...]:
        """Sorted."""
        return tuple(sorted(Cut(direction, kind, self._met[direction, kind]) for direction, kind in self._cut))


def dot(trace: Trace) -> str:
    """The trace for Graphviz: from what is deployed, at the top, down to what it was made of."""
    lines = ["digraph trace {", "  rankdir=TB;", '  node [shape=box, fontname="sans-serif"];']
    for node in trace.nodes:
        bold = ", style=bold" if node.id in trace.start else ""
        lines.append(f"  {_quoted(node.id)} [label={_quoted(node.kind, _short(node.name))}{bold}];")
    lines += [f"  {_quoted(e.source)} -> {_quoted(e.target)} [label={_quoted(e.relation)}];" for e in trace.edges]
    for number, cut in enumerate(trace.cut):
        text = f"more: {cut.kind} ({cut.direction})"
        lines.append(f'  "cut {number}" [label={_quoted(text)}, shape=note, style=dashed];')
    return "\n".join([*lines, "}"])


def _short(name: str) -> str:
    algorithm, colon, hexadecimal = name.partition(":")
    return f"{algorithm}:{hexadecimal[:12]}" if colon and algorithm in {"sha256", "sha512"} else name


def _quoted(*lines: str) -> str:
    """Text as Graphviz reads it, one line below the other; nothing in it ends the quotes or steers anything."""
    clean = ("".join(c if c.isprintable() else "?" for c in line) for line in lines)
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in clean) + '"'
