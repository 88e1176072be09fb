"""Plain statements on PostgreSQL, as the catalog's modules write them for sqlite3 (`plain`)."""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.string import TextLoader

from tidewaiter.catalog.glance import stored_moment
from tidewaiter.catalog.plain import Parameters

AnyConnection = psycopg.Connection[tuple[Any, ...]]
_PLACES = re.compile(r"\?|(?<!:):([a-z_]+)\b|%")
_AT_ONCE = 2000
_numbers = itertools.count()


@functools.lru_cache(maxsize=512)
def translated(statement: str) -> bytes:
    """The statement with psycopg's own places for parameters; SQLite's name of the type `bytea` becomes that."""
    named = {"?": "%s", "%": "%%"}
    text = _PLACES.sub(lambda found: named.get(found[0]) or f"%({found[1]})s", statement)
    return text.replace(" AS BLOB)", " AS bytea)").encode()


class _MomentLoader(TimestamptzLoader):
    def load(self, data: Buffer) -> str:  # type: ignore[override]  # as the catalog's file has it
        return stored_moment(super().load(data))


class Plain:
    """As much of `sqlite3.Connection` as plain statements need; it begins no transaction by itself."""

    def __init__(self, driver: AnyConnection) -> None:
        self.driver = driver

    @property
    def in_transaction(self) -> bool:
        """Whether one was begun that the server still knows, failed or not."""
        return self.driver.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}

    def _cursor(self) -> "psycopg.Cursor[tuple[Any, ...]]":
        cursor: psycopg.Cursor[tuple[Any, ...]] = _as_sqlite(self.driver.cursor())
        return cursor

    def execute(self, sql: str, parameters: Parameters = (), /) -> "psycopg.Cursor[tuple[Any, ...]]":
        return self._cursor().execute(translated(sql), parameters)

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> "psycopg.Cursor[tuple[Any, ...]]":
        cursor = self._cursor()
        cursor.executemany(translated(sql), parameters)
        return cursor

    def streamed(self, statement: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, some at a time; the server keeps them for as long as they are wanted."""
        # Outside of a transaction a cursor lives only when it is told to.
        name, hold = f"tidewaiter_{next(_numbers)}", not self.in_transaction
        with self.driver.cursor(name, withhold=hold) as cursor:
            cursor.itersize = _AT_ONCE
            _as_sqlite(cursor).execute(translated(statement), parameters)
            yield from cursor


def _as_sqlite(cursor: Any) -> Any:  # noqa: ANN401 - any of psycopg's, which is returned
    cursor.adapters.register_loader("timestamptz", _MomentLoader)
    cursor.adapters.register_loader("json", TextLoader)
    return cursor


def over(driver: object) -> Plain:
    """Plain statements by a connection of psycopg, or by what this function returned."""
    if isinstance(driver, Plain):
        return driver
    assert isinstance(driver, psycopg.Connection)  # noqa: S101  # there is no third database
    return Plain(driver)
