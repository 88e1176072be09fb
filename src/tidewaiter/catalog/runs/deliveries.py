"""Webhooks that were taken: the same one does nothing when it comes again."""

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError as DuplicateError

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.storable import storable
from tidewaiter.core import limits

_KEPT = dt.timedelta(seconds=limits.HOOK_KEPT_SECONDS)


def runs_of(connection: Connection, sender: str, names: Sequence[str], now: dt.datetime) -> tuple[str, ...] | None:
    """The runs that a delivery made which has one of these names; None when none was taken."""
    of = schema.hook_delivery.c
    query = select(of.runs).where(of.sender == sender, of.delivery.in_(names), of.until > now)
    found = connection.scalars(query).first()
    return None if found is None else tuple(found.split())


def seen(connection: Connection, sender: str, delivery: str, now: dt.datetime, *, runs: Sequence[str] = ()) -> bool:
    """Whether a delivery of that name was taken before; it is from now on, as one that made these runs."""
    of = schema.hook_delivery.c
    connection.execute(delete(schema.hook_delivery).where(of.until <= now))
    row = {"sender": sender, "delivery": storable(delivery), "runs": " ".join(runs), "until": now + _KEPT}
    try:
        with connection.begin_nested():
            connection.execute(insert(schema.hook_delivery), row)
    except DuplicateError:
        return True
    return False


def take(
    connection: Connection,
    sender: str,
    names: Sequence[str],
    now: dt.datetime,
    *,
    runs: Sequence[str] = (),
    event: str = "",
) -> None:
    """Remember a delivery under each of its names, and say so in the log. What another request took stays its."""
    before = [seen(connection, sender, name, now, runs=runs) for name in names]
    if not any(before):
        audit.append(connection, "hook.take", sender, {"delivery": names[0], "event": event, "runs": runs}, at=now)
