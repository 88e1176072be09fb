"""A file that is being written beside its place and moves there when it is complete."""

import atexit
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from tidewaiter.core import durable
from tidewaiter.core.errors import IntegrityError
from tidewaiter.oci.digest import Digest

_begun: set[tuple[int, Path]] = set()
"""Process and name of what may be on the disk."""


class Unfinished:
    """Use as a context manager: what was not moved to its place until the end is removed."""

    def __init__(self, temporary: Path, shown: Path) -> None:
        """Begin the file `temporary`; raises `StorageError`, which names `shown`."""
        self._temporary = temporary
        _begun.add((os.getpid(), temporary))
        try:
            self._file: BinaryIO = temporary.open("xb")
        except OSError as error:
            _begun.discard((os.getpid(), temporary))
            raise durable.storage_error(error, str(shown)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError:
            # A full disk makes the last buffered write fail again; the file is removed either way.
            pass
        finally:
            self._temporary.unlink(missing_ok=True)
            _begun.discard((os.getpid(), self._temporary))


@atexit.register
def _remove_begun() -> None:
    """A signal can fall between the beginning of a file and its `with`, or into the removal itself."""
    for process, temporary in _begun:
        if process == os.getpid():
            temporary.unlink(missing_ok=True)


def other_bytes(actual: str, written: int, expected: Digest, size: int) -> IntegrityError:
    """What was written is not the blob that it should be."""
    return IntegrityError(
        f"got {written} bytes of digest {actual} instead of {size} bytes of {expected}",
        next_step="Run the command again; if it happens again, the source is damaged or tampered with.",
    )
