"""Many rows in one statement of PostgreSQL: they travel as one JSON text, whatever their number, or by COPY.

A statement with a parameter for each value is read, planned and answered anew for each number of rows; that costs more
than the rows themselves. COPY costs the server least; it takes only rows none of which is there.
"""

import datetime as dt
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Dialect,
    LargeBinary,
    String,
    Table,
    TextClause,
    text,
)
from sqlalchemy.dialects import postgresql

_AT_ONCE = 2000
_DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy says nothing of it


def add_missing(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """As `rows.add_missing`."""
    _write(connection, _statement(table, tuple(rows[0]), "ON CONFLICT DO NOTHING"), rows)


def add_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """As `rows.add_new`."""
    columns = tuple(rows[0])
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101  # as the dialect says
    copied = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    writers = [_json if isinstance(table.c[name].type, JSON) else _plain for name in columns]
    with driver.cursor() as cursor, cursor.copy(copied) as copy:
        for start in range(0, len(rows), _AT_ONCE):
            lines = [
                "\t".join([write(row[name]) for name, write in zip(columns, writers, strict=True)])
                for row in rows[start : start + _AT_ONCE]
            ]
            copy.write("\n".join([*lines, ""]).encode())


def _plain(value: object) -> str:
    """A value as COPY reads it."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.translate(_ESCAPED) if _SPECIAL.search(value) else value
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    if isinstance(value, bytes):
        return f"\\\\x{value.hex()}"
    return str(value)


def _json(value: object) -> str:
    """JSON as COPY reads it; control characters are escaped in it already."""
    return msgspec.json.encode(value).decode().replace("\\", "\\\\")


_SPECIAL = re.compile(r"[\\\t\n\r\b\f\v]")
_ESCAPED = {ord(one): f"\\{said}" for one, said in zip("\\\t\n\r\b\f\v", "\\tnrbfv", strict=True)}


def put(
    connection: Connection, table: Table, key: Sequence[str], rows: Sequence[dict[str, Any]], changed: Sequence[str]
) -> None:
    """As `rows.put`, where the columns `changed` are replaced."""
    said = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in changed)
    conflict = f"ON CONFLICT ({', '.join(map(_quoted, key))}) DO {f'UPDATE SET {said}' if said else 'NOTHING'}"
    # One statement changes a row once: of rows with the same key the last counts, as of statements one after another.
    last = {tuple(row[name] for name in key): row for row in rows}
    _write(connection, _statement(table, tuple(rows[0]), conflict), list(last.values()))


def change(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], keep: Collection[str]) -> None:
    """As `rows.change`."""
    _write(connection, _update(table, tuple(rows[0]), frozenset(keep)), rows)


def numbers(connection: Connection, key: "Column[str]", wanted: Sequence[str]) -> dict[str, int]:
    """As `rows.numbers`."""
    found = connection.execute(_lookup(key), {"wanted": msgspec.json.encode(wanted).decode()})
    return {name: number for name, number in found.all() if number is not None}


@lru_cache(maxsize=64)
def _lookup(key: "Column[str]") -> TextClause:
    """Keys with the row numbers that they have; each is looked up by itself.

    A plan that the server kept from when the table was small would else compare every row with every key.
    """
    column, table = _quoted(key.name), _quoted(key.table.name)
    found = f"SELECT {table}.id FROM {table} WHERE {table}.{column} = given.value"  # noqa: S608 - names of the schema
    return text(f"SELECT given.value, ({found}) FROM json_array_elements_text(CAST(:wanted AS json)) AS given (value)")  # noqa: S608 - as above


def _quoted(name: str) -> str:
    return str(_DIALECT.identifier_preparer.quote(name))


def _given(table: Table, columns: Sequence[str]) -> tuple[list[str], str]:
    """How each column of the rows in `:rows` is read, and those rows as a table `given`."""
    read, types = [], []
    for name in columns:
        kind = table.c[name].type
        said = _quoted(name)
        if isinstance(kind, JSON):
            read.append(f"coalesce(given.{said}, 'null')")  # JSON's null, not that of SQL
            types.append(f"{said} json")
        elif isinstance(kind, LargeBinary):
            read.append(f"decode(given.{said}, 'base64')")
            types.append(f"{said} text")
        else:
            read.append(f"given.{said}")
            # A text that is too long is refused when it is stored.
            types.append(f"{said} {'text' if isinstance(kind, String) else kind.compile(_DIALECT)}")
    return read, f"json_to_recordset(CAST(:rows AS json)) AS given ({', '.join(types)})"


@lru_cache(maxsize=256)
def _statement(table: Table, columns: tuple[str, ...], conflict: str) -> TextClause:
    read, given = _given(table, columns)
    return text(
        f"INSERT INTO {_quoted(table.name)} ({', '.join(map(_quoted, columns))}) SELECT {', '.join(read)}"  # noqa: S608 - names of the schema
        f" FROM {given} {conflict}"
    )


@lru_cache(maxsize=64)
def _update(table: Table, columns: tuple[str, ...], keep: frozenset[str]) -> TextClause:
    read, given = _given(table, columns)
    own = _quoted(table.name)
    said = [
        f"{_quoted(name)} = {f'coalesce({one}, {own}.{_quoted(name)})' if name in keep else one}"
        for name, one in zip(columns, read, strict=True)
        if name != "id"
    ]
    return text(f"UPDATE {own} SET {', '.join(said)} FROM {given} WHERE {own}.id = given.id")  # noqa: S608 - as above


def _write(connection: Connection, statement: TextClause, rows: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        some = [
            {name: value.astimezone(dt.UTC) if isinstance(value, dt.datetime) else value for name, value in row.items()}
            for row in rows[start : start + _AT_ONCE]
        ]
        connection.execute(statement, {"rows": msgspec.json.encode(some).decode()})
