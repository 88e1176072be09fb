"""One child process that runs Rego, and the pipe to it, with a deadline on every answer."""

import contextlib
import os
import select
import subprocess
import sys
import time

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError

_CHUNK = 1 << 20
_COMMAND = ("-I", "-m", "tidewaiter.policy.child")
_ENVIRONMENT = {
    # The engine's allocator reserves 1 GiB of addresses at start, which would be all that RLIMIT_AS leaves.
    "MIMALLOC_ARENA_RESERVE": "64MiB",
}
"""Everything that a child finds in its environment."""


class ChildError(UndeterminedError):
    """The child died, was late, or answered something that is no answer. The child is gone."""

    default_code = "policy_child"


class _Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ready: bool
    network: bool


class Child:
    """A running child. After a `ChildError` it has ended and must be replaced."""

    def __init__(self, *, seconds: float) -> None:
        arguments = (limits.POLICY_CHILD_BYTES, limits.POLICY_INPUT_BYTES, max(seconds, limits.POLICY_LOAD_SECONDS))
        self._process = subprocess.Popen(
            [sys.executable, *_COMMAND, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The engine writes crash reports there; the answer that does not come says enough.
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            close_fds=True,
            # Ctrl-C is for the parent, which then closes the pipe.
            start_new_session=True,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise ChildError("the policy child has no pipes", next_step="Run the command again.")
        self._in, self._out = self._process.stdin, self._process.stdout
        for pipe in (self._in, self._out):
            os.set_blocking(pipe.fileno(), False)
        try:
            ready = msgspec.json.decode(self._receive(time.monotonic() + limits.POLICY_LOAD_SECONDS), type=_Ready)
        except msgspec.DecodeError as error:
            raise self._failed("it answered something odd when it started") from error
        self.networkless: bool = not ready.network
        """Whether the child has left the network; not every host lets it."""

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def ask(self, kind: bytes, body: bytes, *, seconds: float) -> bytes:
        """The child's answer to one request.

        Raises:
            ChildError: there was no whole answer within `seconds`.
        """
        deadline = time.monotonic() + seconds
        self._send((len(body) + 1).to_bytes(4, "big") + kind + body, deadline)
        return self._receive(deadline)

    def close(self) -> None:
        """End the child; safe to call twice."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._in, self._out):
            # Unwritten bytes of a request that nobody will read.
            with contextlib.suppress(OSError):
                pipe.close()

    def _failed(self, what: str) -> ChildError:
        self.close()
        return ChildError(
            f"the policy engine's process gave no answer: {what}",
            next_step="Look at the rule that was being evaluated; `tidewaiter policy test` runs each one alone.",
        )

    def _wait(self, pipe: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise self._failed("it was not done in time")

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(self._in.fileno(), select.POLLOUT, deadline)
            try:
                rest = rest[os.write(self._in.fileno(), rest[:_CHUNK]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._failed(self._death()) from error

    def _receive(self, deadline: float) -> bytes:
        size = int.from_bytes(self._read(4, deadline), "big")
        if size > limits.POLICY_ANSWER_BYTES:
            raise self._failed(f"its answer is over {limits.POLICY_ANSWER_BYTES} bytes")
        return self._read(size, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(self._out.fileno(), select.POLLIN, deadline)
            try:
                part = os.read(self._out.fileno(), min(size - len(data), _CHUNK))
            except BlockingIOError:
                continue
            if not part:
                raise self._failed(self._death())
            data += part
        return bytes(data)

    def _death(self) -> str:
        try:
            status = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        return f"it ended by signal {-status}" if status < 0 else f"it ended with status {status}"
