"""`Idempotency-Key`: a change that is asked for again is not made again, and its answer is given again.

As the draft of the IETF's HTTPAPI group has it: the same key with another request is an error (422), and so is one
whose request is still under way (409). A key belongs to who asks and to the route.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import Response

from tidewaiter.access.roles import permission
from tidewaiter.catalog import idempotency
from tidewaiter.catalog.idempotency import Answer, Key, UnderWayError, UsedElsewhereError
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.web import problems

if TYPE_CHECKING:
    from tidewaiter.web.api.route import Ask

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_KEPT = ("content-type", "location", "etag")
_SHAPE = re.compile(rf"[!#-~ ]{{1,{limits.KEY_CHARACTERS}}}")


def key(ask: "Ask", data: bytes) -> Key | None:
    """The key of a request with the body `data`; None without one. Raises `HttpError` when it is malformed."""
    given = ask.request.headers.getlist(HEADER)
    if not given:
        return None
    # A string of RFC 8941, or, as most clients send it, its bare text.
    text = given[0][1:-1] if len(given[0]) > 2 and given[0][0] == given[0][-1] == '"' else given[0]
    if len(given) > 1 or not _SHAPE.fullmatch(text):
        raise problems.malformed(
            f"{HEADER} is none", f"Send one of 1 to {limits.KEY_CHARACTERS} characters, for example a UUID."
        )
    url = ask.request.url
    asked = b"\0".join((ask.request.method.encode(), url.path.encode(), url.query.encode(), data))
    who = f"{ask.identity.kind} {ask.identity.name}"
    return idempotency.key(text, who=who, route=f"{ask.route.method} {ask.route.path}", asked=asked)


def answered(ask: "Ask", data: bytes, change: Callable[[], Response]) -> Response:
    """The answer of `change`, or the one that the same request got before; `ask.key` is set while it is made."""
    given = key(ask, data)
    if given is None:
        return change()
    database = ask.source.catalog.database
    try:
        with database.writing() as connection:
            known = idempotency.reserve(connection, given, clock.now())
    except UsedElsewhereError as error:
        raise problems.HttpError(422, error.message, next_step=error.next_step, code=error.code) from error
    except UnderWayError as error:
        raise problems.HttpError(
            409, error.message, next_step=error.next_step, code=error.code, headers={"Retry-After": "1"}
        ) from error
    if known is not None:
        # Roles may have been taken since.
        for one, project in known.required:
            ask.permit(permission(one), project)
        return Response(known.body, known.status, {**known.headers, REPLAYED: "true"})
    ask.key = given
    try:
        response = change()
    except BaseException:
        _release(ask, given)
        raise
    with database.writing() as connection:
        if response.headers.get("cache-control") == "no-store":
            idempotency.finish_unkept(connection, given, clock.now())  # it has a secret in it
        else:
            headers = {name: value for name, value in response.headers.items() if name in _KEPT}
            answer = Answer(response.status_code, headers, bytes(response.body), ask.required)
            idempotency.finish(connection, given, answer, clock.now())
    return response


def _release(ask: "Ask", given: Key) -> None:
    try:
        with ask.source.catalog.database.writing() as connection:
            idempotency.release(connection, given)
    except TidewaiterError:
        return  # what is raised instead says why; the key is free when its time is over
