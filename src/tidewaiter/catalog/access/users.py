"""Users and their roles. Every change is said in the audit log, in its own transaction; a password never is."""

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, or_, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.core.errors import NotFoundError, RefusedError

GRANTED = "granted"
GROUPS = "groups"
EVERYWHERE = "*"
"""In the place of a project."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user, with all that it has."""

    row: int
    name: str
    password: str
    """As argon2 writes it; empty when there is none."""
    one_time_until: dt.datetime | None
    """Until when its password can be exchanged for one of its own; None when it is one."""
    issuer: str
    """Of the OIDC provider that it comes from; empty when it is of this home."""
    created_at: dt.datetime
    disabled_at: dt.datetime | None
    roles: Mapping[str, frozenset[str]]
    """Project, or `*`, to roles."""


_users = schema.user_account.c
_grants = schema.role_grant.c


def _read(connection: Connection, query: "Select[tuple[object, ...]]") -> tuple[User, ...]:
    rows = connection.execute(query).all()
    roles = roles_of(connection, [row.id for row in rows])
    return tuple(_user(row, roles.get(row.id, {})) for row in rows)


def _user(row: "Row[tuple[object, ...]]", roles: Mapping[str, frozenset[str]]) -> User:
    return User(
        row=row.id,
        name=row.name,
        password=row.password,
        one_time_until=row.one_time_until,
        issuer=row.issuer or "",
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        roles=roles,
    )


def roles_of(connection: Connection, users: Collection[int]) -> dict[int, Mapping[str, frozenset[str]]]:
    """Project to roles of each of these users that has any."""
    found: dict[int, dict[str, frozenset[str]]] = {}
    query = select(_grants.user_account_id, _grants.project, _grants.role).where(_grants.user_account_id.in_(users))
    for user, project, role in connection.execute(query):
        mine = found.setdefault(user, {})
        mine[project] = mine.get(project, frozenset()) | {role}
    return dict(found)


def any_user(connection: Connection) -> bool:
    """Whether there is one."""
    return connection.scalar(select(func.count()).select_from(schema.user_account)) != 0


def listed(connection: Connection) -> tuple[User, ...]:
    """All users by name."""
    return _read(connection, select(schema.user_account).order_by(_users.name))


def named(connection: Connection, name: str) -> User | None:
    """The user of that name."""
    return next(iter(_read(connection, select(schema.user_account).where(_users.name == name))), None)


def numbered(connection: Connection, row: int) -> User:
    """The user of that row."""
    return _read(connection, select(schema.user_account).where(_users.id == row))[0]


def of_provider(connection: Connection, issuer: str, subject: str) -> User | None:
    """The user that an OIDC provider calls `subject`."""
    query = select(schema.user_account).where(_users.issuer == issuer, _users.subject == subject)
    return next(iter(_read(connection, query)), None)


def require(connection: Connection, name: str) -> User:
    """The user of that name; raises `NotFoundError`."""
    found = named(connection, name)
    if found is None:
        raise NotFoundError(f"there is no user {name!r}", next_step="`tidewaiter user list` names them.")
    return found


def _say(
    connection: Connection,
    action: str,
    name: str,
    detail: dict[str, Any],
    at: dt.datetime,
    *,
    actor: str,
    of: Literal["role", "user"],
) -> None:
    """Log what was done to a user, and how its row, or those of its roles, read now."""
    states = audit_states.now(connection, of, (name,))
    audit.append(connection, action, name, detail, at=at, actor=actor, states=states)


def add(
    connection: Connection,
    name: str,
    at: dt.datetime,
    *,
    password: str = "",
    one_time_until: dt.datetime | None = None,
    issuer: str = "",
    subject: str = "",
    actor: str = "",
) -> User:
    """Add a user, who has no role yet. Raises `RefusedError` when the name is taken."""
    if named(connection, name) is not None:
        raise RefusedError(f"there is a user {name!r} already", next_step="Choose another name.", code="name_taken")
    values = {
        "name": name,
        "password": password,
        "password_set_at": at if password else None,
        "one_time_until": one_time_until,
        "issuer": issuer or None,
        "subject": subject or None,
        "created_at": at,
        "disabled_at": None,
    }
    connection.execute(insert(schema.user_account), values)
    detail = {"issuer": issuer, "subject": subject} if issuer else {"password": bool(password)}
    _say(connection, "user.add", name, detail, at, actor=actor, of="user")
    return require(connection, name)


def set_password(
    connection: Connection,
    user: User,
    password: str,
    at: dt.datetime,
    *,
    one_time_until: dt.datetime | None = None,
    actor: str = "",
) -> None:
    """Give it another password; ends all its sessions."""
    values = {"password": password, "password_set_at": at, "one_time_until": one_time_until}
    connection.execute(update(schema.user_account).where(_users.id == user.row).values(values))
    end_sessions(connection, user)
    detail = {"one_time": one_time_until is not None}
    _say(connection, "user.password", user.name, detail, at, actor=actor, of="user")


def rehash(connection: Connection, user: User, password: str, at: dt.datetime) -> None:
    """Store the same password in another form, unless it was changed since `user` was read."""
    same = (_users.id == user.row, _users.password == user.password)
    if connection.execute(update(schema.user_account).where(*same).values(password=password)).rowcount:
        _say(connection, "user.rehash", user.name, {}, at, actor=user.name, of="user")


def set_disabled(connection: Connection, user: User, at: dt.datetime, *, disabled: bool, actor: str = "") -> bool:
    """Let it in no more, or again; whether that changes anything. Ends its sessions; its tokens rest meanwhile.

    Raises `RefusedError` when nobody else could let it in again.
    """
    if (user.disabled_at is not None) == disabled:
        return False
    if disabled:
        _require_another_admin(connection, user, at)
    values = {"disabled_at": at if disabled else None}
    connection.execute(update(schema.user_account).where(_users.id == user.row).values(values))
    end_sessions(connection, user)
    _say(connection, "user.disable" if disabled else "user.enable", user.name, {}, at, actor=actor, of="user")
    return True


def _require_another_admin(connection: Connection, user: User, at: dt.datetime) -> None:
    """Raise when `user` is the last one who manages users and can come in."""
    admins = select(_grants.user_account_id).where(_grants.project == EVERYWHERE, _grants.role == "admin")
    tokens = select(schema.api_token.c.user_account_id).where(
        schema.api_token.c.revoked_at.is_(None),
        schema.api_token.c.expires_at > at,
        schema.api_token.c.user_account_id.is_not(None),
    )
    with_password = and_(_users.password != "", or_(_users.one_time_until.is_(None), _users.one_time_until > at))
    query = select(_users.id).where(
        _users.id.in_(admins),
        _users.disabled_at.is_(None),
        or_(with_password, _users.issuer.is_not(None), _users.id.in_(tokens)),
    )
    if set(connection.scalars(query)) == {user.row}:
        raise RefusedError(
            f"{user.name} is the last administrator",
            next_step="Give somebody else the role admin everywhere first.",
            code="last_admin",
        )


def end_sessions(connection: Connection, user: User) -> None:
    """Log it out everywhere."""
    connection.execute(delete(schema.login_session).where(schema.login_session.c.user_account_id == user.row))


def grant(connection: Connection, user: User, project: str, role: str, at: dt.datetime, *, actor: str = "") -> bool:
    """Give it a role in a project, or everywhere (`*`); whether it had none such from an administrator."""
    values = {"user_account_id": user.row, "project": project, "role": role, "source": GRANTED}
    has = [schema.role_grant.c[name] == value for name, value in values.items()]
    if connection.scalar(select(_grants.id).where(*has)) is not None:
        return False
    connection.execute(insert(schema.role_grant), {**values, "granted_at": at})
    _say(connection, "role.grant", user.name, {"project": project, "role": role}, at, actor=actor, of="role")
    return True


def revoke(connection: Connection, user: User, project: str, role: str, at: dt.datetime, *, actor: str = "") -> bool:
    """Take a role that an administrator gave; whether it had it. Raises `RefusedError` as `set_disabled`."""
    if (project, role) == (EVERYWHERE, "admin"):
        _require_another_admin(connection, user, at)
    has = (_grants.user_account_id == user.row, _grants.project == project, _grants.role == role)
    done = connection.execute(delete(schema.role_grant).where(*has, _grants.source == GRANTED))
    if not done.rowcount:
        return False
    _say(connection, "role.revoke", user.name, {"project": project, "role": role}, at, actor=actor, of="role")
    return True


def set_group_roles(connection: Connection, user: User, roles: Mapping[str, Collection[str]], at: dt.datetime) -> None:
    """Let it have, beside what an administrator gave it, exactly these roles."""
    of_groups = (_grants.user_account_id == user.row, _grants.source == GROUPS)
    before = {
        (project, role) for project, role in connection.execute(select(_grants.project, _grants.role).where(*of_groups))
    }
    wanted = {(project, role) for project, some in roles.items() for role in some}
    if before == wanted:
        return
    connection.execute(delete(schema.role_grant).where(*of_groups))
    rows = [
        {"user_account_id": user.row, "project": project, "role": role, "source": GROUPS, "granted_at": at}
        for project, role in sorted(wanted)
    ]
    if rows:
        connection.execute(insert(schema.role_grant), rows)
    detail = {"roles": [f"{role} in {project}" for project, role in sorted(wanted)]}
    _say(connection, "role.groups", user.name, detail, at, actor=user.name, of="role")
