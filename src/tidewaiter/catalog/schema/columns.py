"""What the tables of the catalog are made of: names of constraints, row numbers, digests, points in time."""

import datetime as dt
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    TypeDecorator,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Identity = BigInteger().with_variant(Integer, "sqlite")
"""Row number: 64 bits everywhere (SQLite numbers rows by itself only when the type is spelled INTEGER)."""

DigestText = String(135)
"""`algorithm:hex`, at most that of SHA-512."""


class Moment(TypeDecorator[dt.datetime]):
    """A point in time in UTC; SQLite, which has no zones, stores it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        moment = value.astimezone(dt.UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], dt.datetime | None]:
        """What is called for each value that is read: of long lists this is much of the time."""
        read = self.impl_instance.result_processor(dialect, coltype)
        return _in_utc if read is None else lambda value: _in_utc(read(value))


def _in_utc(value: dt.datetime | None) -> dt.datetime | None:
    if value is None or value.tzinfo is dt.UTC:
        return value
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


def row(**options: Any) -> Column[int]:  # noqa: ANN401 - passed on to Column
    return Column("id", Identity, primary_key=True, autoincrement=True, **options)


def of(table: str, *, name: str | None = None, primary_key: bool = False, nullable: bool = False) -> Column[int]:
    return Column(
        name or f"{table}_id", Identity, ForeignKey(f"{table}.id"), primary_key=primary_key, nullable=nullable
    )


ODD = {"postgresql": "name ~ '[^A-Za-z0-9._-]'", "sqlite": "name GLOB '*[^A-Za-z0-9._-]*'"}
"""By dialect: whether a name has a character that no tag of a registry can have. Layouts call images anything."""


def odd(table: str) -> Index:
    """Images with a tag of an odd name: few, so what only such a tag can contain is not looked for in all of them."""
    postgresql, sqlite = text(ODD["postgresql"]), text(ODD["sqlite"])
    return Index(f"ix_{table}_odd", "artifact_id", postgresql_where=postgresql, sqlite_where=sqlite)
