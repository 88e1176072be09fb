"""Users: people and services, their passwords and roles, and logging in."""

import datetime as dt
import logging
import math
import re
import threading
from collections.abc import Mapping
from typing import NamedTuple

from tidewaiter.access import passwords, roles
from tidewaiter.access.rates import Failures, subscriber
from tidewaiter.catalog.access import users as rows
from tidewaiter.catalog.access.users import User
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, RefusedError, UnauthenticatedError

ADMIN = "admin"
_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
_TAKEN = frozenset({"anonymous", "local", "tidewaiter"})
"""Names that say something else in the audit log."""

_LOG = logging.getLogger("tidewaiter.access")


class Issued(NamedTuple):
    """A user, and the one-time password that was made for it."""

    user: User
    password: str
    """Nowhere else, and never again; empty when there is none."""


class TooManyLoginsError(RefusedError):
    """Too many wrong passwords in a row, or logins at once; the next try has to wait `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = math.ceil(seconds)
        super().__init__(
            "too many logins in a short time", next_step=f"Try again in {self.seconds} s.", code="too_many"
        )


def name(text: str) -> str:
    """The name of a user; raises `InputError`."""
    if not _NAME.fullmatch(text) or text in _TAKEN:
        raise InputError(
            f"{text[:60]!r} is no name of a user",
            next_step="Give letters a-z, digits, dots, dashes, underscores, @ and +; the first a letter or a digit.",
        )
    return text


def _one_time() -> tuple[str, str, dt.datetime]:
    """A password, its hash, and when it ends."""
    password = passwords.new()
    until = clock.now() + dt.timedelta(seconds=limits.ONE_TIME_PASSWORD_SECONDS)
    return password, passwords.hashed(password), until


def add(
    catalog: Catalog,
    user: str,
    *,
    with_password: bool = True,
    given: Mapping[str, frozenset[roles.Role]] | None = None,
    actor: str = "",
) -> Issued:
    """Add a user with a one-time password, or with none: then it can have tokens only.

    Raises:
        InputError: the name is none.
        RefusedError: it is taken.
    """
    name(user)
    password, hashed, until = _one_time() if with_password else ("", "", None)
    at = clock.now()
    with catalog.database.writing() as connection:
        added = rows.add(connection, user, at, password=hashed, one_time_until=until, actor=actor)
        for project, some in (given or {}).items():
            for role in sorted(some):
                rows.grant(connection, added, project, role, at, actor=actor)
        return Issued(rows.require(connection, user), password)


def first_admin(catalog: Catalog) -> Issued | None:
    """Where there is no user yet, `admin`, who may everything, with a one-time password; else None."""
    with catalog.database.reading() as connection:
        if rows.any_user(connection):
            return None
    password, hashed, until = _one_time()
    at = clock.now()
    with catalog.database.writing() as connection:
        if rows.any_user(connection):  # another process was quicker
            return None
        added = rows.add(connection, ADMIN, at, password=hashed, one_time_until=until)
        rows.grant(connection, added, roles.EVERYWHERE, "admin", at)
        return Issued(rows.require(connection, ADMIN), password)


def listed(catalog: Catalog) -> tuple[User, ...]:
    """All users by name."""
    with catalog.database.reading() as connection:
        return rows.listed(connection)


def named(catalog: Catalog, user: str) -> User:
    """The user of that name; raises `NotFoundError`."""
    with catalog.database.reading() as connection:
        return rows.require(connection, user)


def reset_password(catalog: Catalog, user: str, *, actor: str = "") -> Issued:
    """Give a user a one-time password in the place of its own. Raises as `set_password`."""
    password, hashed, until = _one_time()
    with catalog.database.writing() as connection:
        found = _own_password(rows.require(connection, user))
        rows.set_password(connection, found, hashed, clock.now(), one_time_until=until, actor=actor)
        return Issued(rows.require(connection, user), password)


def set_password(catalog: Catalog, user: str, password: str, *, actor: str = "") -> None:
    """Give a user this password; it is logged out everywhere.

    Raises:
        NotFoundError: there is no such user.
        RefusedError: it logs in elsewhere.
        InputError: the password is too short, too long or easily guessed.
    """
    hashed = passwords.hashed(passwords.require_good(password, name=user))
    with catalog.database.writing() as connection:
        found = _own_password(rows.require(connection, user))
        rows.set_password(connection, found, hashed, clock.now(), actor=actor)


def _own_password(user: User) -> User:
    if user.issuer:
        raise RefusedError(
            f"{user.name} logs in at {user.issuer} and has no password here", next_step="Change it there."
        )
    return user


def set_disabled(catalog: Catalog, user: str, *, disabled: bool, actor: str = "") -> bool:
    """Let a user in no more, or again; whether that changes anything. Raises `NotFoundError`."""
    with catalog.database.writing() as connection:
        found = rows.require(connection, user)
        return rows.set_disabled(connection, found, clock.now(), disabled=disabled, actor=actor)


def grant(catalog: Catalog, user: str, role: str, project: str, *, actor: str = "") -> bool:
    """Give a role in a project, or everywhere (`*`); whether that changes anything.

    Raises:
        NotFoundError: there is no such user.
        InputError: there is no such role, or that is no project.
    """
    with catalog.database.writing() as connection:
        found = rows.require(connection, user)
        return rows.grant(connection, found, roles.project(project), roles.role(role), clock.now(), actor=actor)


def revoke(catalog: Catalog, user: str, role: str, project: str, *, actor: str = "") -> bool:
    """Take a role that `grant` gave; whether that changes anything. Raises as `grant`."""
    with catalog.database.writing() as connection:
        found = rows.require(connection, user)
        return rows.revoke(connection, found, roles.project(project), roles.role(role), clock.now(), actor=actor)


class Logins:
    """Logging in with a password, and what went wrong before."""

    def __init__(self, failures: Failures | None = None) -> None:
        self._failures = failures or Failures()
        self._places = threading.BoundedSemaphore(limits.LOGINS_WAITING)

    def login(self, catalog: Catalog, user: str, password: str, address: str) -> User:
        """The user whose password that is.

        1. Who failed often lately waits: the account, and the address that asks.
        2. The password is checked, at the same cost when there is no such user.
        3. A one-time password ends.
        4. What was hashed with other parameters is hashed anew.

        Raises:
            TooManyLoginsError: it has to wait.
            UnauthenticatedError: name or password is wrong; which, is not said.
        """
        # 1
        source = f"address {subscriber(address)}"
        account = self._account(user, source)
        wait = self._failures.wait(account, source)
        if wait:
            raise TooManyLoginsError(wait)
        # Checking takes long by design: a flood of logins must not take every thread of the server.
        if not self._places.acquire(blocking=False):
            self._failures.undo(account)
            self._failures.undo(source)
            raise TooManyLoginsError(1.0)
        try:
            return self._checked(catalog, user, password, address=address, account=account, source=source)
        finally:
            self._places.release()

    def _checked(self, catalog: Catalog, user: str, password: str, *, address: str, account: str, source: str) -> User:
        # 2
        with catalog.database.reading() as connection:
            found = rows.named(connection, user) if _NAME.fullmatch(user) else None
        usable = found is not None and found.disabled_at is None
        checked = passwords.check(found.password if found is not None and usable else "", password)
        if found is None or not checked.right:
            # A name that nobody has may be a password that was typed into the wrong field.
            _LOG.warning("login failed: %s from %s", "nobody" if found is None else found.name, address)
            raise UnauthenticatedError("name or password is wrong", next_step="Try again, or ask an administrator.")
        # 3
        if found.one_time_until is not None and found.one_time_until <= clock.now():
            _LOG.warning("login failed: %s from %s: the one-time password's time is over", found.name, address)
            raise UnauthenticatedError(
                "the time of this one-time password is over",
                next_step=f"An administrator makes another one with `tidewaiter user password {found.name} --reset`.",
            )
        self._succeeded(user, account, source)
        # 4
        if checked.renewed:
            with catalog.database.writing() as connection:
                rows.rehash(connection, found, checked.renewed, clock.now())
        return found

    def _account(self, user: str, source: str) -> str:
        """An address from which the account was used before counts apart: strangers do not lock its owner out."""
        if not _NAME.fullmatch(user):
            return "no account"
        own = f"account {user} of {source}"
        return own if self._failures.knows(own) else f"account {user}"

    def _succeeded(self, user: str, account: str, source: str) -> None:
        self._failures.forget(account)
        self._failures.undo(source)
        self._failures.remember(f"account {user} of {source}")
