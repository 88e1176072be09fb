"""Secrets of webhooks: derived from one key of the home, so that the database and its backups hold none.

A secret is HMAC-SHA256 of the subscription's id and the secret's number, under that key. Messages are signed as
Standard Webhooks have it: HMAC-SHA256 of `ID.TIMESTAMP.BODY`, so that a receiver knows who sent what and when.
"""

import base64
import hashlib
import hmac
import os
from pathlib import Path

from tidewaiter.core import durable
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

_BYTES = 32


def _path(settings: Settings) -> Path:
    # Not `NAME.key`: such are keys that sign.
    return settings.home.keys / "webhooks.secret"


class Root:
    """The key that secrets are derived from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def digest(self) -> Digest:
        """What a subscription remembers: with another key its secrets would be others."""
        return digests.of(hmac.digest(self._data, b"which key", hashlib.sha256))

    def _secret(self, webhook: str, generation: int) -> bytes:
        return hmac.digest(self._data, f"{webhook} {generation}".encode(), hashlib.sha256)

    def shown(self, webhook: str, generation: int) -> str:
        """The secret as a receiver is given it."""
        return "whsec_" + base64.b64encode(self._secret(webhook, generation)).decode()

    def signature(self, webhook: str, generation: int, *, message: str, timestamp: int, body: bytes) -> str:
        """One signature for the header `webhook-signature`."""
        signed = hmac.digest(
            self._secret(webhook, generation), b"%b.%d.%b" % (message.encode(), timestamp, body), hashlib.sha256
        )
        return "v1," + base64.b64encode(signed).decode()


def root(settings: Settings) -> Root:
    """The home's key for webhooks, made when there is none.

    Raises:
        UndeterminedError: it is malformed or cannot be read.
        StorageError: it cannot be written.
    """
    path = _path(settings)
    if not path.exists():
        with durable.exclusive(settings.home.path / "webhooks.lock"):
            if not path.exists():
                durable.write_atomically(path, base64.b64encode(os.urandom(_BYTES)) + b"\n", mode=0o600)
    try:
        data = base64.b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise UndeterminedError(f"{path} cannot be read: {error.strerror}", next_step="Check who owns it.") from error
    except ValueError as error:
        raise _malformed(path) from error
    if len(data) != _BYTES:
        raise _malformed(path)
    return Root(data)


def _malformed(path: Path) -> UndeterminedError:
    return UndeterminedError(
        f"{path} is no key for webhooks", next_step="Restore it from a backup; or remove it, and rotate every secret."
    )
