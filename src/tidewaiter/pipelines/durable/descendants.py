"""What a process started, and what that started: ended with it, also what is in a session of its own."""

import contextlib
import os
import signal
from pathlib import Path

_ROUNDS = 10
"""Who is ended may have started another one just before."""


def end(pid: int) -> None:
    """Kill everything below that process, and not itself. Whoever does not want more to be started stops it first."""
    for _ in range(_ROUNDS):
        found = _below(pid)
        if not found:
            return
        for one in found:
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGKILL)


def _below(pid: int) -> list[int]:
    """Those that live below it; nothing where the machine does not tell."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(path.parent.name))
    found: list[int] = []
    left = [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found
