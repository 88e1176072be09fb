"""Events as they happen, for readers who keep a connection open (server-sent events, as WHATWG describes them).

Each reader has his own place in the log and reads on from there, so that nothing has to be kept for him. One look a
process says whether something happened. Who takes nothing is cut; who comes back says where he was.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
from fastapi import Response
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from tidewaiter.catalog import events
from tidewaiter.catalog.events import Event, Place, Read
from tidewaiter.core import limits
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.web.problems import HttpError
from tidewaiter.web.source import Source

MEDIA_TYPE = "text/event-stream"
_LOG = logging.getLogger("tidewaiter.events")
_RETRY_MILLISECONDS = 2000


class Streams:
    """The open streams of this process; all of it happens on the event loop."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: Counter[str] = Counter()
        self._newest = events.START
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the server stops."""
        return self._closed

    def close(self) -> None:
        """End every stream at once."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        self._signal()

    def enter(self, who: str = "") -> None:
        """One more stream of somebody; raises `HttpError` when there are too many, of all or of one."""
        count, own = self._open.total(), self._open[who]
        if self._closed or count >= limits.EVENT_STREAMS or own >= limits.EVENT_STREAMS_OF_ONE:
            open_ones = f"this server has {count} streams open, {own} of them yours"
            raise HttpError(
                503,
                "this server stops" if self._closed else open_ones,
                next_step="Try again in a moment, or read the list of events.",
                code="too_many_streams",
                headers={"Retry-After": "5"},
            )
        self._open[who] += 1
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def leave(self, who: str = "") -> None:
        """One stream less; with the last one nobody looks any more."""
        self._open[who] -= 1
        self._open += Counter()  # who has none is forgotten
        if not self._open and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    async def changed(self, seconds: float) -> bool:
        """Wait until something happened, at most so long; whether it did."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _signal(self) -> None:
        # Whoever waits has the old one.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _look(self) -> None:
        while not self._closed:
            try:
                newest = await run_in_threadpool(self.latest)
            except TidewaiterError as error:
                _LOG.warning("events: %s", error)
            else:
                if newest != self._newest:
                    self._newest = newest
                    self._signal()
            await asyncio.sleep(limits.EVENT_LOOK_SECONDS)

    def latest(self) -> Place:
        """Behind everything that happened until now."""
        with self._source.catalog.database.reading() as connection:
            return events.latest(connection)

    def read(self, place: Place, types: frozenset[str]) -> Read:
        """The next events behind a place."""
        with self._source.catalog.database.reading() as connection:
            return events.read(connection, place, types=types, rows=limits.EVENT_ROWS)


class EventStream(Response):
    """An answer that goes on until its reader, the server or an hour ends it.

    Args:
        streams: of this process.
        place: behind which event to begin.
        types: of events; empty for all.
        wanted: which of them.
        who: whose stream it is.
        may: whether he may read still; asked again and again.
    """

    media_type = MEDIA_TYPE
    body = b""

    def __init__(
        self,
        streams: Streams,
        place: Place,
        types: frozenset[str],
        wanted: Callable[[Event], bool],
        *,
        who: str = "",
        may: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._streams = streams
        self._place = place
        self._types = types
        self._wanted = wanted
        self._who = who
        self._may = may

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - every answer takes it
        self._streams.enter(self._who)
        left = asyncio.get_running_loop().create_task(_left(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send(send, left)
        except TimeoutError:
            _LOG.info("a reader of events takes nothing, and is cut")
        finally:
            left.cancel()
            self._streams.leave(self._who)

    async def _send(self, send: Send, left: "asyncio.Task[None]") -> None:
        async for part in self._parts():
            message: Mapping[str, object] = {"type": "http.response.body", "body": part, "more_body": True}
            await asyncio.wait_for(send(dict(message)), limits.EVENT_SEND_SECONDS)
            if left.done() or self._streams.closed:
                break
        if not left.done():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _parts(self) -> AsyncIterator[bytes]:
        yield b"retry: %d\n\n" % _RETRY_MILLISECONDS
        ends = time.monotonic() + limits.EVENT_STREAM_SECONDS
        asked = time.monotonic()
        while time.monotonic() < ends and not self._streams.closed:
            if time.monotonic() - asked >= limits.EVENT_HEARTBEAT_SECONDS:
                if not await run_in_threadpool(self._may):
                    return
                asked = time.monotonic()
            found = await run_in_threadpool(self._streams.read, self._place, self._types)
            shown = b"".join(written(one) for one in found.events if self._wanted(one))
            self._place = found.place
            if shown:
                yield shown
            if not found.more and not await self._streams.changed(limits.EVENT_HEARTBEAT_SECONDS):
                # An id without data moves the reader's place on, and is no event to him.
                yield b": still here\nid: %b\n\n" % str(self._place).encode()


def written(event: Event) -> bytes:
    """An event as it is sent."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.type.encode(), msgspec.json.encode(event))


async def _left(receive: Receive) -> None:
    """Ends when the reader left."""
    while (await receive())["type"] != "http.disconnect":
        pass
