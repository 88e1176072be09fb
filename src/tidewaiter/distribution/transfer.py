"""Moving several blobs at once, so that the first failure or ctrl-C stops them all."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from tidewaiter.transport.client import interrupt_all

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoppedError(Exception):
    """Raised inside a worker whose work is no longer wanted; never reaches the caller."""


class Stop:
    """Tells workers that their work is no longer wanted."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask every worker to end."""
        self._event.set()

    def check(self) -> None:
        """Raise `StoppedError` when the work is no longer wanted."""
        if self._event.is_set():
            raise StoppedError


def in_parallel(
    work: Callable[[Item, Stop], Result], items: Iterable[Item], *, threads: int, stop: Stop | None = None
) -> list[Result]:
    """Results of `work` for each item, in order.

    The first exception of a worker is raised once the others have ended; they end at their next `Stop.check`.
    """
    stop = stop or Stop()
    with ThreadPoolExecutor(max_workers=threads) as pool:
        futures = [pool.submit(work, item, stop) for item in items]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            stop.set()
            interrupt_all()  # a worker that waits for a silent server never comes to its next `Stop.check`
            raise
        finally:
            if not all(future.done() and not future.exception() for future in futures):
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        failures = [
            error
            for error in (future.exception() for future in futures if not future.cancelled())
            if error is not None and not isinstance(error, StoppedError)
        ]
    if failures:
        raise failures[0]
    return [future.result() for future in futures]
