"""When schedules come round, as all workers of a catalog know it."""

import datetime as dt
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from tidewaiter.catalog import schema
from tidewaiter.core import limits

_LONGEST = dt.timedelta(hours=1)


class Turn(NamedTuple):
    """When a schedule comes next."""

    said: str
    """How the schedule read."""
    next_at: dt.datetime
    retry_at: dt.datetime | None
    failures: int


def every(connection: Connection) -> dict[str, Turn]:
    """All of them by the schedule's name."""
    of = schema.schedule_turn.c
    query = select(of.name, of.said, of.next_at, of.retry_at, of.failures)
    return {name: Turn(*rest) for name, *rest in connection.execute(query)}


def begin(connection: Connection, name: str, said: str, next_at: dt.datetime) -> None:
    """A schedule that is new, or reads otherwise than before."""
    connection.execute(delete(schema.schedule_turn).where(schema.schedule_turn.c.name == name))
    row = {"name": name, "said": said, "next_at": next_at, "retry_at": None, "failures": 0}
    connection.execute(insert(schema.schedule_turn), row)


def forget(connection: Connection, name: str) -> None:
    """A schedule that is no more."""
    connection.execute(delete(schema.schedule_turn).where(schema.schedule_turn.c.name == name))


def go_on(connection: Connection, name: str, was: dt.datetime, next_at: dt.datetime) -> bool:
    """It came, and comes again then; False when another worker said so already."""
    of = schema.schedule_turn.c
    values = {"next_at": next_at, "retry_at": None, "failures": 0}
    changed = connection.execute(update(schema.schedule_turn).where(of.name == name, of.next_at == was).values(values))
    return changed.rowcount == 1


def put_off(connection: Connection, name: str, turn: Turn, now: dt.datetime) -> None:
    """It could not be done now; it is tried again, each time after twice as long."""
    of = schema.schedule_turn.c
    wait = min(dt.timedelta(seconds=limits.SCHEDULE_RETRY_SECONDS) * 2 ** min(turn.failures, 10), _LONGEST)
    values = {"retry_at": now + wait, "failures": turn.failures + 1}
    connection.execute(update(schema.schedule_turn).where(of.name == name, of.next_at == turn.next_at).values(values))
