"""`user`: who may log in to the server, and what they may there: by the server, or in its home."""

import datetime as dt
import getpass
import sys
from typing import Annotated

import msgspec

from tidewaiter.access import roles, users
from tidewaiter.access.roles import EVERYWHERE, Role
from tidewaiter.catalog.access.users import User
from tidewaiter.cli import console, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A user, as the server tells it."""

    name: str
    roles: dict[str, tuple[str, ...]]
    issuer: str
    has_password: bool
    one_time_until: dt.datetime | None
    created_at: dt.datetime
    disabled_at: dt.datetime | None


class ShownIssued(Shown, frozen=True, kw_only=True):
    """A user, and the one-time password that was made for it."""

    password: str


class _Changed(msgspec.Struct, frozen=True):
    changed: bool


def _fields(user: User) -> dict[str, object]:
    return {
        "name": user.name,
        "roles": {project: tuple(sorted(some)) for project, some in sorted(user.roles.items())},
        "issuer": user.issuer,
        "has_password": bool(user.password),
        "one_time_until": user.one_time_until,
        "created_at": user.created_at,
        "disabled_at": user.disabled_at,
    }


def _shown(user: User) -> Shown:
    return msgspec.convert(_fields(user), Shown)


def _issued(made: users.Issued) -> ShownIssued:
    return msgspec.convert({**_fields(made.user), "password": made.password}, ShownIssued)


def _show_issued(issued: ShownIssued, output: Format) -> None:
    """The password goes to stdout alone, this once."""
    if output == "json":
        emit_json(issued)
        return
    emit(f"user {issued.name}")
    if issued.one_time_until is not None:
        emit(f"  one-time password  {issued.password}")
        emit(f"  good until         {clock.rfc3339(issued.one_time_until)}")


def _where(project: str, *, everywhere: bool) -> str:
    if bool(project) == everywhere:
        raise InputError("where is missing", next_step="Give one of --project and --everywhere.", code="usage")
    return EVERYWHERE if everywhere else roles.project(project)


def add(
    name: str,
    /,
    *,
    role: Role | None = None,
    project: str = "",
    everywhere: Annotated[bool, Parameter(negative="")] = False,
    password: bool = True,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Add a user, and print a one-time password for it, once.

    Args:
        name: how it logs in, and what the audit log calls it.
        role: role that it has from now on.
        project: where it has the role.
        everywhere: it has the role in all projects, and in what belongs to none.
        password: with --no-password it can have tokens only: for services.
        output: text or json.
    """
    if role is None and (project or everywhere):
        raise InputError("the role is missing", next_step="Give --role.", code="usage")
    given = {} if role is None else {_where(project, everywhere=everywhere): frozenset({role})}
    with remote.opened() as server:
        if server is not None:
            said = {place: sorted(some) for place, some in given.items()}
            body = {"name": name, "with_password": password, "roles": said}
            issued = server.change("POST", "/users", body, ShownIssued)
        else:
            with workshop() as shop:
                issued = _issued(users.add(shop.catalog, name, with_password=password, given=given))
    _show_issued(issued, output)
    return 0


def list_users(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List the users and their roles.

    Args:
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            found = server.listing("/users", Shown).items
        else:
            with workshop(looking=True) as shop:
                found = tuple(map(_shown, users.listed(shop.catalog)))
    if output == "json":
        emit_json({"users": found})
        return 0
    console.table(
        ("user", "roles", "logs in", "state"),
        [(user.name, _roles(user), _logs_in(user), "disabled" if user.disabled_at else "") for user in found],
    )
    return 0


def _roles(user: Shown) -> str:
    pairs = [f"{role} in {project}" for project, some in sorted(user.roles.items()) for role in sorted(some)]
    return ", ".join(pairs).replace(f"in {EVERYWHERE}", "everywhere") or "none"


def _logs_in(user: Shown) -> str:
    if user.issuer:
        return f"at {user.issuer}"
    if not user.has_password:
        return "with tokens only"
    return "with a one-time password" if user.one_time_until else "with a password"


def _set_disabled(name: str, output: Format, *, disabled: bool) -> int:
    with remote.opened() as server:
        if server is not None:
            how = "disable" if disabled else "enable"
            changed = server.change("POST", f"/users/{remote.part(name)}/{how}", None, _Changed).changed
        else:
            with workshop() as shop:
                changed = users.set_disabled(shop.catalog, name, disabled=disabled)
    if output == "json":
        emit_json({"name": name, "disabled": disabled, "changed": changed})
    else:
        emit(f"user {name}: {'disabled' if disabled else 'enabled'}{'' if changed else ', as before'}")
    return 0


def disable(name: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Let a user in no more: sessions end, tokens do nothing.

    Args:
        name: name of the user.
        output: text or json.
    """
    return _set_disabled(name, output, disabled=True)


def enable(name: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Let a disabled user in again.

    Args:
        name: name of the user.
        output: text or json.
    """
    return _set_disabled(name, output, disabled=False)


def password(
    name: str,
    /,
    *,
    reset: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Give a user another password; it is logged out everywhere.

    The password is asked for on a terminal, or is the first line of standard input. Through a server only --reset
    works: people choose their passwords there.

    Args:
        name: name of the user.
        reset: make a one-time password and print it, once.
        output: text or json.
    """
    with remote.opened() as server:
        if server is not None:
            if not reset:
                raise remote.not_through("`user password` without --reset")
            path = f"/users/{remote.part(name)}/password"
            _show_issued(server.change("POST", path, None, ShownIssued), output)
            return 0
    with workshop() as shop:
        if reset:
            _show_issued(_issued(users.reset_password(shop.catalog, name)), output)
            return 0
        users.set_password(shop.catalog, name, _asked_for(name))
    if output == "json":
        emit_json({"name": name, "changed": True})
    else:
        emit(f"user {name}: another password")
    return 0


def _asked_for(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline(limits.PASSWORD_CHARACTERS + 2).rstrip("\r\n")
    first = getpass.getpass(f"New password of {name}: ")
    if getpass.getpass("Again: ") != first:
        raise InputError("the two passwords are not the same", next_step="Run the command again.")
    return first


def _change_role(name: str, role: str, where: str, output: Format, *, give: bool) -> int:
    with remote.opened() as server:
        if server is not None:
            path = f"/users/{remote.part(name)}/{'grant' if give else 'revoke'}"
            changed = server.change("POST", path, {"role": role, "project": where}, _Changed).changed
        else:
            with workshop() as shop:
                change = users.grant if give else users.revoke
                changed = change(shop.catalog, name, role, where)
    if output == "json":
        emit_json({"name": name, "role": role, "project": where, "granted": give, "changed": changed})
    else:
        place = "everywhere" if where == EVERYWHERE else f"in {where}"
        verb = "is" if give else "is no more"
        emit(f"user {name} {verb} {role} {place}{'' if changed else ', as before'}")
    return 0


def grant(
    name: str,
    role: Role,
    /,
    *,
    project: str = "",
    everywhere: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Give a user a role.

    Args:
        name: name of the user.
        role: what it becomes.
        project: where.
        everywhere: in all projects, and in what belongs to none.
        output: text or json.
    """
    return _change_role(name, role, _where(project, everywhere=everywhere), output, give=True)


def revoke(
    name: str,
    role: Role,
    /,
    *,
    project: str = "",
    everywhere: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Take a role from a user that `grant` gave it.

    Args:
        name: name of the user.
        role: what it is no more.
        project: where.
        everywhere: in all projects, and in what belongs to none.
        output: text or json.
    """
    return _change_role(name, role, _where(project, everywhere=everywhere), output, give=False)
