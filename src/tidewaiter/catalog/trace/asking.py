"""From one thing to where it comes from (up), and to what it reaches (down).

1. `trace_start` says which nodes the thing means.
2. From them the ways up are gone, then the ways down (`trace_up`, `trace_down`): step by step, all nodes of a kind in
   one query, never down from what was met on the way up, so that a base does not drag in every image that it has.
3. Bounds: so many steps each way, so many nodes of a kind each way. What was left out is said.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from typing import get_args

from sqlalchemy import Connection

from tidewaiter.catalog import as_of
from tidewaiter.catalog.trace import down as trace_down
from tidewaiter.catalog.trace import start as trace_start
from tidewaiter.catalog.trace import up as trace_up
from tidewaiter.catalog.trace.graph import Direction, Graph, Kind, Node, Trace
from tidewaiter.catalog.trace.node import Look
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError


def trace(
    connection: Connection,
    thing: str,
    *,
    at: dt.datetime | None = None,
    depth: int = limits.TRACE_DEPTH,
    rows: int = limits.TRACE_ROWS,
    packages: bool = False,
) -> Trace:
    """The way of a thing.

    Args:
        connection: of any transaction.
        thing: a tag, digest, commit, pipeline run, package, workload or model version.
        at: a moment in the past; None means the present.
        depth: at most so many steps up, and down.
        rows: at most so many nodes of a kind up, and down.
        packages: also the packages of images on the way up.

    Raises:
        InputError: the thing is malformed, means several things, or a bound is out of range.
        NotFoundError: nothing of that name is known.
    """
    if not (1 <= depth <= limits.TRACE_DEPTH_LARGEST and 1 <= rows <= limits.TRACE_ROWS_LARGEST):
        raise InputError(
            f"a trace of {depth} steps and {rows} rows is out of bounds",
            next_step=f"Give 1 to {limits.TRACE_DEPTH_LARGEST} steps and 1 to {limits.TRACE_ROWS_LARGEST} rows.",
        )
    look = Look(connection, at, rows, packages=packages)
    # 1.
    starts = trace_start.find(look, thing)
    graph = Graph(rows)
    for one in starts:
        graph.begin(one.node, one.number)
    start = tuple(graph.nodes)
    # 2.
    for direction in get_args(Direction):
        _walk(look, graph, [graph.nodes[one] for one in start], direction, depth)
    for direction, kind in look.more:
        graph.cut_at(direction, kind)
    return Trace(
        thing=thing,
        start=start,
        nodes=tuple(graph.nodes.values()),
        edges=graph.edges,
        cut=graph.cut,
        as_of=at,
        unknown=as_of.unknown(connection, at, "images", "models", "owners", "tags", "verdicts", "workloads"),
    )


def _walk(look: Look, graph: Graph, start: Sequence[Node], direction: Direction, depth: int) -> None:
    steps = trace_up.STEPS if direction == "up" else trace_down.STEPS
    frontier = list(start)
    # 3. One step more than is shown tells whether there is more.
    for number in range(depth + 1):
        by_kind: dict[Kind, dict[int | str, str]] = defaultdict(dict)
        for node in frontier:
            by_kind[node.kind][graph.numbers[node.id]] = node.id
        frontier = []
        for kind, origins in by_kind.items():
            for step in steps.get(kind, ()):
                for met in step(look, list(origins)):
                    if number == depth:
                        if met.node.id not in graph.nodes:
                            graph.cut_at(direction, met.node.kind)
                    elif graph.add(direction, origins[met.origin], met):
                        frontier.append(met.node)
        if not frontier:
            return
