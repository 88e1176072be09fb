"""`token`: API tokens for the server: by it, or in its home."""

import datetime as dt
from typing import Annotated

import msgspec

from tidewaiter.access import tokens
from tidewaiter.access.roles import Role
from tidewaiter.catalog.access.tokens import Token
from tidewaiter.cli import console, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock
from tidewaiter.core.errors import RefusedError


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A token, as the server tells it."""

    name: str
    role: str
    projects: tuple[str, ...]
    permissions: tuple[str, ...] | None
    created_at: dt.datetime
    expires_at: dt.datetime
    used_at: dt.datetime | None
    revoked_at: dt.datetime | None


class ShownMade(Shown, frozen=True, kw_only=True):
    """A token that was just made, and its secret."""

    token: str


class _Changed(msgspec.Struct, frozen=True):
    changed: bool


def _fields(token: Token) -> dict[str, object]:
    return {name: getattr(token, name) for name in Shown.__struct_fields__}


def create(
    name: str,
    /,
    *,
    days: int = 90,
    user: str = "",
    role: Role | None = None,
    project: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    permission: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Make an API token and print it, once.

    Args:
        name: what it is called; with --user, USER/NAME. Through a server, without --user and --role, it is your own.
        days: until it ends; the setting token_days is the most.
        user: whose roles it has.
        role: role of its own, in the place of a user's.
        project: where it has them; may be given several times; everywhere, or wherever its user has roles, when not
            given.
        permission: what it is limited to, as in docs/reference/roles.md; may be given several times.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            given = {"projects": project, "permissions": permission or None, "user": user or None, "role": role}
            made = server.change("POST", "/tokens", {"name": name, "days": days, **given}, ShownMade)
        else:
            made = _made_here(name, days, user=user, role=role, projects=project, permissions=permission)
    if output == "json":
        emit_json(made)
        return 0
    emit(f"token {made.name}")
    emit(f"  secret  {made.token}")
    emit(f"  ends    {clock.rfc3339(made.expires_at)}")
    return 0


def _made_here(
    name: str, days: int, *, user: str, role: Role | None, projects: tuple[str, ...], permissions: tuple[str, ...]
) -> ShownMade:
    with workshop() as shop:
        made = tokens.create(
            shop.catalog,
            name,
            days=days,
            most_days=shop.settings.access.token_days,
            user=user,
            only_role=role or "",
            projects=projects,
            permissions=permissions or None,
        )
    return msgspec.convert({**_fields(made.token), "token": made.secret}, ShownMade)


def list_tokens(*, user: str = "", output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List tokens: what they may, when they end, when they were used last.

    Through a server, who does not manage access sees their own.

    Args:
        user: only those of this user.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            found = _listed_there(server, user)
        else:
            with workshop(looking=True) as shop:
                found = tuple(msgspec.convert(_fields(one), Shown) for one in tokens.listed(shop.catalog, user))
    if output == "json":
        emit_json({"tokens": found})
        return 0
    now = clock.now()
    console.table(
        ("token", "role", "projects", "limited to", "ends", "used", "state"),
        [
            (
                token.name,
                token.role or "its user's",
                ", ".join(token.projects) or "all",
                "" if token.permissions is None else ", ".join(token.permissions),
                clock.rfc3339(token.expires_at),
                "never" if token.used_at is None else clock.rfc3339(token.used_at),
                "revoked" if token.revoked_at else "over" if token.expires_at <= now else "",
            )
            for token in found
        ],
    )
    return 0


def _listed_there(server: remote.Server, user: str) -> tuple[Shown, ...]:
    if user:
        return server.listing("/tokens", Shown, {"user": user}).items
    try:
        return server.listing("/tokens", Shown, {"all": True}).items
    except RefusedError as error:
        if error.code != "forbidden":
            raise
        console.tell("note: only your own tokens; to see all takes the permission access.manage")
        return server.listing("/tokens", Shown).items


def revoke(name: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Revoke a token, for good.

    Args:
        name: as `token list` names it.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            changed = server.change("POST", "/tokens/revoke", {"name": name}, _Changed).changed
        else:
            with workshop() as shop:
                changed = tokens.revoke(shop.catalog, name)
    if output == "json":
        emit_json({"name": name, "changed": changed})
    else:
        emit(f"token {name}: revoked{'' if changed else ', as before'}")
    return 0
