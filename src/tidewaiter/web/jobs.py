"""What takes longer than an answer may is done in threads of its own, a few at a time.

The same work for the same thing is done once at a time: whoever asks meanwhile waits for that one. A stop of the server
does not wait for work: what is not done by then is said to be lost, and commands ask for it again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from tidewaiter.catalog import jobs
from tidewaiter.catalog.jobs import Job, Kind
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.web.problems import HttpError
from tidewaiter.web.source import Source

_LOG = logging.getLogger("tidewaiter.jobs")
_UNEXPECTED = "Something went wrong on the server"

Work = Callable[[], object]
"""Returns what is to be answered: a msgspec struct."""


class _Task(NamedTuple):
    name: str
    key: tuple[Kind, str]
    work: Work
    ended: threading.Event
    errors: list[TidewaiterError]


class Jobs:
    """Work of this process. Safe from any thread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._guard = threading.Condition()
        self._waiting: deque[_Task] = deque()
        self._tasks: dict[tuple[Kind, str], _Task] = {}
        self._workers = 0
        self._closed = False
        self._living: threading.Thread | None = None

    def close(self) -> None:
        """Begin nothing more, and say of what is not done that it is lost: nobody need wait for it."""
        with self._guard:
            self._closed = True
            self._waiting.clear()
            names = [task.name for task in self._tasks.values()]
            self._guard.notify_all()
        if not names:
            return
        try:
            with self._source.catalog.database.writing() as connection:
                jobs.lose(connection, names, clock.now())
        except TidewaiterError as error:
            _LOG.warning("jobs: %s", error)

    def run(self, kind: Kind, subject: str, who: str, work: Work, *, seconds: float) -> Job:
        """What came of the work, or that it still runs after so many seconds; raises what the work raised until then.

        Raises:
            HttpError: too much waits, or the server stops.
            StorageError: the catalog cannot be written.
        """
        task = self._begun(kind, subject, who, work)
        task.ended.wait(seconds)
        if task.errors:
            raise task.errors[0]
        with self._source.catalog.database.reading() as connection:
            return jobs.job(connection, task.name, clock.now())

    def _begun(self, kind: Kind, subject: str, who: str, work: Work) -> _Task:
        key = (kind, subject)
        with self._guard:
            known = self._tasks.get(key)
            if known is not None:
                return known
            if self._closed or len(self._waiting) >= limits.JOBS_WAITING:
                raise HttpError(
                    503,
                    "this server stops" if self._closed else f"{limits.JOBS_WAITING} jobs wait already",
                    next_step="Try again later.",
                    code="too_many_jobs",
                    headers={"Retry-After": "30"},
                )
            with self._source.catalog.database.writing() as connection:
                name = jobs.begin(connection, kind, subject, who, clock.now())
            task = self._tasks[key] = _Task(name, key, work, threading.Event(), [])
            self._waiting.append(task)
            if self._workers < limits.JOBS_AT_ONCE:
                self._workers += 1
                threading.Thread(target=self._serve, name="job", daemon=True).start()
            if self._living is None:
                self._living = threading.Thread(target=self._live, name="jobs-live", daemon=True)
                self._living.start()
            return task

    def _serve(self) -> None:
        while True:
            with self._guard:
                if not self._waiting:
                    self._workers -= 1
                    return
                task = self._waiting.popleft()
            try:
                self._do(task)
            finally:
                with self._guard:
                    del self._tasks[task.key]
                task.ended.set()

    def _do(self, task: _Task) -> None:
        try:
            answer: Any = msgspec.to_builtins(task.work(), str_keys=True)
            state: jobs.State = "done"
        except TidewaiterError as error:
            task.errors.append(error)
            answer, state = {"code": error.code, "message": error.message, "next": error.next_step}, "failed"
        except Exception:  # noqa: BLE001  # a thread that ends would let its client wait
            _LOG.exception("job %s", task.name)
            next_step = f"Look for {task.name} in the server's log."
            answer, state = {"code": "unexpected", "message": _UNEXPECTED, "next": next_step}, "failed"
        try:
            with self._source.catalog.database.writing() as connection:
                jobs.end(connection, task.name, state, answer, clock.now())
        except TidewaiterError as error:
            _LOG.error("job %s: %s", task.name, error)

    def _live(self) -> None:
        while True:
            with self._guard:
                self._guard.wait(limits.JOB_ALIVE_SECONDS / 3)
                names = [task.name for task in self._tasks.values()]
                if self._closed or not names:
                    self._living = None
                    return
            try:
                with self._source.catalog.database.writing() as connection:
                    jobs.live(connection, names, clock.now())
            except TidewaiterError as error:
                _LOG.warning("jobs: %s", error)
