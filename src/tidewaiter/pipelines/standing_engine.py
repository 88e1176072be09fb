"""A policy engine that stands ready from one decision to the next, since starting one takes longer than a decision."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tidewaiter.core import limits
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines import deciding
from tidewaiter.policy.classes import ClassEngine

_LOG = logging.getLogger("tidewaiter.gate")
_Seen = tuple[tuple[str, int, int], ...]


class StandingEngine:
    """The engine that the settings name. Safe from any thread; one decides at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._engine: ClassEngine | None = None
        self._seen: _Seen = ()
        self._soon: threading.Timer | None = None

    @contextmanager
    def held(self) -> Iterator[ClassEngine]:
        """The engine, for one decision; started anew when the files of its packs changed. Raises as its start does."""
        with self._lock:
            now = self._files()
            if self._engine is None or now != self._seen:
                self._end()
                self._engine = self._stack.enter_context(deciding.engine(self._settings, at_once=True))
                self._seen = now
            try:
                yield self._engine
            except BaseException:
                self._end()
                raise
            self._keep_soon()

    def _keep_soon(self) -> None:
        """Have what was learned kept when nobody waits for it: the catalog lets only one write at a time."""
        if self._soon is None:
            self._soon = threading.Timer(limits.GATE_LEARN_SECONDS, self._keep)
            self._soon.daemon = True
            self._soon.start()

    def _keep(self) -> None:
        with self._lock:
            self._soon = None
            if self._engine is not None:
                try:
                    self._engine.keep()
                except TidewaiterError as error:
                    _LOG.warning("what rules answered is not kept: %s", error.message)

    def close(self) -> None:
        """End it; whoever decides just now has a few seconds, then it ends with this process."""
        if self._lock.acquire(timeout=limits.GATE_STOP_SECONDS):
            try:
                self._end()
            finally:
                self._lock.release()

    def _end(self) -> None:
        self._engine = None
        self._stack.close()

    def _files(self) -> _Seen:
        """Packs and keys as they lie there."""
        said = (*self._settings.policy, *self._settings.policy_keys)
        return tuple(_state(one) for path in said for one in (path, *sorted(path.rglob("*"))))


def _state(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, -1
    return str(path), status.st_mtime_ns, status.st_size
