"""Runs that come by themselves, once each, however many workers look, and however often they start.

1. The catalog says when each schedule comes next; a new one, or one that reads otherwise, comes from now on.
2. What is due is asked for under a key that names the schedule and the time. Who asks for it again gets the same run.
3. Then the catalog says the next time from now on: what was missed meanwhile came once.

A worker that dies between 2 and 3 leaves it due, and the next one gets the run of 2.
"""

import datetime as dt
import logging

import msgspec

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import turns
from tidewaiter.catalog.runs.records import Asked, Run, Trigger
from tidewaiter.catalog.runs.turns import Turn
from tidewaiter.core import clock, cron
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.core.settings import ScheduleTable, Settings
from tidewaiter.pipelines.durable import asking_runs
from tidewaiter.pipelines.sources import checking_out, places
from tidewaiter.pipelines.triggers import asking_sources

_LOG = logging.getLogger("tidewaiter.schedules")


def due(settings: Settings, catalog: Catalog, now: dt.datetime) -> tuple[Run, ...]:
    """The runs of the schedules that are due; each is asked for once. One whose source does not answer is put off.

    It may take as long as servers of sources do (`limits.SOURCE_ASK_SECONDS` each). To be called every few seconds.

    Raises `StorageError`: the catalog cannot be read or written.
    """
    if not settings.schedules and not _known(catalog):
        return ()
    known = _set_up(settings, catalog, now)
    made: list[Run] = []
    for table in settings.schedules:
        turn = known[table.name]
        if turn.next_at > now or (turn.retry_at is not None and turn.retry_at > now):
            continue
        made += _come(settings, catalog, table, turn, now)
    return tuple(made)


def _known(catalog: Catalog) -> dict[str, Turn]:
    with catalog.database.reading() as connection:
        return turns.every(connection)


def _set_up(settings: Settings, catalog: Catalog, now: dt.datetime) -> dict[str, Turn]:
    """When each schedule of the settings comes; written only when they changed."""
    known = _known(catalog)
    said = {table.name: msgspec.json.encode(table).decode() for table in settings.schedules}
    if {name: turn.said for name, turn in known.items()} == said:
        return known
    with catalog.database.writing() as connection:
        known = turns.every(connection)
        for name in known.keys() - said.keys():
            turns.forget(connection, name)
        for table in settings.schedules:
            if table.name not in known or known[table.name].said != said[table.name]:
                turns.begin(connection, table.name, said[table.name], _next(table, now))
        return turns.every(connection)


def _next(table: ScheduleTable, now: dt.datetime) -> dt.datetime:
    return cron.turns(table.cron, table.every, table.timezone).after(now)


def _come(settings: Settings, catalog: Catalog, table: ScheduleTable, turn: Turn, now: dt.datetime) -> tuple[Run, ...]:
    """The runs of a schedule that is due; none when it was put off, or another worker was faster."""
    try:
        wanted = _asked(settings, table)
    except TidewaiterError as error:
        _LOG.warning("schedule %s is put off: %s", table.name, error.message)
        with catalog.database.writing() as connection:
            turns.put_off(connection, table.name, turn, now)
        return ()
    key = f"schedule:{table.name}:{clock.rfc3339(turn.next_at)}"
    runs = tuple(
        asking_runs.submit(settings, catalog, asked, key=f"{key}:{number}") for number, asked in enumerate(wanted)
    )
    with catalog.database.writing() as connection:
        mine = turns.go_on(connection, table.name, turn.next_at, _next(table, now))
    return runs if mine else ()


def _asked(settings: Settings, table: ScheduleTable) -> tuple[Asked, ...]:
    """What is asked for: of a source, the commit that its branch is at now, for each of its folders."""
    trigger = Trigger(kind="schedule", by=f"schedule {table.name}")
    if table.kind == "sweep":
        return (Asked(kind="sweep", team=table.team, trigger=trigger),)
    source = places.named(settings, table.source)
    commit = checking_out.resolve(settings, source.url, table.ref)
    return tuple(asking_sources.of_commit(source, commit, table.ref, trigger))
