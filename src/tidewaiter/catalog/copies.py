"""A database file of SQLite copied while others write to it, and the question whether such a file is whole."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, StorageError

_PAGES = 2048
_SHOWN = 3
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def snapshot(source: Path, target: Path, *, tick: Callable[[float], None] = lambda _: None) -> None:
    """Write to `target` what the database at `source` holds at one moment; writers wait for nothing.

    Args:
        source: a database that others may use.
        target: is made; must not exist.
        tick: told which part of it is done, from 0 to 1.

    Raises:
        IntegrityError: it is damaged.
        StorageError: it cannot be read, or the disk is full.
    """

    def told(_status: int, remaining: int, total: int) -> None:
        tick(1 - remaining / max(1, total))

    try:
        with closing(_opened(source)) as database, closing(sqlite3.connect(target)) as copy:
            # One view from the first page to the last: else each change by others would begin the copy anew.
            database.execute("BEGIN")
            database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            database.backup(copy, pages=_PAGES, progress=told)
    except sqlite3.Error as error:
        raise _unreadable(source, error) from error


def require_whole(path: Path) -> None:
    """Make sure that every page of the database hangs together.

    Raises:
        IntegrityError: it does not.
        StorageError: it cannot be read at all.
    """
    try:
        with closing(_opened(path)) as database:
            found = [str(row[0]) for row in database.execute(f"PRAGMA quick_check({_SHOWN})")]
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from error
    if found != ["ok"]:
        raise _damaged(path, "; ".join(found))


def revision(path: Path) -> str | None:
    """Revision of the schema of the catalog at `path`; None when it is no catalog. Raises as `require_whole`."""
    try:
        with closing(_opened(path)) as database:
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if "alembic_version" not in tables:
                return None
            found = database.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error
    return str(found[0][0]) if len(found) == 1 else None


def journal_mode(path: Path) -> str:
    """How SQLite keeps the file safe, `wal` when this program made it. Raises as `require_whole`."""
    try:
        with closing(_opened(path)) as database:
            return str(database.execute("PRAGMA journal_mode").fetchone()[0])
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error


def _damaged(path: Path, why: str) -> IntegrityError:
    return IntegrityError(
        f"the database {path} is damaged: {why}",
        next_step="Restore the home from a backup: `tidewaiter backup restore FILE --force`.",
        code="database_damaged",
    )


def _opened(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path))}?mode=ro"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=limits.CATALOG_WAIT_SECONDS)


def _unreadable(path: Path, error: sqlite3.Error) -> StorageError | IntegrityError:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
        return _damaged(path, str(error))
    return StorageError(
        f"the database {path} cannot be read: {error}",
        next_step="Check who owns it and whether the disk is full; else restore it from a backup.",
    )
