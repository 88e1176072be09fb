"""One connection to the catalog's file for a whole command: to open the file takes as long as many a question.

The last connection that closes also writes all changes back into the file, which is then done once.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tidewaiter.core import limits


class _Held(NamedTuple):
    connection: sqlite3.Connection
    file: tuple[int, int]


_held: dict[tuple[int, Path], _Held] = {}
"""By thread, as a connection of SQLite is one thread's."""


def opened(path: Path) -> sqlite3.Connection:
    """A connection to the file at `path` that begins no transaction by itself; raises `sqlite3.Error`."""
    address = f"file:{quote(str(path))}?mode=rw"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=limits.CATALOG_WAIT_SECONDS)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Let `held` find a connection to the file at `path` in this thread, unless it cannot be opened."""
    place = (threading.get_ident(), path)
    if place in _held:
        yield
        return
    try:
        file = _identity(path)
        connection = opened(path)
    except (OSError, sqlite3.Error):
        yield  # whoever asks next finds out why
        return
    with closing(connection):
        try:
            _held[place] = _Held(connection, file)
            yield
        finally:
            _held.pop(place, None)


def held(path: Path) -> sqlite3.Connection | None:
    """The connection of this thread that is held, unless it is in use or another file lies at `path` by now."""
    found = _held.get((threading.get_ident(), path))
    if found is None or found.connection.in_transaction:
        return None
    try:
        return found.connection if _identity(path) == found.file else None
    except OSError:
        return None


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
