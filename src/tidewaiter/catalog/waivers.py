"""Waivers in the catalog: what was asked for never changes, and every step leaves an audit event."""

import datetime as dt
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from tidewaiter.catalog import clearing, schema
from tidewaiter.catalog.recording import audit
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.core.errors import NotFoundError, RefusedError
from tidewaiter.policy import waivers as pure
from tidewaiter.policy.scope import Scope
from tidewaiter.policy.waivers import Waiver

_FIELDS = tuple(field for field in Waiver.__struct_fields__ if field not in {"id", "scope"})


def _waiver(row: AnyRow) -> Waiver:
    values: dict[str, Any] = {name: getattr(row, name) for name in _FIELDS}
    return Waiver(id=row.name, scope=msgspec.convert(row.scope, Scope), **values)


def request(connection: Connection, waiver: Waiver, at: dt.datetime) -> None:
    """Keep a waiver that nobody has approved yet. Raises `RefusedError` when the very same was asked for already."""
    known = select(schema.waiver.c.id).where(schema.waiver.c.name == waiver.id)
    if connection.scalar(known) is not None:
        raise RefusedError(
            f"the waiver {waiver.id} was asked for already", next_step=f"See `tidewaiter waiver show {waiver.id}`."
        )
    row = {name: getattr(waiver, name) for name in _FIELDS}
    connection.execute(insert(schema.waiver), {"name": waiver.id, "scope": msgspec.to_builtins(waiver.scope), **row})
    detail = {"by": waiver.requested_by, "waiver": msgspec.to_builtins(waiver)}
    audit(connection, at, "waiver.request", waiver.id, detail)


def approve(connection: Connection, name: str, reviewer: str, at: dt.datetime) -> Waiver:
    """The waiver, approved.

    Raises:
        NotFoundError: there is none of that id.
        RefusedError: the reviewer may not, or there is nothing to approve.
    """
    changed = pure.approve(waiver(connection, name), reviewer, at)
    _change(connection, changed, "reviewer", "approved_at")
    audit(connection, at, "waiver.approve", name, {"by": changed.reviewer})
    return changed


def revoke(connection: Connection, name: str, who: str, why: str, at: dt.datetime) -> tuple[Waiver, tuple[str, ...]]:
    """The waiver, revoked, and the tags (`NAME:TAG`) that are no longer cleared, because their verdict relied on it.

    Raises:
        NotFoundError: there is none of that id.
        RefusedError: it is revoked already.
    """
    changed = pure.revoke(waiver(connection, name), who, why, at)
    _change(connection, changed, "revoked_by", "revoked_at", "revocation")
    audit(connection, at, "waiver.revoke", name, {"by": changed.revoked_by, "reason": changed.revocation})
    return changed, _take_back(connection, name, at)


def _take_back(connection: Connection, name: str, at: dt.datetime) -> tuple[str, ...]:
    rows = connection.execute(
        select(schema.repository.c.name.label("repository"), schema.tag.c.name, schema.verdict.c.document)
        .join(schema.tag, schema.tag.c.repository_id == schema.repository.c.id)
        .join(schema.verdict, schema.verdict.c.id == schema.tag.c.verdict_id)
        .order_by(schema.repository.c.name, schema.tag.c.name)
    ).all()
    taken = [row for row in rows if name in {one.get("waiver") for one in row.document.get("waived", ())}]
    for row in taken:
        clearing.withdraw(connection, repository=row.repository, name=row.name, at=at)
    return tuple(f"{row.repository}:{row.name}" for row in taken)


def _change(connection: Connection, changed: Waiver, *fields: str) -> None:
    values = {name: getattr(changed, name) for name in fields}
    connection.execute(update(schema.waiver).where(schema.waiver.c.name == changed.id).values(values))


def waiver(connection: Connection, name: str) -> Waiver:
    """The waiver of that id; raises `NotFoundError`."""
    row = connection.execute(select(schema.waiver).where(schema.waiver.c.name == name)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no waiver {name[:100]!r}", next_step="`tidewaiter waiver list --all` shows all.")
    return _waiver(row)


def waivers(connection: Connection) -> tuple[Waiver, ...]:
    """Every waiver there ever was, the one that ends first first."""
    query = select(schema.waiver).order_by(schema.waiver.c.expires_at, schema.waiver.c.name)
    return tuple(map(_waiver, connection.execute(query)))
