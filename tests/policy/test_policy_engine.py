import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from policy_documents import PASSING, document, make_pack

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.process import Child, ChildError
from tidewaiter.policy.verdict import decide

SWITCHED = """package p

result := {{"id": "a.b", "status": "pass", "evidence": [], "remedy": ""}}

results contains result if not input.image.dirty

results contains result if {{
	input.image.dirty
	{explosion}
}}
"""
ENDLESS = "count({x | some a in numbers.range(1, 99999); some b in numbers.range(1, 99999); x := a * b; x < 0}) == 1"
GREEDY = (
    "count([x | some a in numbers.range(1, 30000); some b in numbers.range(1, 30000); "
    'x := sprintf("%d-%d", [a, b])]) > 0'
)


@pytest.fixture(scope="module")
def default_engine() -> Iterator[EmbeddedEngine]:
    """One engine with the default pack."""
    with EmbeddedEngine(default_pack()) as engine:
        yield engine


def child_of(engine: EmbeddedEngine) -> Child:
    """The idle child of an engine with one."""
    (child,) = engine._idle
    return child


def works(engine: EmbeddedEngine) -> bool:
    """Whether the harmless branch of a switched pack still passes."""
    return decide(document(), engine).allowed


def test_good_rule_allows(tmp_path: Path) -> None:
    """A pack whose only rule passes allows: the denials below are not for another reason."""
    with EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b")) as engine:
        assert decide(document(), engine).allowed


def test_endless_rule_is_killed_and_denies(tmp_path: Path) -> None:
    """A rule without end is stopped at the deadline, denies, and the next evaluation works."""
    pack = make_pack(tmp_path, SWITCHED.format(explosion=ENDLESS), "a.b")
    with EmbeddedEngine(pack, seconds=0.7) as engine:
        before = child_of(engine).pid
        start = time.monotonic()
        verdict = decide(document(image__dirty=True), engine)
        assert 0.6 < time.monotonic() - start < 5
        assert (verdict.verdict, verdict.undetermined) == ("deny", True)
        assert "not done in time" in verdict.violations[0].evidence[0]
        assert works(engine)
        assert child_of(engine).pid != before
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)


@pytest.mark.thorough
def test_endless_rule_of_one_team_delays_no_other(tmp_path: Path) -> None:
    """While one team's rule runs to its deadline, another team's images are decided at once."""
    slow = make_pack(tmp_path, SWITCHED.format(explosion=ENDLESS), "a.b")
    with EmbeddedEngine(slow, seconds=3) as endless, EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b")) as other:
        started = time.monotonic()
        with ThreadPoolExecutor(4) as threads:
            stuck = [threads.submit(decide, document(image__dirty=True), endless) for _ in range(3)]
            answers = [decide(document(), other).allowed for _ in range(20)]
            waited = time.monotonic() - started
            assert not any(one.done() for one in stuck)
        assert all(answers)
        assert waited < 3
        assert all(one.result().undetermined for one in stuck)


def test_memory_explosion_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that fills the memory ends its child at RLIMIT_AS, denies, and the next evaluation works."""
    monkeypatch.setattr(limits, "POLICY_CHILD_BYTES", 200 * limits.MIB)
    pack = make_pack(tmp_path, SWITCHED.format(explosion=GREEDY), "a.b")
    with EmbeddedEngine(pack, seconds=60) as engine:
        verdict = decide(document(image__dirty=True), engine)
        assert (verdict.verdict, verdict.undetermined) == ("deny", True)
        assert "it ended" in verdict.violations[0].evidence[0]
        assert works(engine)


def test_child_killed_in_the_middle_denies(tmp_path: Path) -> None:
    """SIGKILL from outside during an evaluation denies, and the next evaluation works."""
    pack = make_pack(tmp_path, SWITCHED.format(explosion=ENDLESS), "a.b")
    with EmbeddedEngine(pack, seconds=30) as engine:
        killer = threading.Timer(0.5, os.kill, (child_of(engine).pid, signal.SIGKILL))
        killer.start()
        verdict = decide(document(image__dirty=True), engine)
        killer.join()
        assert verdict.verdict == "deny"
        assert "it ended by signal 9" in verdict.violations[0].evidence[0]
        assert works(engine)


def test_child_killed_while_idle_denies_once(tmp_path: Path) -> None:
    """A child that died between two evaluations gives a denial, not an error, and is replaced."""
    with EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b")) as engine:
        os.kill(child_of(engine).pid, signal.SIGKILL)
        assert decide(document(), engine).undetermined
        assert decide(document(), engine).allowed


def test_oversize_input_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document of just under the limit is evaluated; one at the limit is denied without being sent."""
    with EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b")) as engine:
        large = document(image__user="y" * 100_000)
        assert decide(large, engine).allowed
        monkeypatch.setattr(limits, "POLICY_INPUT_BYTES", 100_000)
        assert "the input is over 100000 bytes" in decide(large, engine).violations[0].evidence[0]
        assert decide(document(), engine).allowed


def test_oversize_answer_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer over the limit is not read."""
    with EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b")) as engine:
        monkeypatch.setattr(limits, "POLICY_ANSWER_BYTES", 50)
        assert "its answer is over 50 bytes" in decide(document(), engine).violations[0].evidence[0]


@pytest.mark.parametrize(
    "text", ["print('hello')", "import os; os.write(1, (5).to_bytes(4, 'big') + b'{{{{{')", "raise SystemExit(3)"]
)
def test_child_that_answers_oddly_at_start_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    """Another program in the child's place, or one that ends at once, is an error and never an answer."""
    from tidewaiter.policy import engine

    monkeypatch.setattr(engine, "COMMAND", ("-c", text))
    with pytest.raises(ChildError):
        EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b"))


def test_runtime_error_denies_with_its_place(tmp_path: Path) -> None:
    """A built-in that fails at run time is an error, not undefined: strict built-in errors."""
    rego = PASSING.rstrip() + " if to_number(input.now) > 0\n"
    with EmbeddedEngine(make_pack(tmp_path, rego, "a.b")) as engine:
        verdict = decide(document(), engine)
        assert verdict.undetermined
        assert "p.rego:3: could not parse string as number" in verdict.violations[0].evidence[0]


def test_nothing_of_one_document_is_left_for_the_next(tmp_path: Path) -> None:
    """The same engine answers each document by itself, in any order."""
    rego = SWITCHED.format(explosion="false")
    with EmbeddedEngine(make_pack(tmp_path, rego, "a.b")) as engine:
        answers = [
            decide(document(image__dirty=dirty), engine).allowed for dirty in (False, True, False, True, True, False)
        ]
    assert answers == [True, False, True, False, False, True]


def test_many_threads_share_few_children(tmp_path: Path) -> None:
    """Eight threads on two children each get the answer to their own question."""
    rego = SWITCHED.format(explosion="false")
    with EmbeddedEngine(make_pack(tmp_path, rego, "a.b"), children=2) as engine, ThreadPoolExecutor(8) as threads:
        expected = [number % 3 == 0 for number in range(60)]
        answers = list(threads.map(lambda good: decide(document(image__dirty=not good), engine).allowed, expected))
        assert answers == expected
        assert 1 <= len(engine._idle) <= 2


def test_child_has_no_environment_no_files_no_session(default_engine: EmbeddedEngine) -> None:
    """A child inherits no variables and no open files, and has its own session and little memory."""
    process = Path(f"/proc/{child_of(default_engine).pid}")
    assert (process / "environ").read_bytes() == b"MIMALLOC_ARENA_RESERVE=64MiB\0"
    assert len(list((process / "fd").iterdir())) == 4
    assert os.getsid(child_of(default_engine).pid) == child_of(default_engine).pid
    bounds = (process / "limits").read_text()
    assert f"Max address space         {limits.POLICY_CHILD_BYTES}" in bounds
    assert "Max open files            0" in bounds
    assert "NoNewPrivs:\t1" in (process / "status").read_text()


def test_child_has_left_the_network_where_the_host_allows_it(default_engine: EmbeddedEngine) -> None:
    """Where a network namespace can be had, the child is in its own, with nothing but a loopback that is down."""
    process = Path(f"/proc/{child_of(default_engine).pid}")
    apart = (process / "ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert apart == default_engine.networkless
    if not apart:
        pytest.skip("this host lets nobody leave the network; RLIMIT_NOFILE=0 alone keeps sockets away")
    interfaces = (process / "net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]


def test_close_ends_the_children(tmp_path: Path) -> None:
    """No process is left behind."""
    engine = EmbeddedEngine(make_pack(tmp_path, PASSING, "a.b"))
    pid = child_of(engine).pid
    engine.close()
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_pack_that_takes_too_long_to_load_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets within the limit load in time; with the limit out of the way, the deadline still holds."""
    monkeypatch.setattr(limits, "POLICY_NESTING", 100)
    monkeypatch.setattr(limits, "POLICY_LOAD_SECONDS", 1.0)
    pack = make_pack(tmp_path, "package p\nx := " + "[" * 24 + "]" * 24)
    with pytest.raises(ChildError, match="not done in time"):
        EmbeddedEngine(pack)


def test_deepest_allowed_brackets_load_in_time(tmp_path: Path) -> None:
    """The nesting limit is low enough for the engine."""
    deep = limits.POLICY_NESTING
    start = time.monotonic()
    with EmbeddedEngine(make_pack(tmp_path, "package p\nx := " + "[" * deep + "]" * deep)):
        assert time.monotonic() - start < limits.POLICY_LOAD_SECONDS


def test_long_chains_are_refused_or_loaded_never_fatal(tmp_path: Path) -> None:
    """An expression that is deep without brackets ends as a refusal or a dead child, both without an answer."""
    with pytest.raises((InputError, ChildError)):
        EmbeddedEngine(make_pack(tmp_path, "package p\nx := 1" + " + 1" * 50_000))
