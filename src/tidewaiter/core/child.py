"""A child process that reads hostile input, and the pipes to it, with a deadline on every step.

It gets no environment, no descriptor but those given, and `/` as its folder; `core.confined` is what it does itself.
A child that dies, is late or answers oddly ends as an error of "could not find out", and is gone.
"""

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from tidewaiter.core.confined import whole
from tidewaiter.core.errors import UndeterminedError

_CHUNK = 1 << 20
Failure = Callable[[str], UndeterminedError]
"""Makes the error from the reason why there was no answer."""


class Child:
    """A running child. After an error made by `failure` it has ended and must be replaced.

    Args:
        command: what this interpreter runs, as `-m MODULE` with its arguments; `-I` goes without saying.
        failure: makes the error that is raised when there is no answer.
        environment: everything that it finds in its environment.
        descriptors: open files that it gets under the same numbers.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        failure: Failure,
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self._failure = failure
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # A crash report would land there; the answer that does not come says enough.
                stderr=subprocess.DEVNULL,
                env=dict(environment or {}),
                cwd="/",
                close_fds=True,
                pass_fds=descriptors,
                # Ctrl-C is for the parent, which then ends the child.
                start_new_session=True,
            )
        except OSError as error:
            raise failure(f"it could not be started: {error.strerror}") from error
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101,PT018  # asked for
        self._in, self._out = self._process.stdin, self._process.stdout
        for pipe in (self._in, self._out):
            os.set_blocking(pipe.fileno(), False)
        # Whoever has many pipes may not have another one of that size.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._in.fileno(), fcntl.F_SETPIPE_SZ, _CHUNK)

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def kill(self) -> None:
        """End the child from any thread; whoever waits for its answer gets an error, and closes it."""
        self._process.kill()

    def close(self) -> None:
        """End the child, and what is left of it here; safe to call twice."""
        self.kill()
        self._process.wait()
        for pipe in (self._in, self._out):
            # Unwritten bytes of a request that nobody will read.
            with contextlib.suppress(OSError):
                pipe.close()

    def fail(self, what: str) -> UndeterminedError:
        """End the child; the error that says why."""
        self.close()
        return self._failure(what)

    def send(self, *parts: bytes, deadline: float) -> bool:
        """Send one frame of all `parts`; False when the child answers before it has taken all of it.

        Raises:
            UndeterminedError: it has died, or did not take it until `deadline` (`time.monotonic`).
        """
        # Small frames go as one: the reader is woken up once.
        for part in whole((sum(map(len, parts)).to_bytes(4, "big"), *parts)):
            rest = memoryview(part)
            while rest:
                if self._wait(deadline, sending=True):
                    return False
                try:
                    rest = rest[os.write(self._in.fileno(), rest[:_CHUNK]) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise self.fail(self._death()) from error
        return True

    def receive(self, limit: int, *, deadline: float) -> bytearray:
        """The next frame.

        Raises:
            UndeterminedError: it has died, the frame is over `limit` bytes, or was not there until `deadline`.
        """
        size = int.from_bytes(self._read(4, deadline), "big")
        if size > limit:
            raise self.fail(f"its answer is over {limit} bytes")
        return self._read(size, deadline)

    def _wait(self, deadline: float, *, sending: bool = False) -> bool:
        """Until something can be read, or, when `sending`, written; whether something can be read."""
        poll = select.poll()
        out = self._out.fileno()
        poll.register(out, select.POLLIN)
        if sending:
            poll.register(self._in.fileno(), select.POLLOUT)
        left = deadline - time.monotonic()
        ready = dict(poll.poll(left * 1000)) if left > 0 else {}
        if not ready:
            raise self.fail("it was not done in time")
        return bool(ready.get(out, 0) & select.POLLIN)

    def _read(self, size: int, deadline: float) -> bytearray:
        data = bytearray()
        while len(data) < size:
            self._wait(deadline)
            try:
                part = os.read(self._out.fileno(), min(size - len(data), _CHUNK))
            except BlockingIOError:
                continue
            if not part:
                raise self.fail(self._death())
            data += part
        return data

    def _death(self) -> str:
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"it ended by signal {-status}" if status < 0 else f"it ended with status {status}"
