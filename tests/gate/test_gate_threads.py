"""`gate.threads`: a stop waits for nobody for long."""

import threading
import time

import pytest

from tidewaiter.core.errors import UndeterminedError
from tidewaiter.gate.threads import Threads


def test_results_and_errors_come_back() -> None:
    """More work than threads is all done; what fails is told to who waits for that."""
    threads = Threads(2, "some")
    coming = [threads.submit(divmod, 7, number) for number in range(5)]
    with pytest.raises(ZeroDivisionError):
        coming[0].result(10)
    assert [one.result(10) for one in coming[1:]] == [divmod(7, number) for number in range(1, 5)]
    assert sum(one.name.startswith("some-") for one in threading.enumerate()) == 2
    threads.close(0.0)


def test_a_stop_gives_up_what_does_not_end() -> None:
    """What ends in time is answered, what does not is given up, what did not begin is cancelled, nothing is begun."""
    threads, go, both = Threads(2, "slow"), threading.Event(), threading.Barrier(3)
    hangs = threads.submit(lambda: (both.wait(30), go.wait(60)))
    ends = threads.submit(lambda: (both.wait(30), threading.Event().wait(0.1)))
    behind = [threads.submit(go.wait, 60) for _ in range(3)]
    both.wait(30)
    began = time.monotonic()
    threads.close(0.5)
    assert time.monotonic() - began < 5
    assert ends.result(0)
    assert all(one.cancelled() for one in behind)
    with pytest.raises(UndeterminedError, match="stops"):
        hangs.result(0)
    with pytest.raises(UndeterminedError, match="stops"):
        threads.submit(go.wait, 1)
    go.set()
