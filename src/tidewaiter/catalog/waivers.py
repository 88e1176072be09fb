"""Waivers in the catalog: what was asked for never changes, and every step leaves an entry of the audit log."""

import datetime as dt
from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, insert, not_, or_, select, update

from tidewaiter.catalog import clearing, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.parts import Part, cut
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.core.errors import NotFoundError, RefusedError
from tidewaiter.policy import waivers as pure
from tidewaiter.policy.scope import Scope
from tidewaiter.policy.waivers import State, Waiver

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
    detail = {"waiver": msgspec.to_builtins(waiver)}
    states = audit_states.now(connection, "waiver", (waiver.id,))
    audit.append(connection, "waiver.request", waiver.id, detail, at=at, actor=waiver.requested_by, states=states)


def approve(connection: Connection, name: str, reviewer: str, at: dt.datetime) -> Waiver:
    """The waiver, approved.

    Raises:
        NotFoundError: there is none of that id.
        RefusedError: the reviewer may not, or there is nothing to approve.
    """
    changed = pure.approve(waiver(connection, name), reviewer, at)
    _change(connection, changed, "reviewer", "approved_at")
    states = audit_states.now(connection, "waiver", (name,))
    audit.append(connection, "waiver.approve", name, {}, at=at, actor=changed.reviewer, states=states)
    return changed


def revoke(connection: Connection, name: str, who: str, why: str, at: dt.datetime) -> tuple[Waiver, tuple[str, ...]]:
    """The waiver, revoked, and the tags (`NAME:TAG`) that are no longer cleared, because their verdict relied on it.

    Raises:
        NotFoundError: there is none of that id.
        RefusedError: it is revoked already.
    """
    changed = pure.revoke(waiver(connection, name), who, why, at)
    _change(connection, changed, "revoked_by", "revoked_at", "revocation")
    states = audit_states.now(connection, "waiver", (name,))
    detail = {"reason": changed.revocation}
    audit.append(connection, "waiver.revoke", name, detail, at=at, actor=changed.revoked_by, states=states)
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


def part(
    connection: Connection,
    at: dt.datetime,
    *,
    states: Collection[State] = (),
    owner: str = "",
    subject: str = "",
    after: tuple[dt.datetime, str] | None,
    rows: int,
) -> Part:
    """At most `rows` of what `waivers` gives, those behind `after`.

    Args:
        connection: of any transaction.
        at: the present.
        states: only those of one of these states; none: of all.
        owner: only those that this owner answers for.
        subject: only those about this advisory or rule.
        after: when the last one that was shown ends, and its id.
        rows: at most so many.
    """
    of = schema.waiver.c
    query = select(schema.waiver).order_by(of.expires_at, of.name).limit(rows + 1)
    if states:
        query = query.where(or_(*(_is(state, at) for state in sorted(set(states)))))
    if owner:
        query = query.where(of.owner == owner)
    if subject:
        advisory, rule = of.scope["advisory"].as_string(), of.scope["rule"].as_string()
        query = query.where(func.coalesce(func.nullif(advisory, ""), rule) == subject)
    if after is not None:
        behind = or_(of.expires_at > after[0], and_(of.expires_at == after[0], of.name > after[1]))
        query = query.where(of.expires_at >= after[0], behind)
    found = [_waiver(row) for row in connection.execute(query)]
    last = found[rows - 1] if len(found) > rows else None
    return cut(found, rows, None if last is None else (last.expires_at.timestamp(), last.id))


def _is(state: State, at: dt.datetime) -> ColumnElement[bool]:
    """The condition of `Waiver.state`."""
    of = schema.waiver.c
    if state == "revoked":
        return of.revoked_at.is_not(None)
    if state == "expired":
        return and_(of.revoked_at.is_(None), of.expires_at <= at)
    lives = and_(of.revoked_at.is_(None), of.expires_at > at)
    approved = and_(of.approved_at.is_not(None), of.approved_at <= at)
    return and_(lives, approved if state == "in_force" else not_(approved))
