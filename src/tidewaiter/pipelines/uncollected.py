"""Working out many values of which none leads back to itself, without looking for those that do.

Python's collector goes through everything there is each time so many values were made, to find those that hold one
another. Where none of them do, it finds nothing, and takes a quarter of the time that making them does.
"""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 5.0
"""Seconds for which it rests at most where blocks of several threads follow without a break."""
_lock = threading.Lock()
_inside = 0
_since = 0.0
_before = True


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the collector rest while the block runs, in all threads; what nobody refers to is freed at once all the same.

    For blocks of less than a few seconds: cycles that others make meanwhile wait until no such block runs.
    """
    global _inside, _since, _before  # noqa: PLW0603 - the collector is the process's own
    with _lock:
        now = time.monotonic()
        if not _inside:
            _before, _since = gc.isenabled(), now
        _inside += 1
        if now - _since < _LONGEST:
            gc.disable()
        elif _before:
            gc.enable()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _before:
                gc.enable()
