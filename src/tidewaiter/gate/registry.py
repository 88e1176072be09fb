"""What every request to the registry works with: store, catalog, uploads, judgements, and threads for what blocks."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import ParamSpec, TypeVar

from tidewaiter.access.passes import Passes
from tidewaiter.catalog.gate import GateCatalog
from tidewaiter.catalog.versions import Version
from tidewaiter.core import limits
from tidewaiter.gate.judging import Judge, Judgements
from tidewaiter.gate.recent import Recent
from tidewaiter.gate.terms import TermsOf
from tidewaiter.gate.threads import Threads
from tidewaiter.gate.uploads import Uploads
from tidewaiter.gate.upstream import Upstream
from tidewaiter.gate.watching import Watch
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")
_THREADS = 16
"""Disks answer as many at once; hashing takes turns on the processors."""

LOG = logging.getLogger("tidewaiter.gate")


class Registry:
    """One registry on the store of a home."""

    def __init__(
        self,
        home: Path,
        store: Layout,
        catalog: Callable[[], GateCatalog],
        judge: Judge,
        terms_of: TermsOf,
        *,
        passes: Passes,
        upstream: Upstream | None = None,
        watch: Watch | None = None,
        version: Callable[[], Version | None] = lambda: None,
    ) -> None:
        """`catalog` opens it when it is first needed; it may raise `StorageError`, and is asked again the next time.

        `version` says something else as soon as the catalog changed, if it can tell; asked in a thread.
        """
        self.home = home
        self.store = store
        self.uploads = Uploads(store, watch)
        self.judge = judge
        self.judgements = Judgements()
        self.terms_of = terms_of
        self.passes = passes
        self.upstream = upstream
        self.version = version
        self.recent = Recent()
        self.gathered = 0
        """Bytes of uploads that wait to be written; counted in the event loop."""
        self.nudged: set[tuple[str, Digest]] = set()
        """Images that may have become allowed by what was pushed beside them."""
        self._nudging = Lock()
        self._catalog = catalog
        self._threads = Threads(_THREADS, "gate")
        # What waits for another registry keeps nobody from what is here.
        self._far = Threads(_THREADS, "upstream")

    @property
    def catalog(self) -> GateCatalog:
        """What repositories hold. Raises `StorageError`; asked in threads only."""
        return self._catalog()

    @contextlib.contextmanager
    def turn(self, repository: str) -> Iterator[None]:
        """Nobody else, on whichever server, changes what tags mean in the registry behind this one.

        Raises `UndeterminedError` when somebody else does, and does not come to an end; `StorageError`.
        """
        if self.upstream is None:
            yield
            return
        with self.upstream.turn(repository, self.catalog.alone(repository, self.home / "cache" / "locks")):
            yield

    def nudge(self, repository: str, subject: Digest) -> None:
        """Have the image looked at again, if it waits."""
        with self._nudging:
            if len(self.nudged) < limits.GATE_RELEASES:
                self.nudged.add((repository, subject))

    def take_nudged(self) -> frozenset[tuple[str, Digest]]:
        """Those, once."""
        with self._nudging:
            found = frozenset(self.nudged)
            self.nudged.clear()
            return found

    def begin(
        self, function: Callable[_Given, _Result], /, *args: _Given.args, **options: _Given.kwargs
    ) -> "asyncio.Future[_Result]":
        """The result, to come, of `function` in a thread."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, lambda: function(*args, **options))

    async def run(
        self, function: Callable[_Given, _Result], /, *args: _Given.args, **options: _Given.kwargs
    ) -> _Result:
        """The result of `function`, which may block: it runs in a thread."""
        return await self.begin(function, *args, **options)

    def far(
        self, function: Callable[_Given, _Result], /, *args: _Given.args, **options: _Given.kwargs
    ) -> "asyncio.Future[_Result]":
        """As `begin`, for what may ask the registry behind this one."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._far, lambda: function(*args, **options))

    def close(self) -> None:
        """Begin nothing more, and wait a few seconds for what runs."""
        if self.upstream is not None:
            self.upstream.close()
        self.judgements.close()
        self._far.close(limits.GATE_STOP_SECONDS)
        self._threads.close(limits.GATE_STOP_SECONDS)
