"""Conditions about many values at once: one parameter, and so one statement, however many they are.

A parameter for each would be read, planned and cached anew for each number of them, which costs more than the rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Boolean, ColumnElement, Dialect, Text, TypeDecorator, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine, UserDefinedType

_LOT = 20_000
_Value = TypeVar("_Value")


def lots(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    """`values`, as many at a time as one condition should have."""
    return (values[start : start + _LOT] for start in range(0, len(values), _LOT))


class _Many(TypeDecorator[list[Any]]):
    """A list as one parameter: of PostgreSQL an array, which its planner looks into, elsewhere a text in JSON."""

    impl = Text
    cache_ok = True
    array: TypeEngine[Any]
    """In PostgreSQL."""

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(self.array if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: list[Any] | None, dialect: Dialect) -> str:
        return _as_array(value) if dialect.name == "postgresql" else msgspec.json.encode(value).decode()


class _Array(UserDefinedType[str]):
    """An array, written as PostgreSQL writes it: its driver takes longer for a list than the query does."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_options: Any) -> str:  # noqa: ANN401 - as SQLAlchemy calls it
        """Its name."""
        return self.name


class _Numbers(_Many):
    cache_ok = True
    array = _Array("BIGINT[]")


class _Texts(_Many):
    cache_ok = True
    array = _Array("VARCHAR[]")


# SQLAlchemy works out once what a type is in a database, as long as it is the same object.
_NUMBERS, _TEXTS = _Numbers(), _Texts()


def _as_array(value: list[Any] | None) -> str:
    """Numbers or texts as PostgreSQL writes an array of them: as JSON does, but for brackets and what is escaped."""
    written: str = msgspec.json.encode(value or []).decode()
    if "\\" in written:
        quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in value or []]
        written = "[{}]".format(",".join([f'"{text}"' for text in quoted]))
    return f"{{{written[1:-1]}}}"


class _Among(FunctionElement[bool]):
    """Whether a column has one of the values of a list."""

    inherit_cache = True
    type = Boolean()

    def self_group(self, against: OperatorType | None = None) -> "_Among":  # noqa: ARG002 - the base class names it
        """Itself: a condition needs no `= 1` behind it, with which SQLite would ask no index."""
        return self


@compiles(_Among, "sqlite")
def _in_sqlite(element: _Among, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - as SQLAlchemy calls it
    column, listed = (compiler.process(one, **options) for one in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({listed}))"  # noqa: S608 - a column and a parameter


@compiles(_Among, "postgresql")
def _in_postgresql(element: _Among, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - as above
    column, listed = (compiler.process(one, **options) for one in element.clauses)
    return f"{column} = ANY ({listed})"


def among(column: ColumnElement[int], numbers: Iterable[int]) -> ColumnElement[bool]:
    """Whether the column has one of many numbers."""
    return _Among(column, bindparam(None, sorted(numbers), type_=_NUMBERS))


def among_texts(column: ColumnElement[str], texts: Iterable[str]) -> ColumnElement[bool]:
    """Whether the column has one of many texts."""
    return _Among(column, bindparam(None, sorted(texts), type_=_TEXTS))


class _Unindexed(FunctionElement[str]):
    """A text as it is, which SQLite looks up in no index; PostgreSQL knows better which one to take."""

    inherit_cache = True
    type = Text()


@compiles(_Unindexed, "sqlite")
def _unindexed_in_sqlite(element: _Unindexed, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - as above
    return f"+{compiler.process(element.clauses, **options)}"


@compiles(_Unindexed, "postgresql")
def _unindexed_in_postgresql(element: _Unindexed, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - as above
    return compiler.process(element.clauses, **options)


def unindexed(column: ColumnElement[str]) -> ColumnElement[str]:
    """The column, for a comparison that is not to choose the index."""
    return _Unindexed(column)
