"""Opening files that somebody else named, and files that nobody names.

A pipe, a device or a socket in the place of the former is refused, not waited for.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO, cast

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


def unnamed(folder: Path) -> BinaryIO:
    """An empty file on the disk of `folder`, for writing and reading, that is gone when it is closed.

    Raises:
        OSError: it could not be made.
    """
    try:
        handle = os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError:  # a file system that has no such files: then one whose name is removed at once
        import tempfile  # brings more along than this, which short commands do not wait for

        return cast("BinaryIO", tempfile.TemporaryFile(dir=folder))
    return os.fdopen(handle, "w+b")
