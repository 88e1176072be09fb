"""From when to when something had an image: a workload that ran it, a model version that was served by it."""

import datetime as dt
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Table, func, insert, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among, among_texts
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError


class Seen(NamedTuple):
    """One look at it."""

    digest: str
    """Of the image; empty: of whatever it had, when it is `gone`."""
    at: dt.datetime
    stage: str = ""
    gone: bool = False


class Change(NamedTuple):
    """What a look changed."""

    begun: str
    """Digest that it has since then; empty when it had it before."""
    ended: tuple[str, ...]
    """Digests that it has no more."""
    touched: tuple[dt.datetime, ...]
    """When the periods began that were changed."""


def see(connection: Connection, periods: Table, of: int, seen: Seen, now: dt.datetime) -> Change:
    """Write down a look: it has that image, and whatever it had before is gone; or with `gone` it has none.

    Args:
        connection: of a writing transaction.
        periods: `workload_period` or `model_period`.
        of: row number of what was looked at.
        seen: what was seen, and when.
        now: a known look that is later was noted by a clock that was ahead: this one then follows it at once.

    Raises:
        InputError: a later look is known: what is older cannot be put before it.
    """
    owner = next(column for column in periods.c if column.foreign_keys)
    subject = next(iter(owner.foreign_keys)).column
    # Where writers do not take turns by themselves, those of one subject do.
    connection.execute(select(subject).where(subject == of).with_for_update())
    query = select(periods).where(owner == of).order_by(periods.c.id.desc())
    known = connection.execute(query.limit(100)).all()
    latest = max((row.gone_at or row.last_seen for row in known), default=None)
    if latest is not None and seen.at < latest and latest > now:
        seen = seen._replace(at=latest)
    if latest is not None and seen.at < latest:
        raise InputError(
            f"it was looked at on {clock.rfc3339(latest)}, after {clock.rfc3339(seen.at)}",
            next_step="Record in the order of time; without --seen it is the present.",
        )
    current = [row for row in known if row.gone_at is None]
    same = [row for row in current if (row.digest, row.stage) == (seen.digest, seen.stage) and not seen.gone]
    over = [row for row in current if row not in same and (not seen.gone or seen.digest in {"", row.digest})]
    if same:
        _set(connection, periods, same[0].id, last_seen=seen.at)
    for row in over:
        _set(connection, periods, row.id, gone_at=seen.at)
    if not same and not seen.gone:
        there = connection.scalar(select(schema.artifact.c.id).where(schema.artifact.c.digest == seen.digest))
        row_of = {owner.name: of, "digest": seen.digest, "known": there is not None, "stage": seen.stage}
        times = {"first_seen": seen.at, "last_seen": seen.at, "gone_at": None}
        connection.execute(insert(periods), {**row_of, **times})
    begun = "" if same or seen.gone else seen.digest
    touched = {row.first_seen for row in (*same[:1], *over)} | ({seen.at} if begun else set())
    return Change(begun, tuple(row.digest for row in over), tuple(sorted(touched)))


def of_digests(
    connection: Connection, periods: Table, query: Select[Any], open_then: ColumnElement[bool], wanted: Collection[str]
) -> Iterator[AnyRow]:
    """Rows of `query`, which joins `periods`, for periods that `open_then` holds of and whose image is wanted."""
    size = connection.scalar(select(func.max(periods.c.id))) or 0
    if len(wanted) <= size:
        yield from connection.execute(query.where(open_then, among_texts(periods.c.digest, wanted))).all()
        return
    light = select(periods.c.id, periods.c.digest).where(open_then)
    found = [number for number, digest in connection.execute(light).all() if digest in wanted]
    yield from connection.execute(query.where(among(periods.c.id, found))).all()


def _set(connection: Connection, periods: Table, number: int, **values: Any) -> None:  # noqa: ANN401 - of columns
    connection.execute(update(periods).where(periods.c.id == number).values(**values))
