"""The processes of a worker that carry out steps: a few that wait, so that a run need not wait for one to start."""

import contextlib
import threading

from tidewaiter.pipelines.durable.step_process import StepProcess

_RUNS_OF_ONE = 20
"""After so many runs a process is replaced: what libraries keep in memory goes with it."""


class Crew:
    """Hands out processes; safe from any thread.

    Args:
        most: how many wait for a run at the same time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._guard = threading.Lock()
        self._idle: list[StepProcess] = []
        self._busy: set[StepProcess] = set()
        self._runs: dict[int, int] = {}
        self._closed = False

    def warm(self) -> None:
        """Start one that will soon be needed: it loads what it needs while its worker does."""
        with contextlib.suppress(OSError), self._guard:
            self._idle.append(StepProcess())

    def take(self) -> StepProcess:
        """A process that nobody else has."""
        with self._guard:
            while self._idle:
                process = self._idle.pop()
                if process.alive:
                    self._busy.add(process)
                    return process
                process.stop()
            made = StepProcess()
            self._busy.add(made)
            return made

    def back(self, process: StepProcess) -> None:
        """Take it back after its run."""
        process.forget()
        with self._guard:
            self._busy.discard(process)
            count = self._runs[process.pid] = self._runs.get(process.pid, 0) + 1
            keep = process.alive and not self._closed and len(self._idle) < self._most and count < _RUNS_OF_ONE
            if keep:
                self._idle.append(process)
            else:
                self._runs.pop(process.pid, None)
        if not keep:
            process.stop()

    def close(self) -> None:
        """End all of them."""
        with self._guard:
            self._closed = True
            gone, self._idle, self._busy = [*self._idle, *self._busy], [], set()
        for process in gone:
            process.stop()
