import os
import time
from pathlib import Path

import pytest
from policy_documents import PASSING, document, make_pack
from test_policy_engine import ENDLESS, GREEDY, SWITCHED

from servers import Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, MissingToolError
from tidewaiter.policy import opa
from tidewaiter.policy.opa import OpaEngine
from tidewaiter.policy.process import ChildError
from tidewaiter.policy.verdict import decide

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def program(tool: Tool) -> Path:
    """The real OPA."""
    return Path(tool("opa"))


def servers_of(engine: OpaEngine) -> list[int]:
    """Process ids of the OPA servers below the idle children."""
    return [
        int(pid)
        for child in engine._idle
        for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    ]


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be reaped."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_endless_rule_is_stopped_and_its_server_ends(tmp_path: Path, program: Path) -> None:
    """A rule without end denies at the deadline; the OPA that ran it is gone, and the next evaluation works."""
    pack = make_pack(tmp_path, SWITCHED.format(explosion=ENDLESS), "a.b")
    with OpaEngine(pack, program, seconds=2) as engine:
        assert decide(document(), engine).allowed
        (before,) = servers_of(engine)
        start = time.monotonic()
        verdict = decide(document(image__dirty=True), engine)
        assert time.monotonic() - start < 10
        assert (verdict.verdict, verdict.undetermined) == ("deny", True)
        assert "not done in time" in verdict.violations[0].evidence[0]
        assert ended(before)
        assert decide(document(), engine).allowed


def test_memory_explosion_denies(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that fills the memory ends its OPA at the bound, denies, and the next evaluation works."""
    monkeypatch.setattr(limits, "POLICY_CHILD_BYTES", 300 * limits.MIB)
    pack = make_pack(tmp_path, SWITCHED.format(explosion=GREEDY), "a.b")
    with OpaEngine(pack, program, seconds=60) as engine:
        assert decide(document(image__dirty=True), engine).undetermined
        assert decide(document(), engine).allowed


def test_nothing_is_left_behind(tmp_path: Path, program: Path) -> None:
    """Closing ends the servers and removes their folder."""
    engine = OpaEngine(make_pack(tmp_path, PASSING, "a.b"), program)
    (pid,) = servers_of(engine)
    folder = Path(engine._folder.name)
    assert folder.stat().st_mode & 0o777 == 0o700
    engine.close()
    assert ended(pid)
    assert not folder.exists()


def test_server_has_no_environment_and_where_possible_no_network(tmp_path: Path, program: Path) -> None:
    """Nothing of ours reaches OPA, and its socket is this user's alone."""
    with OpaEngine(make_pack(tmp_path, PASSING, "a.b"), program) as engine:
        (pid,) = servers_of(engine)
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""
        apart = Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        assert apart == engine.networkless
        (socket,) = Path(engine._folder.name).glob("*/socket")
        assert socket.stat().st_mode & 0o777 == 0o600
        assert f"Max data size             {limits.POLICY_CHILD_BYTES}" in Path(f"/proc/{pid}/limits").read_text()


def test_pack_that_the_embedded_engine_refuses_reaches_no_opa(tmp_path: Path) -> None:
    """The checks before loading are the same: the program named is not even started."""
    rego = "package p\n\nresults contains input.imagee.user\n"
    with pytest.raises(InputError, match=r"p\.rego:3: .*imagee"):
        OpaEngine(make_pack(tmp_path, rego), Path("/nowhere/opa"))
    with pytest.raises(InputError, match=r"http\.send"):
        OpaEngine(make_pack(tmp_path, 'package p\n\nresults := http.send({"url": "x"})\n'), Path("/nowhere/opa"))


def test_rego_that_only_opa_refuses_is_refused_at_load(tmp_path: Path, program: Path) -> None:
    """OPA's type checker knows more of what can never hold; its word counts, by file and line."""
    with pytest.raises(InputError, match=r"p\.rego:3: rego_type_error"):
        OpaEngine(make_pack(tmp_path, "package p\n\nresults := [1, 2][5]\n"), program)


def test_another_program_in_its_place_is_no_answer(tmp_path: Path) -> None:
    """What ends at once, or is not there, is an error and never an answer."""
    pack = make_pack(tmp_path, PASSING, "a.b")
    with pytest.raises(InputError, match="OPA ended with status 0"):
        OpaEngine(pack, Path("/bin/true"))
    with pytest.raises(ChildError):
        OpaEngine(pack, tmp_path / "missing")


def test_program_that_is_not_there_is_named() -> None:
    """A setting that names no program says what to install."""
    with pytest.raises(MissingToolError, match="no program 'no-such-opa'"):
        opa.find("no-such-opa")


def test_server_killed_while_idle_denies_once(tmp_path: Path, program: Path) -> None:
    """An OPA that died between two evaluations gives a denial, and is replaced."""
    with OpaEngine(make_pack(tmp_path, PASSING, "a.b"), program) as engine:
        (pid,) = servers_of(engine)
        os.kill(pid, 9)
        assert decide(document(), engine).undetermined
        assert decide(document(), engine).allowed
