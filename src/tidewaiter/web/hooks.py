"""Webhooks of code hosts, which make runs: `POST /hooks/gitlab/{source}` and `/hooks/github/{source}`.

They stand beside the API, for their senders are not users of it: no token of this server, but the secret of the source.

1. A body that is bounded.
2. The source, and the proof that whoever sent it knows its secret, in constant time. A source that is not there answers
   as a wrong secret does, after the same work.
3. Only then is the body looked at: JSON by its type, and an event by what is in it.
4. What it says may be new, or not (`triggers.taking`).

Who proved it gets 202 with the runs, or with the reason why there are none; hosts take anything else for a failure.
"""

import contextlib
import hashlib
import logging
import secrets
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, TidewaiterError, UndeterminedError
from tidewaiter.core.settings import Settings, SourceTable
from tidewaiter.pipelines.sources import credentials
from tidewaiter.pipelines.triggers import github, gitlab, taking
from tidewaiter.pipelines.triggers.told import Ignored, Told
from tidewaiter.web import problems
from tidewaiter.web.api import asking
from tidewaiter.web.problems import HttpError
from tidewaiter.web.source import Source

router = APIRouter(include_in_schema=False)
_LOG = logging.getLogger("tidewaiter.hooks")
_NAME_CHARACTERS = 128


class _Proven(NamedTuple):
    """A delivery whose sender knows the secret."""

    told: Told | Ignored
    names: tuple[str, ...]
    """What it is known by: what its sender calls it, and last what is signed."""
    stale: bool


_Prove = Callable[[str, bytes, Request], _Proven | None]


@router.post("/hooks/gitlab/{source}")
async def take_gitlab(request: Request, source: str) -> Response:
    """A webhook of GitLab."""
    return await _answered(request, source, _of_gitlab)


@router.post("/hooks/github/{source}")
async def take_github(request: Request, source: str) -> Response:
    """A webhook of GitHub."""
    return await _answered(request, source, _of_github)


def _header(request: Request, name: str) -> str:
    given = request.headers.getlist(name)
    return given[0] if len(given) == 1 else ""


def _of_gitlab(secret: str, body: bytes, request: Request) -> _Proven | None:
    given = gitlab.Headers(
        token=_header(request, gitlab.TOKEN),
        identity=_header(request, "webhook-id"),
        timestamp=_header(request, "webhook-timestamp"),
        signatures=_header(request, "webhook-signature"),
    )
    if not gitlab.holds(secret, body, given, clock.now()):
        return None
    _require_json(request)
    name = next((found for header in gitlab.DELIVERIES if (found := _header(request, header))), "")
    # Nobody but the host knows what it sends along; the name is as good as the rest.
    name = name[:_NAME_CHARACTERS] or f"sha256:{hashlib.sha256(body).hexdigest()}"
    return _Proven(gitlab.read(_header(request, gitlab.EVENT), body), (name,), stale=False)


def _of_github(secret: str, body: bytes, request: Request) -> _Proven | None:
    if not github.holds(secret, body, _header(request, github.SIGNATURE)):
        return None
    _require_json(request)
    told = github.read(_header(request, github.EVENT), body)
    name = _header(request, github.DELIVERY)[:_NAME_CHARACTERS]
    whole = f"sha256:{hashlib.sha256(body).hexdigest()}"
    names = (name, whole) if name else (whole,)
    return _Proven(told, names, stale=taking.too_old(told, clock.now()))


def _require_json(request: Request) -> None:
    """Said to who knows the secret only: others are told nothing but that they do not."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HttpError(
            415,
            "webhooks are taken as application/json",
            next_step="Choose application/json as the content type at the code host.",
            code="bad_input",
        )


async def _answered(request: Request, name: str, prove: _Prove) -> Response:
    try:
        body = await asking.read(request.scope, request.receive, limits.HOOK_BODY_BYTES)  # 1
        taken = await run_in_threadpool(_taken, request, name, prove, body)
    except TidewaiterError as error:
        _LOG.warning("webhook for %r: %s", name[:64], error.message)
        return problems.answer(error)
    return Response(msgspec.json.encode(taken), status_code=202, media_type="application/json")


def _taken(request: Request, name: str, prove: _Prove, body: bytes) -> taking.Taken:
    source: Source = request.app.state.source
    settings = source.settings
    table = next((one for one in settings.sources if one.name == name), None)
    if table is None or not table.secret:
        _as_if(settings, prove, body, request)
        proven = None
    else:
        proven = prove(_secret(settings, table), body, request)  # 2
    if table is None or proven is None:
        raise HttpError(
            401,
            "the secret or signature is not that of a source of this server",
            next_step="Compare the secret at the code host with `secret` of the [[source]], and the clocks of both.",
            code="unauthenticated",
        )
    if proven.stale:
        raise HttpError(
            403,
            "the event is too old, or does not say when it was made: it may have been sent before",
            next_step="Push again.",
            code="hook_too_old",
        )
    catalog = source.catalog.acting(f"webhook {table.name}")
    found = taking.take(settings, catalog, table, proven.told, names=proven.names, now=clock.now())  # 4
    if found.reason:
        _LOG.info("webhook for %s: %s", table.name, found.reason)
    return found


def _as_if(settings: Settings, prove: _Prove, body: bytes, request: Request) -> None:
    """The work of step 2 for a source that takes no webhooks, so that its time does not tell which there are."""
    other = next((one for one in settings.sources if one.secret), None)
    if other is not None:
        with contextlib.suppress(TidewaiterError):
            credentials.hook_secret(settings, other)
    prove(secrets.token_hex(32), body, request)  # which nobody knows


def _secret(settings: Settings, table: SourceTable) -> str:
    try:
        return credentials.hook_secret(settings, table)
    except (InputError, UndeterminedError) as error:
        # What is wrong with it is for the server's log alone.
        _LOG.error("webhook for %s: %s", table.name, error.message)
        raise HttpError(
            503,
            "this server cannot check webhooks of that source now",
            next_step="Its log says why.",
            code="source_credential",
        ) from error
