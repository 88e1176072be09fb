"""What whoever has a run says of it: its steps, how far it is, its log."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.rows import put
from tidewaiter.catalog.runs import claims
from tidewaiter.catalog.runs.claims import Claim
from tidewaiter.catalog.runs.records import Progress, StepState
from tidewaiter.catalog.storable import storable, storable_tree
from tidewaiter.core import limits


class Begun(NamedTuple):
    """A step that is about to be done."""

    attempts: int
    """With this one."""
    deaths: int
    """How often its process died."""
    answer: dict[str, Any] | None
    """What it answered when it is done already."""


class Said(NamedTuple):
    """A line that a step said."""

    at: dt.datetime
    step: str
    text: str


def begin(connection: Connection, claim: Claim, number: int, name: str, *, at: dt.datetime) -> Begun:
    """Say that a step begins, or begins again, unless it is done. Raises `LostClaimError`."""
    claims.require(connection, claim)
    of = schema.pipeline_step.c
    key = (of.pipeline_run_id == claim.row, of.number == number)
    row = connection.execute(select(schema.pipeline_step).where(*key)).one_or_none()
    if row is None:
        values = {
            "pipeline_run_id": claim.row,
            "number": number,
            "name": name,
            "state": "running",
            "attempts": 1,
            "deaths": 0,
            "started_at": at,
            "answer": {},
        }
        connection.execute(insert(schema.pipeline_step), values)
        return Begun(1, 0, None)
    if row.name != name:  # of another release's pipeline
        fresh = {"name": name, "state": "running", "attempts": 1, "deaths": 0, "started_at": at}
        values = {**fresh, "ended_at": None, "answer": {}, "error": None}
        connection.execute(update(schema.pipeline_step).where(*key).values(values))
        return Begun(1, 0, None)
    if row.state == "done":
        return Begun(row.attempts, row.deaths, dict(row.answer))
    again = {"state": "running", "attempts": row.attempts + 1, "ended_at": None}
    connection.execute(update(schema.pipeline_step).where(*key).values(again))
    return Begun(row.attempts + 1, row.deaths, None)


def end(
    connection: Connection,
    claim: Claim,
    number: int,
    state: StepState,
    *,
    at: dt.datetime,
    answer: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    died: bool = False,
) -> int:
    """Say what came of a step, or of one attempt at it (`waiting`); how often its process `died` until now.

    Raises:
        LostClaimError: somebody else has the run.
    """
    claims.require(connection, claim)
    of, run = schema.pipeline_step.c, schema.pipeline_run.c
    key = (of.pipeline_run_id == claim.row, of.number == number)
    values: dict[str, Any] = {"state": state, "ended_at": at if state != "waiting" else None}
    if answer is not None:
        values["answer"] = storable_tree(dict(answer))
    if error is not None:
        values["error"] = storable_tree(dict(error))
    if died:
        values["deaths"] = of.deaths + 1
    connection.execute(update(schema.pipeline_step).where(*key).values(values))
    after: dict[str, Any] = {"progress": None}
    if state == "done":
        after["losses"] = 0
    connection.execute(update(schema.pipeline_run).where(run.id == claim.row).values(after))
    row = connection.execute(select(of.name, of.attempts, of.deaths).where(*key)).one()
    if state != "waiting":
        detail: dict[str, Any] = {"step": row.name, "number": number, "state": state, "attempts": row.attempts}
        if error is not None:
            detail["error"] = {"code": error.get("code", ""), "message": error.get("message", "")}
        audit.append(connection, "pipeline.step", claim.run, detail, at=at)
    return int(row.deaths)


def told(connection: Connection, claim: Claim) -> int:
    """How many steps of the run have come to an end."""
    of = schema.pipeline_step.c
    ended = (of.pipeline_run_id == claim.row, of.ended_at.is_not(None))
    return int(connection.scalar(select(func.count()).where(*ended)) or 0)


def say(connection: Connection, claim: Claim, said: Sequence[Said]) -> bool:
    """Append to the log of the run; what is beyond its bound is dropped. Whether there is room for more.

    Raises `LostClaimError`.
    """
    claims.require(connection, claim)
    of = schema.pipeline_line.c
    last = connection.scalar(select(func.max(of.number)).where(of.pipeline_run_id == claim.row)) or 0
    room = limits.RUN_LINES - last
    if room <= 0:
        return False
    kept = [(one.at, one.step, one.text) for one in said[:room]]
    if len(said) >= room:
        kept[-1] = (kept[-1][0], kept[-1][1], f"… over {limits.RUN_LINES} lines; what follows is not kept")
    rows = [
        {
            "pipeline_run_id": claim.row,
            "number": last + count,
            "at": at,
            "step": step,
            "text": storable(text[: limits.RUN_LINE_CHARACTERS]),
        }
        for count, (at, step, text) in enumerate(kept, 1)
    ]
    put(connection, schema.pipeline_line, ("pipeline_run_id", "number"), rows)
    return len(said) < room


def show(connection: Connection, claim: Claim, progress: Progress | None) -> None:
    """Say how far the step is. Raises `LostClaimError`."""
    claims.require(connection, claim)
    values = {"progress": None if progress is None else msgspec.to_builtins(progress)}
    connection.execute(update(schema.pipeline_run).where(schema.pipeline_run.c.id == claim.row).values(values))
