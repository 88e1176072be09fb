"""What a living process has claimed is known to whoever prunes; the dead claim nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidewaiter.core import leases, limits
from tidewaiter.core.errors import DeadlineError

CHILD = """
import sys
from pathlib import Path
from tidewaiter.core import leases
home = Path(sys.argv[1])
with leases.hold(home):
    for name in sys.argv[2:]:
        leases.claim(home / name)
    print("ready", flush=True)
    sys.stdin.read()
"""

PRUNER = """
import sys
from pathlib import Path
from tidewaiter.core import leases
with leases.alone(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(home: Path, *names: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process that works in `home` and has claimed `names`."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(home), *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


def test_claims_count_while_their_process_lives(tmp_path: Path) -> None:
    """A claim is seen, is gone after kill -9, and the time of the use is remembered for files that are there."""
    (tmp_path / "blob").touch()
    before = time.time() - 1
    with holder(tmp_path, "blob", "gone") as process:
        with leases.alone(tmp_path) as uses:
            assert uses.claimed == {"blob", "gone"}
            assert uses.running == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        for _ in range(2):  # once from the lease, once from what was gathered
            with leases.alone(tmp_path) as uses:
                assert (uses.claimed, uses.running) == (frozenset(), 0)
                assert list(uses.last) == ["blob"]
                assert before < uses.last["blob"] <= time.time() + 1
    assert list((tmp_path / "leases").glob("*.lease")) == []


def test_nobody_claims_while_the_gate_is_held(tmp_path: Path) -> None:
    """A claim waits until whoever prunes has finished, so that what is looked for next is there to stay or gone."""
    with leases.hold(tmp_path):
        done = threading.Event()

        def claim_late() -> None:
            leases.claim(tmp_path / "late")
            done.set()

        claimer = threading.Thread(target=claim_late)
        gate = subprocess.Popen(
            [sys.executable, "-c", PRUNER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert gate.stdout is not None
        assert gate.stdout.readline() == b"in\n"
        claimer.start()
        assert not done.wait(0.3)
        gate.communicate()
        assert done.wait(10)
        claimer.join()


def test_paths_elsewhere_are_not_claimed(tmp_path: Path) -> None:
    """A path outside every held home, or without any home held, is nobody's business."""
    leases.claim(tmp_path / "home/a")
    with leases.hold(tmp_path / "home"):
        leases.claim(tmp_path / "other/a")
        leases.claim(tmp_path / "home-like/a")
        leases.claim(tmp_path / "home/b")
        (lease,) = (tmp_path / "home/leases").glob("*.lease")
        assert lease.read_text() == "b\n"


def test_one_process_has_one_lease(tmp_path: Path) -> None:
    """Nested holders share the lease, which lives until the last has left; pruning from inside is refused."""
    with leases.hold(tmp_path):
        with leases.hold(tmp_path):
            leases.claim(tmp_path / "a")
        assert len(list((tmp_path / "leases").glob("*.lease"))) == 1
        with pytest.raises(RuntimeError, match="itself"), leases.alone(tmp_path):
            pass
    with leases.alone(tmp_path) as uses:
        assert uses.running == 0


def test_odd_names_and_cut_lines(tmp_path: Path) -> None:
    """Names that are not UTF-8 are claimed too, and a line that a killed process left unfinished does no harm."""
    odd = os.fsdecode(b"odd-\xff")
    (tmp_path / odd).touch()
    (tmp_path / "a").touch()
    with holder(tmp_path, odd, "a\u2028b"), leases.alone(tmp_path) as uses:
        assert uses.claimed == {odd, "a\u2028b"}
    with leases.hold(tmp_path):
        leases.claim(tmp_path / "a")
    for lease in (tmp_path / "leases").glob("*.lease"):
        lease.write_bytes(lease.read_bytes() + b"store/blo")
    for _ in range(2):
        with leases.alone(tmp_path) as uses:
            assert list(uses.last) == ["a"]


def test_ended_leases_are_gathered_when_they_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anybody pruning, the folder of leases does not grow for ever."""
    monkeypatch.setattr(limits, "LEASES", 5)
    (tmp_path / "a").touch()
    for _ in range(20):
        with leases.hold(tmp_path):
            leases.claim(tmp_path / "a")
    assert len(list((tmp_path / "leases").iterdir())) <= 7


def test_damaged_memory_is_forgotten(tmp_path: Path) -> None:
    """A ledger of last uses that is not ours counts for nothing."""
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases/last-used.json").write_bytes(b"{")
    with leases.alone(tmp_path) as uses:
        assert uses.last == {}


def test_a_served_home_is_known(tmp_path: Path) -> None:
    """Several may serve, nobody replaces the home meanwhile, and pruning goes on beside them."""
    with leases.serving(tmp_path), leases.serving(tmp_path):
        with pytest.raises(DeadlineError), leases.unserved(tmp_path):
            pass
        with leases.alone(tmp_path) as uses:
            assert uses.running == 0
    with leases.unserved(tmp_path), pytest.raises(DeadlineError), leases.serving(tmp_path):
        pass
