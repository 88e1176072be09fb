"""Following a builder's output, and ending all of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tidewaiter.assembly import builder_process
from tidewaiter.core import limits
from tidewaiter.core.errors import DeadlineError, MissingToolError

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _alive(pid)


def test_lines_of_both_outputs_are_told_and_secrets_hidden() -> None:
    """Every line is handed on as it comes, carriage returns end lines, and what must be hidden is not shown."""
    told: list[str] = []
    script = "printf 'one\\rtwo\\n'; echo a-hidden-b >&2; printf last; exit 3"
    done = builder_process.follow(
        ["sh", "-c", script], environment=ENVIRONMENT, seconds=20, tell=told.append, hide=["hidden"]
    )
    assert told == ["one", "two", "a-****-b", "last"]
    assert (done.code, done.lines) == (3, tuple(told))


def test_endless_output_takes_bounded_memory() -> None:
    """Only the last lines are kept, and a line without an end is cut."""
    script = "for i in range(1000): print(i)\nprint('x' * 100_000)"
    done = builder_process.follow(
        [sys.executable, "-c", script], environment=ENVIRONMENT, seconds=20, tell=lambda _: None
    )
    assert len(done.lines) <= limits.BUILDER_LINES
    assert max(map(len, done.lines)) <= limits.BUILDER_LINE_BYTES


@pytest.mark.thorough
def test_deadline_ends_what_the_builder_started() -> None:
    """After its time the builder and its children are ended, also those that ignore the polite signal."""
    children: list[str] = []
    script = "trap '' TERM; (trap '' TERM; sleep 60) & echo $!; wait"
    with pytest.raises(DeadlineError, match="took over 1 s"):
        builder_process.follow(["sh", "-c", script], environment=ENVIRONMENT, seconds=1, tell=children.append)
    assert _gone(int(children[0]))


def test_interrupt_ends_what_the_builder_started(tmp_path: Path) -> None:
    """Ctrl-C in our process ends the builder's processes before the error goes on."""
    script = (
        "import os; from tidewaiter.assembly import builder_process\n"
        "builder_process.follow(['sh', '-c', 'sleep 60 & echo $! > pid; wait'], environment=os.environ,"
        f" seconds=60, tell=print, folder={str(tmp_path)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert _gone(int((tmp_path / "pid").read_text()))


def test_left_over_child_does_not_hold_us_up() -> None:
    """A process that keeps the output open after the builder has ended is not waited for."""
    started = time.monotonic()
    done = builder_process.follow(
        ["sh", "-c", "sleep 60 & echo done"], environment=ENVIRONMENT, seconds=50, tell=lambda _: None
    )
    assert done.lines == ("done",)
    assert time.monotonic() - started < 20


def test_program_that_is_not_there_is_named() -> None:
    """A tool that cannot be started is a missing tool."""
    with pytest.raises(MissingToolError, match="no-such-builder"):
        builder_process.follow(["no-such-builder"], environment=ENVIRONMENT, seconds=1, tell=print)
