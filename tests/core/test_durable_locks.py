"""Locks whose files may be removed by pruning."""

import fcntl
import threading
from pathlib import Path

from tidewaiter.core import durable


def test_a_lock_on_a_removed_file_is_taken_anew(tmp_path: Path) -> None:
    """Who waited for a lock whose file was removed meanwhile holds the new file, and so keeps others out."""
    path = tmp_path / "lock"
    entered = threading.Event()
    leave = threading.Event()

    def wait_for_it() -> None:
        with durable.exclusive(path):
            entered.set()
            leave.wait(10)

    waiter = threading.Thread(target=wait_for_it)
    with durable.exclusive(path):
        waiter.start()
        assert not entered.wait(0.2)
        path.unlink()
    assert entered.wait(10)
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            raise AssertionError("the waiter holds a lock that keeps nobody out")
    leave.set()
    waiter.join()


def test_only_free_locks_are_removed(tmp_path: Path) -> None:
    """A lock that somebody holds, alone or with others, stays."""
    path = tmp_path / "lock"
    with durable.exclusive(path):
        assert not durable.remove_lock(path)
    with durable.shared(path), durable.shared(path):
        assert not durable.remove_lock(path)
    assert path.exists()
    assert durable.remove_lock(path)
    assert not path.exists()
