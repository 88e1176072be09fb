"""The catalog in a file of SQLite: connections, and what SQLite says in words.

It runs in WAL mode: readers never wait. A writer takes the write lock when its transaction begins (`BEGIN IMMEDIATE`),
so that it can wait for another process's transaction but never loses its own half-way.
"""

import sqlite3
import time
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from tidewaiter.core import durable, limits
from tidewaiter.core.errors import StorageError

_BACKUP = "Restore it from a backup, or move it away and build the images again."
# On a full disk SQLite cannot even read: it shares memory through a file. Pruning reads in another way.
_SPACE = "Free space, for example by `tidewaiter cache prune --keep 0`; then run the same command again."
_CAUSES = (
    # What SQLite says, in words a user can act on.
    ("database or disk is full", "the disk is full", _SPACE),
    ("disk i/o error", "the disk is full or damaged", _SPACE),
    ("readonly database", "it may not be written", "Check who owns the folder and whether it is mounted read-only."),
    ("unable to open", "it cannot be opened", "Check that its folder exists and that you may write in it."),
    ("is locked", "another process keeps it locked", "Wait for that process or stop it, then run the command again."),
    ("not a database", "the file is no database", _BACKUP),
    ("malformed", "the file is damaged", _BACKUP),
    ("no such table", "tables are missing from it", _BACKUP),
    ("no such column", "columns are missing from it", _BACKUP),
)


def _locked(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _configure(raw: Any, _record: object) -> None:  # noqa: ANN401 - the event hands over the driver's own connection
    # Transactions are begun by `_begin`, not by the driver's guess.
    raw.isolation_level = None
    cursor = raw.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout = {round(limits.CATALOG_WAIT_SECONDS * 1000)}")
        cursor.execute("PRAGMA foreign_keys = ON")
        # A verdict that was recorded is still there after a power cut.
        cursor.execute("PRAGMA synchronous = FULL")
    finally:
        cursor.close()


def _begin(connection: Connection) -> None:
    if not connection.get_execution_options().get("writing"):
        connection.exec_driver_sql("BEGIN")
        return
    # While a database is turned to WAL, or recovered after a crash, SQLite answers "locked" without waiting.
    deadline = time.monotonic() + limits.CATALOG_WAIT_SECONDS
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except DBAPIError as error:
            if error.orig is None or not _locked(error.orig) or time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
        else:
            return


def engine(path: Path) -> Engine:
    """Connections to the file, opened when they are needed and shared by threads."""
    made = create_engine(
        URL.create("sqlite", database=str(path)),
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
        pool_size=8,
        max_overflow=32,
    )
    event.listen(made, "connect", _configure)
    event.listen(made, "begin", _begin)
    return made


def explain(path: Path, error: BaseException) -> StorageError:
    """`StorageError` that says in words why SQLite refused."""
    text = str(error)
    for sign, cause, next_step in _CAUSES:
        if sign in text.lower():
            return StorageError(f"the catalog {path}: {cause} ({text})", next_step=next_step)
    return StorageError(
        f"the catalog {path} refused: {text}",
        next_step="Run the command again; if it happens again, report it with this message.",
    )


def prepare(path: Path, made: Engine) -> None:
    """Make the file and turn it to WAL mode, unless that was done.

    Raises:
        StorageError: its folder cannot be made.
        sqlite3.Error, SQLAlchemyError: it cannot be created or is no database.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise durable.storage_error(error, str(path)) from error
    # WAL cannot be turned on inside a transaction, so this goes past the engine's.
    raw = made.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        raw.close()
