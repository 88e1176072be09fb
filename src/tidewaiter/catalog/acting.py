"""The catalog in somebody's name: for a server, which changes it for many."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from tidewaiter.catalog import idempotency
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.idempotency import Key
from tidewaiter.core import clock


class ActingDatabase(Database):
    """Another `Database`, with its connections; the log says `actor`, and what is changed marks the key."""

    def __init__(self, database: Database, actor: str, key: Key | None = None) -> None:
        self.__dict__.update(vars(database))
        self.actor = actor
        self._key = key

    @contextmanager
    def _transaction(self, *, writing: bool) -> Iterator[Connection]:
        with super()._transaction(writing=writing) as connection:
            yield connection
            if writing and self._key is not None:
                idempotency.mark(connection, self._key, clock.now())
