"""Threads that nobody has to wait for: what they do is safe to be killed at any moment, as the server itself is.

Those of `concurrent.futures` are joined when the interpreter ends, however long what they do takes.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from typing import Any, TypeVar

from tidewaiter.core.errors import UndeterminedError

_Result = TypeVar("_Result")


class Threads(Executor):
    """At most so many, begun when they are first needed. Safe from any thread."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._open: set[Future[Any]] = set()
        self._count = 0
        self._ended = False
        self._lock = threading.Lock()

    def submit(self, function: Callable[..., _Result], /, *args: Any, **options: Any) -> "Future[_Result]":  # noqa: ANN401 - as `Executor` has it
        """The result to come; raises `UndeterminedError` once it was closed."""
        found: Future[_Result] = Future()
        with self._lock:
            if self._ended:
                raise _stopped()
            self._open.add(found)
            if self._count < min(self._most, len(self._open)):
                self._count += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._count}", daemon=True).start()
        self._work.put((found, lambda: function(*args, **options)))
        return found

    def _run(self) -> None:
        while True:
            found, work = self._work.get()
            if not found.set_running_or_notify_cancel():
                self._still_wanted(found)
                continue
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  # whoever waits gets it
                if self._still_wanted(found):
                    found.set_exception(error)
            else:
                if self._still_wanted(found):
                    found.set_result(result)
                del result
            del found, work

    def _still_wanted(self, found: "Future[Any]") -> bool:
        with self._lock:
            wanted = found in self._open
            self._open.discard(found)
            return wanted

    def close(self, seconds: float) -> None:
        """Begin nothing more; what does not end within `seconds` is given up, and whoever waits for it is told."""
        with self._lock:
            self._ended = True
            left = set(self._open)
        for one in left:
            one.cancel()
        wait([one for one in left if not one.cancelled()], timeout=seconds)
        with self._lock:
            given_up = [one for one in self._open if not one.cancelled()]
            self._open.clear()
        for one in given_up:
            one.set_exception(_stopped())


def _stopped() -> UndeterminedError:
    return UndeterminedError("the server stops", next_step="Ask again when it runs.")
