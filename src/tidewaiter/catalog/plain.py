"""Plain statements, whichever database answers: those of sqlite3's own connections, and as much of PostgreSQL's.

Parameters are written `?` or `:name`; a moment is the text of `glance.stored_moment`, JSON is text.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection

Parameters = Sequence[Any] | Mapping[str, Any]


class Rows(Protocol):
    """What a statement answered."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...  # noqa: ANN401 - a row of any statement

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Plain(Protocol):
    """`sqlite3.Connection`, or `postgres_plain.Plain`."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Rows: ...

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Rows: ...


def of(connection: "Plain | Connection") -> Plain:
    """The plain connection below one of SQLAlchemy; SQLAlchemy takes ten times as long for a small statement."""
    pooled = getattr(connection, "connection", None)
    driver = connection if pooled is None else pooled.driver_connection
    if isinstance(driver, sqlite3.Connection):
        return driver
    from tidewaiter.catalog import postgres_plain

    return postgres_plain.over(driver)


def actor(connection: "Plain | Connection") -> str:
    """In whose name the catalog was opened, where the connection says so."""
    options: Mapping[str, Any] = getattr(connection, "get_execution_options", dict)()
    return str(options.get("actor", ""))


def streamed(connection: Plain, statement: str, parameters: Sequence[Any] = ()) -> Iterator[Any]:
    """The rows of a query that may have more of them than fit into memory."""
    if isinstance(connection, sqlite3.Connection):
        yield from connection.execute(statement, parameters)
        return
    from tidewaiter.catalog import postgres_plain

    assert isinstance(connection, postgres_plain.Plain)  # noqa: S101  # the only other one
    yield from connection.streamed(statement, parameters)
