"""The process that carries out the steps of runs, one at a time, as a worker asks for them.

1. It is a process of its own, so that a step can be ended whatever it does, and a step that dies (of memory, of a
   library) takes nothing along but itself.
2. It ends when its worker does: the pipe from it closes, and it kills everything that it started.
3. SIGTERM ends a step where it is, as ctrl-C does a command: what it holds is let go. It is safe to kill it, too.
4. What it keeps for a run (the built image, what is in it) spares later steps the work; whatever it does not have, it
   makes again from what lies in store, cache and catalog.
"""

import contextlib
import importlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn, Protocol

import msgspec

from tidewaiter.catalog.runs.records import Asked
from tidewaiter.catalog.runs.records import Progress as Shown
from tidewaiter.core import limits
from tidewaiter.core.errors import (
    DeadlineError,
    NetworkError,
    RefusedError,
    StorageError,
    TidewaiterError,
    UndeterminedError,
)
from tidewaiter.core.progress import Progress, Task, Unit
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable import descendants, frames
from tidewaiter.pipelines.durable.frames import Failure, Frame, Request
from tidewaiter.pipelines.durable.redacting import Redactor

_AGAIN = (NetworkError, StorageError, DeadlineError)
_FACTOR = 16
"""So much longer is what a text is cut to before secrets are taken out, and it is cut to its bound."""
_TASK_SECONDS = 0.5
"""How far a task is, is said at most this often."""
_FIRST_TO_DIE = b"1000"
"""When memory runs out, the step ends and not its worker (oom_score_adj(5))."""


class Stopped(BaseException):
    """The worker wants this step to end."""


class Work(Protocol):
    """A run, as far as it is carried out here."""

    def step(self, name: str) -> dict[str, Any]:
        """Do a step; its answer, as JSON."""

    def close(self) -> None:
        """Let go what is held for it."""


class Said:
    """Tells the worker what goes on; safe from any thread."""

    def __init__(self, out: BinaryIO, redact: Redactor) -> None:
        self._out = out
        self._redact = redact
        self._lock = threading.Lock()

    def say(self, frame: Frame) -> None:
        """Send a frame."""
        data = memoryview(frames.line(frame))
        with self._lock:
            while data:
                data = data[self._out.write(data) :]

    def note(self, text: str) -> None:
        """Tell the user one thing that stays visible."""
        self.say(Frame(note=self.cut(text, limits.RUN_LINE_CHARACTERS)))

    def cut(self, text: str, most: int) -> str:
        """At most so many characters of it. The worker takes secrets out, but would not know half of one."""
        return text if len(text) <= most else self._redact(text[: _FACTOR * most])[:most]

    def failed(self, error: Exception) -> None:
        """Tell why the step did not do what it was to do."""
        found = failure(error)
        message, next_step = (self.cut(text, limits.CATALOG_TEXT_CHARACTERS) for text in (found.message, found.next))
        self.say(Frame(failure=msgspec.structs.replace(found, message=message, next=next_step)))

    @contextmanager
    def task(self, title: str, *, total: int | None = None, unit: Unit = "items") -> Iterator[Task]:
        """Open a task that is shown until the block ends."""
        task = _Task(self, title, total, unit)
        task.show()
        yield task


class _Task:
    def __init__(self, said: Said, title: str, total: int | None, unit: Unit) -> None:
        self._said, self._title, self._total, self._unit = said, title, total, unit
        self._done = 0
        self._shown = 0.0
        self._lock = threading.Lock()

    def advance(self, amount: int = 1) -> None:
        with self._lock:
            self._done += amount
            due = time.monotonic() - self._shown >= _TASK_SECONDS
        if due:
            self.show()

    def describe(self, text: str) -> None:
        with self._lock:
            self._title = text

    def show(self) -> None:
        with self._lock:
            self._shown = time.monotonic()
            shown = Shown(title=self._title[:200], done=self._done, total=self._total, unit=self._unit)
        self._said.say(Frame(task=shown))


def opened(settings: Settings, request: Request, asked: Asked, progress: Progress) -> Work:
    """The run that is asked for."""
    if asked.kind == "clear":
        from tidewaiter.pipelines.durable.clear_run import ClearRun

        return ClearRun(settings, request, asked, progress)
    from tidewaiter.pipelines.durable.sweep_run import SweepRun

    return SweepRun(settings, request, progress)


def failure(error: Exception) -> Failure:
    """What is said of an error."""
    if isinstance(error, OSError):
        from tidewaiter.core.durable import storage_error

        error = storage_error(error, str(error.filename or "a file"))
    if not isinstance(error, TidewaiterError):
        import traceback

        traceback.print_exception(error)  # to stderr, which is the worker's
        error = UndeterminedError(
            f"unexpected {type(error).__name__}: {error}",
            next_step="This is a fault of tidewaiter; what happened stands in the worker's log.",
            code="unexpected",
        )
    return Failure(
        code=error.code,
        message=error.message,
        next=error.next_step,
        refused=isinstance(error, RefusedError),
        again=isinstance(error, _AGAIN),
    )


class Runner:
    """Does what is asked for."""

    def __init__(self, settings: Settings, said: Said) -> None:
        self._settings = settings
        self._said = said
        self._run = ""
        self._work: Work | None = None
        self.stepping = False
        """Whether a step is under way, which a signal ends."""

    def serve(self, request: Request) -> None:
        """Do it, and say what came of it."""
        try:
            if self._run != request.run or not request.step:
                self._forget()
            if not request.step or request.asked is None:
                self._said.say(Frame(answer={}))
                return
            self.stepping = True
            try:
                answer = self._step(request, request.asked)
            finally:
                self.stepping = False
            self._said.say(Frame(answer=answer))
        except Stopped:
            self._forget()
            self._said.say(Frame(stopped=True))
        except Exception as error:  # noqa: BLE001  # whatever it is, the worker has to know
            self._said.failed(error)

    def _step(self, request: Request, asked: Asked) -> dict[str, Any]:
        if self._work is None:
            self._work = opened(self._settings, request, asked, self._said)
            self._run = request.run
        answer = self._work.step(request.step)
        if len(frames.ENCODER.encode(answer)) > limits.RUN_ANSWER_BYTES:
            raise UndeterminedError(
                f"the answer of {request.step} is over {limits.RUN_ANSWER_BYTES} bytes",
                next_step="This is a fault of tidewaiter; report it.",
                code="unexpected",
            )
        return answer

    def _forget(self) -> None:
        work, self._work, self._run = self._work, None, ""
        if work is not None:
            work.close()


def _die(_code: int = 1) -> NoReturn:
    """End, with everything that was started."""
    descendants.end(os.getpid())
    with contextlib.suppress(OSError):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os._exit(_code)


def _listen(requests: "queue.SimpleQueue[Request]") -> None:
    stream = sys.stdin.buffer
    while True:
        data = stream.readline(limits.RUN_FRAME_BYTES)
        if not data.endswith(b"\n"):
            _die()
        requests.put(frames.REQUEST.decode(data))


def main() -> None:
    """Serve the worker whose pipes these are."""
    from tidewaiter.core import settings

    # Frames go where stdout went; what a library prints goes to stderr.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:  # noqa: PTH123  # no path of ours
        file.write(_FIRST_TO_DIE)
    loaded = settings.load()
    runner = Runner(loaded, Said(out, Redactor(loaded)))

    def terminated(_signal: int, _frame: object) -> None:
        if not runner.stepping:
            _die(0)
        runner.stepping = False
        raise Stopped

    signal.signal(signal.SIGTERM, terminated)
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), name="worker", daemon=True).start()
    # While nothing is asked for yet: most runs are of this pipeline.
    importlib.import_module("tidewaiter.pipelines.durable.clear_run")
    while True:
        # A wait without an end would keep the signal from being handled.
        with contextlib.suppress(queue.Empty):
            runner.serve(requests.get(timeout=1.0))


if __name__ == "__main__":
    main()
