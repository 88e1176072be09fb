"""The ways down: from something to everything that was made of it, names it or runs it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Select, select

from tidewaiter.catalog import as_of, model_versions, schema, workloads
from tidewaiter.catalog.among import among, lots
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.catalog.trace import node as trace_node
from tidewaiter.catalog.trace.graph import Kind, Met
from tidewaiter.catalog.trace.node import Look
from tidewaiter.catalog.trace.up import Step, stacks


def _ask(look: Look, query: Select[Any], kind: Kind) -> Sequence[AnyRow]:
    """Rows of the query, as many as are shown and one more."""
    return look.bounded(trace_node.connection_rows(look, query.limit(look.limit)), "down", kind)


def _holding(look: Look, packages: Sequence[int]) -> Iterator[Met]:
    at = schema.layer_component.c
    for some in lots(packages):
        query = (
            select(at.component_id, *trace_node.LAYER)
            .join(schema.layer, schema.layer.c.id == at.layer_id)
            .where(among(at.component_id, some))
            .order_by(schema.layer.c.id.desc())
        )
        rows = _ask(look, query, "layer")
        known = trace_node.layers(rows)
        for row in rows:
            yield Met(row.component_id, known[row.id], row.id, "holds")


def _containing(look: Look, packages: Sequence[int]) -> Iterator[Met]:
    of, member = schema.artifact.c, schema.component_set_member.c
    for some in lots(packages):
        query = (
            select(of.id, member.component_id)
            .join(schema.component_set_member, member.component_set_id == of.component_set_id)
            .where(among(member.component_id, some))
            .order_by(of.id.desc())
        )
        yield from _images(look, _ask(look, query, "image"), "component_id", "contains")


def _images(look: Look, rows: Sequence[AnyRow], origin: str, relation: Any) -> Iterator[Met]:  # noqa: ANN401 - a Relation
    known = trace_node.images(look, {row.id for row in rows})
    for row in rows:
        if row.id in known:
            yield Met(getattr(row, origin), known[row.id], row.id, relation)


def _having(look: Look, layers: Sequence[int]) -> Iterator[Met]:
    of = schema.artifact_layer.c
    for some in lots(layers):
        query = select(of.artifact_id.label("id"), of.layer_id).where(among(of.layer_id, some))
        # A sum is in no index: else PostgreSQL goes through all images, the latest first, until enough have the layers.
        ordered = query.order_by((of.artifact_id + 0).desc())
        yield from _images(look, _ask(look, ordered, "image"), "layer_id", "has")


def _built(look: Look, builds: Sequence[int]) -> Iterator[Met]:
    of = schema.build.c
    for some in lots(builds):
        query = (
            select(of.artifact_id.label("id"), of.id.label("build")).where(among(of.id, some)).order_by(of.id.desc())
        )
        yield from _images(look, _ask(look, query, "image"), "build", "built_by")


def _tags(look: Look, numbers: Sequence[int | str]) -> Iterator[Met]:
    of = trace_node.digests_of(look, numbers)
    recorded = [one for one in numbers if isinstance(one, int)]
    found = as_of.tags(look.connection, look.at, artifacts=recorded, rows=look.limit)
    for one in look.bounded(found, "down", "tag"):
        node = trace_node.tag(one)
        yield Met(of[one.digest], node, node.id, "means")


def _indexes(look: Look, numbers: Sequence[int | str]) -> Iterator[Met]:
    of = schema.synced_child.c
    for some in lots([one for one in numbers if isinstance(one, int)]):
        query = select(of.parent_id.label("id"), of.child_id).where(among(of.child_id, some))
        query = query.order_by((of.parent_id + 0).desc())
        yield from _images(look, _ask(look, query, "index"), "child_id", "lists")


def _running(look: Look, numbers: Sequence[int | str]) -> Iterator[Met]:
    of = trace_node.digests_of(look, numbers)
    found = workloads.listed(look.connection, look.at, running=of, known=look.owners, rows=look.limit)
    for one in look.bounded(found, "down", "workload"):
        node = trace_node.workload(one)
        yield Met(of[one.digest], node, node.id, "runs")


def _serving(look: Look, numbers: Sequence[int | str]) -> Iterator[Met]:
    of = trace_node.digests_of(look, numbers)
    found = model_versions.listed(look.connection, look.at, served_by=of, known=look.owners, rows=look.limit)
    for one in look.bounded(found, "down", "model"):
        node = trace_node.model(one)
        yield Met(of[one.digest], node, node.id, "served_by")


def _runs_model(look: Look, models: Sequence[str]) -> Iterator[Met]:
    """Workloads that run an image which serves the model version."""
    for one in models:
        key = model_versions.split(one.removeprefix("model:"))
        served = {
            version.digest for version in model_versions.listed(look.connection, look.at, model=key, known=look.owners)
        }
        found = workloads.listed(look.connection, look.at, running=served, known=look.owners, rows=look.limit)
        for running in look.bounded(found, "down", "workload"):
            node = trace_node.workload(running)
            yield Met(one, node, node.id, "serves")


def _derived(look: Look, numbers: Sequence[int | str]) -> Iterator[Met]:
    """Images whose first layers are all the layers of another, and that have more."""
    of = schema.artifact_layer.c
    below = stacks(look, [one for one in numbers if isinstance(one, int)])
    ends: dict[int, list[int]] = defaultdict(list)
    for number, stack in below.items():
        ends[stack[-1]].append(number)
    for some in lots(sorted(ends)):
        query = select(of.artifact_id, of.layer_id).where(among(of.layer_id, some))
        query = query.order_by((of.artifact_id + 0).desc())
        # Each image has its own last layer.
        rows = trace_node.connection_rows(look, query.limit(look.limit + len(below)))
        if len(rows) == look.limit + len(below):
            look.more.add(("down", "image"))
        above = {**below, **stacks(look, sorted({row.artifact_id for row in rows} - below.keys()))}
        known = trace_node.images(look, above)
        for row in rows:
            stack = above.get(row.artifact_id, ())
            for number in ends[row.layer_id]:
                under = below[number]
                if len(stack) > len(under) and stack[: len(under)] == under and row.artifact_id in known:
                    yield Met(number, known[row.artifact_id], row.artifact_id, "rests_on")


STEPS: dict[Kind, tuple[Step, ...]] = {
    "package": (_holding, _containing),
    "layer": (_having,),
    "build": (_built,),
    "image": (_tags, _running, _serving, _indexes, _derived),
    "index": (_tags, _running, _serving),
    "model": (_runs_model,),
}
