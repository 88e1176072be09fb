"""Bases: which are known, approved or retired, and which images rest on them.

An image rests on a base when its first layers are those of the base, whoever built it and wherever it came from.
"""

import datetime as dt
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Select, and_, func, select, union

from tidewaiter.catalog import schema
from tidewaiter.catalog.answers import BaseAnswer, BaseState, BaseUse
from tidewaiter.catalog.recording import audit
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
    audit(connection, at, "base_approve", f"{name}@{digest}", detail)


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
        audit(connection, at, "base_retire", f"{name}@{one}", {"reason": reason})
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
        .order_by(known.c.name, said.approved_at.desc(), known.c.digest)
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
            images=len(_on(connection, row.digest)),
        )
        for row in rows
    )


def _on(connection: Connection, digest: str) -> Sequence[int]:
    """Row numbers of the images whose first layers are all layers of the image `digest`; itself is not one."""
    lower = (
        select(schema.artifact_layer.c.position, schema.artifact_layer.c.layer_id)
        .join(schema.artifact, schema.artifact.c.id == schema.artifact_layer.c.artifact_id)
        .where(schema.artifact.c.digest == digest)
        .subquery()
    )
    size = connection.scalar(select(func.count()).select_from(lower))
    if not size:
        return ()
    upper = schema.artifact_layer.c
    query: Select[int] = (
        select(upper.artifact_id)
        .join(lower, and_(lower.c.position == upper.position, lower.c.layer_id == upper.layer_id))
        .join(schema.artifact, schema.artifact.c.id == upper.artifact_id)
        .where(schema.artifact.c.digest != digest)
        .group_by(upper.artifact_id)
        .having(func.count() == size)
    )
    placed = select(schema.repository_artifact.c.artifact_id)
    return connection.scalars(query.where(upper.artifact_id.in_(placed))).all()


def images_on(connection: Connection, wanted: Collection[str]) -> tuple[BaseUse, ...]:
    """Images that rest on one of the bases with the digests `wanted`, by name, in every repository that has them."""
    found: list[BaseUse] = []
    place = schema.repository_artifact.c
    for base in sorted(set(wanted)):
        numbers = _on(connection, base)
        rows = connection.execute(
            select(place.repository_id, place.artifact_id, schema.repository.c.name, schema.artifact.c.digest)
            .join(schema.repository, schema.repository.c.id == place.repository_id)
            .join(schema.artifact, schema.artifact.c.id == place.artifact_id)
            .where(place.artifact_id.in_(numbers))
            .order_by(schema.repository.c.name, schema.artifact.c.digest)
        ).all()
        for row in rows:
            tags = connection.scalars(
                select(schema.tag.c.name)
                .where(schema.tag.c.repository_id == row.repository_id, schema.tag.c.artifact_id == row.artifact_id)
                .order_by(schema.tag.c.name)
            ).all()
            found.append(BaseUse(name=row.name, digest=row.digest, tags=tuple(tags), base=base))
    return tuple(found)
