"""No request is longer than it need be (414, 431), and its address is text that can be stored (400).

What is not UTF-8 would be read in two ways, and a NUL is what databases do not take. A body that does not arrive is not
waited for (408): whoever sends nothing would keep a connection from others.
"""

import asyncio
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from tidewaiter.core import limits
from tidewaiter.web import pages, problems
from tidewaiter.web.problems import HttpError


class Bounds:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                _check(scope)
            except HttpError as error:
                await pages.refusal(Request(scope), error)(scope, receive, send)
                return
            await self._within_time(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _within_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive, send)
        try:
            await self._app(scope, body.receive, body.send)
        except Exception:
            if not body.late or body.answered:
                raise
        if body.late and not body.answered:
            late = HttpError(408, "the body of the request did not arrive", next_step="Send it again.", code="too_slow")
            await pages.refusal(Request(scope), late)(scope, receive, body.send)


class _Body:
    """A body on its way; one that is late looks as if its sender had left."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._left = float(limits.REQUEST_BODY_SECONDS)
        self._whole = False
        self.late = False
        self.answered = False

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message. Time in which nobody asks for one does not count."""
        if self._whole:
            return await self._receive()  # only the end of the connection is left to be told
        if self.late:
            return {"type": "http.disconnect"}
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(self._left, 0.0))
        except TimeoutError:
            self.late = True
            return {"type": "http.disconnect"}
        self._left += len(message.get("body", b"")) / limits.REQUEST_BODY_RATE - (time.monotonic() - began)
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Pass it on; the connection ends with the answer when the rest of the body would still have to be read."""
        if message["type"] == "http.response.start":
            self.answered = True
            if self.late:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await self._send(message)


def _check(scope: Scope) -> None:
    address = (scope.get("raw_path") or b"") + b"?" + (scope.get("query_string") or b"")
    headers = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    for length, limit, status, what in (
        (len(address), limits.REQUEST_TARGET_BYTES, 414, "the address"),
        (headers, limits.REQUEST_HEADER_BYTES, 431, "the headers"),
    ):
        if length > limit:
            raise HttpError(
                status,
                f"{what} of the request: {length} bytes, more than {limit}",
                next_step="Ask for less at once.",
                code="over_limit",
            )
    try:
        text = unquote_to_bytes(address).decode()
    except UnicodeDecodeError as error:
        raise problems.malformed("the address of the request is not UTF-8") from error
    if "\0" in text:
        raise problems.malformed("there is a NUL in the address of the request")
