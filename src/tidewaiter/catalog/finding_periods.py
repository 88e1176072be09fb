"""What findings said on which day: a period for each, ended when the finding is gone or says something else."""

import datetime as dt
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among, lots


def follow(connection: Connection, components: Collection[int], at: dt.datetime) -> frozenset[int]:
    """Bring the periods of these components to their findings as they are now, since `at` where they changed.

    Row numbers of the components with a change.
    """
    of, period = schema.finding.c, schema.finding_period.c
    said = ("component_id", "advisory_id", "severity", "fixed_in", "found_as")
    ended: list[dict[str, Any]] = []
    begun: list[dict[str, Any]] = []
    changed: set[int] = set()
    for some in lots(sorted(components)):
        now = {
            tuple(row[:2]): row
            for row in connection.execute(select(*(of[x] for x in said)).where(among(of.component_id, some)))
        }
        known = connection.execute(
            select(*(period[name] for name in said), period.id, period.since).where(
                among(period.component_id, some), period.until.is_(None)
            )
        ).all()
        before = {tuple(row[:2]): row for row in known}
        # Whatever the clock says now: periods follow one another.
        over = {
            key: max(at, row.since)
            for key, row in before.items()
            if key not in now or tuple(now[key]) != tuple(row[:-2])
        }
        ended += [{"number": before[key].id, "over": when} for key, when in over.items()]
        new = {key: row for key, row in now.items() if key not in before or key in over}
        changed.update(component for component, _ in (*over, *new))
        last = {**_last(connection, {key[0] for key in new.keys() - over.keys()}), **over}
        begun += [
            {**dict(zip(said, row, strict=True)), "since": max(at, last.get(key, at))} for key, row in new.items()
        ]
    if ended:
        end = update(schema.finding_period).where(period.id == bindparam("number"))
        connection.execute(end.values(until=bindparam("over")), ended)
    if begun:
        connection.execute(insert(schema.finding_period), begun)
    return frozenset(changed)


def _last(connection: Connection, components: Collection[int]) -> dict[tuple[int, int], dt.datetime]:
    """By component and advisory: when its last period ended, of those that have ended."""
    of = schema.finding_period.c
    found: dict[tuple[int, int], dt.datetime] = {}
    for some in lots(sorted(components)):
        query = select(of.component_id, of.advisory_id, func.max(of.until))
        query = query.where(among(of.component_id, some), of.until.is_not(None)).group_by(
            of.component_id, of.advisory_id
        )
        found.update(((row[0], row[1]), row[2]) for row in connection.execute(query))
    return found
