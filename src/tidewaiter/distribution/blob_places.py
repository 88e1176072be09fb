"""Which repositories of a registry are known to hold a blob, so that it is mounted rather than sent again.

A hint, never a fact: a registry that cannot mount says so, and the blob is sent. The file may be deleted at any time.
"""

import hashlib
import threading
from pathlib import Path

import msgspec

from tidewaiter.core import durable, limits
from tidewaiter.core.errors import StorageError
from tidewaiter.oci.digest import Digest

_REPOSITORIES = 3
"""Remembered for one blob, the latest first."""


class BlobPlaces:
    """What is known of one registry host, kept in a file of `folder`. Safe from many threads."""

    def __init__(self, folder: Path, host: str) -> None:
        self._path = folder / f"{hashlib.sha256(host.lower().encode()).hexdigest()[:32]}.json"
        self._lock = threading.Lock()
        self._found: dict[str, list[str]] | None = None
        self._changed = False

    def _all(self) -> dict[str, list[str]]:
        if self._found is None:
            try:
                with self._path.open("rb") as file:
                    data = file.read(limits.BLOB_PLACES_BYTES + 1)
                self._found = msgspec.json.decode(data, type=dict[str, list[str]])
            except (OSError, ValueError, RecursionError):
                self._found = {}  # a hint that cannot be read is no hint
        return self._found

    def repositories(self, digest: Digest) -> tuple[str, ...]:
        """Names of repositories that may hold the blob."""
        with self._lock:
            return tuple(self._all().get(digest, ()))

    def add(self, digest: Digest, repository: str) -> None:
        """Note that the blob lies in the repository."""
        with self._lock:
            found = self._all()
            names = found.get(digest, [])
            if repository not in names:
                found[digest] = [repository, *names][:_REPOSITORIES]
                self._changed = True

    def save(self) -> None:
        """Write down what is new. What another process wrote meanwhile may be lost; it was a hint."""
        with self._lock:
            if not self._changed:
                return
            latest = list(self._all().items())[-limits.BLOB_PLACES :]
            try:
                durable.write_atomically(self._path, msgspec.json.encode(dict(latest)))
            except StorageError:
                return  # the copy is done; that its places are forgotten costs time, not truth
            self._changed = False
