"""What is seen of every request: an identity that goes through log and answer, how it ended, how long it took.

Outermost but for the server's own handler of unexpected errors. Numbers have the route's template as their label, never
a path: who asks for a million addresses makes no million series.
"""

import contextvars
import logging
import re
import secrets
import time
from typing import Any, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-Id"
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that machines ask all the time: logged only when they answer an error."""
NO_ROUTE = "(none)"
_GIVEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GONE = 499
"""Status of a request whose client left before the answer began, as other servers log it."""
_PATH_CHARACTERS = 500

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
"""Identity of the request that this thread or task works for; empty outside of one."""

_LOG = logging.getLogger("tidewaiter.request")


class Meter(Protocol):
    """Who counts."""

    def begin(self) -> None:
        """A request begins."""

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """It ended."""


class Observed:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app = app
        self._meter = meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        identity = given if _GIVEN.fullmatch(given) else secrets.token_hex(8)
        request_id.set(identity)
        seen = _Seen()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                MutableHeaders(scope=message)[HEADER] = identity
            elif message["type"] == "http.response.body":
                seen.sent += len(message.get("body", b""))
            await send(message)

        began = time.monotonic()
        self._meter.begin()
        try:
            await self._app(scope, receive, noted)
        except Exception:
            if seen.status == _GONE:  # the server answers in our place
                seen.status = 500
            raise
        finally:
            seconds = time.monotonic() - began
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = _template(scope)
            self._meter.end(method, route, seen.status, seconds)
            if route not in QUIET or seen.status >= 400:
                _log(scope, route, seen, seconds)


class _Seen:
    def __init__(self) -> None:
        self.status = _GONE
        self.sent = 0


def _template(scope: Scope) -> str:
    """The route that answered, as it is declared; a mounted folder by its own path."""
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    # A mount leaves what it took of the path, and no route.
    root = str(scope.get("root_path", "")) if "app_root_path" in scope else ""
    return f"{root}/{{path}}" if root else NO_ROUTE


def _log(scope: Scope, route: str, seen: _Seen, seconds: float) -> None:
    client = scope.get("client")
    fields: dict[str, Any] = {
        "method": scope["method"][:16],
        # Without the query: what was searched for is nobody's business but the reader's.
        "path": scope["path"][:_PATH_CHARACTERS],
        "route": route,
        "status": seen.status,
        "bytes": seen.sent,
        "seconds": round(seconds, 6),
        "client": client[0] if client else "",
    }
    # What went wrong is said where it did.
    _LOG.info("request", extra={"fields": fields})
