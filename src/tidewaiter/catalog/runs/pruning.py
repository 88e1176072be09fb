"""Runs that ended long ago are forgotten; the audit log remembers that they were."""

import datetime as dt

from sqlalchemy import Connection, delete, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit

_SOME = 20
"""Runs of one transaction: other writers wait for it."""


def prune(
    connection: Connection, before: dt.datetime, *, at: dt.datetime, rows: int = _SOME
) -> tuple[tuple[str, int], ...]:
    """Forget runs that ended before that moment, with their steps and logs; at most so many; their names and rounds.

    Workflows of the engine are not here: the caller forgets those.
    """
    run, step, line = schema.pipeline_run.c, schema.pipeline_step.c, schema.pipeline_line.c
    found = connection.execute(
        select(run.id, run.name, run.round).where(run.ended_at < before).order_by(run.id).limit(rows)
    ).all()
    if not found:
        return ()
    numbers = [row.id for row in found]
    connection.execute(delete(schema.pipeline_line).where(line.pipeline_run_id.in_(numbers)))
    connection.execute(delete(schema.pipeline_step).where(step.pipeline_run_id.in_(numbers)))
    connection.execute(delete(schema.pipeline_run).where(run.id.in_(numbers)))
    audit.append(connection, "pipeline.prune", f"{len(found)} runs", {"first": found[0].name}, at=at)
    return tuple((row.name, row.round) for row in found)
