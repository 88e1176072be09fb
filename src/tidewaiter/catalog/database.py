"""The connection to the catalog's database: transactions that other processes cannot break, errors in words.

`sqlite` and `postgres` say how either of them does that; nobody else needs to know which one it is.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tidewaiter.catalog import plain, sqlite
from tidewaiter.catalog.plain import Plain
from tidewaiter.core import durable, limits
from tidewaiter.core.errors import StorageError
from tidewaiter.core.settings import DatabaseUrl


class Database:
    """The database at `place`. Connections are opened when they are needed and shared by threads."""

    def __init__(self, place: Path | DatabaseUrl, *, actor: str = "") -> None:
        self.place = place
        self.actor = actor
        """In whose name the audit log says that something was changed, where nothing else says who."""
        self.wrote = False
        """Whether a transaction that may change something was kept."""
        self.fence: Callable[[Connection], None] | None = None
        """Asked in each transaction that writes, before all else; what it raises keeps all from being written."""
        self.engine: Engine
        self._explain: Callable[[BaseException], StorageError]
        self._refusals: type[Exception]
        """What plain statements raise."""
        if isinstance(place, Path):
            self.engine = sqlite.engine(place)
            self._explain = partial(sqlite.explain, place)
            self._refusals = sqlite3.Error
        else:
            from tidewaiter.catalog import postgres

            self.engine = postgres.engine(place)
            self._explain = partial(postgres.explain, place)
            self._refusals = postgres.REFUSALS

    def explain(self, error: Exception) -> StorageError:
        """`StorageError` that says in words why the database refused."""
        return self._explain(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error)

    def _options(self, *, writing: bool) -> dict[str, Any]:
        options: dict[str, Any] = {"writing": writing, "actor": self.actor}
        if isinstance(self.place, Path):
            return options
        from tidewaiter.catalog import postgres

        return options | postgres.options(writing=writing)

    @contextmanager
    def _transaction(self, *, writing: bool) -> Iterator[Connection]:
        try:
            with self.engine.connect() as plainest:
                connection = plainest.execution_options(**self._options(writing=writing))
                with connection.begin():
                    if writing and self.fence is not None:
                        self.fence(connection)
                    yield connection
                self.wrote |= writing
        except (SQLAlchemyError, self._refusals) as error:
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
    def plainly(self, *, writing: bool) -> Iterator[Plain]:
        """As `reading` or `writing`, for plain statements."""
        with self._transaction(writing=writing) as connection:
            yield plain.of(connection)

    @contextmanager
    def alone(self, name: str, *, file: Path, seconds: float = limits.LOCK_SECONDS) -> Iterator[None]:
        """Hold a lock of everybody who uses this database: on PostgreSQL by its `name`, else of `file`.

        Raises:
            DeadlineError: another process still held it after `seconds`.
            StorageError: it cannot be asked for.
        """
        if isinstance(self.place, Path):
            with durable.exclusive(file, seconds=seconds):
                yield
            return
        from tidewaiter.catalog import postgres

        with postgres.alone(self.place, name, seconds=seconds):
            yield

    def prepare(self) -> None:
        """Make the file of SQLite and turn it to WAL mode; see that a server of PostgreSQL can keep a catalog.

        The caller holds the lock.

        Raises:
            StorageError: it cannot be created, is no database, or is too old.
        """
        try:
            if isinstance(self.place, Path):
                sqlite.prepare(self.place, self.engine)
                return
            from tidewaiter.catalog import postgres

            postgres.prepare(self.place, self.engine)
        except (SQLAlchemyError, self._refusals) as error:
            raise self.explain(error) from error

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
