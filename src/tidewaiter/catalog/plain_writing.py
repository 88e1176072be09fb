"""Plain connections to the catalog: for what writes without SQLAlchemy, which loads longer than most of it takes."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from tidewaiter.catalog.glance import REVISION, Place, UnansweredError
from tidewaiter.catalog.held import held, opened
from tidewaiter.catalog.plain import Plain


@contextmanager
def connected(place: Place) -> Iterator[Plain]:
    """A connection to the catalog at `place` that begins no transaction by itself.

    Raises `UnansweredError` when only `Catalog` can say what is wrong, also for what the block meets.
    """
    if not isinstance(place, Path):
        from tidewaiter.catalog import postgres

        with postgres.connected(place) as connection:
            yield connection
        return
    try:
        there = held(place)
        with closing(opened(place)) if there is None else nullcontext(there) as file:
            yield file
    except sqlite3.Error as error:
        raise UnansweredError(f"{place}: {error}") from error


@contextmanager
def transaction(connection: Plain, place: Place) -> Iterator[None]:
    """All of the block is kept, or, after an error, nothing; nobody else writes meanwhile."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("BEGIN IMMEDIATE")
    else:
        from tidewaiter.catalog import postgres

        postgres.begin(connection, writing=True)
    try:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        if found != [(REVISION,)]:
            raise UnansweredError(f"{place} has the schema {found}")
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def writing(path: Place) -> Iterator[Plain]:
    """A connection and one transaction of it, in a file of SQLite; raises `UnansweredError` as `connected`."""
    if not isinstance(path, Path):
        raise UnansweredError(f"{path} is not a file")
    with connected(path) as connection, transaction(connection, path):
        yield connection
