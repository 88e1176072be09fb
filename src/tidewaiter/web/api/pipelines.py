"""Runs of pipelines: asking for them, how they stand, what they say, cancelling and trying again."""

from typing import Annotated

import msgspec
from fastapi import Response
from msgspec import Meta

from tidewaiter.access.roles import Permission, project_of
from tidewaiter.catalog.runs import reading
from tidewaiter.catalog.runs.reading import Log
from tidewaiter.catalog.runs.records import Asked, Run, RunKind, RunState, Trigger
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.pipelines.durable import asking_runs
from tidewaiter.pipelines.sources import checking_out, places
from tidewaiter.pipelines.triggers import asking_sources
from tidewaiter.web import sse
from tidewaiter.web.api import paging
from tidewaiter.web.api.following import follower, goes_on
from tidewaiter.web.api.paging import Paging
from tidewaiter.web.api.route import Ask, Page, Routes
from tidewaiter.web.log_stream import LogStream
from tidewaiter.web.problems import HttpError

ROUTES = Routes("pipelines")
_READ = Permission.PIPELINE_READ
_RUN = Permission.PIPELINE_RUN
AFTER = "Tidewaiter-Log-After"
ENDED = "Tidewaiter-Log-Ended"

_Id = Annotated[str, Meta(min_length=1, max_length=64)]
_Commit = Annotated[
    str,
    Meta(
        pattern=r"^(?:|[0-9a-f]{40}|[0-9a-f]{64})\Z",
        description="Full hash; empty: the commit that `ref` is at now.",
    ),
]
_Ref = Annotated[
    str,
    Meta(
        pattern=r"^(?:|refs/(?:heads|tags)/[A-Za-z0-9._/+@-]{1,200})\Z",
        description="`refs/heads/BRANCH` or `refs/tags/TAG`.",
    ),
]
_Line = Annotated[int, Meta(ge=0, le=2**53, description="Behind which line to begin; 0: the first that is kept.")]


class RunPath(msgspec.Struct, frozen=True):
    """Which run."""

    id: _Id


class NewRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be done."""

    kind: RunKind = "clear"
    source: Annotated[
        str, Meta(max_length=64, description="Name of a `[[source]]` of the server's settings; none for a sweep.")
    ] = ""
    commit: _Commit = ""
    ref: _Ref = ""
    folder: Annotated[
        str, Meta(max_length=300, description="One of the source's folders; empty: the first of them.")
    ] = ""
    push: Annotated[bool, Meta(description="Push to where the source says; false: the image stays in the store.")] = (
        True
    )


class RunsQuery(Paging, frozen=True, kw_only=True):
    """Which runs."""

    state: Annotated[tuple[RunState, ...], Meta(max_length=10, description="May be given several times.")] = ()
    kind: RunKind | None = None
    team: Annotated[str, Meta(max_length=300)] = ""
    repository: Annotated[str, Meta(max_length=limits.SOURCE_URL_CHARACTERS, description="Address of the source.")] = ""


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines."""

    after: _Line = 0
    limit: Annotated[int, Meta(ge=1, le=limits.RUN_LOG_PAGE, description="At most so many lines.")] = (
        limits.RUN_LOG_PAGE
    )


class LogStreamQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Where to begin."""

    after: _Line = 0


def _project(ask: Ask, asked: Asked) -> str | None:
    """The project in which a role lets somebody read of a run, and decide about it; None: everywhere."""
    return asking_sources.project_of_run(ask.source.settings, asked)


def _require(ask: Ask, asked: Asked) -> None:
    """Return when who asks may have that done; whoever has something pushed may push there himself."""
    ask.permit(_RUN, _project(ask, asked))
    if asked.push:
        ask.permit(Permission.IMAGE_PUSH, project_of(asked.push))


def _asked(ask: Ask, body: NewRun) -> Asked:
    trigger = Trigger(kind="api", by=ask.identity.name)
    if body.kind == "sweep":
        if body.source or body.commit or body.ref or body.folder:
            raise InputError("a sweep is about everything", next_step="Ask for it without a source.")
        asked = Asked(kind="sweep", trigger=trigger)
        _require(ask, asked)
        return asked
    settings = ask.source.settings
    table = places.named(settings, body.source)
    folder = body.folder or table.folders[0]
    if folder not in table.folders:
        raise InputError(
            f"{folder[:60]!a} is no folder of the source {table.name}",
            next_step=f"Its folders are: {', '.join(table.folders)[:300]}.",
        )
    (asked,) = asking_sources.of_commit(table, body.commit, body.ref, trigger, folders=(folder,), push=body.push)
    _require(ask, asked)  # before any other host is asked
    if body.commit:
        return asked
    if not body.ref:
        raise InputError("neither a commit nor a branch or tag is given", next_step="Give `commit` or `ref`.")
    (asked,) = asking_sources.of_commit(
        table,
        checking_out.resolve(settings, table.url, body.ref),
        body.ref,
        trigger,
        folders=(folder,),
        push=body.push,
    )
    return asked


@ROUTES.change("POST", "/pipelines", permission=_RUN, in_project=True, status=201)
def ask_for_run(ask: Ask, body: NewRun) -> Run:
    """Ask for a run: `clear` builds a commit of a source, judges, signs and pushes it; `sweep` judges all anew.

    Only sources of the server's settings are built; they say where the image goes. Whoever has it pushed needs
    `image.push` there as well; a sweep needs the permission everywhere. The run waits for a worker. The same
    Idempotency-Key gives the same run.
    """
    return asking_runs.submit(ask.source.settings, ask.catalog, _asked(ask, body))


@ROUTES.get("/pipelines", permission=_READ, in_project=True)
def list_runs(ask: Ask, query: RunsQuery) -> Page[Run]:
    """Runs of the projects that one may read, the last that was asked for first, without their steps.

    A part may have fewer items than `limit`, although there are more: `next` says so.
    """
    with ask.source.catalog.database.reading() as connection:
        found = reading.listed(
            connection,
            states=query.state,
            kind=query.kind,
            team=query.team,
            repository=query.repository,
            after=paging.row_number(query.after),
            rows=query.limit,
        )
    shown = tuple(one for one in found.runs if ask.identity.may(_READ, _project(ask, one.asked)))
    return Page(shown, paging.cursor(None if found.after is None else (found.after,)))


@ROUTES.get("/pipelines/{id}", permission=_READ, in_project=True)
def show_run(ask: Ask, path: RunPath) -> Run:
    """One run with its steps."""
    return _read(ask, path)


def _read(ask: Ask, path: RunPath) -> Run:
    """The run, for who may read it."""
    found = _run(ask, path)
    ask.permit(_READ, _project(ask, found.asked))
    return found


def _run(ask: Ask, path: RunPath) -> Run:
    with ask.source.catalog.database.reading() as connection:
        return reading.run(connection, path.id)


def _conflict(error: RefusedError) -> HttpError:
    return HttpError(409, error.message, next_step=error.next_step, code=error.code)


@ROUTES.change("POST", "/pipelines/{id}/cancel", permission=_RUN, in_project=True, errors=(409,))
def cancel_run(ask: Ask, path: RunPath) -> Run:
    """Cancel a run: one that waits has ended at once, one that runs ends as soon as its step can.

    409: it has ended otherwise.
    """
    ask.permit(_RUN, _project(ask, _run(ask, path).asked))
    try:
        return asking_runs.cancel(ask.source.settings, ask.catalog, path.id, by=ask.identity.name)
    except RefusedError as error:
        raise _conflict(error) from error


@ROUTES.change("POST", "/pipelines/{id}/retry", permission=_RUN, in_project=True, status=201, errors=(409,))
def retry_run(ask: Ask, path: RunPath) -> Run:
    """Ask anew for what a run that has ended was to do; what that one made is not made twice.

    The answer is the new run. 409: the run has not ended.
    """
    _require(ask, _run(ask, path).asked)
    try:
        return asking_runs.retry(ask.source.settings, ask.catalog, path.id, by=ask.identity.name)
    except RefusedError as error:
        raise _conflict(error) from error


def _shown(text: str) -> str:
    """What a build said, on one line, without what a terminal would obey."""
    return "".join(one if one.isprintable() else " " for one in text)


@ROUTES.get("/pipelines/{id}/log", permission=_READ, in_project=True, media_type="text/plain")
def show_run_log(ask: Ask, path: RunPath, query: LogQuery) -> Response:
    """What a run said, a line each: time, step, text.

    The header `Tidewaiter-Log-After` says the number of the last line: give it as `after` for what comes then.
    `Tidewaiter-Log-Ended` is `true` when nothing more comes.
    """
    _read(ask, path)
    with ask.source.catalog.database.reading() as connection:
        found = reading.log(connection, path.id, after=query.after, rows=query.limit)
    lines = [f"{clock.rfc3339(line.at)} {line.step or '-'}: {_shown(line.text)}\n" for line in found.lines]
    headers = {AFTER: str(found.after), ENDED: "true" if found.ended else "false"}
    return Response("".join(lines), media_type="text/plain; charset=utf-8", headers=headers)


@ROUTES.get("/pipelines/{id}/log/stream", permission=_READ, in_project=True, media_type=sse.MEDIA_TYPE, errors=(503,))
def stream_run_log(ask: Ask, path: RunPath, query: LogStreamQuery) -> Response:
    """What a run says, as it says it: server-sent events.

    Each `line` has its number as `id` and the line as `data`; `end` comes last. It begins behind the line that the
    header `Last-Event-ID` or `after` names.
    """
    run = _read(ask, path)  # 404 while that can still be said
    given = ask.request.headers.get("last-event-id", "")
    after = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else query.after

    def read(behind: int) -> Log:
        with ask.source.catalog.database.reading() as connection:
            return reading.log(connection, path.id, after=behind)

    return LogStream(
        ask.request.app.state.streams, read, after, who=follower(ask), may=goes_on(ask, _READ, _project(ask, run.asked))
    )
