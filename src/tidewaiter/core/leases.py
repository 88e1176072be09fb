"""Who uses which files of a home right now, so that none is pruned under its user, and when each was last used.

1. Whoever works in a home holds a lease: a file of its own in `leases/`, locked for as long as the process lives.
2. Before it looks whether a file is there, it writes the file's path into its lease: a claim. Claims are made
   under the gate, a lock that they share and hold for microseconds.
3. Whoever prunes holds the gate alone, reads the claims of all leases that live, and removes nothing claimed.

So a file that was found stays until its finder is done, and one that is being removed is not found. Killing a
process ends its lease, like every lock. A lease that has ended still says what was used and when.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tidewaiter.core import durable, limits
from tidewaiter.core.errors import StorageError

_FOLDER = "leases"
_GATE = ".gate"
_LAST = "last-used.json"
_SERVING = ".serving"


class Uses(msgspec.Struct, frozen=True):
    """What is known while the gate is held; paths are relative to the home, with `/`."""

    claimed: frozenset[str]
    """By processes that live."""
    running: int
    """How many processes work in the home."""
    last: dict[str, float]
    """Unix time of the last use, of what was ever claimed and is there still."""


class _Lease:
    def __init__(self, home: Path) -> None:
        self._gate = home / _FOLDER / _GATE
        self._path = home / _FOLDER / f"{os.getpid()}-{os.urandom(8).hex()}.lease"
        self._claimed: set[str] = set()
        self._lock = threading.Lock()
        self.holders = 0
        with durable.shared(self._gate):
            try:
                self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            except OSError as error:
                raise durable.storage_error(error, str(self._path)) from error
            fcntl.flock(self._handle, fcntl.LOCK_EX)

    def claim(self, name: str) -> None:
        with self._lock:
            if name in self._claimed:
                return
            with durable.shared(self._gate):
                try:
                    os.write(self._handle, name.encode(errors="surrogateescape") + b"\n")
                except OSError as error:
                    raise durable.storage_error(error, str(self._path)) from error
            self._claimed.add(name)

    def close(self) -> None:
        os.close(self._handle)


_held: dict[str, _Lease] = {}
_guard = threading.Lock()


@contextlib.contextmanager
def hold(home: Path) -> Iterator[None]:
    """Work in `home`: what is claimed meanwhile is not pruned. Several in one process share one lease.

    Raises:
        StorageError: the home cannot be written.
        DeadlineError: another process holds the gate and does not go on.
    """
    name = str(home)
    with _guard:  # no thread of this process begins while another gathers
        _settle_many(home)
    with _guard:
        lease = _held.get(name)
        if lease is None:
            lease = _held[name] = _Lease(home)
        lease.holders += 1
    try:
        yield
    finally:
        with _guard:
            lease.holders -= 1
            if not lease.holders:
                del _held[name]
                lease.close()


def claim(path: Path) -> None:
    """Say that `path`, in a home that this process holds, is about to be used; call it before looking for it.

    Nothing happens for paths elsewhere. Raises `StorageError`, or `DeadlineError` as `hold`.
    """
    text = str(path)
    for home, lease in tuple(_held.items()):
        if text.startswith(home + os.sep):
            lease.claim(text[len(home) + 1 :])


def _settle_many(home: Path) -> None:
    """Gather what ended leases say once there are many of them."""
    try:
        many = len(os.listdir(home / _FOLDER)) > limits.LEASES  # noqa: PTH208  # a count, not paths
    except FileNotFoundError:
        return
    if many and str(home) not in _held:
        with alone(home):
            pass


@contextlib.contextmanager
def serving(home: Path) -> Iterator[None]:
    """Serve from `home`, which nobody replaces meanwhile. It is no lease: pruning may go on beside it.

    Raises:
        DeadlineError: the home is being replaced.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(StorageError):  # a home that cannot be written cannot be replaced either
            stack.enter_context(durable.shared(home / _FOLDER / _SERVING, seconds=0))
        yield


@contextlib.contextmanager
def unserved(home: Path) -> Iterator[None]:
    """Nobody serves from `home` while the block runs. Raises `DeadlineError` when somebody does."""
    with durable.exclusive(home / _FOLDER / _SERVING, seconds=0):
        yield


@contextlib.contextmanager
def alone(home: Path) -> Iterator[Uses]:
    """Hold the gate: nobody claims, and nobody begins or ends unnoticed. The caller's process holds no lease itself.

    Raises:
        DeadlineError: another process prunes and does not come to an end.
        StorageError: the home cannot be opened.
    """
    if str(home) in _held:
        raise RuntimeError(f"this process itself works in {home}")  # its own claims would wait for itself
    folder = home / _FOLDER
    with durable.exclusive(folder / _GATE):
        last = _last_used(folder)
        claimed: set[str] = set()
        ended: list[Path] = []
        running = 0
        for path in sorted(folder.glob("*.lease")):
            names = path.read_bytes().decode(errors="surrogateescape").split("\n")[:-1]
            if _lives(path):
                running += 1
                claimed.update(names)
            else:
                used = path.stat().st_mtime
                last.update({name: max(used, last.get(name, 0.0)) for name in names})
                ended.append(path)
        # Names of what is kept for later use are ASCII; what has another name is as old as its file.
        last = {name: used for name, used in last.items() if name.isascii() and os.path.lexists(home / name)}
        with contextlib.suppress(StorageError):  # on a full disk the ended leases stay and say it again next time
            durable.write_atomically(folder / _LAST, msgspec.json.encode(last))
            for path in ended:
                path.unlink()
        yield Uses(claimed=frozenset(claimed), running=running, last=last)


def _last_used(folder: Path) -> dict[str, float]:
    try:
        return msgspec.json.decode((folder / _LAST).read_bytes(), type=dict[str, float])
    except (FileNotFoundError, ValueError, RecursionError):
        return {}  # what was used when is forgotten; the files' own times stand in


def _lives(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
