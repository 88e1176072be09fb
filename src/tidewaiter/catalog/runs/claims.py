"""Who works on which run.

1. A worker enters with a name that nobody else has, and says again and again that it lives: its beats grow.
2. It claims a run that waits, in one transaction that no other is beside: the limits hold, and nobody has it twice. One
   that was dismissed and does not know yet claims nothing: nobody would take that from it.
3. A claim has a number, that of the attempts at its run. Whatever is written for a run names it: whoever lost the run
   meanwhile, and does not know yet, writes nothing.
4. A worker that fell silent is dismissed by another one, and its runs wait again. Beats are counted against beats, so
   that no two clocks are compared, and a database that lets nobody write dismisses nobody.
5. What nobody has any more waits again, however that came about: with a catalog from a backup, for example.
"""

import datetime as dt
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from tidewaiter.catalog import schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.catalog.runs import ending
from tidewaiter.catalog.runs.records import AT_ONCE, Asked
from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError

_NONE = dt.timedelta()
_LONGEST_WAIT = dt.timedelta(seconds=limits.RUN_WAIT_SECONDS)


class LostClaimError(UndeterminedError):
    """Somebody else has the run now."""

    default_code = "claim_lost"


class Claim(NamedTuple):
    """A run that a worker has."""

    row: int
    run: str
    worker: str
    attempt: int
    round: int
    """Which of the engine's workflows carries it out."""
    shape: str
    """Of the pipeline that it began with; empty the first time."""
    asked: Asked


class Limits(NamedTuple):
    """How many runs may run at the same time, of all workers; 0 is no limit."""

    all: int
    team: int
    """Of each team that is not in `teams`."""
    teams: Mapping[str, int]

    def of(self, team: str) -> int:
        """That of a team."""
        return self.teams.get(team, self.team)


def enter(connection: Connection, worker: str, *, concurrency: int, version: str, at: dt.datetime) -> None:
    """Say that there is a worker of that name, which lives."""
    row = {"name": worker, "beats": 0, "started_at": at, "seen_at": at, "concurrency": concurrency, "version": version}
    connection.execute(insert(schema.pipeline_worker), row)


def beat(connection: Connection, worker: str, at: dt.datetime) -> bool:
    """Say that it lives still; False when it was dismissed meanwhile."""
    of = schema.pipeline_worker.c
    values = {"beats": of.beats + 1, "seen_at": at}
    return connection.execute(update(schema.pipeline_worker).where(of.name == worker).values(values)).rowcount == 1


def beats(connection: Connection) -> dict[str, int]:
    """How often each worker said that it lives."""
    of = schema.pipeline_worker.c
    return {name: int(count) for name, count in connection.execute(select(of.name, of.beats))}


def dismiss(
    connection: Connection, worker: str, *, at: dt.datetime, beats: int | None = None
) -> tuple[str, ...] | None:
    """Take its runs from a worker that is no more; their names, or None when it lives: it beat more than `beats`.

    What was to be cancelled has ended then; a run that lost too many workers in the same step is poisoned.
    """
    of, run = schema.pipeline_worker.c, schema.pipeline_run.c
    alive = (of.name == worker,) if beats is None else (of.name == worker, of.beats == beats)
    gone = connection.execute(delete(schema.pipeline_worker).where(*alive)).rowcount
    if beats is not None and not gone:
        return None
    held = connection.execute(select(run.id, run.name).where(run.worker == worker, run.state == "running")).all()
    for row in held:
        _lost(connection, row.id, at)
    return tuple(row.name for row in held)


def recover(connection: Connection, *, at: dt.datetime) -> tuple[str, ...]:
    """Let runs wait again that are said to be with a worker that nobody knows; their names."""
    of, run = schema.pipeline_worker.c, schema.pipeline_run.c
    strays = connection.execute(
        select(run.id, run.name).where(run.state == "running", run.worker.not_in(select(of.name))).order_by(run.id)
    ).all()
    for row in strays:
        _lost(connection, row.id, at)
    return tuple(row.name for row in strays)


def give_back(
    connection: Connection,
    claim: Claim,
    *,
    at: dt.datetime,
    wait: dt.timedelta = _NONE,
    lost: bool = False,
) -> None:
    """Let another one have the run, after `wait`: nothing speaks against it, or it counts as `lost`.

    Raises `LostClaimError`.
    """
    require(connection, claim)
    if lost:
        _lost(connection, claim.row, at, wait)
    else:
        _back(connection, claim.row, at, wait)


def _lost(connection: Connection, number: int, at: dt.datetime, wait: dt.timedelta = _NONE) -> None:
    """Let it wait again, unless its step lost too many workers."""
    run = schema.pipeline_run.c
    name, losses = connection.execute(select(run.name, run.losses + 1).where(run.id == number)).one()
    if losses < limits.RUN_LOSSES:
        _back(connection, number, at, wait, losses=losses)
        return
    why = ending.why(
        code="poison_run",
        message=f"{losses} workers fell silent, one after the other, in the same step of {name}",
        next_step="See the logs of the workers and their machines; then `tidewaiter pipeline retry`.",
    )
    ending.end(connection, number, "poisoned", at=at, error=why)


def _back(
    connection: Connection, number: int, at: dt.datetime, wait: dt.timedelta, *, losses: int | None = None
) -> None:
    run, step = schema.pipeline_run.c, schema.pipeline_step.c
    cancelling = connection.scalar(select(run.cancelling).where(run.id == number))
    if cancelling:
        ending.end(connection, number, "cancelled", at=at)
        return
    values = {"state": "queued", "resume_at": at + wait if wait else AT_ONCE, "progress": None}
    if losses is not None:
        values["losses"] = losses
    connection.execute(update(schema.pipeline_run).where(run.id == number).values(values))
    running = (step.pipeline_run_id == number, step.state == "running")
    connection.execute(update(schema.pipeline_step).where(*running).values(state="waiting"))


def waiting(connection: Connection) -> bool:
    """Whether a run waits for a worker, now or later."""
    of = schema.pipeline_run.c
    return connection.scalar(select(of.id).where(of.state == "queued").limit(1)) is not None


def is_anything_open(connection: Connection) -> bool:
    """Whether a run has not ended: there is, or soon may be, work."""
    of = schema.pipeline_run.c
    return connection.scalar(select(of.id).where(of.state.in_(("queued", "running"))).limit(1)) is not None


def claimable(connection: Connection, bounds: Limits, at: dt.datetime) -> int | None:
    """Row of the run that is next; None when none may begin now. A sweep waits for the one before it."""
    of = schema.pipeline_run.c
    running = {
        (team, kind): int(count)
        for team, kind, count in connection.execute(
            select(of.team, of.kind, func.count()).where(of.state == "running").group_by(of.team, of.kind)
        )
    }
    if bounds.all and sum(running.values()) >= bounds.all:
        return None
    by_team: dict[str, int] = {}
    for (team, _), count in running.items():
        by_team[team] = by_team.get(team, 0) + count
    full = sorted(team for team, count in by_team.items() if bounds.of(team) and count >= bounds.of(team))
    # Whoever gave it back may have another clock, or one that was set since: it cannot make a run wait for long.
    due = or_(of.resume_at <= at, of.resume_at > at + _LONGEST_WAIT)
    query = select(of.id).where(of.state == "queued", due)
    if full:
        query = query.where(of.team.not_in(full))
    if any(kind == "sweep" for _, kind in running):
        query = query.where(of.kind != "sweep")
    found = connection.scalar(query.order_by(of.id).limit(1))
    return None if found is None else int(found)


def claim(connection: Connection, worker: str, bounds: Limits, *, at: dt.datetime) -> Claim | None:
    """The run that is next, for that worker; None when none may begin now.

    Raises `LostClaimError`: the worker was dismissed.
    """
    of, workers = schema.pipeline_run.c, schema.pipeline_worker.c
    if connection.scalar(select(workers.name).where(workers.name == worker)) is None:
        raise LostClaimError(f"{worker} was taken for dead", next_step="It enters anew.")
    number = claimable(connection, bounds, at)
    if number is None:
        return None
    row = connection.execute(select(schema.pipeline_run).where(of.id == number)).one()
    values = {
        "state": "running",
        "worker": worker,
        "attempts": row.attempts + 1,
        "started_at": row.started_at or at,
    }
    connection.execute(update(schema.pipeline_run).where(of.id == number).values(values))
    if row.started_at is None:
        detail = {"kind": row.kind, "team": row.team, "repository": row.repository, "worker": worker}
        audit.append(connection, "pipeline.start", row.name, detail, at=at)
    return _claim(row)._replace(worker=worker, attempt=row.attempts + 1)


def _claim(row: AnyRow) -> Claim:
    import msgspec

    asked = msgspec.convert(row.asked, Asked)
    return Claim(row.id, row.name, row.worker, row.attempts, row.round, row.shape, asked)


def held(connection: Connection, worker: str) -> tuple[Claim, ...]:
    """What that worker has."""
    of = schema.pipeline_run.c
    query = select(schema.pipeline_run).where(of.worker == worker, of.state == "running").order_by(of.id)
    return tuple(map(_claim, connection.execute(query)))


def require(connection: Connection, claim: Claim) -> None:
    """Return when the worker still has the run; raises `LostClaimError`."""
    require_held(claim.row, claim.worker, claim.attempt, connection)


def require_held(number: int, worker: str, attempt: int, connection: Connection) -> None:
    """As `require`, for the run in that row."""
    of = schema.pipeline_run.c
    query = select(of.worker, of.attempts, of.state).where(of.id == number)
    found = connection.execute(query).one_or_none()
    if found is None or tuple(found) != (worker, attempt, "running"):
        raise LostClaimError(f"{worker} no longer has the run", next_step="Whoever has it now carries it out.")


def begin(connection: Connection, claim: Claim, *, round_: int, shape: str) -> None:
    """Say which workflow of the engine carries the run out, and of which shape it is. Raises `LostClaimError`."""
    require(connection, claim)
    of = schema.pipeline_run.c
    connection.execute(update(schema.pipeline_run).where(of.id == claim.row).values(round=round_, shape=shape))


def cancelled(connection: Connection, worker: str) -> frozenset[int]:
    """Rows of the runs of a worker that somebody wants to be cancelled."""
    of = schema.pipeline_run.c
    query = select(of.id).where(of.worker == worker, of.state == "running", of.cancelling.is_(True))
    return frozenset(map(int, connection.scalars(query)))


def end(connection: Connection, claim: Claim, state: str, *, at: dt.datetime, **what: object) -> None:
    """As `ending.end`, by whoever has the run. Raises `LostClaimError`."""
    require(connection, claim)
    ending.end(connection, claim.row, state, at=at, **what)  # type: ignore[arg-type]  # its own parameters
