"""What glibc keeps of memory that this process freed."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Let the system have it: for once in a while, after much was needed for a moment.

    Where the C library is another one nothing changes.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
