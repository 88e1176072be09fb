"""Files that only save time: each holds the SHA-256 of the rest, a newline, and that rest.

One that is missing, unreadable or damaged is no error, and neither is a disk that takes no more: what they hold is
found out again.
"""

import hashlib
from pathlib import Path

from tidewaiter.core import durable
from tidewaiter.core.errors import StorageError


class CheckedFiles:
    """Files below `directory`, safe to use from many threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.refusal: StorageError | None = None
        """Why something was not kept, if so."""

    def path(self, name: str) -> Path:
        """Where the file `name` lies; its folder is named by its first two letters."""
        return self._directory / name[:2] / name

    def read(self, name: str) -> bytes | None:
        """What `write` was given; None when it is missing or damaged."""
        try:
            data = self.path(name).read_bytes()
        except OSError:
            return None
        checksum, _, content = data.partition(b"\n")
        return content if checksum == hashlib.sha256(content).hexdigest().encode() else None

    def write(self, name: str, *content: bytes) -> bool:
        """Keep `content`; whether the disk took it."""
        found = hashlib.sha256()
        for part in content:
            found.update(part)
        try:
            durable.write_atomically(
                self.path(name), b"".join((found.hexdigest().encode(), b"\n", *content)), synced=False
            )
        except StorageError as error:
            self.refusal = error
            return False
        return True
