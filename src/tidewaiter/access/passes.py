"""Passes: what a registry client gets for its login, good for minutes and for the repositories that it asked for.

`tdp_`, what it says as base64, a dot, and the HMAC-SHA256 of that under a key of the home. It says who came and what is
granted; whether the API token that it was given for still lives is asked again each time it is shown.
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from tidewaiter.access import tokens
from tidewaiter.access.identity import Identity
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import UnauthenticatedError

PREFIX = "tdp_"
_BYTES = 32
Access = Mapping[str, frozenset[str]]
"""Repositories, and what may be done there: `pull`, `push`, `delete`."""


class Credential(NamedTuple):
    """Who comes, and by which API token, if by one."""

    identity: Identity
    token: str = ""
    """SHA-256 of its secret."""
    access: Access | None = None
    """What a pass limits it to; None when it is no pass."""


class _Said(msgspec.Struct, frozen=True):
    ends: float
    access: dict[str, frozenset[str]]
    token: str = ""
    identity: Identity | None = None
    """Of a CI job; None for an API token, and for nobody."""


class Passes:
    """Gives them out and reads them, under the key in the file at `path`, which is made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = b""

    def give(self, who: Credential, access: Access) -> str:
        """A pass for whoever logged in as `who`. Raises `StorageError` when there is no key and none can be written."""
        said = _Said(
            ends=clock.now().timestamp() + limits.GATE_PASS_SECONDS,
            access={name: frozenset(actions) for name, actions in access.items()},
            token=who.token,
            identity=who.identity if who.identity.kind == "job" else None,
        )
        body = base64.urlsafe_b64encode(msgspec.json.encode(said)).decode().rstrip("=")
        return f"{PREFIX}{body}.{self._mac(body)}"

    def read(self, catalog: Catalog, text: str, nobody: Identity) -> Credential:
        """Who shows the pass; `nobody` is who did not log in for it. Raises `UnauthenticatedError`, `StorageError`."""
        body, _, mac = text.removeprefix(PREFIX).partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(body).encode()):
            raise _over()
        try:
            said = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=_Said)
        except (binascii.Error, ValueError) as error:  # of another release
            raise _over() from error
        now = clock.now()
        if said.ends <= now.timestamp():
            raise _over()
        if said.token:
            return Credential(tokens.identify_hashed(catalog, said.token), said.token, said.access)
        if said.identity is None:
            return Credential(nobody, "", said.access)
        if said.identity.ends_at is not None and said.identity.ends_at <= now.astimezone(dt.UTC):
            raise _over()
        return Credential(said.identity, "", said.access)

    def _mac(self, body: str) -> str:
        key = self._key or self._opened()
        return base64.urlsafe_b64encode(hmac.digest(key, body.encode(), hashlib.sha256)).decode().rstrip("=")

    def _opened(self) -> bytes:
        try:
            with durable.exclusive(self._path.with_suffix(".lock")):
                if not self._path.exists() or self._path.stat().st_size != _BYTES:
                    durable.write_atomically(self._path, os.urandom(_BYTES), mode=0o600)
                self._key = self._path.read_bytes()
        except OSError as error:
            raise durable.storage_error(error, str(self._path)) from error
        return self._key


def _over() -> UnauthenticatedError:
    return UnauthenticatedError(
        "this pass is unknown, or its time is over", next_step="Ask for a new one with your login."
    )
