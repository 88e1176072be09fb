"""Writing files so that a crash, a full disk or a second process never leaves half of one."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import DeadlineError, StorageError

_ABANDONED_SECONDS = 24 * 3600
_REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files in the whole system",
}
_NEXT = {
    errno.EMFILE: "Raise the limit on open files, for example with `ulimit -n 1024`",
    errno.ENFILE: "End programs that hold many files open, or raise `ulimit -n` and the system's `fs.file-max`",
}


def storage_error(error: OSError, what: str) -> StorageError:
    """`StorageError` that says in words why the operating system refused to write `what`."""
    number = error.errno or 0
    reason = _REFUSALS.get(number, error.strerror or str(error))
    return StorageError(
        f"cannot {'open' if number in _NEXT else 'write'} {what}: {reason}",
        next_step=f"{_NEXT.get(number, 'Free space or point TIDEWAITER_HOME to another disk')}, "
        "then run the same command again; what was finished is kept.",
    )


def sync_directory(directory: Path) -> None:
    """Make renames inside `directory` survive a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644, synced: bool = True) -> None:
    """Replace `path` with `data`: readers see the old or the new bytes, never a mixture.

    Without `synced` a power cut may lose them; for what is only a hint, or can be had again.

    Raises:
        StorageError: the bytes could not be written; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, str(path)) from error
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if synced:
                os.fsync(file.fileno())
        temporary.replace(path)
        if synced:
            sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(error, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left in a folder of temporary things: everything not touched for a day."""
    if not folder.is_dir():
        return
    for left in folder.iterdir():
        try:
            if clock.now().timestamp() - left.lstat().st_mtime <= _ABANDONED_SECONDS:
                continue
            if left.is_dir() and not left.is_symlink():
                import shutil

                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
        except FileNotFoundError:
            continue  # its owner, still alive, has just finished


@contextmanager
def exclusive(path: Path, *, seconds: float = limits.LOCK_SECONDS) -> Iterator[None]:
    """Hold an advisory lock on the file `path` (created when missing); it dies with the process.

    Raises:
        DeadlineError: another process still held it after `seconds`.
    """
    with _locked(path, fcntl.LOCK_EX, seconds):
        yield


@contextmanager
def shared(path: Path, *, seconds: float = limits.LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock of `exclusive` together with others that share it; raises as that does."""
    with _locked(path, fcntl.LOCK_SH, seconds):
        yield


@contextmanager
def _locked(path: Path, kind: int, seconds: float) -> Iterator[None]:
    deadline = time.monotonic() + seconds
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise storage_error(error, str(path)) from error
        try:
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise DeadlineError(
                        f"another tidewaiter process has held {path} for {seconds:.0f} s",
                        next_step="Wait for it to finish, or stop it, then run the command again.",
                    ) from error
                time.sleep(0.05)
                continue
            # Pruning removes lock files that nobody holds; a lock on a removed one keeps nobody out.
            if not _is_at(handle, path):
                continue
            yield
            return
        finally:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def remove_lock(path: Path) -> bool:
    """Remove a lock file unless somebody holds it; whether it is gone. Raises `OSError`."""
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
