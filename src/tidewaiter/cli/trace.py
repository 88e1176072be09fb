"""`trace`: the way of a thing, up to what it was made of and down to what it reaches; `verdicts`: what stood when."""

from typing import Annotated, Literal

import msgspec

from tidewaiter.catalog.trace.graph import Direction, Node, Trace, dot
from tidewaiter.cli import console, histories, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, limits
from tidewaiter.pipelines import tracing
from tidewaiter.pipelines.tracing import Stood
from tidewaiter.policy import environments


def trace(
    thing: str,
    /,
    *,
    as_of: str = "",
    depth: int = limits.TRACE_DEPTH,
    rows: int = limits.TRACE_ROWS,
    packages: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Literal["text", "json", "dot"], Parameter(name="--format")] = "text",
) -> int:
    """Show where a thing comes from, and what it reaches.

    Up: image, build, commit, pipeline run, materials, base, layers. Down: images, tags, workloads that run them, model
    versions that they serve, images that rest on them. What a bound leaves out is said.

    Args:
        thing: a tag (NAME:TAG), digest, commit, pipeline run, package (package URL or NAME@VERSION), workload
            (CLUSTER/NAMESPACE/NAME) or model version (NAME:VERSION); KIND: before it says which of them.
        as_of: how it was at the end of this day (2027-06-30), or at a moment.
        depth: at most so many steps up, and down.
        rows: at most so many of each kind up, and down.
        packages: on the way up also the packages of images and layers.
        output: text, json, or dot for Graphviz.
    """
    found = _traced(thing, as_of, depth=depth, rows=rows, packages=packages)
    if output == "json":
        emit_json(msgspec.to_builtins(found))
    elif output == "dot":
        for line in dot(found).split("\n"):
            emit(line)
    else:
        for line in lines(found):
            emit(line)
    return 0


def _traced(thing: str, as_of: str, *, depth: int, rows: int, packages: bool) -> Trace:
    with remote.opened() as server:
        if server is not None:
            query: remote.Query = {"of": thing, "as_of": as_of, "depth": depth, "rows": rows, "packages": packages}
            return server.get("/trace", Trace, query)
    with workshop(looking=True) as shop:
        said = environments.said_by(shop.settings)
        return tracing.trace(shop.catalog, thing, as_of_day=as_of, depth=depth, rows=rows, packages=packages, said=said)


def lines(found: Trace) -> list[str]:
    """The trace as two trees."""
    told = [f"{found.thing}{f' on {clock.rfc3339(found.as_of)}' if found.as_of else ''}"]
    for direction, title in (("up", "comes from"), ("down", "reaches")):
        tree = _tree(found, "up" if direction == "up" else "down")
        told += [f"{title}:", *(tree or ["  nothing that is known"])]
    told += [f"more {one.kind}s {one.direction} than the {one.shown} shown" for one in found.cut]
    told += [f"not known: {text}" for text in found.unknown]
    return told


def _tree(found: Trace, direction: Direction) -> list[str]:
    nodes = {node.id: node for node in found.nodes}
    order = {name: number for number, name in enumerate(nodes)}
    below: dict[str, list[tuple[int, str, str]]] = {}
    for edge in found.edges:
        near, far = (edge.source, edge.target) if direction == "up" else (edge.target, edge.source)
        below.setdefault(near, []).append((order[far], far, edge.relation))
    told: list[str] = []
    shown: set[str] = set()
    # A stack instead of recursion: a chain may be as deep as the bound allows. Text stands for itself.
    waiting: list[tuple[str, str, int]] = [(one, "", 1) for one in reversed(found.start) if below.get(one)]
    while waiting:
        name, relation, depth = waiting.pop()
        again = name in shown
        if name not in nodes:
            told.append("  " * depth + name)
        elif depth > 1 or not again:
            line = _line(nodes[name], relation, direction)
            told.append("  " * depth + line + (" (see above)" if again and below.get(name) else ""))
        if not again and name in nodes:
            shown.add(name)
            waiting += reversed([(far, kind, depth + 1) for far, kind in _told(sorted(below.get(name, [])), nodes)])
    return told


def _told(children: list[tuple[int, str, str]], nodes: dict[str, Node]) -> list[tuple[str, str]]:
    """The children that are told, and in the place of many materials their number."""
    materials = [far for _, far, _ in children if nodes[far].kind == "material"]
    few = len(materials) <= _MATERIALS
    kept = [(far, kind) for _, far, kind in children if few or nodes[far].kind != "material"]
    return kept if few else [*kept, (f"used {len(materials)} materials or more; --format json names them", "")]


_MATERIALS = 5
_WORDS = {"built_by": "built by", "rests_on": "rests on", "served_by": "served by"}
_SHOWN = (
    "repositories",
    "repository",
    "base",
    "builder",
    "stage",
    "owner",
    "owners",
    "visibility",
    "container",
    "environment",
)


def _line(node: Node, relation: str, direction: Direction) -> str:
    word = _WORDS.get(relation, relation)
    arrow = "" if not relation else f"{word} " if direction == "up" else f"[{word}] "
    told = [arrow + node.kind, node.name]
    for name in _SHOWN:
        value = node.detail.get(name)
        if value:
            told.append(f"{name}={', '.join(value) if isinstance(value, list) else value}")
    if node.detail.get("known") is False:
        told.append("(not in the catalog)")
    told += [f"{name}={one['verdict']}" for name, one in sorted(node.detail.get("verdicts", {}).items())]
    return " ".join(told)


def verdicts(image: str, /, *, as_of: str = "", output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show the verdicts of an image that stand, or stood on a day, and the waivers that were in force then.

    Args:
        image: NAME:TAG, NAME@DIGEST or a digest; with --as-of the tag is what it meant then.
        as_of: how it was at the end of this day (2027-06-30), or at a moment.
        output: text or json.
    """
    found = _stood(image, as_of)
    if output == "json":
        emit_json(msgspec.to_builtins(found))
        return 0
    emit(found.digest)
    console.table(
        ("environment", "verdict", "decided", "valid until", "valid then"),
        [
            (
                one.environment,
                one.verdict,
                clock.rfc3339(one.decided_at),
                clock.rfc3339(one.valid_until),
                "yes" if one.valid else "no",
            )
            for one in found.verdicts
        ],
    )
    for waiver in found.waivers:
        emit(f"waiver in force: {waiver.id} about {waiver.subject}, owner {waiver.owner}")
    histories.emit_unknown(found.unknown)
    return 0


def _stood(image: str, as_of: str) -> Stood:
    with remote.opened() as server:
        if server is not None:
            return server.get("/verdicts/standing", Stood, {"image": image, "as_of": as_of})
    with workshop(looking=True) as shop:
        return tracing.verdicts(shop.catalog, image, as_of_day=as_of)
