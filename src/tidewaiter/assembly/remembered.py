"""What a recipe or a lock was read as, kept in the cache: to read TOML and check it takes longer than a look there."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

import tidewaiter
from tidewaiter.core import durable
from tidewaiter.core.errors import StorageError

_Read = TypeVar("_Read")


def name(*said: object) -> str:
    """Name of what was read from everything in `said`, by this version of the program."""
    return hashlib.sha256(msgspec.json.encode([tidewaiter.__version__, *said])).hexdigest()


def recall(path: Path, kind: type[_Read]) -> _Read | None:
    """What is remembered at `path`, when it is there and undamaged."""
    try:
        check, _, said = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if check != hashlib.sha256(said).hexdigest().encode():
        return None
    try:
        return msgspec.json.decode(said, type=kind)
    except (ValueError, RecursionError):
        return None  # another version of this program wrote it


def remember(path: Path, read: object) -> None:
    """Keep `read` at `path`, unless the disk refuses: it can be read again."""
    said = msgspec.json.encode(read)
    with suppress(StorageError):
        durable.write_atomically(path, hashlib.sha256(said).hexdigest().encode() + b"\n" + said, synced=False)
