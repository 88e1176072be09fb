"""Work that only one of several servers does at a time."""

import datetime as dt

from sqlalchemy import Connection, delete, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.rows import add_missing
from tidewaiter.core import limits


def own(connection: Connection, work: str, holder: str, at: dt.datetime) -> bool:
    """Whether `holder` may do the work until `limits.OWNED_SECONDS` from now: nobody else does."""
    of = schema.owned_work.c
    until = at + dt.timedelta(seconds=limits.OWNED_SECONDS)
    add_missing(connection, schema.owned_work, [{"name": work, "holder": holder, "until": until}])
    taken = connection.execute(
        update(schema.owned_work)
        .where(of.name == work, (of.holder == holder) | (of.until <= at))
        .values(holder=holder, until=until)
    )
    return taken.rowcount == 1


def disown(connection: Connection, work: str, holder: str) -> None:
    """Let another one do it at once."""
    of = schema.owned_work.c
    connection.execute(delete(schema.owned_work).where(of.name == work, of.holder == holder))
