"""What was found out a moment ago still holds as long as the catalog says the same.

1. Each request asks, once, whether it does (`Fresh`); where asking takes a while, those who come together share it.
2. Whoever came a moment ago with the same secret is not looked up again (`Lately`).
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

from tidewaiter.catalog.versions import Version, Versions
from tidewaiter.core import limits

_Who = TypeVar("_Who")


class Fresh:
    """Says the version of the catalog, as it is after the question was asked. In one event loop."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self.immediate = versions.immediate
        """Whether asking takes no time worth speaking of."""
        self._running: asyncio.Task[Version | None] | None = None
        self._next: asyncio.Task[Version | None] | None = None
        self._thread = ThreadPoolExecutor(1, "versions")

    async def __call__(self) -> Version | None:
        """None when it cannot be told: then nothing that is remembered holds."""
        if self.immediate:
            return self._versions.now()
        if self._next is None:  # the one that runs may have its answer already
            self._next = asyncio.create_task(self._ask(self._running))
        return await asyncio.shield(self._next)

    async def _ask(self, before: "asyncio.Task[Version | None] | None") -> Version | None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._versions.now)

    def close(self) -> None:
        """Ask nothing more."""
        self._thread.shutdown(wait=False)


class Lately(Generic[_Who]):
    """The last ones who came, each for a second at most, and no longer than the catalog has the same version.

    Where that is None everybody is looked up. Safe from any thread; secrets are not kept.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._found: OrderedDict[bytes, tuple[Version, float, _Who]] = OrderedDict()
        self._lock = Lock()

    def get(self, secret: str, version: Version | None) -> _Who | None:
        """Who came with it, now that the catalog has this version."""
        found = self._found.get(_key(secret))
        if found is None or self._now() - found[1] > limits.LATELY_SECONDS or found[0] != version:
            return None
        return found[2]

    def put(self, secret: str, version: Version | None, who: _Who) -> None:
        """Somebody came with it, as was looked up after the catalog had this version."""
        if version is None:
            return
        with self._lock:
            self._found[_key(secret)] = (version, self._now(), who)
            self._found.move_to_end(_key(secret))
            while len(self._found) > limits.LATELY_ROWS:
                self._found.popitem(last=False)


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
