"""Passwords: Argon2id, as RFC 9106 recommends it where memory is not scarce.

Its parameters stand in each hash; one that was made with others is made anew when its password is given next. A name
that nobody has costs the same time as a wrong password. Only so many are checked at a time, or a flood of logins would
take all memory.
"""

import secrets
import threading
from functools import cache
from typing import NamedTuple

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError

# RFC 9106, section 4, second recommendation: 64 MiB, three passes, four lanes; 128 bits of salt, 256 of hash.
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4, hash_len=32, salt_len=16, type=Type.ID)
_AT_ONCE = threading.BoundedSemaphore(limits.LOGINS_AT_ONCE)
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # none that look alike


class Checked(NamedTuple):
    """Whether a password is right, and its hash anew when the one that is stored is of other parameters."""

    right: bool
    renewed: str = ""


def new() -> str:
    """A one-time password: 124 bits, in groups that can be typed."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(5))


def require_good(password: str, *, name: str) -> str:
    """The password; raises `InputError` when it is too short, too long, or the name (NIST SP 800-63B, 3.1.1.2)."""
    least, most = limits.PASSWORD_CHARACTERS_LEAST, limits.PASSWORD_CHARACTERS
    if not least <= len(password) <= most:
        raise InputError(
            f"the password has {len(password)} characters", next_step=f"Choose one of {least} to {most} characters."
        )
    if len(set(password)) < 4 or name in password.casefold():
        raise InputError(
            "the password is easily guessed", next_step="Choose one without the user's name and of more characters."
        )
    return password


def hashed(password: str) -> str:
    """The hash of it, with a salt of its own."""
    with _AT_ONCE:
        return _HASHER.hash(password)


@cache
def _nobodys() -> str:
    return hashed(secrets.token_urlsafe(32))


def check(stored: str, password: str) -> Checked:
    """Whether it is the password whose hash is stored. An empty `stored` is nobody's: a no that takes as long."""
    if len(password) > limits.PASSWORD_CHARACTERS:
        return Checked(right=False)
    against = stored or _nobodys()
    with _AT_ONCE:
        try:
            _HASHER.verify(against, password)
        except (Argon2Error, InvalidHashError):
            return Checked(right=False)
    if not stored:
        return Checked(right=False)
    return Checked(right=True, renewed=hashed(password) if _HASHER.check_needs_rehash(stored) else "")
