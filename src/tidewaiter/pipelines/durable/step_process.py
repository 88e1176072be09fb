"""A process that carries out steps, as its worker sees it: asked for one, listened to, ended."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.pipelines.durable import descendants, frames
from tidewaiter.pipelines.durable.frames import Failure, Frame, Request

_LOOK_SECONDS = 0.2
_CHUNK = 1 << 16


class DiedError(UndeterminedError):
    """The process ended in the middle of a step."""


class LateError(UndeterminedError):
    """The step was not done in time, and was ended."""


class InterruptedStepError(UndeterminedError):
    """The step was ended because the worker wanted it to."""


class StepProcess:
    """A running process. After any error but a `Failure` it has ended, and is to be replaced."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tidewaiter.pipelines.durable.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is for the worker; and whatever a step starts is ended with it.
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101,PT018  # asked for
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._rest = bytearray()
        self.run = ""
        """The run that it has something of."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return self._process.poll() is None

    def perform(
        self,
        request: Request,
        *,
        heard: Callable[[Frame], None],
        seconds: float,
        interrupted: threading.Event,
    ) -> dict[str, Any] | Failure:
        """What the step answered, or why it did not.

        Args:
            request: the step.
            heard: told what goes on.
            seconds: how long it may take.
            interrupted: ends the step when it is set.

        Raises:
            DiedError: the process ended.
            LateError: it took too long.
            InterruptedStepError: `interrupted` was set.
        """
        self.run = request.run
        deadline = time.monotonic() + seconds
        self._send(request)
        while True:
            if interrupted.is_set():
                self.stop()
                raise InterruptedStepError(f"{request.step} was ended", next_step="Nothing has to be done.")
            if time.monotonic() >= deadline:
                self.stop()
                raise LateError(
                    f"{request.step} was not done after {seconds:.0f} s, and was ended",
                    next_step="See the log of the run; raise `pipeline_step_seconds` when it needs longer.",
                    code="step_timeout",
                )
            frame = self._frame(min(_LOOK_SECONDS, deadline - time.monotonic()))
            if frame is None:
                continue
            if frame.answer is not None:
                return frame.answer
            if frame.failure is not None:
                return frame.failure
            heard(frame)

    def forget(self) -> None:
        """Let it let go what it holds for its run; a process that cannot is ended."""
        if not self.run:
            return
        request, self.run = Request(run=self.run), ""
        try:
            self.perform(request, heard=lambda _: None, seconds=limits.STEP_STOP_SECONDS, interrupted=threading.Event())
        except UndeterminedError:
            self.stop()
        self.run = ""

    def _send(self, request: Request) -> None:
        try:
            self._in.write(frames.line(request))
            self._in.flush()
        except OSError as error:
            raise self._died() from error

    def _frame(self, seconds: float) -> Frame | None:
        """The next frame; None when there is none after so long."""
        end = self._rest.find(b"\n")
        if end < 0:
            ready, _, _ = select.select([self._out], [], [], max(0.0, seconds))
            if not ready:
                return None
            data = os.read(self._out.fileno(), _CHUNK)
            if not data:
                raise self._died()
            self._rest += data
            if len(self._rest) > limits.RUN_FRAME_BYTES:
                self.stop()
                raise DiedError(
                    f"its process said over {limits.RUN_FRAME_BYTES} bytes at once, and was ended",
                    next_step="This is a fault of tidewaiter; report it.",
                    code="step_died",
                )
            end = self._rest.find(b"\n")
            if end < 0:
                return None
        data, self._rest = bytes(self._rest[:end]), self._rest[end + 1 :]
        try:
            return frames.FRAME.decode(data)
        except (ValueError, RecursionError) as error:
            self.stop()
            raise DiedError(
                f"its process said what is no frame: {error}",
                next_step="This is a fault of tidewaiter; report it.",
                code="step_died",
            ) from error

    def _died(self) -> DiedError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=limits.STEP_STOP_SECONDS)
        status = self._process.returncode
        self.stop()
        if status is not None and status < 0:
            why = f"signal {-status} ({signal.Signals(-status).name})"
        else:
            why = f"status {status}"
        hint = " (out of memory?)" if status == -signal.SIGKILL else ""
        return DiedError(
            f"its process ended with {why}{hint}",
            next_step="See the log of the run, and that of the worker's machine.",
            code="step_died",
        )

    def stop(self) -> None:
        """End it and everything that it started: first it may let go what it holds, then it is killed."""
        if self.alive:
            with contextlib.suppress(OSError):
                self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                # A step that ends says so and waits for the next one; closing the pipe ends the process.
                self._wait_for_word()
        if self.alive:
            with contextlib.suppress(OSError):
                os.kill(self._process.pid, signal.SIGSTOP)  # nothing more is started by it
            descendants.end(self._process.pid)
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()

    def _wait_for_word(self) -> None:
        deadline = time.monotonic() + limits.STEP_STOP_SECONDS
        while self.alive and time.monotonic() < deadline:
            ready, _, _ = select.select([self._out], [], [], _LOOK_SECONDS)
            if not ready:
                continue
            data = os.read(self._out.fileno(), _CHUNK)
            if not data or b'"stopped"' in data:
                return
