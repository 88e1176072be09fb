"""Bytecode between the interpreter that makes it and the layer that takes it: on disk, as there may be a lot."""

import io
import os
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tidewaiter.assembly.bytecode import bytecode_path
from tidewaiter.core import durable
from tidewaiter.core.files import unnamed
from tidewaiter.oci.layer import Opener


class Spool:
    """Bytecode on disk until its layer is written. Use as a context manager; nothing remains."""

    def __init__(self, folder: Path, version: str) -> None:
        self._version = version
        self._end = 0
        self.content: dict[str, tuple[int, Opener]] = {}
        """Size and opener by absolute path in the image."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = unnamed(folder)  # closed by __exit__
        except OSError as error:
            raise durable.storage_error(error, str(folder)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, path: str, data: bytes) -> None:
        """Keep the bytecode of the source at `path`."""
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file.fileno(), data[written:], self._end + written)
        except OSError as error:
            raise durable.storage_error(error, "bytecode") from error
        self.content[bytecode_path(path, self._version)] = (
            len(data),
            partial(self._open, self._end, len(data)),
        )
        self._end += len(data)

    def _open(self, offset: int, size: int) -> io.BytesIO:
        return io.BytesIO(os.pread(self._file.fileno(), size, offset))
