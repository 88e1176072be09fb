"""Users and their roles: who may come in, and what they may."""

import datetime as dt
from typing import Annotated

import msgspec
from msgspec import Meta

from tidewaiter.access import roles, users
from tidewaiter.access.roles import Permission, Role
from tidewaiter.access.users import Issued
from tidewaiter.catalog.access.users import User
from tidewaiter.web.api import once, paging
from tidewaiter.web.api.paging import Paging
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("users")
_MANAGE = Permission.ACCESS_MANAGE

UserName = Annotated[
    str, Meta(pattern=r"^[a-z0-9][a-z0-9._@+-]{0,99}\Z", description="How a user logs in, and the audit log names it.")
]
Project = Annotated[
    str, Meta(min_length=1, max_length=128, description="First part of a repository's name, or `*` for everywhere.")
]


class UserPath(msgspec.Struct, frozen=True):
    """Which user."""

    name: UserName


class UserAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A user, without its password."""

    name: str
    roles: dict[str, tuple[Role, ...]]
    """By project; `*` is everywhere."""
    issuer: str
    """The OIDC provider where it logs in; empty when it has a password here, or none."""
    has_password: bool
    """Whether it logs in with a password here."""
    one_time_until: dt.datetime | None
    """Until when its one-time password can be exchanged for one of its own; null when it has none."""
    created_at: dt.datetime
    disabled_at: dt.datetime | None


class IssuedAnswer(UserAnswer, frozen=True, kw_only=True):
    """A user, and the one-time password that was made for it."""

    password: str
    """Shown this once; empty when there is none."""


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to come in."""

    name: UserName
    with_password: Annotated[bool, Meta(description="Without one it can have tokens only: for services.")] = True
    roles: Annotated[dict[Project, tuple[Role, ...]], Meta(max_length=100, description="By project.")] = {}


class RoleGiven(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role, and where."""

    role: Role
    project: Project


class AccessChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A user, and whether anything became different."""

    changed: bool
    user: UserAnswer


def _fields(user: User) -> dict[str, object]:
    return {
        "name": user.name,
        "roles": {
            project: tuple(roles.role(one) for one in sorted(some)) for project, some in sorted(user.roles.items())
        },
        "issuer": user.issuer,
        "has_password": bool(user.password),
        "one_time_until": user.one_time_until,
        "created_at": user.created_at,
        "disabled_at": user.disabled_at,
    }


def told(user: User) -> UserAnswer:
    """The user as an answer."""
    return msgspec.convert(_fields(user), UserAnswer)


def _issued(made: Issued) -> IssuedAnswer:
    return msgspec.convert({**_fields(made.user), "password": made.password}, IssuedAnswer)


@ROUTES.get("/users", permission=_MANAGE)
def list_users(ask: Ask, query: Paging) -> Page[UserAnswer]:
    """Users and their roles, by name."""
    found = map(told, users.listed(ask.source.catalog))
    return paging.part(found, lambda one: (one.name,), query)


@ROUTES.change("POST", "/users", permission=_MANAGE, status=201)
def add_user(ask: Ask, body: NewUser) -> IssuedAnswer:
    """Add a user; the answer holds its one-time password, which is not shown again."""
    given = {roles.project(project): frozenset(some) for project, some in body.roles.items()}
    made = users.add(ask.catalog, body.name, with_password=body.with_password, given=given)
    return once.answer(_issued(made), 201)  # type: ignore[return-value]  # the same in JSON, with a header


@ROUTES.get("/users/{name}", permission=_MANAGE, errors=(404,))
def show_user(ask: Ask, path: UserPath) -> UserAnswer:
    """One user."""
    return told(users.named(ask.source.catalog, path.name))


@ROUTES.change("POST", "/users/{name}/disable", permission=_MANAGE, errors=(404,))
def disable_user(ask: Ask, path: UserPath) -> AccessChanged:
    """Let a user in no more: sessions end, tokens do nothing.

    The last administrator who can come in stays.
    """
    return _disabled(ask, path, disabled=True)


@ROUTES.change("POST", "/users/{name}/enable", permission=_MANAGE, errors=(404,))
def enable_user(ask: Ask, path: UserPath) -> AccessChanged:
    """Let a disabled user in again."""
    return _disabled(ask, path, disabled=False)


def _disabled(ask: Ask, path: UserPath, *, disabled: bool) -> AccessChanged:
    changed = users.set_disabled(ask.catalog, path.name, disabled=disabled)
    return AccessChanged(changed=changed, user=show_user(ask, path))


@ROUTES.change("POST", "/users/{name}/password", permission=_MANAGE, errors=(404,))
def reset_password(ask: Ask, path: UserPath) -> IssuedAnswer:
    """Give a user a one-time password in the place of its own, which ends its sessions; it is not shown again."""
    made = users.reset_password(ask.catalog, path.name)
    return once.answer(_issued(made), 200)  # type: ignore[return-value]  # the same in JSON, with a header


@ROUTES.change("POST", "/users/{name}/grant", permission=_MANAGE, errors=(404,))
def grant_role(ask: Ask, path: UserPath, body: RoleGiven) -> AccessChanged:
    """Give a user a role in a project, or everywhere (`*`)."""
    changed = users.grant(ask.catalog, path.name, body.role, body.project)
    return AccessChanged(changed=changed, user=show_user(ask, path))


@ROUTES.change("POST", "/users/{name}/revoke", permission=_MANAGE, errors=(404,))
def revoke_role(ask: Ask, path: UserPath, body: RoleGiven) -> AccessChanged:
    """Take a role that was granted; one that comes from a provider's groups stays.

    The last administrator who can come in stays one.
    """
    changed = users.revoke(ask.catalog, path.name, body.role, body.project)
    return AccessChanged(changed=changed, user=show_user(ask, path))
