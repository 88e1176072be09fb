import os
import signal
import threading
import time
from contextlib import closing

import pytest

from tidewaiter.core.child import Child
from tidewaiter.core.errors import UndeterminedError

ECHO = """
from tidewaiter.core import confined
out = confined.answers()
while (frame := confined.receive(1 << 20)) is not None:
    confined.send(out, frame)
"""


def failure(what: str) -> UndeterminedError:
    """The error that these tests expect."""
    return UndeterminedError(f"no answer: {what}", next_step="Try again.")


def child(text: str, *, descriptors: tuple[int, ...] = ()) -> Child:
    """A child that runs `text`."""
    return Child(("-c", text), failure=failure, descriptors=descriptors)


def soon(seconds: float = 30) -> float:
    """A deadline."""
    return time.monotonic() + seconds


def test_frames_go_there_and_back() -> None:
    """What is sent in parts arrives as one frame, an empty one too."""
    answers = []
    with closing(child(ECHO)) as made:
        for parts in ((b"ab", b"c"), (b"",), (b"x" * 900_000,)):
            assert made.send(*parts, deadline=soon())
            answers.append(bytes(made.receive(1 << 20, deadline=soon())))
    assert answers == [b"abc", b"", b"x" * 900_000]


def test_a_child_finds_no_environment_and_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in the parent's environment and files that it has open do not reach a child, but for those given."""
    monkeypatch.setenv("TIDEWAITER_SECRET", "s3cret")
    kept, given = os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(kept, True)
    text = (
        "import os; from tidewaiter.core import confined; "
        f"left = sorted(set(os.environ) - {{'LC_CTYPE'}}); kept = os.path.exists('/proc/self/fd/{kept}'); "
        f"confined.send(1, repr((left, kept, os.read({given}, 2))).encode())"
    )
    with closing(child(text, descriptors=(given,))) as made:
        answer = made.receive(1000, deadline=soon())
    for one in (kept, given):
        os.close(one)
    assert answer.decode() == repr(([], False, b"\0\0"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise SystemExit(3)", "ended with status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11"),
        ("import os; os.write(1, b'\\xff\\xff\\xff\\xff')", "over 1000 bytes"),
        ("import os; os.write(1, b'\\0\\0\\0\\x09four')", "ended with status 0"),
        ("import time; time.sleep(60)", "not done in time"),
        ("import os, time; os.close(1); time.sleep(60)", "closed its pipe"),
    ],
)
@pytest.mark.thorough
def test_no_answer_is_an_error_of_could_not_find_out(text: str, reason: str) -> None:
    """Death, silence, half an answer and one that is too long are told apart, and the child has ended after each."""
    made = child(text)
    with pytest.raises(UndeterminedError, match=reason):
        made.receive(1000, deadline=soon(3 if "sleep" in text else 30))
    with pytest.raises(ProcessLookupError):
        os.kill(made.pid, 0)


def test_a_child_that_takes_nothing_is_late() -> None:
    """A question that is larger than a pipe holds does not wait for ever."""
    made = child("import time; time.sleep(60)")
    with pytest.raises(UndeterminedError, match="not done in time"):
        made.send(b"x" * (1 << 22), deadline=soon(1))


def test_an_early_answer_ends_the_sending() -> None:
    """A child that knows enough answers while the question is still being sent."""
    text = "from tidewaiter.core import confined; confined.send(1, b'enough'); import time; time.sleep(60)"
    with closing(child(text)) as made:
        assert not made.send(b"x" * (1 << 22), deadline=soon())
        assert made.receive(1000, deadline=soon()) == b"enough"


def test_another_thread_ends_a_child_that_is_waited_for() -> None:
    """Whoever waits gets an error at once."""
    made = child("import time; time.sleep(60)")
    threading.Timer(0.3, made.kill).start()
    with pytest.raises(UndeterminedError, match=f"signal {signal.SIGKILL.value}"):
        made.receive(1000, deadline=soon())
