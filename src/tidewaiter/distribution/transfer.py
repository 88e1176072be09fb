"""Moving several blobs at once, so that the first failure or ctrl-C stops them all."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

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


class _Work(Generic[Item, Result]):
    """Items that several threads take from one queue."""

    def __init__(self, work: Callable[[Item, Stop], Result], items: Iterable[Item], stop: Stop) -> None:
        self._work = work
        self._waiting = deque(enumerate(items))
        self._stop = stop
        self.count = len(self._waiting)
        self.results: dict[int, Result] = {}
        self.failures: list[BaseException] = []

    def run(self) -> None:
        """Take items until none is left, or the work is no longer wanted."""
        while True:
            try:
                number, item = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._stop.check()
                self.results[number] = self._work(item, self._stop)
            except StoppedError:
                return
            except BaseException as error:  # noqa: BLE001  # handed to the caller
                self.failures.append(error)
                self._stop.set()
                return


def in_parallel(
    work: Callable[[Item, Stop], Result], items: Iterable[Item], *, threads: int, stop: Stop | None = None
) -> list[Result]:
    """Results of `work` for each item, in order.

    The thread that calls is one of the `threads`. The first exception of a worker is raised once the others have ended;
    they end at their next `Stop.check`.
    """
    stop = stop or Stop()
    shared = _Work(work, items, stop)
    workers = [threading.Thread(target=shared.run, name="transfer") for _ in range(min(threads, shared.count) - 1)]
    try:
        for worker in workers:
            worker.start()
        shared.run()
        for failure in shared.failures:
            if not isinstance(failure, Exception):
                raise failure  # noqa: TRY301  # ctrl-C reaches this thread while it works as well as while it waits
        for worker in workers:
            worker.join()
    except BaseException:
        stop.set()
        interrupt_all()  # a worker that waits for a silent server never comes to its next `Stop.check`
        for worker in workers:
            if worker.ident is not None:  # it was started
                worker.join()
        raise
    if shared.failures:
        raise shared.failures[0]
    if len(shared.results) < shared.count:
        raise StoppedError
    return [shared.results[number] for number in range(shared.count)]
