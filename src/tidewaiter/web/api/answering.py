"""From a request to an answer: who asks, what is asked, the route's function, its answer with an entity tag."""

import hashlib
import inspect
import logging
from collections.abc import Iterable
from typing import Any

import msgspec
from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.routing import BaseRoute
from starlette.routing import Route as Path
from starlette.types import Receive, Scope, Send

from tidewaiter.access.identity import Identity
from tidewaiter.core.errors import TidewaiterError, UnauthenticatedError
from tidewaiter.web import identify, problems
from tidewaiter.web.api import asking, idempotent, uploads
from tidewaiter.web.api.route import JSON, Ask, Route
from tidewaiter.web.problems import HttpError
from tidewaiter.web.source import Source

_LOG = logging.getLogger("tidewaiter.web")
VARY = "Accept, Authorization, Cookie"


def mounted(routes: Iterable[Route]) -> list[BaseRoute]:
    """The routes for the application: one for each path, which knows all methods of it."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in routes:
        methods = by_path.setdefault(route.path, {})
        if route.method in methods:
            raise TypeError(f"{route.method} {route.path} is declared twice")
        methods[route.method] = route
    return [Path(path, _Endpoint(path, methods), include_in_schema=False) for path, methods in by_path.items()]


class _Endpoint:
    """All methods of one path."""

    def __init__(self, path: str, methods: dict[str, Route]) -> None:
        self.path = path
        self._methods = dict(methods)
        if "GET" in methods:
            self._methods["HEAD"] = methods["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self  # metrics count by its path
        request = Request(scope, receive)
        try:
            response = await self._answer(request, receive)
        except UnauthenticatedError as error:
            response = identify.unauthenticated(request, error)
        except TidewaiterError as error:
            response = problems.answer(error)
            if response.status_code >= 500:
                _LOG.error("%s: %s", self.path, error.message)
        response.headers["Vary"] = VARY
        if scope["method"] == "HEAD":
            response = Response(status_code=response.status_code, headers=dict(response.headers))
        await response(scope, receive, send)

    async def _answer(self, request: Request, receive: Receive) -> Response:
        route = self._methods.get(request.method)
        if route is None:
            allowed = ", ".join(sorted(self._methods))
            raise HttpError(
                405,
                f"{request.method[:20]} is not what this address answers",
                next_step=f"It answers {allowed}.",
                headers={"Allow": allowed},
            )
        identity: Identity = request.state.identity
        if route.permission is not None:
            if not route.in_project:
                identity.require(route.permission)
            elif not identity.may_somewhere(route.permission):
                raise identity.refusal(route.permission, "in any project")
        _require_acceptable(request, route)
        return await _performed(request, receive, route, identity)


async def _performed(request: Request, receive: Receive, route: Route, identity: Identity) -> Response:
    given: dict[str, Any] = {}
    if "path" in route.takes:
        given["path"] = asking.path(request.scope, route.takes["path"])
    query = asking.query(request.scope, route.takes.get("query"))
    if query is not None:
        given["query"] = query
    data = b""
    if "body" in route.takes:
        data = await asking.read(request.scope, receive, route.body_bytes)
        given["body"] = asking.body(data, request.headers.get("content-type", ""), route.takes["body"])
    source: Source = request.app.state.source
    ask = Ask(request, route, source, identity)
    if route.uploads:
        async with uploads.received(request.scope, receive, source.home, route.body_bytes) as upload:
            given["upload"] = upload
            return await _called(ask, given, upload.sha256.encode())
    return await _called(ask, given, data)


async def _called(ask: Ask, given: dict[str, Any], data: bytes) -> Response:
    request, route = ask.request, ask.route
    if inspect.iscoroutinefunction(route.function):
        return _encoded(request, route, await route.function(ask, **given))

    def perform() -> Response:
        return _encoded(request, route, route.function(ask, **given))

    if route.reads:
        return await run_in_threadpool(perform)
    return await run_in_threadpool(idempotent.answered, ask, data, perform)


def _encoded(request: Request, route: Route, answer: Any) -> Response:  # noqa: ANN401 - of the route's type
    if isinstance(answer, Response):
        response = answer
    elif answer is None:
        return Response(status_code=204)
    else:
        response = Response(msgspec.json.encode(answer), status_code=route.status, media_type=JSON)
    if not route.reads or response.status_code != 200 or not isinstance(response.body, bytes) or not response.body:
        return response
    tag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    response.headers["ETag"] = tag
    if matches(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers={"ETag": tag})
    return response


def matches(given: str, tag: str) -> bool:
    """Whether an `If-None-Match` names the tag, by the weak comparison that RFC 9110 (13.1.2) asks for."""
    return given.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in given.split(","))


def _require_acceptable(request: Request, route: Route) -> None:
    """406 unless `Accept` allows what the route answers, as RFC 9110 (12.5.1) reads it."""
    accepted = ",".join(request.headers.getlist("accept")).strip()
    main = route.media_type.partition("/")[0]
    best = (-1, 0.0)  # how exactly a range names it, and its weight: the most exact one counts
    for one in accepted.split(","):
        name, *parameters = (part.strip().lower() for part in one.split(";"))
        exactness = {"*/*": 0, f"{main}/*": 1, route.media_type: 2}.get(name)
        if exactness is not None and exactness > best[0]:
            best = (exactness, _weight(parameters))
    if accepted and best[1] <= 0:
        raise HttpError(
            406, f"this answers {route.media_type}", next_step=f"Accept {route.media_type} or */*.", code="bad_input"
        )


def _weight(parameters: list[str]) -> float:
    for one in parameters:
        if one.startswith("q="):
            try:
                return float(one[2:])
            except ValueError:
                return 0.0
    return 1.0
