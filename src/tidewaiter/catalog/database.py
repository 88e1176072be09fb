"""The connection to the catalog's database: transactions that other processes cannot break, errors in words.

SQLite runs in WAL mode: readers never wait. A writer takes the write lock when its transaction begins (`BEGIN
IMMEDIATE`), so that it can wait for another process's transaction but never loses its own half-way.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

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


class Database:
    """The database file at `path`. Connections are opened when they are needed and shared by threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine: Engine = create_engine(
            URL.create("sqlite", database=str(path)),
            json_serializer=lambda value: msgspec.json.encode(value).decode(),
            json_deserializer=msgspec.json.decode,
            pool_size=8,
            max_overflow=32,
        )
        event.listen(self.engine, "connect", _configure)
        event.listen(self.engine, "begin", _begin)

    def explain(self, error: SQLAlchemyError) -> StorageError:
        """`StorageError` that says in words why the database refused."""
        text = str(error.orig if isinstance(error, DBAPIError) else error)
        for sign, cause, next_step in _CAUSES:
            if sign in text.lower():
                return StorageError(f"the catalog {self.path}: {cause} ({text})", next_step=next_step)
        return StorageError(
            f"the catalog {self.path} refused: {text}",
            next_step="Run the command again; if it happens again, report it with this message.",
        )

    @contextmanager
    def _transaction(self, *, writing: bool) -> Iterator[Connection]:
        try:
            with self.engine.connect() as plain:
                connection = plain.execution_options(writing=writing)
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            raise self.explain(error) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of the database. Raises `StorageError`."""
        with self._transaction(writing=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of the block is kept, or, after an error, nothing. Raises `StorageError`."""
        with self._transaction(writing=True) as connection:
            yield connection

    @contextmanager
    def plainly(self, *, writing: bool) -> Iterator[sqlite3.Connection]:
        """As `reading` or `writing`, for statements of sqlite3's own."""
        with self._transaction(writing=writing) as connection:
            plain = connection.connection.driver_connection
            assert isinstance(plain, sqlite3.Connection)  # noqa: S101  # the engine is SQLite's
            try:
                yield plain
            except sqlite3.Error as error:
                raise DBAPIError(None, None, error) from error

    def prepare(self) -> None:
        """Make the file and turn it to WAL mode, unless that was done; the caller holds the lock.

        Raises:
            StorageError: it cannot be created or is no database.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise durable.storage_error(error, str(self.path)) from error
        try:
            # WAL cannot be turned on inside a transaction, so this goes past the engine's.
            raw = self.engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA journal_mode = WAL")
            finally:
                raw.close()
        except SQLAlchemyError as error:
            raise self.explain(error) from error
        except sqlite3.Error as error:
            raise self.explain(DBAPIError("PRAGMA journal_mode", None, error)) from error

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
