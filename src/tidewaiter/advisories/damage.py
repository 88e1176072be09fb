"""How the database of advisories tells what was lost, altered or cut from what was imported."""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from tidewaiter.core.errors import RefusedError, StorageError

_ROWS = msgspec.msgpack.Encoder()


class Storage:
    """Turns what SQLite and a damaged file raise into one error. A class: it is entered for every look-up."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite3.DatabaseError | OSError | ValueError | RecursionError):
            raise _storage_error(self._path, error) from error


def _storage_error(path: Path, error: Exception | str) -> StorageError:
    return StorageError(
        f"the advisory database {path} cannot be used: {error}",
        next_step="Free space if the disk is full; if the file is damaged, move it away and run "
        "`tidewaiter advisories update`.",
    )


def damaged(path: Path, what: str) -> StorageError:
    """The error for what is not as it was imported."""
    return _storage_error(path, f"it is damaged: {what}")


def digest_of(rows: Sequence[object]) -> bytes:
    """SHA-256 over rows as SQLite gives them."""
    # A damaged row may hold values of any type; this encoding takes all that SQLite has.
    return hashlib.sha256(_ROWS.encode(rows)).digest()


def refuse_shrinking(what: str, entries: int, now: int) -> None:
    """Raise `RefusedError` when `entries` have become half as many or fewer."""
    if now * 2 <= entries:
        raise RefusedError(
            f"the new data for {what} has {now} entries where {entries} are known: it is cut or wrong",
            next_step="Fetch the feed again; if it is right, import it with --force.",
            code="feed_shrinks",
        )
