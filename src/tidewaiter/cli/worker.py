"""`worker`: carries out runs of pipelines until it is stopped."""

import signal
import threading

from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.cli import console
from tidewaiter.core import settings
from tidewaiter.pipelines.durable import working


def worker(*, name: str = "", once: bool = False, concurrency: int | None = None) -> int:
    """Carry out runs of pipelines until interrupted; their steps end where they are, and others go on with them.

    A home with a catalog of its own has one worker, which a running `serve` is by itself; a database of PostgreSQL has
    as many as you start.

    Args:
        name: what this worker is called in lists and logs; default: the name of the machine.
        once: end when no run waits any more.
        concurrency: runs at the same time; default: the setting pipeline_concurrency.
    """
    loaded = settings.load()
    stop = threading.Event()

    def stopped(_signal: int, _frame: object) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopped)
    with audit_sequencer.running(loaded):
        working.work(loaded, console.progress(), name=name, once=once, stop=stop, concurrency=concurrency)
    return 0
