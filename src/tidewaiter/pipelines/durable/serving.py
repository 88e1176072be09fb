"""A worker inside of a server, so that a single machine works with one process."""

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tidewaiter.catalog import mapper  # noqa: F401  # see `_work`
from tidewaiter.core import limits
from tidewaiter.core.errors import RefusedError
from tidewaiter.core.progress import SILENT, Task, Unit
from tidewaiter.core.settings import Settings

_LOG = logging.getLogger("tidewaiter.pipelines")
_AGAIN_SECONDS = 10.0


class _Logged:
    """What a worker tells, in the server's log."""

    def task(self, title: str, *, total: int | None = None, unit: Unit = "items") -> AbstractContextManager[Task]:
        return SILENT.task(title, total=total, unit=unit)

    def note(self, text: str) -> None:
        _LOG.info("%s", text)


def is_wanted(settings: Settings) -> bool:
    """Whether a server of this home is to carry out runs itself."""
    wanted = settings.pipelines.in_server
    return isinstance(settings.catalog, Path) if wanted is None else wanted


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """While the block runs a thread carries out runs, when that is wanted and no other worker of the home does."""
    if not is_wanted(settings):
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_work, args=(settings, stop), name="worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=4 * limits.STEP_STOP_SECONDS)


def _work(settings: Settings, stop: threading.Event) -> None:
    # The engine's library takes long to load, so that happens here, beside the requests. It also loads
    # `sqlalchemy.orm`, which changes SQLAlchemy while others use it: that has happened before this thread begins.
    from tidewaiter.pipelines.durable import working

    said = ""
    while not stop.is_set():
        try:
            working.work(settings, _Logged(), name="server", stop=stop)
        except RefusedError:
            pass  # another worker works; when it ends, this one goes on
        except Exception as error:  # noqa: BLE001  # a thread that ends would carry out nothing, and nobody would know
            if str(error) != said:
                _LOG.warning("pipelines: %s; runs wait", error)
            said = str(error)
        stop.wait(_AGAIN_SECONDS)
