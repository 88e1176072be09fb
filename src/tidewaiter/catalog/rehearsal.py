"""Doing once what is done often later, and keeping nothing of it: statements are compiled when they are first used."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection

from tidewaiter.catalog.database import Database


class _OverError(Exception):
    """All was said that there is to say."""


class _Stage(Database):
    """Another `Database`, all of whose transactions are parts of one."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self.__dict__.update(vars(database))
        self._connection = connection

    @contextmanager
    def _transaction(self, *, writing: bool) -> Iterator[Connection]:  # noqa: ARG002  # this one may write
        yield self._connection


@contextmanager
def rehearsal(database: Database) -> Iterator[Database]:
    """What stands in for `database` within the block: nobody else sees what it is told, and none of it stays.

    Others wait with what they write until the block ends. Raises `StorageError`.
    """
    with suppress(_OverError), database.writing() as connection:
        yield _Stage(database, connection)
        raise _OverError
