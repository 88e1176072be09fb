"""Bases: which are known, approved or retired, and which images rest on them.

An image rests on a base when its first layers are those of the base, whoever built it and wherever it came from.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, true, tuple_, union

from tidewaiter.catalog import narrowing, schema
from tidewaiter.catalog.among import among, lots
from tidewaiter.catalog.answers import BaseAnswer, BaseState, BaseUse
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.narrowing import PLACE
from tidewaiter.catalog.parts import Part
from tidewaiter.catalog.rows import AnyRow, put
from tidewaiter.catalog.storable import storable
from tidewaiter.core.errors import NotFoundError
from tidewaiter.oci.digest import Digest

_KEY = ("name", "digest")


def approve(
    connection: Connection, name: str, digest: Digest, *, owner: str, expires: dt.datetime | None, at: dt.datetime
) -> None:
    """Approve a base, or approve it anew: a retirement is taken back, the time until which it holds replaced."""
    row = {
        "name": storable(name),
        "digest": digest,
        "owner": storable(owner),
        "approved_at": at,
        "expires_at": expires,
        "retired_at": None,
        "reason": "",
    }
    put(connection, schema.base_approval, _KEY, [row])
    detail = {"owner": owner, "expires": None if expires is None else expires.isoformat()}
    states = audit_states.now(connection, "base", (storable(name), digest))
    audit.append(connection, "base.approve", f"{name}@{digest}", detail, at=at, states=states)


def retire(
    connection: Connection, name: str, digest: Digest | None, *, reason: str, at: dt.datetime
) -> tuple[str, ...]:
    """Retire one base, or all that are known under `name`; their digests.

    Raises:
        NotFoundError: no digest was given, and none is known.
    """
    given = bases(connection, at)
    known = {one.digest: one for one in given if one.name == name}
    wanted = tuple(found for found, one in known.items() if one.state != "retired") if digest is None else (digest,)
    if not wanted:
        raise NotFoundError(
            f"no base {name} is known that could be retired",
            next_step="`tidewaiter base list` shows the bases; name one that is not here by --digest.",
        )
    rows = [
        {
            "name": storable(name),
            "digest": one,
            "owner": known[one].owner if one in known else "",
            "approved_at": known[one].approved_at if one in known else None,
            "expires_at": known[one].expires_at if one in known else None,
            "retired_at": at,
            "reason": storable(reason),
        }
        for one in wanted
    ]
    put(connection, schema.base_approval, _KEY, rows)
    for one in wanted:
        states = audit_states.now(connection, "base", (storable(name), one))
        audit.append(connection, "base.retire", f"{name}@{one}", {"reason": reason}, at=at, states=states)
    return wanted


def _state(row: AnyRow, at: dt.datetime) -> BaseState:
    if row.retired_at is not None:
        return "retired"
    if row.approved_at is None:
        return "known"
    return "expired" if row.expires_at is not None and row.expires_at <= at else "approved"


def bases(connection: Connection, at: dt.datetime) -> tuple[BaseAnswer, ...]:
    """Every base that is known, by name, the one that was approved last first."""
    said, image = schema.base_approval.c, schema.base_image.c
    known = union(
        select(schema.base.c.name.label("name"), image.digest.label("digest")).join(
            schema.base_image, image.base_id == schema.base.c.id
        ),
        select(said.name.label("name"), said.digest.label("digest")),
    ).subquery()
    query = (
        select(known, said.owner, said.approved_at, said.expires_at, said.retired_at, said.reason)
        .join(schema.base_approval, and_(said.name == known.c.name, said.digest == known.c.digest), isouter=True)
        .order_by(known.c.name, said.approved_at.is_(None), said.approved_at.desc(), known.c.digest)
    )
    rows = connection.execute(query).all()
    return tuple(
        BaseAnswer(
            name=row.name,
            digest=row.digest,
            state=_state(row, at),
            owner=row.owner or "",
            approved_at=row.approved_at,
            expires_at=row.expires_at,
            retired_at=row.retired_at,
            reason=row.reason or "",
            images=_count(connection, row.digest),
        )
        for row in rows
    )


def _layers(connection: Connection, digest: str) -> list[int]:
    """Row numbers of the layers of an image, the lowest first; empty when the catalog does not know them."""
    stack = schema.artifact_layer.c
    query = (
        select(stack.layer_id)
        .join(schema.artifact, schema.artifact.c.id == stack.artifact_id)
        .where(schema.artifact.c.digest == digest)
    )
    return list(connection.scalars(query.order_by(stack.position)))


def _first(image: ColumnElement[int], layers: Sequence[int]) -> Sequence[ColumnElement[bool]]:
    """Conditions: these are the first layers of the image with that row number."""
    stack = schema.artifact_layer.alias().c
    return [
        select(stack.position)
        .where(stack.artifact_id == image, stack.position == position, stack.layer_id == layer)
        .exists()
        for position, layer in enumerate(layers)
    ]


def _with_top(layers: Sequence[int]) -> Select[int]:
    """Row numbers of images that have the last of `layers` where it is; it is the one that the fewest have."""
    stack = schema.artifact_layer.c
    return select(stack.artifact_id).where(stack.layer_id == layers[-1], stack.position == len(layers) - 1)


def _count(connection: Connection, digest: str) -> int:
    """How many images of repositories rest on the image `digest`."""
    layers = _layers(connection, digest)
    if not layers:
        return 0
    image, of = schema.artifact_layer.c.artifact_id, schema.artifact.c
    placed = select(PLACE.artifact_id).where(PLACE.artifact_id == image).exists()
    itself = select(of.id).where(of.id == image, of.digest == digest).exists()
    query = _with_top(layers).with_only_columns(func.count()).where(*_first(image, layers[:-1]), placed, ~itself)
    return connection.scalar(query) or 0


def images_on(connection: Connection, wanted: Collection[str]) -> tuple[BaseUse, ...]:
    """Images that rest on one of the bases with the digests `wanted`, by name, in every repository that has them."""
    found: list[BaseUse] = []
    for base in sorted(set(wanted)):
        found += _uses(connection, connection.execute(_places(connection, base)).all(), base)
    return tuple(found)


def images_on_part(connection: Connection, base: str, *, after: tuple[str, str] | None, rows: int) -> Part:
    """At most `rows` of the images that rest on `base`, by name and digest; those behind `after`."""
    query, of = _places(connection, base).limit(rows + 1), schema.artifact.c
    name = schema.repository.c.name
    if after is not None:
        # The first condition says nothing new, but every database goes by the index for it.
        query = query.where(name >= after[0], tuple_(name, of.digest) > tuple_(*after))
    found = connection.execute(query).all()
    last = (found[rows - 1].name, found[rows - 1].digest) if len(found) > rows else None
    return Part(_uses(connection, found[:rows], base), last)


def _places(connection: Connection, base: str) -> Select[*tuple[Any, ...]]:
    """Where the images lie whose first layers are all layers of the image `base`; itself is not one."""
    layers, of, name = _layers(connection, base), schema.artifact.c, schema.repository.c.name
    few = narrowing.few(connection, _with_top(layers)) if layers else frozenset[int]()
    return (
        select(PLACE.repository_id, PLACE.artifact_id, name, of.digest)
        .join(schema.repository, schema.repository.c.id == PLACE.repository_id)
        .join(schema.artifact, of.id == PLACE.artifact_id)
        .where(of.digest != base, true() if few is None else among(PLACE.artifact_id, few))
        .where(*_first(PLACE.artifact_id, layers))
        .order_by(name, of.digest)
    )


def _uses(connection: Connection, places: Sequence[AnyRow], base: str) -> tuple[BaseUse, ...]:
    of = schema.tag.c
    tags: dict[tuple[int, int], list[str]] = defaultdict(list)
    for some in lots(sorted({row.artifact_id for row in places})):
        query = select(of.repository_id, of.artifact_id, of.name).where(among(of.artifact_id, some))
        for repository, artifact, name in connection.execute(query.order_by(of.name)):
            tags[repository, artifact].append(name)
    return tuple(
        BaseUse(name=row.name, digest=row.digest, tags=tuple(tags[row.repository_id, row.artifact_id]), base=base)
        for row in places
    )
