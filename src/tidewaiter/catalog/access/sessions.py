"""Sessions of people who logged in: rows by the hash of what their browser keeps."""

import datetime as dt

from sqlalchemy import Connection, delete, insert, or_, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.access import users
from tidewaiter.catalog.access.users import User
from tidewaiter.core import limits

_sessions = schema.login_session.c
_IDLE = dt.timedelta(seconds=limits.SESSION_IDLE_SECONDS)


def begin(connection: Connection, user: User, hashed: str, at: dt.datetime) -> None:
    """Record one; removes all that ended, and of this user's the oldest beyond `limits.SESSIONS_OF_ONE`."""
    connection.execute(
        delete(schema.login_session).where(or_(_sessions.expires_at <= at, _sessions.seen_at <= at - _IDLE))
    )
    mine = select(_sessions.id).where(_sessions.user_account_id == user.row).order_by(_sessions.created_at.desc())
    old = list(connection.scalars(mine))[limits.SESSIONS_OF_ONE - 1 :]
    if old:
        connection.execute(delete(schema.login_session).where(_sessions.id.in_(old)))
    values = {
        "hash": hashed,
        "user_account_id": user.row,
        "created_at": at,
        "seen_at": at,
        "expires_at": at + dt.timedelta(seconds=limits.SESSION_SECONDS),
    }
    connection.execute(insert(schema.login_session), values)


def living(connection: Connection, hashed: str, at: dt.datetime) -> tuple[User, dt.datetime] | None:
    """Whose session it is, and when it was seen last; None when it ended or its user is disabled."""
    row = connection.execute(select(schema.login_session).where(_sessions.hash == hashed)).first()
    if row is None or row.expires_at <= at or row.seen_at <= at - _IDLE:
        return None
    user = users.numbered(connection, row.user_account_id)
    return None if user.disabled_at is not None else (user, row.seen_at)


def seen(connection: Connection, hashed: str, at: dt.datetime) -> None:
    """Record that it was used."""
    connection.execute(update(schema.login_session).where(_sessions.hash == hashed).values(seen_at=at))


def end(connection: Connection, hashed: str) -> None:
    """Forget it."""
    connection.execute(delete(schema.login_session).where(_sessions.hash == hashed))
