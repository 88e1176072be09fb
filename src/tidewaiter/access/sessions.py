"""Sessions: what a browser keeps in a cookie after a login, and what belongs to it.

The cookie is 256 random bits; only its SHA-256 is stored. A login always makes a new one, and a logout, another
password and a disabled user end it. Forms carry a token that is computed from the cookie, which no other site can read.
"""

import hashlib
import hmac
import re
import secrets
from contextlib import suppress
from typing import NamedTuple

from tidewaiter.access.identity import Identity
from tidewaiter.access.tokens import roles
from tidewaiter.catalog.access import sessions as rows
from tidewaiter.catalog.access.users import User
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import StorageError

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


class Session(NamedTuple):
    """A living session."""

    secret: str
    user: User

    @property
    def identity(self) -> Identity:
        """Who comes with it; without any role as long as its password has to be changed."""
        return Identity(name=self.user.name, kind="user", roles={} if self.must_change else roles(self.user))

    @property
    def must_change(self) -> bool:
        """Whether it is good for choosing a password only."""
        return self.user.one_time_until is not None


def new_secret() -> str:
    """What a browser keeps."""
    return secrets.token_urlsafe(32)


def derived(secret: str, purpose: str) -> str:
    """What belongs to a secret and tells nothing of it: a form's token, the `state` of a login elsewhere."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def same(given: str, expected: str) -> bool:
    """Whether they are equal, in a time that tells nothing."""
    return hmac.compare_digest(given.encode(), expected.encode())


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def begin(catalog: Catalog, user: User) -> str:
    """Log it in; the secret for its browser."""
    secret = new_secret()
    with catalog.database.writing() as connection:
        rows.begin(connection, user, _hashed(secret), clock.now())
    return secret


def find(catalog: Catalog, secret: str) -> Session | None:
    """The living session of that secret."""
    if not _SECRET.fullmatch(secret):
        return None
    at = clock.now()
    with catalog.database.reading() as connection:
        found = rows.living(connection, _hashed(secret), at)
    if found is None:
        return None
    user, seen = found
    if user.one_time_until is not None and user.one_time_until <= at:
        return None
    if (at - seen).total_seconds() >= limits.SESSION_SEEN_SECONDS:
        # A full disk must not keep people from reading.
        with suppress(StorageError), catalog.database.writing() as connection:
            rows.seen(connection, _hashed(secret), at)
    return Session(secret, user)


def end(catalog: Catalog, secret: str) -> None:
    """Log it out."""
    with catalog.database.writing() as connection:
        rows.end(connection, _hashed(secret))
