"""API tokens: rows by the hash of the secret, which itself is nowhere."""

import datetime as dt
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, Row, func, insert, or_, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.access import users
from tidewaiter.catalog.access.users import User
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.core import limits
from tidewaiter.core.errors import NotFoundError, RefusedError

USED_SECONDS = 600
"""The last use is recorded as exactly as this: a write for every request would be too many."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token, without its secret."""

    row: int
    name: str
    """`NAME`, or `USER/NAME`."""
    user: int | None
    role: str
    """Empty when it has its user's."""
    projects: tuple[str, ...]
    """None: everywhere, or wherever its user has roles."""
    permissions: tuple[str, ...] | None
    """What it is limited to."""
    created_at: dt.datetime
    expires_at: dt.datetime
    used_at: dt.datetime | None
    revoked_at: dt.datetime | None


_tokens = schema.api_token.c


def _token(row: "Row[tuple[object, ...]]") -> Token:
    return Token(
        row=row.id,
        name=row.name,
        user=row.user_account_id,
        role=row.role,
        projects=tuple(row.projects),
        permissions=None if row.permissions is None else tuple(row.permissions),
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
    )


def add(
    connection: Connection,
    name: str,
    hashed: str,
    at: dt.datetime,
    *,
    expires_at: dt.datetime,
    user: User | None,
    role: str,
    projects: Sequence[str],
    permissions: Sequence[str] | None,
    actor: str = "",
) -> Token:
    """Record a token. Raises `RefusedError` when its name was ever given to one, or there are as many as may be."""
    _bound(connection, user, at)
    if connection.scalar(select(_tokens.id).where(_tokens.name == name)) is not None:
        raise RefusedError(
            f"there is, or was, a token {name!r}",
            next_step="Choose another name: the audit log names tokens by it.",
            code="name_taken",
        )
    values = {
        "name": name,
        "hash": hashed,
        "user_account_id": None if user is None else user.row,
        "role": role,
        "projects": list(projects),
        "permissions": None if permissions is None else list(permissions),
        "created_at": at,
        "expires_at": expires_at,
        "used_at": None,
        "revoked_at": None,
    }
    connection.execute(insert(schema.api_token), values)
    detail = {
        "user": "" if user is None else user.name,
        "role": role,
        "projects": list(projects),
        "permissions": None if permissions is None else list(permissions),
        "expires_at": expires_at.isoformat(),
    }
    states = audit_states.now(connection, "token", (name,))
    audit.append(connection, "token.create", name, detail, at=at, actor=actor, states=states)
    return require(connection, name)


def _bound(connection: Connection, user: User | None, at: dt.datetime) -> None:
    most = limits.TOKENS if user is None else limits.TOKENS_OF_USER
    mine = _tokens.user_account_id.is_(None) if user is None else _tokens.user_account_id == user.row
    living = select(func.count()).where(mine, _tokens.revoked_at.is_(None), _tokens.expires_at > at)
    if (connection.scalar(living) or 0) >= most:
        whose = "with a role of their own" if user is None else f"of {user.name}"
        raise RefusedError(
            f"there are {most} living tokens {whose} already",
            next_step="Revoke those that nobody needs: `tidewaiter token list` says when each was used last.",
        )


def require(connection: Connection, name: str) -> Token:
    """The token of that name; raises `NotFoundError`."""
    found = connection.execute(select(schema.api_token).where(_tokens.name == name)).first()
    if found is None:
        raise NotFoundError(f"there is no token {name!r}", next_step="`tidewaiter token list` names them.")
    return _token(found)


def listed(connection: Connection, user: User | None = None) -> tuple[Token, ...]:
    """All tokens by name, or those of one user."""
    query = select(schema.api_token).order_by(_tokens.name)
    if user is not None:
        query = query.where(_tokens.user_account_id == user.row)
    return tuple(_token(row) for row in connection.execute(query))


def revoke(connection: Connection, token: Token, at: dt.datetime, *, actor: str = "") -> bool:
    """Let it do nothing more, for good; whether it was not revoked before."""
    if token.revoked_at is not None:
        return False
    connection.execute(update(schema.api_token).where(_tokens.id == token.row).values(revoked_at=at))
    states = audit_states.now(connection, "token", (token.name,))
    audit.append(connection, "token.revoke", token.name, {}, at=at, actor=actor, states=states)
    return True


def living(connection: Connection, hashed: str, at: dt.datetime) -> tuple[Token, User | None] | None:
    """The token with that hash, and its user; None when there is none, it ended, or its user is disabled."""
    row = connection.execute(select(schema.api_token).where(_tokens.hash == hashed)).first()
    if row is None:
        return None
    token = _token(row)
    if token.revoked_at is not None or token.expires_at <= at:
        return None
    if token.user is None:
        return token, None
    user = users.numbered(connection, token.user)
    return None if user.disabled_at is not None else (token, user)


def used(connection: Connection, token: Token, at: dt.datetime) -> None:
    """Record that it was used."""
    late = at - dt.timedelta(seconds=USED_SECONDS)
    stale = or_(_tokens.used_at.is_(None), _tokens.used_at < late)
    connection.execute(update(schema.api_token).where(_tokens.id == token.row, stale).values(used_at=at))
