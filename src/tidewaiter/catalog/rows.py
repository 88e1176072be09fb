"""Writing rows by their natural keys: what is there stays, what is missing is added."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Column, Connection, Insert, Row, Table, bindparam, func, insert, select, update
from sqlalchemy.dialects import sqlite

from tidewaiter.catalog.storable import storable

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

AnyRow = Row[*tuple[Any, ...]]
"""A row of any query."""

CHUNK = 500
"""Keys that one query names: every database takes that many."""
_T = TypeVar("_T")
_PURL_CHARACTERS = 2000
"""PostgreSQL indexes no text beyond about 2,700 bytes."""


def chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """`values`, as many at a time as one query names."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


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
    if not rows:
        return
    if connection.dialect.name == "postgresql" and len(rows) > 1:
        from tidewaiter.catalog import postgres_rows

        postgres_rows.add_missing(connection, table, rows)
        return
    statement: Insert = _insert(connection, table).on_conflict_do_nothing()
    connection.execute(statement, rows)


def add_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert `rows`, none of whose keys is there: the caller, who alone writes, has looked."""
    if connection.dialect.name == "postgresql" and len(rows) > 1:
        from tidewaiter.catalog import postgres_rows

        postgres_rows.add_new(connection, table, rows)
    elif rows:
        connection.execute(insert(table), rows)


def put(
    connection: Connection,
    table: Table,
    key: Sequence[str],
    rows: Sequence[dict[str, Any]],
    *,
    keep: Collection[str] = (),
) -> None:
    """Insert `rows`; those whose `key` is there replace the other columns, but for those to `keep`."""
    if not rows:
        return
    changed = [name for name in rows[0] if name not in key and name not in keep]
    if connection.dialect.name == "postgresql" and len(rows) > 1:
        from tidewaiter.catalog import postgres_rows

        postgres_rows.put(connection, table, key, rows, changed)
        return
    statement = _insert(connection, table)
    update: Insert = statement.on_conflict_do_update(
        index_elements=list(key), set_={name: statement.excluded[name] for name in changed}
    )
    connection.execute(update, rows)


def change(connection: Connection, table: Table, rows: Sequence[dict[str, Any]], *, keep: Collection[str] = ()) -> None:
    """Give the rows with these numbers (`id`) other values; a column of `keep` stays where the new value is empty."""
    if not rows:
        return
    if connection.dialect.name == "postgresql" and len(rows) > 1:
        from tidewaiter.catalog import postgres_rows

        postgres_rows.change(connection, table, rows, keep)
        return
    said = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in rows[0] if name != "id"}
    values = {name: func.coalesce(new, table.c[name]) if name in keep else new for name, new in said.items()}
    given = [{f"new_{name}": value for name, value in row.items()} for row in rows]
    connection.execute(update(table).where(table.c.id == bindparam("new_id")).values(values), given)


def numbers(connection: Connection, key: "Column[str]", values: Iterable[str]) -> dict[str, int]:
    """Row number by the natural key column `key`, for those of `values` that are there."""
    wanted = sorted(set(values))
    if connection.dialect.name == "postgresql" and wanted:
        from tidewaiter.catalog import postgres_rows

        return postgres_rows.numbers(connection, key, wanted)
    found: dict[str, int] = {}
    for some in chunks(wanted):
        query = select(key, key.table.c.id).where(key.in_(some))
        found.update((name, number) for name, number in connection.execute(query))
    return found


def ensure(connection: Connection, key: "Column[str]", rows: Mapping[str, dict[str, Any]]) -> dict[str, int]:
    """Row number of each of `rows`, which are by their key; those that are missing are made."""
    found = numbers(connection, key, rows)
    missing = sorted(rows.keys() - found.keys())  # in one order: no two writers wait for one another
    if missing:
        add_missing(connection, key.table, [rows[name] for name in missing])
        found |= numbers(connection, key, missing)
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
