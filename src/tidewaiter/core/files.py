"""Opening files that somebody else named: a pipe, a device or a socket in their place is refused, not waited for."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from tidewaiter.core.errors import InputError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> BinaryIO:
    """`path` opened for reading; links are followed.

    Raises:
        InputError: it is no regular file; the message says what it is.
        OSError: as `open`, for example `FileNotFoundError`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would hang
    kind = stat.S_IFMT(os.fstat(handle).st_mode)
    if kind != stat.S_IFREG:
        os.close(handle)
        raise InputError(f"{path} is {_KINDS.get(kind, 'no file')}, not a file", next_step="Name a regular file.")
    return os.fdopen(handle, "rb")
