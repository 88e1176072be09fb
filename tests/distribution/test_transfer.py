"""`distribution.transfer`: several things at once, by few threads, and all of them end when one fails."""

import signal
import threading

import pytest

from tidewaiter.core.errors import InputError
from tidewaiter.distribution.transfer import Stop, StoppedError, in_parallel


@pytest.mark.parametrize(("items", "threads", "others"), [(0, 4, 0), (1, 4, 0), (2, 4, 1), (9, 4, 3), (9, 1, 0)])
def test_the_thread_that_calls_works_too(items: int, threads: int, others: int) -> None:
    """At most `threads` work, the one that calls among them; each result stands in its item's place."""
    met = threading.Barrier(min(items, threads) or 1)
    first = threading.local()

    def work(item: int, _: Stop) -> tuple[int, threading.Thread]:
        if not getattr(first, "met", False):
            first.met = True
            met.wait(10)  # until every thread has an item
        return item * item, threading.current_thread()

    results = in_parallel(work, range(items), threads=threads)
    assert [square for square, _ in results] == [item * item for item in range(items)]
    assert len({thread for _, thread in results} - {threading.current_thread()}) == others


def test_the_first_failure_ends_the_others() -> None:
    """What others wait for is not waited for: they see that their work is unwanted."""
    ended: list[int] = []

    def work(item: int, stop: Stop) -> None:
        if item == 0:
            raise InputError("no", next_step="-")
        try:
            while True:
                stop.check()
        except StoppedError:
            ended.append(item)
            raise

    with pytest.raises(InputError, match="no"):
        in_parallel(work, range(9), threads=3)
    assert len(ended) <= 2


def test_ctrl_c_in_the_midst_of_work_ends_it_all() -> None:
    """The interrupt meets the thread that calls, which is itself at work."""
    ended: list[int] = []
    ready = threading.Barrier(2)

    def work(item: int, stop: Stop) -> None:
        ready.wait(10)
        try:
            if threading.current_thread() is threading.main_thread():
                signal.raise_signal(signal.SIGINT)
            while True:
                stop.check()
        except StoppedError:
            ended.append(item)
            raise

    with pytest.raises(KeyboardInterrupt):
        in_parallel(work, range(2), threads=2)
    assert len(ended) == 1
