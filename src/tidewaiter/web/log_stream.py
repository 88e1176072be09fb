"""What a run says, as it says it: server-sent events of its log, until it ends."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import msgspec
from starlette.concurrency import run_in_threadpool

from tidewaiter.catalog import events
from tidewaiter.catalog.runs.reading import Log
from tidewaiter.core import limits
from tidewaiter.web.sse import EventStream, Streams

_RETRY = b"retry: 2000\n\n"


class LogStream(EventStream):
    """An answer that goes on until the run, its reader, the server or an hour ends it.

    `event` is `line` with a line of the log as its data and its number as its id, at last `end`: who comes back after
    that is told that there is nothing more.

    Args:
        streams: of this process.
        read: the lines behind a number.
        after: behind which line to begin.
        who: whose stream it is.
        may: whether he may read still.
    """

    def __init__(
        self, streams: Streams, read: Callable[[int], Log], after: int, *, who: str, may: Callable[[], bool]
    ) -> None:
        super().__init__(streams, events.START, frozenset(), lambda _: False, who=who, may=may)
        self._read = read
        self._after = after

    async def _parts(self) -> AsyncIterator[bytes]:
        yield _RETRY
        ends = time.monotonic() + limits.EVENT_STREAM_SECONDS
        spoke = asked = time.monotonic()
        while time.monotonic() < ends and not self._streams.closed:
            # Also while there is always more to say.
            if time.monotonic() - asked >= limits.EVENT_HEARTBEAT_SECONDS:
                asked = time.monotonic()
                if not await run_in_threadpool(self._may):
                    return
            found = await run_in_threadpool(self._read, self._after)
            self._after = found.after
            if found.lines:
                spoke = time.monotonic()
                yield b"".join(
                    b"id: %d\nevent: line\ndata: %b\n\n" % (line.number, msgspec.json.encode(line))
                    for line in found.lines
                )
                continue
            if found.ended:
                yield b'event: end\ndata: {"after":%d}\n\n' % self._after
                return
            if time.monotonic() - spoke >= limits.EVENT_HEARTBEAT_SECONDS:
                spoke = time.monotonic()
                yield b": still here\n\n"
            await asyncio.sleep(limits.EVENT_LOOK_SECONDS)
