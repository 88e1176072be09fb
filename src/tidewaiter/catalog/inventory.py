"""Lists beside that of images: repositories, tags, layers, builds, verdicts; part after part, as images are.

Each part ends with a cursor, the key of its last row: what is added meanwhile is neither repeated nor hides a row.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, func, literal, or_, select, union_all

from tidewaiter.catalog import owners, schema
from tidewaiter.catalog.as_of import Meaning
from tidewaiter.catalog.parts import Part, Position
from tidewaiter.catalog.records import Material


class ListedRepository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository of the store, or a place that was synced."""

    name: str
    owner: str
    """Who answers for it; empty when nobody is known."""
    images: int
    tags: int
    changed_at: dt.datetime | None
    """When an image came, or a tag came to mean another one; null without an image."""


class ListedTag(msgspec.Struct, frozen=True, kw_only=True):
    """A tag and what it means."""

    repository: str
    tag: str
    digest: str
    visibility: Meaning
    set_at: dt.datetime


class TagChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a tag came to mean."""

    digest: str
    """Empty: it was gone."""
    visibility: Meaning | Literal["gone"]
    set_at: dt.datetime


class ListedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer."""

    digest: str
    diff_id: str
    size: int
    """Compressed bytes."""
    unpacked_size: int
    files: int
    packages: int
    images: int
    """That have it."""


class ListedBuild(msgspec.Struct, frozen=True, kw_only=True):
    """How an image was made."""

    key: str
    """Names the build."""
    repository: str
    digest: str
    source: str
    commit: str
    dirty: bool
    branch: str
    pipeline_run: str
    builder: str
    environment: str
    purpose: str
    base: str
    """Name of its base; empty when it has none that is known."""
    base_lock: str
    python_lock: str
    materials: tuple[Material, ...]
    reused_layers: int
    built_layers: int
    started: dt.datetime
    finished: dt.datetime
    seconds: float


class ListedVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict."""

    id: str
    digest: str
    environment: str
    verdict: Literal["allow", "deny"]
    policy_revision: str
    advisories_revision: str
    decided_at: dt.datetime
    valid_until: dt.datetime


def _below(name: str) -> ColumnElement[bool]:
    """Whether it is the repository `name`, or one below it."""
    of, plain = schema.repository.c.name, name.removesuffix("/")
    return or_(of == plain, of.startswith(f"{plain}/", autoescape=True))


def _part(rows: Sequence[Any], wanted: int, items: tuple[Any, ...], position: Position | None) -> Part:
    return Part(items[:wanted], position if len(rows) > wanted else None)


def repositories(connection: Connection, *, search: str = "", after: str = "", rows: int) -> Part:
    """Repositories by name, those with `search` in it; behind the one called `after`."""
    of = schema.repository.c
    query = select(of.id, of.name).order_by(of.name).limit(rows + 1)
    if search:
        query = query.where(func.lower(of.name).contains(search.lower(), autoescape=True))
    found = connection.execute(query.where(of.name > after)).all()
    shown = found[:rows]
    numbers = [row.id for row in shown]
    place, tag, seen = schema.repository_artifact.c, schema.tag.c, schema.synced_tag.c
    counted = {
        row.repository_id: row
        for row in connection.execute(
            select(place.repository_id, func.count().label("images"), func.max(place.changed_at).label("changed_at"))
            .where(place.repository_id.in_(numbers))
            .group_by(place.repository_id)
        )
    }
    tags: dict[int, int] = dict.fromkeys(numbers, 0)
    for column in (tag.repository_id, seen.repository_id):
        for number, count in connection.execute(
            select(column, func.count()).where(column.in_(numbers)).group_by(column)
        ).all():
            tags[number] += count
    answering = owners.load(connection, None)
    items = tuple(
        ListedRepository(
            name=row.name,
            owner=answering.of_repository(row.name),
            images=counted[row.id].images if row.id in counted else 0,
            tags=tags[row.id],
            changed_at=counted[row.id].changed_at if row.id in counted else None,
        )
        for row in shown
    )
    return _part(found, rows, items, (shown[-1].name,) if shown else None)


def _tags_in(table: Any, *, synced: bool) -> Select[Any]:  # noqa: ANN401 - either table of tags
    meaning = literal("synced") if synced else table.c.visibility
    return (
        select(
            schema.repository.c.name.label("repository"),
            table.c.name.label("tag"),
            schema.artifact.c.digest,
            meaning.label("visibility"),
            table.c.set_at,
        )
        .join(schema.repository, schema.repository.c.id == table.c.repository_id)
        .join(schema.artifact, schema.artifact.c.id == table.c.artifact_id)
    )


def tags(
    connection: Connection,
    *,
    repository: str = "",
    tag: str = "",
    digest: str = "",
    after: tuple[str, str, str] | None = None,
    rows: int,
) -> Part:
    """Tags by repository and name: of a repository and those below it, of that name, of that image."""
    parts = []
    for table, synced in ((schema.tag, False), (schema.synced_tag, True)):
        one = _tags_in(table, synced=synced)
        if repository:
            one = one.where(_below(repository))
        if tag:
            one = one.where(table.c.name == tag)
        if digest:
            one = one.where(schema.artifact.c.digest == digest)
        if after is not None:
            # The name first: an index answers it.
            name = schema.repository.c.name
            behind = or_(name > after[0], table.c.name > after[1])
            if ("synced" if synced else "") > after[2]:
                behind = or_(behind, table.c.name == after[1])
            one = one.where(name >= after[0], behind)
        parts.append(one.order_by(schema.repository.c.name, table.c.name).limit(rows + 1))
    found = sorted(
        (row for one in parts for row in connection.execute(one)),
        key=lambda row: (row.repository, row.tag, row.visibility == "synced"),
    )
    items = tuple(ListedTag(**row._mapping) for row in found[:rows])  # noqa: SLF001 - public in spite of its name
    last = items[-1] if items else None
    kind = "synced" if last is not None and last.visibility == "synced" else ""
    return _part(found, rows, items, None if last is None else (last.repository, last.tag, kind))


def tag_changes(connection: Connection, repository: str, tag: str, *, after: int | None = None, rows: int) -> Part:
    """What a tag came to mean, the latest first. A repository is of the store or synced, so one history has it all."""
    parts = []
    for table, synced in ((schema.tag_history, False), (schema.synced_tag_history, True)):
        of = table.c
        parts.append(
            select(
                of.id,
                schema.artifact.c.digest,
                (literal("synced") if synced else of.visibility).label("visibility"),
                of.set_at,
            )
            .join(schema.repository, schema.repository.c.id == of.repository_id)
            .join(schema.artifact, schema.artifact.c.id == of.artifact_id, isouter=True)
            .where(schema.repository.c.name == repository, of.name == tag)
        )
    every = union_all(*parts).subquery()
    query = select(every).order_by(every.c.id.desc()).limit(rows + 1)
    if after is not None:
        query = query.where(every.c.id < after)
    found = connection.execute(query).all()
    shown = found[:rows]
    items = tuple(_tag_change(row) for row in shown)
    return _part(found, rows, items, (shown[-1].id,) if shown else None)


def _tag_change(row: Any) -> TagChange:  # noqa: ANN401 - a row of the query above
    if row.digest is None or row.visibility == "gone":
        return TagChange(digest="", visibility="gone", set_at=row.set_at)
    return TagChange(digest=row.digest, visibility=row.visibility, set_at=row.set_at)


def layers(
    connection: Connection, *, image: str = "", package: str = "", digest: str = "", after: str = "", rows: int
) -> Part:
    """Layers by digest: those of an image, with a package (an exact purl), that one."""
    of = schema.layer.c
    query = select(schema.layer).where(of.digest > after).order_by(of.digest).limit(rows + 1)
    if image:
        inside = select(schema.artifact_layer.c.layer_id).join(
            schema.artifact, schema.artifact.c.id == schema.artifact_layer.c.artifact_id
        )
        query = query.where(of.id.in_(inside.where(schema.artifact.c.digest == image)))
    if package:
        holding = select(schema.layer_component.c.layer_id).join(
            schema.component, schema.component.c.id == schema.layer_component.c.component_id
        )
        query = query.where(of.id.in_(holding.where(schema.component.c.purl == package)))
    if digest:
        query = query.where(or_(of.digest == digest, of.diff_id == digest))
    found = connection.execute(query).all()
    shown = found[:rows]
    numbers = [row.id for row in shown]
    stack, holds = schema.artifact_layer.c, schema.layer_component.c
    shared = select(stack.layer_id, func.count(stack.artifact_id.distinct())).where(stack.layer_id.in_(numbers))
    held = select(holds.layer_id, func.count()).where(holds.layer_id.in_(numbers))
    images = {row[0]: row[1] for row in connection.execute(shared.group_by(stack.layer_id))}
    packages = {row[0]: row[1] for row in connection.execute(held.group_by(holds.layer_id))}
    items = tuple(
        ListedLayer(
            digest=row.digest,
            diff_id=row.diff_id,
            size=row.size,
            unpacked_size=row.unpacked_size,
            files=row.files,
            packages=packages.get(row.id, 0),
            images=images.get(row.id, 0),
        )
        for row in shown
    )
    return _part(found, rows, items, (shown[-1].digest,) if shown else None)


def builds(
    connection: Connection,
    *,
    repository: str = "",
    image: str = "",
    commit: str = "",
    branch: str = "",
    run: str = "",
    builder: str = "",
    after: int | None = None,
    rows: int,
) -> Part:
    """Builds, the one that was recorded last first; a `commit` may be the beginning of one."""
    of = schema.build.c
    query = (
        select(
            schema.build,
            schema.repository.c.name.label("repository"),
            schema.artifact.c.digest,
            schema.base.c.name.label("base"),
        )
        .join(schema.repository, schema.repository.c.id == of.repository_id)
        .join(schema.artifact, schema.artifact.c.id == of.artifact_id)
        .join(schema.base, schema.base.c.id == of.base_id, isouter=True)
        .order_by(of.id.desc())
        .limit(rows + 1)
    )
    for condition, wanted in (
        (_below(repository), repository),
        (schema.artifact.c.digest == image, image),
        (of.commit.startswith(commit, autoescape=True), commit),
        (of.branch == branch, branch),
        (of.pipeline_run == run, run),
        (of.builder == builder, builder),
    ):
        if wanted:
            query = query.where(condition)
    if after is not None:
        query = query.where(of.id < after)
    found = connection.execute(query).all()
    items = tuple(_build(row) for row in found[:rows])
    return _part(found, rows, items, (found[len(items) - 1].id,) if items else None)


def _build(row: Any) -> ListedBuild:  # noqa: ANN401 - a row of the query above
    same = ("key", "repository", "digest", "source", "commit", "dirty", "branch", "pipeline_run", "builder")
    more = ("environment", "purpose", "reused_layers", "built_layers", "started", "finished", "seconds")
    return ListedBuild(
        **{name: getattr(row, name) for name in (*same, *more)},
        base=row.base or "",
        base_lock=row.base_lock or "",
        python_lock=row.python_lock or "",
        materials=msgspec.convert(row.materials, tuple[Material, ...]),
    )


def verdicts(
    connection: Connection,
    *,
    image: str = "",
    environment: str = "",
    verdict: str = "",
    after: int | None = None,
    rows: int,
) -> Part:
    """Verdicts, those that were recorded last first: about an image, for an environment, with that answer."""
    of = schema.verdict.c
    query = (
        select(
            of.id.label("number"),
            of.name.label("id"),
            schema.artifact.c.digest,
            *(of[name] for name in ("environment", "verdict", "policy_revision", "advisories_revision")),
            of.decided_at,
            of.valid_until,
        )
        .join(schema.artifact, schema.artifact.c.id == of.artifact_id)
        .order_by(of.id.desc())
        .limit(rows + 1)
    )
    for condition, wanted in (
        (schema.artifact.c.digest == image, image),
        (of.environment == environment, environment),
        (of.verdict == verdict, verdict),
    ):
        if wanted:
            query = query.where(condition)
    if after is not None:
        query = query.where(of.id < after)
    found = connection.execute(query).all()
    shown = found[:rows]
    items = tuple(
        ListedVerdict(**{name: getattr(row, name) for name in ListedVerdict.__struct_fields__}) for row in shown
    )
    return _part(found, rows, items, (shown[-1].number,) if shown else None)
