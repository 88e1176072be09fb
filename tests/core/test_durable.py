"""Files appear whole or not at all."""

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tidewaiter.core import durable
from tidewaiter.core.errors import DeadlineError, StorageError


def test_replaces_whole_file(tmp_path: Path) -> None:
    """The new content replaces the old, with the mode asked for, and no temporary file stays."""
    target = tmp_path / "file"
    target.write_bytes(b"old")
    durable.write_atomically(target, b"new", mode=0o600)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_full_disk_leaves_the_old_file() -> None:
    """On a full device the old content stays and the error says that the disk is full."""
    error = durable.storage_error(OSError(errno.ENOSPC, "no space"), "x")
    assert "the disk is full" in error.message


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_no_full_disk(number: int) -> None:
    """Nobody is sent to free space: the limit on open files is what helps."""
    error = durable.storage_error(OSError(number, "x"), "BLOB")
    assert error.message.startswith("cannot open BLOB: too many open files")
    assert "`ulimit -n" in error.next_step
    assert "space" not in error.next_step


def test_unwritable_folder(tmp_path: Path) -> None:
    """A path below a file cannot be written and says so."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        durable.write_atomically(tmp_path / "file" / "below", b"x")


def test_abandoned_things_go_and_fresh_ones_stay(tmp_path: Path) -> None:
    """Files and folders not touched for over a day are removed; what is younger belongs to someone."""
    for name, age in (("old", 90_000), ("young", 80_000)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "inside").write_text("x")
        (tmp_path / f"{name}.file").write_text("x")
        then = time.time() - age
        os.utime(folder, (then, then))
        os.utime(tmp_path / f"{name}.file", (then, then))
    durable.remove_abandoned(tmp_path)
    durable.remove_abandoned(tmp_path / "absent")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["young", "young.file"]


def _hold(path: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with durable.exclusive(path):
        ready.set()
        time.sleep(60)


def test_lock_excludes_and_dies_with_its_process(tmp_path: Path) -> None:
    """A second process waits for the lock, and gets it when the holder is killed."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "lock", ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(DeadlineError), durable.exclusive(tmp_path / "lock", seconds=0.2):
        pytest.fail("two processes hold one lock")
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with durable.exclusive(tmp_path / "lock", seconds=5):
        pass
