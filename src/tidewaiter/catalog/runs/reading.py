"""What the catalog knows of runs, and what they said."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, func, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.rows import AnyRow, chunks
from tidewaiter.catalog.runs.records import Line, Run, RunKind, RunState, Step
from tidewaiter.core import limits
from tidewaiter.core.errors import NotFoundError


class Page(msgspec.Struct, frozen=True):
    """Runs, the last that was asked for first."""

    runs: tuple[Run, ...]
    """Without their steps."""
    after: int | None
    """Where the next page begins; None when this is the last."""


class Log(msgspec.Struct, frozen=True):
    """Some lines of a run."""

    lines: tuple[Line, ...]
    after: int
    """Number of the last line that is known now."""
    ended: bool
    """Whether the run has ended, and these are its last lines."""


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"there is no run {name[:60]!r}", next_step="`tidewaiter pipeline list` says which there are.")


def number(connection: Connection, name: str) -> int:
    """Row of the run; raises `NotFoundError`."""
    of = schema.pipeline_run.c
    found = connection.scalar(select(of.id).where(of.name == name))
    if found is None:
        raise _missing(name)
    return int(found)


def run(connection: Connection, name: str) -> Run:
    """The run with its steps; raises `NotFoundError`."""
    row = connection.execute(select(schema.pipeline_run).where(schema.pipeline_run.c.name == name)).one_or_none()
    if row is None:
        raise _missing(name)
    of = schema.pipeline_step.c
    steps = connection.execute(
        select(schema.pipeline_step).where(of.pipeline_run_id == row.id).order_by(of.number)
    ).all()
    return _run(row, tuple(map(_step, steps)))


def _step(row: AnyRow) -> Step:
    return Step(
        number=row.number,
        name=row.name,
        state=row.state,
        attempts=row.attempts,
        started_at=row.started_at,
        ended_at=row.ended_at,
        answer=row.answer,
        error=row.error,
    )


def _run(row: AnyRow, steps: tuple[Step, ...]) -> Run:
    known = {
        "id": row.name,
        "kind": row.kind,
        "state": row.state,
        "asked": row.asked,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "attempts": row.attempts,
        "worker": row.worker,
        "steps": steps,
        "result": row.result,
        "error": row.error,
        "application_version": row.shape,
        "cancelling": row.cancelling,
        "progress": row.progress,
    }
    return msgspec.convert(known, Run)


def listed(
    connection: Connection,
    *,
    states: Sequence[RunState] = (),
    kind: RunKind | None = None,
    team: str = "",
    repository: str = "",
    after: int | None = None,
    rows: int = limits.PAGE_ROWS,
) -> Page:
    """Runs in one of these states, of that kind, team and repository (or folder), those behind `after` of a page."""
    of = schema.pipeline_run.c
    query = select(schema.pipeline_run).order_by(of.id.desc()).limit(rows + 1)
    if states:
        query = query.where(of.state.in_(states))
    for column, wanted in ((of.kind, kind), (of.team, team), (of.repository, repository)):
        if wanted:
            query = query.where(column == wanted)
    if after is not None:
        query = query.where(of.id < after)
    found = connection.execute(query).all()
    shown = found[:rows]
    return Page(tuple(_run(row, ()) for row in shown), int(shown[-1].id) if len(found) > rows else None)


def counts(connection: Connection) -> dict[str, int]:
    """How many runs are in each state."""
    of = schema.pipeline_run.c
    return {state: int(count) for state, count in connection.execute(select(of.state, func.count()).group_by(of.state))}


def log(connection: Connection, name: str, *, after: int = 0, rows: int = limits.RUN_LOG_PAGE) -> Log:
    """What the run said behind the line with the number `after`; raises `NotFoundError`."""
    run_of, of = schema.pipeline_run.c, schema.pipeline_line.c
    row = connection.execute(select(run_of.id, run_of.ended_at).where(run_of.name == name)).one_or_none()
    if row is None:
        raise _missing(name)
    query = select(of.number, of.at, of.step, of.text).where(of.pipeline_run_id == row.id, of.number > after)
    found = connection.execute(query.order_by(of.number).limit(rows)).all()
    lines = tuple(Line(number=one.number, at=one.at, step=one.step, text=one.text) for one in found)
    last = lines[-1].number if lines else after
    return Log(lines, last, row.ended_at is not None and len(lines) < rows)


def tail(connection: Connection, name: str, *, rows: int) -> tuple[Line, ...]:
    """The last lines that the run said, in their order; raises `NotFoundError`."""
    of = schema.pipeline_line.c
    query = select(of.number, of.at, of.step, of.text).where(of.pipeline_run_id == number(connection, name))
    found = connection.execute(query.order_by(of.number.desc()).limit(rows)).all()
    return tuple(Line(number=one.number, at=one.at, step=one.step, text=one.text) for one in reversed(found))


def unknown(connection: Connection, names: Sequence[str]) -> frozenset[str]:
    """Those of these runs that the catalog does not have."""
    of = schema.pipeline_run.c
    known = {name for some in chunks(names) for name in connection.scalars(select(of.name).where(of.name.in_(some)))}
    return frozenset(names) - known
