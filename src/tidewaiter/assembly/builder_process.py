"""Running a builder: its output followed line by line, its time bounded, and all of its processes ended with ours."""

import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import DeadlineError, MissingToolError

_PATIENCE = 5.0
"""Seconds that a builder gets to clean up before it is killed."""


class Ended(msgspec.Struct, frozen=True):
    """How a builder ended, and the last lines it wrote."""

    code: int
    lines: tuple[str, ...]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process and everything that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def follow(
    line: Sequence[str],
    *,
    environment: Mapping[str, str],
    seconds: float,
    tell: Callable[[str], None],
    hide: Sequence[str] = (),
    folder: Path | None = None,
) -> Ended:
    """Run the command line `line` to its end; `tell` gets each line that it writes, to whichever of its outputs.

    Args:
        line: program and arguments.
        environment: all of the program's variables.
        seconds: the longest it may take.
        tell: called for each line.
        hide: texts that must not be shown; `****` stands for them.
        folder: where it runs.

    Raises:
        MissingToolError: it cannot be started.
        DeadlineError: it took longer; it and what it started were ended.
    """
    kept: deque[str] = deque(maxlen=limits.BUILDER_LINES)

    def note(data: bytes) -> None:
        text = data[: limits.BUILDER_LINE_BYTES].decode(errors="replace").rstrip()
        for secret in hide:
            text = text.replace(secret, "****")
        if text:
            kept.append(text)
            tell(text)

    try:
        process = subprocess.Popen(
            line,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, so that all of it can be ended
        )
    except OSError as error:
        raise MissingToolError(
            f"{line[0]} cannot be started: {error.strerror}", next_step="Install it, or choose another tool."
        ) from error
    try:
        _read(process, time.monotonic() + seconds, note)
        return Ended(process.wait(), tuple(kept))
    except TimeoutError as error:
        raise DeadlineError(
            f"{Path(line[0]).name} took over {seconds:.0f} s",
            next_step="Raise TIDEWAITER_BUILDER_SECONDS if it needs longer.",
        ) from error
    finally:
        _end(process)
        if process.stdout is not None:
            process.stdout.close()


def _read(process: "subprocess.Popen[bytes]", deadline: float, note: Callable[[bytes], None]) -> None:
    """Hand on lines until the program has ended; raises `TimeoutError` at the deadline."""
    assert process.stdout is not None  # noqa: S101  # a pipe was asked for
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if not selector.select(min(left, 0.5)):
                if process.poll() is not None:
                    break  # what it left behind still holds the pipe
                continue
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                note(line)
            if len(rest) > limits.BUILDER_LINE_BYTES:
                note(rest)
                rest = b""
    note(rest)
