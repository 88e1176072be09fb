"""Who is told what happened by HTTP: addresses, subscribed to some types of events, of some projects or of all.

What is sent there is in `outbox`. Secrets are not here: they are derived from a key of the home
(`pipelines.notifying`), of which the digest is kept.
"""

import datetime as dt
import secrets
from collections.abc import Collection
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from tidewaiter.catalog import events, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.catalog.storable import storable
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError

State = Literal["active", "disabled"]
_PROJECT_CHARACTERS = 255
CHANNEL = "notice:"
"""Subscriptions whose names begin so are `catalog.notices`'; nobody manages them as webhooks."""
_MANAGED = ~schema.webhook.c.name.startswith(CHANNEL)


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription."""

    id: str
    url: str
    types: tuple[str, ...]
    """Of events; empty: all."""
    projects: tuple[str, ...]
    """Empty: all. What happens to something that is of no project is told to everyone."""
    state: State
    reason: str
    """Why it is disabled."""
    created_by: str
    created_at: dt.datetime
    failures: int
    """Attempts in a row that found the endpoint unable."""
    resume_at: dt.datetime | None
    """Nothing is sent before, because the endpoint was unable."""
    waiting: int = 0
    """Deliveries that are not taken yet."""


def add(
    connection: Connection,
    url: str,
    *,
    types: Collection[str],
    projects: Collection[str],
    key: str,
    who: str,
    at: dt.datetime,
) -> Webhook:
    """Subscribe; what happens from now on is told.

    Raises:
        InputError: there is no such type, a project's name is malformed, or there are too many subscriptions.
    """
    for one in types:
        if one not in events.TYPES:
            raise InputError(f"{one[:60]!r} is no type of events", next_step=f"There are: {', '.join(events.TYPES)}.")
    for one in projects:
        if not one or len(one) > _PROJECT_CHARACTERS or not one.isprintable() or "/" in one:
            raise InputError(f"{one[:60]!r} is no project", next_step="Give the first part of a repository's name.")
    counted = select(func.count()).select_from(schema.webhook).where(_MANAGED)
    if (connection.scalar(counted) or 0) >= limits.WEBHOOKS:
        raise InputError(f"there are {limits.WEBHOOKS} webhooks already", next_step="Remove one that nobody needs.")
    row = {
        "name": f"wh_{secrets.token_hex(8)}",
        "url": url,
        "types": sorted(set(types)),
        "projects": sorted(set(projects)),
        "state": "active",
        "reason": "",
        "created_by": storable(who),
        "created_at": at,
        "key": key,
        "generation": 1,
        "earlier_until": None,
        **events.latest(connection)._asdict(),
        "failures": 0,
        "resume_at": None,
    }
    connection.execute(insert(schema.webhook), row)
    said = {name: row[name] for name in ("url", "types", "projects")}
    audit.append(connection, "webhook.add", str(row["name"]), said, at=at, actor=who)
    return one_of(connection, str(row["name"]))


def _webhook(row: AnyRow, waiting: int) -> Webhook:
    return Webhook(
        id=row.name,
        url=row.url,
        types=tuple(row.types),
        projects=tuple(row.projects),
        state=row.state,
        reason=row.reason,
        created_by=row.created_by,
        created_at=row.created_at,
        failures=row.failures,
        resume_at=row.resume_at,
        waiting=waiting,
    )


def row(connection: Connection, name: str) -> AnyRow:
    """The row of the subscription of that id; raises `NotFoundError`."""
    found = connection.execute(select(schema.webhook).where(schema.webhook.c.name == name, _MANAGED)).one_or_none()
    if found is None:
        raise NotFoundError(f"there is no webhook {name[:60]!r}", next_step="`tidewaiter webhook list` shows all.")
    return found


def one_of(connection: Connection, name: str) -> Webhook:
    """The subscription of that id; raises `NotFoundError`."""
    found = row(connection, name)
    return _webhook(found, waiting(connection, found.id))


def waiting(connection: Connection, number: int) -> int:
    """How many of its deliveries are not taken yet."""
    of = schema.webhook_delivery.c
    counted = select(func.count()).select_from(schema.webhook_delivery)
    return connection.scalar(counted.where(of.webhook_id == number, of.state == "waiting")) or 0


def listed(connection: Connection) -> tuple[Webhook, ...]:
    """Every subscription, the oldest first."""
    rows = connection.execute(select(schema.webhook).where(_MANAGED).order_by(schema.webhook.c.id)).all()
    return tuple(_webhook(row, waiting(connection, row.id)) for row in rows)


def remove(connection: Connection, name: str, *, who: str, at: dt.datetime) -> None:
    """Forget a subscription and what was sent to it. Raises `NotFoundError`."""
    found = row(connection, name)
    connection.execute(delete(schema.webhook_delivery).where(schema.webhook_delivery.c.webhook_id == found.id))
    connection.execute(delete(schema.webhook).where(schema.webhook.c.id == found.id))
    audit.append(connection, "webhook.remove", name, {"url": found.url}, at=at, actor=who)


def rotate(connection: Connection, name: str, *, key: str, overlap: dt.timedelta, who: str, at: dt.datetime) -> Webhook:
    """Let the next secret count from now on, and the present one for `overlap` longer. Raises `NotFoundError`."""
    found = row(connection, name)
    values = {
        "generation": found.generation + 1,
        "earlier_until": at + overlap if key == found.key else None,
        "key": key,
    }
    connection.execute(update(schema.webhook).where(schema.webhook.c.id == found.id).values(values))
    audit.append(connection, "webhook.rotate", name, {"generation": found.generation + 1}, at=at, actor=who)
    return one_of(connection, name)


def enable(connection: Connection, name: str, *, who: str, at: dt.datetime) -> Webhook:
    """Tell it again what happens from now on. Raises `NotFoundError`."""
    found = row(connection, name)
    values: dict[str, Any] = {"state": "active", "reason": "", "failures": 0, "resume_at": None}
    if found.state != "active":
        values.update(events.latest(connection)._asdict())
    connection.execute(update(schema.webhook).where(schema.webhook.c.id == found.id).values(values))
    audit.append(connection, "webhook.enable", name, {}, at=at, actor=who)
    return one_of(connection, name)


def disable(connection: Connection, name: str, why: str, at: dt.datetime) -> None:
    """Send nothing there until somebody enables it again."""
    values = {"state": "disabled", "reason": storable(why)}
    connection.execute(update(schema.webhook).where(schema.webhook.c.name == name).values(values))
    audit.append(connection, "webhook.disable", name, {"reason": why}, at=at, actor="server")
