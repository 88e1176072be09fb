"""The ways up: from what is deployed to what it was made of."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select, union

from tidewaiter.catalog import as_of, model_versions, schema
from tidewaiter.catalog.among import among, lots
from tidewaiter.catalog.trace import node as trace_node
from tidewaiter.catalog.trace.graph import Kind, Met, Node
from tidewaiter.catalog.trace.node import Look

Step = Callable[[Look, Sequence[Any]], Iterator[Met]]
_MATERIALS = 50
"""Of one build; a lock of Python packages has hundreds, which are packages of the image."""


def _tag(look: Look, tags: Sequence[str]) -> Iterator[Met]:
    known = trace_node.by_digest(look, {look.meanings[one] for one in tags})
    for one in tags:
        yield Met(one, *known[look.meanings[one]], "means")


def _workload(look: Look, numbers: Sequence[int]) -> Iterator[Met]:
    of = schema.workload_period.c
    query = select(of.workload_id, of.digest).where(
        among(of.workload_id, numbers), as_of.open_at(of.first_seen, of.gone_at, look.at)
    )
    rows = trace_node.connection_rows(look, query)
    known = trace_node.by_digest(look, {row.digest for row in rows})
    serving = defaultdict(list)
    for one in model_versions.listed(look.connection, look.at, served_by=known, known=look.owners):
        serving[one.digest].append(one)
    for row in rows:
        yield Met(row.workload_id, *known[row.digest], "runs")
        for one in serving[row.digest]:
            node = trace_node.model(one)
            yield Met(row.workload_id, node, node.id, "serves")


def _model(look: Look, nodes: Sequence[str]) -> Iterator[Met]:
    for one in nodes:
        served = model_versions.listed(
            look.connection, look.at, model=model_versions.split(one.removeprefix("model:")), known=look.owners
        )
        for node, number in trace_node.by_digest(look, {version.digest for version in served}).values():
            yield Met(one, node, number, "served_by")


def _index(look: Look, numbers: Sequence[int]) -> Iterator[Met]:
    of = schema.synced_child.c
    query = select(of.parent_id, of.child_id).where(among(of.parent_id, numbers)).order_by(of.parent_id, of.child_id)
    rows = look.bounded(trace_node.connection_rows(look, query.limit(look.limit)), "up", "image")
    known = trace_node.images(look, {row.child_id for row in rows})
    for row in rows:
        if row.child_id in known:
            yield Met(row.parent_id, known[row.child_id], row.child_id, "lists")


def _recorded(numbers: Sequence[int | str]) -> list[int]:
    """Without images that the catalog does not know."""
    return [one for one in numbers if isinstance(one, int)]


def _builds(look: Look, numbers: Sequence[int | str]) -> Iterator[Met]:
    of = schema.build.c
    for some in lots(_recorded(numbers)):
        query = trace_node.BUILDS.where(among(of.artifact_id, some)).order_by(of.finished.desc(), of.id.desc())
        if look.at is not None:
            query = query.where(of.finished <= look.at)
        rows = look.bounded(trace_node.connection_rows(look, query.limit(look.limit)), "up", "build")
        known = trace_node.builds(rows)
        for row in rows:
            yield Met(row.artifact_id, known[row.id], row.id, "built_by")


def _made_from(look: Look, numbers: Sequence[int]) -> Iterator[Met]:
    of = schema.build.c
    for some in lots(numbers):
        for row in look.connection.execute(select(*trace_node.BUILD).where(among(of.id, some)).order_by(of.id)):
            if row.commit:
                commit = Node(id=f"commit:{row.commit}", kind="commit", name=row.commit, detail={"source": row.source})
                yield Met(row.id, commit, row.commit, "from")
            if row.pipeline_run:
                run = Node(id=f"run:{row.pipeline_run}", kind="run", name=row.pipeline_run)
                yield Met(row.id, run, row.pipeline_run, "from")
            if len(row.materials) > _MATERIALS:
                look.more.add(("up", "material"))
            for one in row.materials[:_MATERIALS]:
                name = f"{one.get('name', '')} {one.get('digest', '')}".strip()
                material = Node(id=f"material:{name}", kind="material", name=name)
                yield Met(row.id, material, name, "used")


def stacks(look: Look, numbers: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Row numbers of the layers of images, base first."""
    of = schema.artifact_layer.c
    found: dict[int, list[int]] = defaultdict(list)
    for some in lots([one for one in numbers if one not in look.stacks]):
        query = select(of.artifact_id, of.layer_id).where(among(of.artifact_id, some))
        for number, layer in trace_node.connection_rows(look, query.order_by(of.artifact_id, of.position)):
            found[number].append(layer)
    look.stacks.update((number, tuple(stack)) for number, stack in found.items())
    return {number: look.stacks[number] for number in numbers if number in look.stacks}


def base_of(stack: Sequence[int], bases: Mapping[int, tuple[int, ...]]) -> int | None:
    """The one of `bases` (with their layers) with the most layers that are the first of `stack`, and not all of it."""
    fitting = [
        (len(under), -number)
        for number, under in bases.items()
        if under and len(under) < len(stack) and tuple(stack[: len(under)]) == under
    ]
    return -max(fitting)[1] if fitting else None


def known_bases(look: Look, first: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Every image that is known as a base and begins with one of the layers `first`, with its layers."""
    of, artifact = schema.artifact_layer.c, schema.artifact.c
    named = union(select(schema.base_image.c.digest), select(schema.base_approval.c.digest))
    numbers: list[int] = []
    for some in lots(sorted(first)):
        query = select(of.artifact_id).join(schema.artifact, artifact.id == of.artifact_id)
        query = query.where(artifact.digest.in_(named), of.position == 0, among(of.layer_id, some))
        numbers += look.connection.scalars(query)
    return stacks(look, numbers)


def _bases(look: Look, numbers: Sequence[int | str]) -> Iterator[Met]:
    above = stacks(look, _recorded(numbers))
    bases = known_bases(look, sorted({stack[0] for stack in above.values()}))
    under = {number: base_of(stack, bases) for number, stack in above.items()}
    known = trace_node.images(look, {base for base in under.values() if base is not None})
    for number, base in under.items():
        if base in known:
            yield Met(number, known[base], base, "rests_on")


def _layers(look: Look, numbers: Sequence[int | str]) -> Iterator[Met]:
    of = schema.artifact_layer.c
    for some in lots(_recorded(numbers)):
        query = (
            select(of.artifact_id, *trace_node.LAYER)
            .join(schema.layer, schema.layer.c.id == of.layer_id)
            .where(among(of.artifact_id, some))
            .order_by(of.artifact_id, of.position)
        )
        rows = trace_node.connection_rows(look, query)
        known = trace_node.layers(rows)
        for row in rows:
            yield Met(row.artifact_id, known[row.id], row.id, "has")


def _held(look: Look, numbers: Sequence[int]) -> Iterator[Met]:
    if not look.packages:
        return
    at = schema.layer_component.c
    for some in lots(numbers):
        query = (
            select(at.layer_id, *trace_node.PACKAGE)
            .join(schema.component, schema.component.c.id == at.component_id)
            .where(among(at.layer_id, some))
            .order_by(schema.component.c.purl)
        )
        rows = look.bounded(trace_node.connection_rows(look, query.limit(look.limit)), "up", "package")
        known = trace_node.packages(rows)
        for row in rows:
            yield Met(row.layer_id, known[row.id], row.id, "holds")


def _packages(look: Look, numbers: Sequence[int | str]) -> Iterator[Met]:
    if not look.packages:
        return
    of, member = schema.artifact.c, schema.component_set_member.c
    for some in lots(_recorded(numbers)):
        query = (
            select(of.id.label("image"), *trace_node.PACKAGE)
            .join(schema.component_set_member, member.component_set_id == of.component_set_id)
            .join(schema.component, schema.component.c.id == member.component_id)
            .where(among(of.id, some))
            .order_by(schema.component.c.purl)
        )
        rows = look.bounded(trace_node.connection_rows(look, query.limit(look.limit)), "up", "package")
        known = trace_node.packages(rows)
        for row in rows:
            yield Met(row.image, known[row.id], row.id, "contains")


STEPS: dict[Kind, tuple[Step, ...]] = {
    "tag": (_tag,),
    "workload": (_workload,),
    "model": (_model,),
    "index": (_index,),
    "image": (_builds, _bases, _layers, _packages),
    "build": (_made_from,),
    "layer": (_held,),
}
