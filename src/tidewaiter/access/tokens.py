"""API tokens: `tdw_`, 256 random bits, a checksum.

The checksum is no secret: it lets a scanner of repositories, and this server before it asks the database, tell a token
from what only looks like one. Only the SHA-256 of a token is stored: it has too many bits to be guessed from that.
"""

import datetime as dt
import hashlib
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from tidewaiter.access.identity import Identity
from tidewaiter.access.roles import EVERYWHERE, Permission, Role, permission, project, role
from tidewaiter.catalog.access import tokens as rows
from tidewaiter.catalog.access import users as user_rows
from tidewaiter.catalog.access.tokens import Token
from tidewaiter.catalog.access.users import User
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, RefusedError, StorageError, UnauthenticatedError

PREFIX = "tdw_"
_SECRET = re.compile(r"tdw_[A-Za-z0-9_-]{43}[0-9a-f]{8}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
PEOPLE_ONLY = frozenset(
    {
        Permission.WAIVER_REQUEST,
        Permission.WAIVER_REVIEW,
        Permission.BASE_REVIEW,
        Permission.TOKEN_MAKE,
        Permission.ACCESS_MANAGE,
        Permission.SERVER_MANAGE,
    }
)
"""What no token of its own and no CI job may: a person answers for it. Asking for a waiver is among it because another
person has to approve: whoever can run a job would be both."""
MACHINE = frozenset(Permission) - PEOPLE_ONLY


class Made(NamedTuple):
    """A token that was just made."""

    secret: str
    """Nowhere else, and never again."""
    token: Token


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def new_secret() -> str:
    """A secret of a token."""
    body = PREFIX + secrets.token_urlsafe(32)
    return body + _checksum(body)


def well_formed(secret: str) -> bool:
    """Whether it was ever given out, as far as its form says."""
    return bool(_SECRET.fullmatch(secret)) and _checksum(secret[:-8]) == secret[-8:]


def hashed(secret: str) -> str:
    """As it is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create(
    catalog: Catalog,
    name: str,
    *,
    days: int,
    most_days: int,
    user: str = "",
    only_role: str = "",
    projects: Sequence[str] = (),
    permissions: Sequence[str] | None = None,
    maker: Identity | None = None,
    actor: str = "",
) -> Made:
    """Make a token.

    Args:
        catalog: where it is kept.
        name: with `user`, the token is called `USER/NAME`.
        days: until it ends.
        most_days: as many at most.
        user: whose roles it has; then no `only_role`.
        only_role: which role it has of its own.
        projects: where; empty: everywhere, or wherever its user has roles.
        permissions: what it is limited to; None: nothing more.
        maker: who asks for it: when that is a token itself, what it makes may no more and ends no later.
        actor: who makes it, as the audit log is to say.

    Raises:
        InputError: something is malformed, or ends too late.
        NotFoundError: there is no such user.
        RefusedError: the name is taken, or the maker may less than the token would.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:60]!r} is no name of a token", next_step="Give letters a-z, digits, dots, dashes and underscores."
        )
    if bool(user) == bool(only_role):
        raise InputError(
            "a token has either a user's roles or a role of its own", next_step="Give one of --user and --role."
        )
    if not 1 <= days <= most_days:
        raise InputError(
            f"a token of {days} days is not given out",
            next_step=f"Give 1 to {most_days} days; the setting token_days is the most.",
        )
    if only_role:
        role(only_role)
    for one in permissions or ():
        permission(one)
    for one in projects:
        project(one)
    secret = new_secret()
    at = clock.now()
    ends_at = at + dt.timedelta(days=days)
    if maker is not None:
        projects, permissions = _within_maker(maker, projects, permissions)
        ends_at = ends_at if maker.ends_at is None else min(ends_at, maker.ends_at)
    with catalog.database.writing() as connection:
        owner = user_rows.require(connection, user) if user else None
        token = rows.add(
            connection,
            f"{user}/{name}" if user else name,
            hashed(secret),
            at,
            expires_at=ends_at,
            user=owner,
            role=only_role,
            projects=tuple(dict.fromkeys(projects)),
            permissions=None if permissions is None else sorted(set(permissions)),
            actor=actor,
        )
    return Made(secret, token)


def _within_maker(
    maker: Identity, projects: Sequence[str], permissions: Sequence[str] | None
) -> tuple[Sequence[str], Sequence[str] | None]:
    """Projects and permissions of a token that `maker` makes; what it leaves open is limited as the maker is."""
    if maker.scope is not None:
        permissions = sorted(maker.scope) if permissions is None else permissions
    if maker.projects and EVERYWHERE not in maker.projects:
        projects = projects or maker.projects
    too_much = [
        *(one for one in permissions or () if maker.scope is not None and one not in maker.scope),
        *(f"in {one}" for one in projects if maker.projects and not {one, EVERYWHERE} & set(maker.projects)),
    ]
    if too_much:
        raise RefusedError(
            f"a token makes none that may more than itself ({', '.join(too_much)})",
            next_step="Ask for less, or make the token on the account page.",
            code="forbidden",
        )
    return projects, permissions


def revoke(catalog: Catalog, name: str, *, actor: str = "") -> bool:
    """Revoke the token of that name; whether it was not before. Raises `NotFoundError`."""
    with catalog.database.writing() as connection:
        return rows.revoke(connection, rows.require(connection, name), clock.now(), actor=actor)


def listed(catalog: Catalog, user: str = "") -> tuple[Token, ...]:
    """All tokens, or those of a user. Raises `NotFoundError` for an unknown user."""
    with catalog.database.reading() as connection:
        return rows.listed(connection, user_rows.require(connection, user) if user else None)


def identify(catalog: Catalog, secret: str) -> Identity:
    """Whose token it is. Raises `UnauthenticatedError`."""
    if not well_formed(secret):
        raise UnauthenticatedError("this is no token of Tidewaiter", next_step="Copy it whole, or make a new one.")
    return identify_hashed(catalog, hashed(secret))


def identify_hashed(catalog: Catalog, stored: str) -> Identity:
    """Whose token it is whose secret is stored as that. Raises `UnauthenticatedError`."""
    at = clock.now()
    with catalog.database.reading() as connection:
        found = rows.living(connection, stored, at)
    if found is None:
        raise UnauthenticatedError(
            "this token is unknown, revoked, or its time is over",
            next_step="Make a new one on the account page or with `tidewaiter token create`.",
        )
    token, user = found
    if token.used_at is None or (at - token.used_at).total_seconds() >= rows.USED_SECONDS:
        # A full disk must not keep programs from reading.
        with suppress(StorageError), catalog.database.writing() as connection:
            rows.used(connection, token, at)
    return identity(token, user)


def identity(token: Token, user: User | None) -> Identity:
    """Who comes with the token."""
    scope = None if token.permissions is None else frozenset(map(permission, token.permissions))
    if user is None:
        places = token.projects or (EVERYWHERE,)
        roles: Mapping[str, frozenset[Role]] = {place: frozenset({role(token.role)}) for place in places}
        scope = MACHINE if scope is None else scope & MACHINE
        return Identity(name=f"token:{token.name}", kind="token", roles=roles, scope=scope, ends_at=token.expires_at)
    return Identity(
        name=user.name,
        kind="token",
        roles=_within(user, token.projects),
        scope=scope,
        projects=token.projects,
        ends_at=token.expires_at,
    )


def _within(user: User, projects: Sequence[str]) -> Mapping[str, frozenset[Role]]:
    has = roles(user)
    if not projects:
        return has
    everywhere = has.get(EVERYWHERE, frozenset())
    return {project: everywhere | has.get(project, frozenset()) for project in projects}


def roles(user: User) -> Mapping[str, frozenset[Role]]:
    """The roles of a user, as types."""
    return {place: frozenset(map(role, some)) for place, some in user.roles.items()}
