"""Who works in a home. On a file there is one worker; of several, each knows which others of its home live.

Each holds a lock while it lives, so that its end can be known at once.

A lock ends with its process, however that ends. One that cannot be asked (of another home, of another machine, whose
locks a shared file system may not tell) says nothing: then beats are what counts.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tidewaiter.core import durable
from tidewaiter.core.errors import DeadlineError, RefusedError
from tidewaiter.core.settings import Settings

_MACHINE = Path("/proc/sys/kernel/random/boot_id")
"""Other after every start: a lock of another kernel, or of this one before, is none here."""
_AGAIN = re.compile(r"(-[0-9a-f]{8})\.[0-9]+$")
_MOST_BYTES = 100


def _machine() -> bytes:
    with contextlib.suppress(OSError):
        return _MACHINE.read_bytes().strip()
    return b""


def session_of(worker: str) -> str:
    """The name of its process: a worker that was taken for dead has a new one, and is the same process."""
    return _AGAIN.sub(r"\1", worker)


def _path(home: Path, worker: str) -> Path:
    return home / "leases" / f".worker-{session_of(worker)}"


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Be the one worker of a catalog that is a file; nothing on PostgreSQL. Raises `RefusedError`: there is one."""
    if not isinstance(settings.catalog, Path):
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(durable.exclusive(settings.home.path / "leases" / ".worker", seconds=0))
        except DeadlineError as error:
            raise RefusedError(
                f"another worker works on {settings.home.path}, and a catalog that is a file has one",
                next_step="Let that one work (a running `serve` is one, too: see `pipeline_in_server`); for several,"
                " use PostgreSQL (TIDEWAITER_DATABASE_URL).",
                code="worker_running",
            ) from error
        yield


@contextlib.contextmanager
def shown(home: Path, session: str) -> Iterator[None]:
    """Let others of this home know that the worker lives, for as long as the block runs.

    Raises `StorageError`: the home cannot be written.
    """
    path = _path(home, session)
    with durable.exclusive(path):
        try:
            path.write_bytes(_machine())
        except OSError as error:
            raise durable.storage_error(error, str(path)) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def is_gone(home: Path, worker: str) -> bool:
    """Whether the process of that worker has certainly ended; False too when that cannot be known."""
    path = _path(home, worker)
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            stack.callback(os.close, handle)
            machine = os.read(handle, _MOST_BYTES)
            if not machine or machine != _machine():
                return False
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        with contextlib.suppress(OSError):
            path.unlink()
    return True
