"""The pages of pipelines: the list of runs, and one run as it goes on.

A page is whole without a script. With one, the browser hears the run's log as it is said, and has what stands above
it (steps, times, result) drawn anew by the server whenever something new was said.
"""

import datetime as dt
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Request, Response

from tidewaiter.access.identity import Identity
from tidewaiter.access.roles import Permission
from tidewaiter.catalog.runs import reading
from tidewaiter.catalog.runs.records import ENDED, STATES, Line, Run, Step
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError
from tidewaiter.pipelines.durable import shapes
from tidewaiter.pipelines.triggers import asking_sources
from tidewaiter.web import pages
from tidewaiter.web.guard import POLICY, WITH_SCRIPT
from tidewaiter.web.source import Source, TheSource

router = APIRouter(include_in_schema=False)

_METHODS = ["GET", "HEAD"]
_READ = Permission.PIPELINE_READ
_State = Annotated[str, Query(max_length=20)]
_Text = Annotated[str, Query(max_length=limits.SEARCH_CHARACTERS)]
_After = Annotated[int | None, Query(ge=1, le=2**62)]


class Seen(NamedTuple):
    """A step as a reader sees it: also one that has not begun."""

    name: str
    step: Step | None
    seconds: float | None
    """How long it took, or has taken until now."""


@router.api_route("/pipelines", methods=_METHODS)
def runs(
    request: Request, source: TheSource, state: _State = "", repository: _Text = "", after: _After = None
) -> Response:
    """Runs of the projects that the visitor may read, the last that was asked for first."""
    visitor: Identity = request.state.identity
    states = tuple(one for one in STATES if one == state)
    if state and not states:
        raise InputError(f"{state[:20]!a} is no state", next_step=f"There are: {', '.join(STATES)}.")
    with source.catalog.database.reading() as connection:
        found = reading.listed(
            connection, states=states, repository=repository.strip(), after=after, rows=limits.PAGE_ROWS
        )
        counts = reading.counts(connection)
    shown = [one for one in found.runs if visitor.may(_READ, asking_sources.project_of_run(source.settings, one.asked))]
    return pages.render(
        request,
        "runs.html",
        runs=[(one, _seconds(one.started_at, one.ended_at)) for one in shown],
        after=found.after,
        state=state,
        # How many other projects have is nobody else's business.
        states=[one for one in STATES if counts.get(one)] if visitor.may(_READ) else STATES,
        counts=counts if visitor.may(_READ) else {},
        repository=repository.strip(),
        search="",
    )


@router.api_route("/pipelines/{name}", methods=_METHODS)
def run(request: Request, source: TheSource, name: str) -> Response:
    """One run: its steps, what it says, and what came of it."""
    found, lines = _run(request, source, name)
    answer = pages.render(
        request, "run.html", search="", lines=lines, last=lines[-1].number if lines else 0, **_told(found)
    )
    answer.headers[POLICY] = WITH_SCRIPT
    return answer


@router.api_route("/pipelines/{name}/now", methods=_METHODS)
def run_now(request: Request, source: TheSource, name: str) -> Response:
    """What stands above the log, as a part of the page."""
    with source.catalog.database.reading() as connection:
        found = reading.run(connection, name)
    _require(request, source, found)
    return pages.render(request, "run_now.html", **_told(found))


def _require(request: Request, source: Source, run: Run) -> None:
    """Return when the visitor may read of the run; raises `RefusedError`."""
    visitor: Identity = request.state.identity
    visitor.require(_READ, asking_sources.project_of_run(source.settings, run.asked))


def _run(request: Request, source: Source, name: str) -> tuple[Run, tuple[Line, ...]]:
    """The run and the last lines that it said."""
    with source.catalog.database.reading() as connection:
        found = reading.run(connection, name)
        _require(request, source, found)
        lines = reading.tail(connection, name, rows=limits.PAGE_LINES)
    return found, lines


def _told(run: Run) -> dict[str, Any]:
    begun = {one.name: one for one in run.steps}
    known = shapes.SHAPES[run.kind].steps
    names = [*known, *(one for one in begun if one not in known)]
    steps = [
        Seen(one, begun.get(one), _seconds(begun[one].started_at, begun[one].ended_at) if one in begun else None)
        for one in names
    ]
    return {
        "run": run,
        "steps": steps,
        "seconds_taken": _seconds(run.started_at, run.ended_at),
        "waited": _seconds(run.created_at, run.started_at or run.ended_at),
        "ended": run.state in ENDED,
    }


def _seconds(begun: dt.datetime | None, ended: dt.datetime | None) -> float | None:
    return None if begun is None else max(0.0, ((ended or clock.now()) - begun).total_seconds())
