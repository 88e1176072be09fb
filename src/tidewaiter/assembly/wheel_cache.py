"""Wheels on this disk, by SHA-256: fetched once, verified before they get their name, checked again when touched.

A wheel that was verified is not hashed again while its size, time and inode are those recorded then, so that a
warm build does not read a gigabyte to learn what it knows.
"""

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.core import durable, leases, limits
from tidewaiter.core.errors import IntegrityError, LimitError, NotFoundError

_CHUNK = 1 << 20
_STAMP = "verified.json"
_STAMP_BYTES = 4 * limits.KIB

Advance = Callable[[int], None]


class _Stamp(msgspec.Struct, frozen=True):
    """How a file looked when its bytes were last verified."""

    size: int
    mtime_ns: int
    inode: int


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return _Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino)


def _recorded(path: Path) -> _Stamp | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_STAMP_BYTES), type=_Stamp)
    except (OSError, ValueError, RecursionError):
        return None  # verified again, then written again


class _Sink:
    """Writes and hashes a wheel on its way."""

    def __init__(self, file: BinaryIO, path: Path, advance: Advance | None) -> None:
        self._file = file
        self._path = path
        self._advance = advance
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise durable.storage_error(error, str(self._path)) from error
        self.hash.update(data)
        self.size += len(data)
        if self._advance:
            self._advance(len(data))


def _hash(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            found.update(data)
    return found.hexdigest()


def fetch(wheel: LockedWheel, *, cache: Path, sources: WheelSources, advance: Advance | None = None) -> Path:
    """Where the verified wheel lies in `cache`; it is downloaded (or copied from the project) when it is not there.

    A recorded wheel is built again instead. A download that is cut goes on where it stopped. `advance` hears of the
    bytes of a download, or of the whole wheel when none was needed.

    Raises:
        IntegrityError: the bytes that came do not have the locked hash or size; nothing is kept.
        NotFoundError, NetworkError: they could not be had.
        StorageError: the disk refused.
    """
    folder = cache / wheel.sha256
    leases.claim(folder)
    path = folder / wheel.filename
    if _is_intact(wheel, path, folder / _STAMP):
        if advance:
            advance(path.stat().st_size)
        return path
    if wheel.built is not None and wheel.path is None and sources.make is not None:
        path = sources.make(wheel)
        if advance:
            advance(path.stat().st_size)
        return path
    temporary = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                sink = _Sink(file, path, advance)
                _receive(wheel, sink, sources)
                _verify(wheel, sink)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            durable.sync_directory(folder)
        except OSError as error:
            raise durable.storage_error(error, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    _record(path, folder / _STAMP)
    return path


def _is_intact(wheel: LockedWheel, path: Path, stamp_path: Path) -> bool:
    now = _stamp(path)
    if now is None:
        return False
    if now == _recorded(stamp_path):
        return True
    try:
        actual = _hash(path)
    except OSError:
        return False
    if actual != wheel.sha256:
        path.unlink(missing_ok=True)
        return False
    _record(path, stamp_path)
    return True


def _record(path: Path, stamp_path: Path) -> None:
    stamp = _stamp(path)
    if stamp is not None:
        durable.write_atomically(stamp_path, msgspec.json.encode(stamp))


def _receive(wheel: LockedWheel, sink: _Sink, sources: WheelSources) -> None:
    limit = wheel.size or limits.WHEEL_BYTES
    if wheel.path is None:
        url, headers = sources.address(wheel)
        try:
            sources.client.download(url, sink, limit=limit, headers=headers)
        except LimitError as error:
            raise IntegrityError(
                f"{wheel}: {wheel.filename} is longer than the {limit} bytes that the lock expects",
                next_step="Run the command again; if it stays so, the index changed the file: lock again and review.",
            ) from error
        return
    try:
        file = wheel.path.open("rb")
    except OSError as error:
        raise NotFoundError(
            f"{wheel.path}, which the lock names for {wheel}, cannot be read: {error.strerror}",
            next_step="Put the wheel back, or lock again.",
        ) from error
    with file:
        while data := file.read(_CHUNK):
            sink.write(data)


def _verify(wheel: LockedWheel, sink: _Sink) -> None:
    actual = sink.hash.hexdigest()
    if actual != wheel.sha256 or sink.size != (wheel.size or sink.size):
        raise IntegrityError(
            f"{wheel}: {wheel.filename} has sha256 {actual} and {sink.size} bytes, the lock expects {wheel.sha256}"
            + (f" and {wheel.size} bytes" if wheel.size else ""),
            next_step="Run the command again; if it stays so, the index or a proxy changed the file: do not build "
            "from it.",
        )
