"""A worker that is killed, or stopped, at a named moment of a run: `python kill_worker.py MOMENT [STEPS]`.

MOMENT is `before:STEP`, `said:STEP` (the catalog knows that it is done, the engine does not), `inside:STEP:SECONDS`,
or `never`. The step `end` is what says that the run has ended. STEPS, between commas, are those of `clear` in another
release.

With `stop:STEP` it stops (SIGSTOP) once while a step is under way and no transaction is, with `hang:STEP` in the
transaction in which it says that the step begins; it works until it is terminated.

It is a real worker; only its death, or sleep, is arranged.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tidewaiter.catalog.runs import steps
from tidewaiter.core import settings
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines.durable import shapes, working
from tidewaiter.pipelines.durable.carrying import Carrier
from tidewaiter.pipelines.durable.frames import Request
from tidewaiter.pipelines.durable.step_process import StepProcess


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arrange(when: str, step: str, seconds: float) -> None:
    do: Callable[..., Any] = Carrier.do
    end: Callable[..., Any] = Carrier.end
    perform: Callable[..., Any] = StepProcess.perform

    def doing(carrier: Carrier, number: int, name: str, answers: dict[str, dict[str, Any]]) -> Any:
        if (when, step) == ("before", name):
            _die()
        found = do(carrier, number, name, answers)
        if (when, step) == ("said", name):
            _die()
        return found

    def ending(carrier: Carrier, *arguments: Any) -> None:
        if (when, step) == ("before", "end"):
            _die()
        end(carrier, *arguments)
        if (when, step) == ("said", "end"):
            _die()

    def performing(process: StepProcess, request: Request, **more: Any) -> Any:
        if (when, step) == ("inside", request.step):
            threading.Timer(seconds, _die).start()
        return perform(process, request, **more)

    Carrier.do = doing  # type: ignore[method-assign,assignment]  # so that it dies exactly there
    Carrier.end = ending  # type: ignore[method-assign,assignment]
    StepProcess.perform = performing  # type: ignore[method-assign,assignment]


def _arrange_sleep(when: str, step: str) -> None:
    begin: Callable[..., Any] = steps.begin
    cancel: Callable[..., Any] = working.Worker._cancel
    perform: Callable[..., Any] = StepProcess.perform
    left = [1]
    performing: set[str] = set()

    def sleep() -> None:
        if left:
            left.clear()
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(1)  # another thread may be the first to stop: this one stays where it is meanwhile

    def beginning(*arguments: Any, **more: Any) -> Any:
        found = begin(*arguments, **more)
        if when == "hang" and step in arguments:
            sleep()
        return found

    def noted(process: StepProcess, request: Request, **more: Any) -> Any:
        performing.add(request.step)
        try:
            return perform(process, request, **more)
        finally:
            performing.discard(request.step)

    def looking(worker: working.Worker) -> None:
        # The one that carries the run out is listening to its step, and this thread does nothing either.
        if when == "stop" and step in performing:
            sleep()
        cancel(worker)

    steps.begin = beginning  # so that it sleeps exactly there
    StepProcess.perform = noted  # type: ignore[method-assign,assignment]
    working.Worker._cancel = looking  # type: ignore[method-assign,assignment]


def main() -> None:
    """Work until nothing waits, or until the moment comes; one that sleeps, until it is terminated."""
    when, _, rest = sys.argv[1].partition(":")
    if when in {"stop", "hang"}:
        _arrange_sleep(when, rest)
        over = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: over.set())
        working.work(settings.load(), SILENT, name="sleeper", stop=over, concurrency=1)
        return
    step, _, seconds = rest.partition(":")
    _arrange(when, step, float(seconds or 0))
    if len(sys.argv) > 2:
        shapes.SHAPES["clear"] = shapes.Shape("other", tuple(sys.argv[2].split(",")))
    working.work(settings.load(), SILENT, once=True)


if __name__ == "__main__":
    main()
