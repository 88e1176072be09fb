"""Work that a server was asked for and that takes longer than an answer may: what it is, and what came of it.

Every server can say how it stands, whichever does it. Whoever does it says so again and again; one that is silent was
killed, and its work is lost, which is said, too.
"""

import datetime as dt
import secrets
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.storable import storable
from tidewaiter.core import limits
from tidewaiter.core.errors import NotFoundError

Kind = Literal["check", "sync", "advisories"]
State = Literal["running", "done", "failed", "lost"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Work of a server."""

    id: str
    kind: Kind
    subject: str
    state: State
    answer: dict[str, Any]
    """What came of it; of what failed: code, message and next."""
    created_by: str
    created_at: dt.datetime
    ended_at: dt.datetime | None


def begin(connection: Connection, kind: Kind, subject: str, who: str, at: dt.datetime) -> str:
    """The id of new work, which runs; what ended long ago is forgotten."""
    old = at - dt.timedelta(days=limits.JOB_KEPT_DAYS)
    connection.execute(delete(schema.server_job).where(schema.server_job.c.created_at < old))
    row = {
        "name": f"job_{secrets.token_hex(12)}",
        "kind": kind,
        "subject": storable(subject),
        "state": "running",
        "answer": {},
        "created_by": storable(who),
        "created_at": at,
        "until": at + dt.timedelta(seconds=limits.JOB_ALIVE_SECONDS),
        "ended_at": None,
    }
    connection.execute(insert(schema.server_job), row)
    return str(row["name"])


def live(connection: Connection, names: list[str], at: dt.datetime) -> None:
    """Say that these are still being done."""
    until = at + dt.timedelta(seconds=limits.JOB_ALIVE_SECONDS)
    of = schema.server_job.c
    connection.execute(update(schema.server_job).where(of.name.in_(names), of.state == "running").values(until=until))


def lose(connection: Connection, names: list[str], at: dt.datetime) -> None:
    """Say that these are done by nobody any more."""
    of = schema.server_job.c
    mine = update(schema.server_job).where(of.name.in_(names), of.state == "running")
    connection.execute(mine.values(state="lost", ended_at=at))


def end(connection: Connection, name: str, state: State, answer: dict[str, Any], at: dt.datetime) -> None:
    """Say what came of it, even of what was said to be lost."""
    values = {"state": state, "answer": answer, "ended_at": at}
    connection.execute(update(schema.server_job).where(schema.server_job.c.name == name).values(values))


def job(connection: Connection, name: str, at: dt.datetime) -> Job:
    """The work of that id; raises `NotFoundError`."""
    row = connection.execute(select(schema.server_job).where(schema.server_job.c.name == name)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no job {name[:60]!r}", next_step="Ask for the work again.")
    lost = row.state == "running" and row.until < at
    return Job(
        id=row.name,
        kind=row.kind,
        subject=row.subject,
        state="lost" if lost else row.state,
        answer=row.answer,
        created_by=row.created_by,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
