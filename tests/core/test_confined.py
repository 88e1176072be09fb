import ctypes
import json
import sys
import time
from contextlib import closing

import pytest

from tidewaiter.core.child import Child
from tidewaiter.core.errors import UndeterminedError

TRIES = """
import errno, json, os, resource, signal, socket, subprocess, sys, threading
from tidewaiter.core import confined
mine, there = os.open("/", os.O_RDONLY), socket.socket()
parent = os.getppid()
kept = confined.confine(memory=1 << 30, threads=True)
seen = {"network": kept.network, "files": kept.files}
def attempt(name, action):
    try:
        action()
        seen[name] = "done"
    except OSError as error:
        seen[name] = errno.errorcode[error.errno]
    except (MemoryError, RuntimeError, ValueError) as error:
        seen[name] = type(error).__name__
attempt("open", lambda: open("/etc/passwd"))
attempt("open at", lambda: os.open("etc/passwd", os.O_RDONLY, dir_fd=mine))
attempt("write", lambda: open("/tmp/tidewaiter-confined", "w"))
attempt("socket", socket.socket)
attempt("connect", lambda: there.connect(("127.0.0.1", 1)))
attempt("memory", lambda: bytearray(2 << 30))
attempt("more files", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)))
attempt("signal", lambda: os.kill(parent, 0))
attempt("run", lambda: os.execv("/bin/true", ["true"]))
def thread():
    one = threading.Thread(target=lambda: None)
    one.start(); one.join()
attempt("thread", thread)
confined.send(1, json.dumps(seen).encode())
"""


def landlock() -> int:
    """Version of the kernel's Landlock; below 1 when it has none."""
    version: int = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)
    return version


def answer(text: str) -> bytes:
    """What a child that runs `text` sends."""
    child = Child(("-c", text), failure=lambda what: UndeterminedError(what, next_step="Look at it."))
    with closing(child):
        return bytes(child.receive(10_000, deadline=time.monotonic() + 60))


@pytest.fixture(scope="module")
def seen() -> dict[str, object]:
    """What a child that has confined itself could still do."""
    found: dict[str, object] = json.loads(answer(TRIES))
    return found


@pytest.mark.parametrize("attempt", ["open", "open at", "write", "socket"])
def test_nothing_can_be_opened(seen: dict[str, object], attempt: str) -> None:
    """Neither a file nor a socket, also not below a folder that was open before."""
    assert seen[attempt] in {"EMFILE", "EACCES", "EPERM"}


def test_memory_is_bounded_and_limits_cannot_be_raised(seen: dict[str, object]) -> None:
    """More than the address space given is refused, and no limit goes up again, not even for root."""
    assert seen["memory"] == "MemoryError"
    assert seen["more files"] in {"ValueError", "EPERM"}


def test_threads_can_be_had(seen: dict[str, object]) -> None:
    """Who asked for threads has them."""
    assert seen["thread"] == "done"


def test_the_network_is_gone_where_the_host_lets_it(seen: dict[str, object]) -> None:
    """A socket that was open before reaches nobody: there is no interface, or no port may be reached."""
    if seen["network"]:
        pytest.skip("this host forbids user namespaces to this user")
    assert seen["connect"] in {"ENETUNREACH", "EACCES"}


@pytest.mark.skipif(landlock() < 1, reason="this kernel has no Landlock")
def test_no_program_is_run(seen: dict[str, object]) -> None:
    """A program in the child's place would have its rights; there is none."""
    assert not seen["files"]
    assert seen["run"] == "EACCES"


@pytest.mark.skipif(landlock() < 6, reason="this kernel's Landlock knows no signals")
def test_other_processes_get_no_signal(seen: dict[str, object]) -> None:
    """The parent, of the same user, is out of reach."""
    assert seen["signal"] == "EPERM"


def test_what_a_library_prints_is_no_answer() -> None:
    """Standard output leads nowhere once answers have a descriptor of their own."""
    text = "from tidewaiter.core import confined; out = confined.answers(); print('x' * 99, flush=True); "
    assert answer(text + "confined.send(out, b'y')") == b"y"


def test_a_parent_that_goes_away_ends_the_input() -> None:
    """Half a frame, or none, is the end: nothing is made of it."""
    import subprocess

    text = "from tidewaiter.core import confined; print(confined.receive(100))"
    for given in (b"", b"\0\0\0", b"\0\0\0\5abc", b"\0\1\0\0"):
        done = subprocess.run([sys.executable, "-c", text], input=given, capture_output=True, timeout=60, check=True)
        assert done.stdout == b"None\n"
