"""Writing rows by their natural keys: what is there stays, what is missing is added."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Connection, Insert, Row, Table, select
from sqlalchemy.dialects import sqlite

from tidewaiter.catalog.storable import storable

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

AnyRow = Row[*tuple[Any, ...]]
"""A row of any query."""

CHUNK = 500
"""Keys that one query names: every database takes that many."""
_PURL_CHARACTERS = 2000
"""PostgreSQL indexes no text beyond about 2,700 bytes."""


def storable_purl(purl: str) -> str:
    """`purl` as a key: one that is too long for an index keeps its beginning and is told apart by its hash."""
    clean = storable(purl)
    if len(clean.encode()) <= _PURL_CHARACTERS:
        return clean
    mark = hashlib.sha256(purl.encode("utf-8", "surrogatepass")).hexdigest()
    return clean.encode()[: _PURL_CHARACTERS - 80].decode(errors="ignore") + "~" + mark


def _insert(connection: Connection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # a dialect that is not used is not loaded

        return postgresql.insert(table)
    return sqlite.insert(table)


def add_missing(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert those of `rows` whose key is not there yet."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), rows)


def put(connection: Connection, table: Table, key: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Insert `rows`; those whose `key` is there replace the other columns."""
    if not rows:
        return
    statement = _insert(connection, table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in key}
    update: Insert = statement.on_conflict_do_update(index_elements=list(key), set_=changed)
    connection.execute(update, rows)


def numbers(connection: Connection, key: "Column[str]", values: Iterable[str]) -> dict[str, int]:
    """Row number by the natural key column `key`, for those of `values` that are there."""
    wanted = sorted(set(values))
    found: dict[str, int] = {}
    for start in range(0, len(wanted), CHUNK):
        query = select(key, key.table.c.id).where(key.in_(wanted[start : start + CHUNK]))
        found.update((name, number) for name, number in connection.execute(query))
    return found


def number_of(connection: Connection, table: Table, key: dict[str, Any], rest: dict[str, Any] | None = None) -> int:
    """Row number of the row with the unique `key`; it is made, with `rest`, when it is missing."""
    query = select(table.c.id).where(*(table.c[name] == value for name, value in key.items()))
    found = connection.scalar(query)
    if found is None:
        add_missing(connection, table, [{**key, **(rest or {})}])
        found = connection.scalar(query)
    if found is None:
        raise LookupError(f"no row {key} in {table.name} after its insertion")
    return int(found)
