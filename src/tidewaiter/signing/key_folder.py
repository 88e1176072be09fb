"""A folder of keys, whose files change together or not at all, whatever happens in between.

1. Whoever changes something holds the folder's lock.
2. All files of the change are written into one file, the journal. From then on the change has happened.
3. The files are put in place one by one, then the journal is removed.

Whoever dies after 2 leaves the journal: the next change puts the files in place first, and readers see them through
it meanwhile. Readers take no lock, since the folder may be mounted read-only; they read again when it changed.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import InputError, NotFoundError, StorageError

_LOCK = ".lock"
_JOURNAL = ".change"
_ABANDONED_SECONDS = 3600
_ATTEMPTS = 50
_PAUSE_SECONDS = 0.02

Change = Mapping[str, bytes | None]
"""New bytes by file name, in the order in which they are put in place; None removes the file."""


class Snapshot(msgspec.Struct, frozen=True):
    """What the folder held at one moment."""

    names: frozenset[str]
    """Of all its files."""
    files: Mapping[str, bytes]
    """Content of those that were asked for."""


def read_file(path: Path) -> bytes:
    """The bytes of a key file or what belongs to it; raises `NotFoundError`, or `InputError` when it is no such."""
    try:
        with path.open("rb") as file:
            data = file.read(limits.KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no key file {path}", next_step="Make a key pair with `tidewaiter key generate`."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Check its permissions.") from error
    if len(data) > limits.KEY_FILE_BYTES:
        raise InputError(f"{path} is over {limits.KEY_FILE_BYTES} bytes", next_step="Name a key file.")
    return data


def snapshot(directory: Path, *, suffixes: tuple[str, ...], also: str = "") -> Snapshot:
    """The files whose name ends with one of `suffixes`, and the one called `also` when it is there.

    Raises:
        InputError: one of them is not readable, or there are more than `KEYS` keys.
        StorageError: the folder changed all the time.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        before = _listed(directory)
        try:
            pending = _pending(directory) if _JOURNAL in before else {}
            names = before.keys() | pending.keys()
            names -= {name for name, data in pending.items() if data is None}
            files = {}
            for name in sorted(names):
                if not name.startswith(".") and (name.endswith(suffixes) or name == also):
                    data = pending.get(name)
                    files[name] = read_file(directory / name) if data is None else data
        except NotFoundError:
            continue  # put elsewhere since it was listed
        if _listed(directory) == before:
            return Snapshot(frozenset(name for name in names if not name.startswith(".")), files)
    raise StorageError(f"{directory} changes all the time", next_step="Wait for those who change keys, then try again.")


def _listed(directory: Path) -> dict[str, tuple[int, int, int]]:
    """What tells whether a file is still the same, by name; a link stands for what it leads to."""
    found = {}
    try:
        for entry in os.scandir(directory):
            # The lock, and what a write has not finished.
            if entry.name == _LOCK or entry.name.endswith(".tmp"):
                continue
            try:
                about = entry.stat()
            except FileNotFoundError:
                continue
            found[entry.name] = (about.st_ino, about.st_mtime_ns, about.st_size)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{directory} cannot be read: {error.strerror}", next_step="Check its permissions.") from error
    if len(found) > 3 * limits.KEYS:
        raise InputError(f"{directory} holds over {limits.KEYS} keys", next_step="Move what is no key elsewhere.")
    return found


def _pending(directory: Path) -> dict[str, bytes | None]:
    """The change in the journal; raises `NotFoundError` when there is none any more."""
    path = directory / _JOURNAL
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, bytes | None])
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} is gone", next_step="Read the folder again.") from error
    except OSError as error:
        raise StorageError(
            f"a change of the keys in {directory} was interrupted, and {path.name} cannot be read: {error.strerror}",
            next_step="Run `tidewaiter key generate` or another change as the owner of the folder, which finishes it.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise StorageError(
            f"{path} is damaged: {error}", next_step="Restore the folder of keys from a backup."
        ) from error


@contextmanager
def changing(directory: Path) -> Iterator[None]:
    """Hold the folder's lock, with whatever somebody else left half done put in place.

    Raises:
        DeadlineError: another process holds the lock and does not come to an end.
        StorageError: the disk refused.
    """
    with durable.exclusive(directory / _LOCK):
        try:
            if (directory / _JOURNAL).exists():
                _put(directory, _pending(directory))
            for left in directory.glob(".*.tmp"):
                # Of killed processes; what is young may belong to somebody who writes beside the keys.
                if clock.now().timestamp() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    left.unlink()
        except OSError as error:
            raise durable.storage_error(error, str(directory)) from error
        yield


def commit(directory: Path, change: Change) -> None:
    """Make all of `change`, durably; only while `changing`. Files that end with `.key` are for their owner only.

    Raises:
        StorageError: the disk refused; either nothing has changed, or the next change finishes this one.
    """
    durable.write_atomically(directory / _JOURNAL, msgspec.json.encode(change), mode=0o600)
    _put(directory, change)


def _put(directory: Path, change: Change) -> None:
    for name, data in change.items():
        path = directory / name
        if data is not None:
            durable.write_atomically(path, data, mode=0o600 if name.endswith(".key") else 0o644)
            continue
        _remove(path)
    _remove(directory / _JOURNAL)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        durable.sync_directory(path.parent)
    except OSError as error:
        raise durable.storage_error(error, str(path)) from error
