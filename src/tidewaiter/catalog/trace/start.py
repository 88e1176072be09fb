"""What a name means: the nodes at which a trace begins.

`KIND:NAME` says of which kind the thing is. Without it every kind is tried, and what fits more than one is refused:
nobody is told the way of another thing than was meant.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import and_, or_, select

from tidewaiter.catalog import as_of, model_versions, schema, synced, workloads
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.catalog.trace import node as trace_node
from tidewaiter.catalog.trace.graph import Kind, Node
from tidewaiter.catalog.trace.node import Look
from tidewaiter.core.errors import InputError, NotFoundError

_THING_CHARACTERS = 4096
_DIGEST = re.compile(r"(?:.*@)?(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_PACKAGE = re.compile(r"[A-Za-z0-9][\w.+~/-]*@\S+")


class Start(NamedTuple):
    """A node at which a trace begins."""

    node: Node
    number: int | str


def find(look: Look, thing: str) -> list[Start]:
    """The nodes that `thing` means.

    Raises:
        InputError: it is malformed, or means things of several kinds.
        NotFoundError: nothing of that name is known.
    """
    if not thing or len(thing) > _THING_CHARACTERS or not thing.isprintable():
        raise InputError(f"{thing[:60]!r} names nothing", next_step="See `tidewaiter trace --help`.")
    kind, _, rest = thing.partition(":")
    found = {kind: _FINDERS[kind](look, rest)} if kind in _FINDERS and rest else {}
    # A tag or a model version may look like KIND:NAME.
    if not any(found.values()):
        found = {name: finder(look, thing) for name, finder in _FINDERS.items()}
    found = {name: starts for name, starts in found.items() if starts}
    if len(found) > 1:
        choices = " or ".join(f"{name}:{thing}" for name in sorted(found))
        raise InputError(f"{thing[:200]!r} means several things", next_step=f"Say which: {choices}.", code="ambiguous")
    if not found:
        raise NotFoundError(
            f"nothing is known of {thing[:200]!r}" + (" on that day" if look.at else ""),
            next_step="Name a tag (NAME:TAG), digest, commit, pipeline run, package (a package URL or NAME@VERSION), "
            "workload (CLUSTER/NAMESPACE/NAME) or model version (NAME:VERSION).",
        )
    return next(iter(found.values()))


def _image(look: Look, thing: str) -> list[Start]:
    match = _DIGEST.fullmatch(thing)
    if match is None:
        return []
    digest = match[1]
    node, number = trace_node.by_digest(look, {digest})[digest]
    if isinstance(number, int):
        return [Start(node, number)]
    # Not known, but it runs or serves something.
    runs = workloads.listed(look.connection, look.at, running=[digest], known=look.owners, rows=1)
    serves = model_versions.listed(look.connection, look.at, served_by=[digest], known=look.owners, rows=1)
    return [Start(node, number)] if runs or serves else []


def _layer(look: Look, thing: str) -> list[Start]:
    match = _DIGEST.fullmatch(thing)
    if match is None:
        return []
    of = schema.layer.c
    query = select(*trace_node.LAYER).where(or_(of.digest == match[1], of.diff_id == match[1])).limit(look.limit)
    nodes = trace_node.layers(look.bounded(trace_node.connection_rows(look, query), "down", "layer"))
    return [Start(node, number) for number, node in nodes.items()]


def _tag(look: Look, thing: str) -> list[Start]:
    name = thing.removeprefix("store:")
    found = []
    place = _place(name)
    for repository, tag in dict.fromkeys((name.rpartition(":")[::2], place)):
        if repository and tag:
            found += as_of.tag(look.connection, look.at, repository, tag)
    starts = []
    for one in found:
        node = trace_node.tag(one)
        look.meanings[node.id] = one.digest
        starts += [Start(node, node.id), Start(*trace_node.by_digest(look, {one.digest})[one.digest])]
    return starts


def _place(name: str) -> tuple[str, str]:
    """Repository and tag of an image that lies elsewhere; empty when `name` is no such name."""
    try:
        given = synced.named(name)
    except InputError:
        return "", ""
    return ("", "") if given is None else given[:2]


def _of_builds(look: Look, rows: Sequence[AnyRow], node: Node) -> list[Start]:
    rows = look.bounded(rows, "down", "build")
    builds = trace_node.builds(rows)
    return [Start(node, node.name), *(Start(one, number) for number, one in builds.items())] if rows else []


def _commit(look: Look, thing: str) -> list[Start]:
    if _COMMIT.fullmatch(thing) is None:
        return []
    of = schema.build.c
    # A range, so that the index answers; `g` follows the last digit.
    query = trace_node.BUILDS.where(of.commit >= thing, of.commit < thing + "g")
    query = query.order_by(of.finished.desc(), of.id.desc()).limit(look.limit)
    rows = trace_node.connection_rows(look, query if look.at is None else query.where(of.finished <= look.at))
    if len({row.commit for row in rows}) > 1:
        raise InputError(f"{thing} begins more than one commit", next_step="Give more of its characters.")
    whole = rows[0].commit if rows else thing
    return _of_builds(look, rows, Node(id=f"commit:{whole}", kind="commit", name=whole))


def _run(look: Look, thing: str) -> list[Start]:
    of = schema.build.c
    query = trace_node.BUILDS.where(of.pipeline_run == thing).order_by(of.finished.desc(), of.id.desc())
    rows = trace_node.connection_rows(
        look, (query if look.at is None else query.where(of.finished <= look.at)).limit(look.limit)
    )
    return _of_builds(look, rows, Node(id=f"run:{thing}", kind="run", name=thing))


def _package(look: Look, thing: str) -> list[Start]:
    of = schema.component.c
    if thing.startswith("pkg:"):
        # Ranges instead of LIKE, so that the index on the purl answers. `?` is followed by `@`, and `@` by `A`.
        end = thing + ("@" if "@" in thing.rpartition("/")[2] else "A")
        meant = or_(of.purl == thing, and_(of.purl >= thing + "?", of.purl < end))
    elif _PACKAGE.fullmatch(thing) is not None:
        name, _, version = thing.rpartition("@")
        meant = and_(of.name == name, of.version == version)
    else:
        return []
    query = select(*trace_node.PACKAGE).where(meant).order_by(of.purl).limit(look.limit)
    rows = look.bounded(trace_node.connection_rows(look, query), "down", "package")[: look.rows]
    return [Start(node, number) for number, node in trace_node.packages(rows).items()]


def _workload(look: Look, thing: str) -> list[Start]:
    parts = thing.split("/")
    if len(parts) != 3 or not all(parts):
        return []
    of = schema.workload.c
    rows = trace_node.connection_rows(
        look,
        select(schema.workload)
        .where(of.cluster == parts[0], of.namespace == parts[1], of.name == parts[2])
        .order_by(of.kind, of.container),
    )
    seen = workloads.listed(
        look.connection, look.at, everything=True, known=look.owners, path=(parts[0], parts[1], parts[2])
    )
    starts = []
    for row in rows:
        last = [one for one in seen if (one.kind, one.container) == (row.kind, row.container)]
        if last:
            starts.append(Start(trace_node.workload(last[-1]), row.id))
    return starts


def _model(look: Look, thing: str) -> list[Start]:
    name, _, version = thing.rpartition(":")
    found = model_versions.listed(look.connection, look.at, everything=True, known=look.owners, model=(name, version))
    return [Start(trace_node.model(found[-1]), trace_node.model(found[-1]).id)] if found else []


_FINDERS: dict[Kind, Callable[[Look, str], list[Start]]] = {
    "image": _image,
    "layer": _layer,
    "tag": _tag,
    "commit": _commit,
    "run": _run,
    "package": _package,
    "workload": _workload,
    "model": _model,
}
