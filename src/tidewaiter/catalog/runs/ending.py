"""The end of a run: the one place that lets it reach a state that it never leaves."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.runs.records import RunState
from tidewaiter.catalog.storable import storable_tree


def why(*, code: str, message: str, next_step: str) -> dict[str, str]:
    """An error as runs and steps keep it."""
    return {"code": code, "message": message, "next": next_step}


def end(
    connection: Connection,
    number: int,
    state: RunState,
    *,
    at: dt.datetime,
    by: str = "",
    result: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
) -> None:
    """Let the run in that row end; steps that were under way end with it."""
    run, step = schema.pipeline_run.c, schema.pipeline_step.c
    kept = storable_tree(dict(result or {}))
    told = storable_tree(dict(error)) if error is not None else None
    values = {"state": state, "ended_at": at, "cancelling": False, "progress": None, "result": kept, "error": told}
    connection.execute(update(schema.pipeline_run).where(run.id == number).values(values))
    open_steps = (step.pipeline_run_id == number, step.state.in_(("running", "waiting")))
    left = "cancelled" if state == "cancelled" else "failed"
    connection.execute(update(schema.pipeline_step).where(*open_steps).values(state=left, ended_at=at))
    row = connection.execute(select(run.name, run.kind, run.team, run.repository).where(run.id == number)).one()
    detail = {**kept, "kind": row.kind, "team": row.team, "repository": row.repository, "state": state}
    if told is not None:
        detail["error"] = {"code": told.get("code", ""), "message": told.get("message", "")}
    audit.append(connection, "pipeline.end", row.name, detail, at=at, actor=by)
