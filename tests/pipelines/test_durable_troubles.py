"""What goes wrong around a worker's runs: nothing is held without being carried out, nothing is said without an end."""

import io
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import claims, reading, steps
from tidewaiter.catalog.runs.claims import Claim, Limits, LostClaimError
from tidewaiter.catalog.runs.records import ENDED, Asked, Run, Trigger
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, StorageError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable import asking_runs, crew, descendants, frames, presence, step_process, working
from tidewaiter.pipelines.durable.carrying import Carrier
from tidewaiter.pipelines.durable.crew import Crew
from tidewaiter.pipelines.durable.frames import Held, Request
from tidewaiter.pipelines.durable.redacting import Redactor
from tidewaiter.pipelines.durable.runner import Said
from tidewaiter.pipelines.durable.sweep_run import SweepRun
from tidewaiter.pipelines.triggers import scheduling

COMMAND = Trigger(kind="command", by="ada")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of an empty home, whose workers look often and wait for nothing long."""
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(working, "_TROUBLE_SECONDS", 0.2)
    monkeypatch.setattr(working, "_SETTLE_SECONDS", 0.2)
    return all_settings.load()


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    """Its catalog."""
    with Catalog.open(settings) as opened:
        yield opened


def ask(settings: Settings, catalog: Catalog) -> str:
    """Ask for a run that ends as soon as it is carried out: its folder is missing."""
    missing = str(settings.home.path / "missing")
    return asking_runs.submit(settings, catalog, Asked(kind="clear", path=missing, trigger=COMMAND)).id


def now(catalog: Catalog, run: str) -> Run:
    """The run as it stands."""
    with catalog.database.reading() as connection:
        return reading.run(connection, run)


def until(catalog: Catalog, run: str, wanted: Callable[[Run], bool], seconds: float = 90) -> Run:
    """The run once it is so."""
    deadline = time.monotonic() + seconds
    while not wanted(found := now(catalog, run)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def ended(run: Run) -> bool:
    """Whether it has been carried out."""
    return run.state in ENDED


@contextmanager
def at_work(settings: Settings) -> Iterator[None]:
    """A worker of this process."""
    stop = threading.Event()
    thread = threading.Thread(target=working.work, args=(settings, SILENT), kwargs={"name": "w", "stop": stop})
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def claimed(catalog: Catalog, worker: str = "w1") -> Claim:
    """What that worker, which enters, takes up."""
    with catalog.database.writing() as connection:
        claims.enter(connection, worker, concurrency=1, version="1", at=clock.now())
        found = claims.claim(connection, worker, Limits(0, 0, {}), at=clock.now())
    assert found is not None
    return found


def test_a_process_that_cannot_be_started_is_started_later(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without room for another process costs a run time, and not its end."""
    refusals = [BlockingIOError(11, "Resource temporarily unavailable") for _ in ("in advance", "when it is needed")]

    def started() -> step_process.StepProcess:
        if refusals:
            raise refusals.pop()
        return step_process.StepProcess()

    monkeypatch.setattr(crew, "StepProcess", started)
    run = ask(settings, catalog)
    with at_work(settings):
        found = until(catalog, run, ended)
    assert (found.state, found.attempts) == ("failed", 2)
    assert found.steps[0].error is not None
    assert "missing" in found.steps[0].error["message"]


@pytest.mark.thorough
def test_an_engine_that_cannot_keep_its_state_loses_no_run(settings: Settings, catalog: Catalog) -> None:
    """Runs are given back while it cannot, and carried out once it can; also when its queue was forgotten meanwhile."""
    working.work(settings, SILENT, once=True)  # its tables are made
    with closing(sqlite3.connect(settings.home.path / "workflows.db", timeout=30, isolation_level=None)) as engine:
        engine.execute(
            "CREATE TRIGGER full BEFORE INSERT ON operation_outputs BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
        run = ask(settings, catalog)
        with at_work(settings):
            found = until(catalog, run, lambda one: one.attempts >= 2)
            assert not ended(found)
            engine.execute("DELETE FROM queues")
            engine.execute("DROP TRIGGER full")
            found = until(catalog, run, ended)
    assert found.state == "failed"


def test_an_engines_damaged_file_is_made_anew(settings: Settings, catalog: Catalog) -> None:
    """Nothing in it is needed: it is laid aside, and what waits is carried out."""
    working.work(settings, SILENT, once=True)
    file = settings.home.path / "workflows.db"
    file.write_bytes(b"not what it was " * 4096)
    run = ask(settings, catalog)
    working.work(settings, SILENT, once=True)
    assert now(catalog, run).state == "failed"
    assert file.with_name("workflows.damaged.db").read_bytes().startswith(b"not what it was")


@pytest.mark.thorough
def test_an_engine_whose_tables_are_taken_away_begins_anew(settings: Settings, catalog: Catalog) -> None:
    """A worker that finds out makes them again by itself, and carries out what waits."""
    file = settings.home.path / "workflows.db"
    with at_work(settings):
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            with catalog.database.reading() as connection:
                if any(claims.beats(connection).values()):
                    break
            time.sleep(0.05)
        with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as engine:
            tables = engine.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            engine.execute("PRAGMA foreign_keys = OFF")
            for (name,) in tables:
                if not name.startswith("sqlite_"):
                    engine.execute(f'DROP TABLE "{name}"')
        run = ask(settings, catalog)
        assert until(catalog, run, ended).state == "failed"


def test_a_claim_whose_answer_was_lost_is_given_back(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog kept it, the connection broke before it said so: the worker finds that it has the run."""
    begin = working.Worker._begin
    lost = [StorageError("the connection was lost", next_step="")]

    def broken(worker: working.Worker, claim: Claim) -> None:
        if lost:
            raise lost.pop()
        begin(worker, claim)

    monkeypatch.setattr(working.Worker, "_begin", broken)
    run = ask(settings, catalog)
    with at_work(settings):
        found = until(catalog, run, ended)
    assert (found.state, found.attempts) == ("failed", 2)


def test_a_worker_that_was_dismissed_enters_anew(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken for dead between two beats, it takes up what is asked for then under its new name."""
    monkeypatch.setattr(limits, "WORKER_BEAT_SECONDS", 5.0)
    with at_work(settings):
        deadline = time.monotonic() + 60
        name = ""
        while not name:
            assert time.monotonic() < deadline
            with catalog.database.writing() as connection:
                for name, beats in claims.beats(connection).items():
                    if beats:
                        claims.dismiss(connection, name, at=clock.now())
            time.sleep(0.02)
        run = ask(settings, catalog)
        found = until(catalog, run, ended)
        assert (found.state, found.worker) == ("failed", f"{name}.1")


def test_a_worker_that_could_not_enter_can_later(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same process, as in a server: the engine of the first attempt does not stand in its way."""
    enter = claims.enter
    refusals = [StorageError("the disk is full", next_step="")]

    def entering(*arguments: Any, **more: Any) -> None:
        if refusals:
            raise refusals.pop()
        enter(*arguments, **more)

    monkeypatch.setattr(claims, "enter", entering)
    run = ask(settings, catalog)
    with pytest.raises(StorageError):
        working.work(settings, SILENT, once=True)
    working.work(settings, SILENT, once=True)
    assert now(catalog, run).state == "failed"


def test_a_host_that_does_not_answer_keeps_no_worker_from_saying_that_it_lives(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedules ask hosts of sources, which may take long; meanwhile the worker beats, and carries out runs."""
    monkeypatch.setattr(limits, "WORKER_BEAT_SECONDS", 0.1)
    release, asked = threading.Event(), threading.Event()

    def due(*_: object) -> tuple[Run, ...]:
        asked.set()
        release.wait(60)
        return ()

    monkeypatch.setattr(scheduling, "due", due)
    run = ask(settings, catalog)
    with at_work(settings):
        assert asked.wait(60)
        assert until(catalog, run, ended).state == "failed"
        with catalog.database.reading() as connection:
            (beats,) = claims.beats(connection).values()
        assert beats > 1
        assert not release.is_set()
        release.set()


def test_a_step_that_does_not_stop_saying_things_keeps_nobody(
    settings: Settings, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said while lines are written is written the next time, in its order; a full log takes no more."""
    ask(settings, catalog)
    carrier = Carrier(settings, catalog, claimed(catalog), Crew(1), Redactor(settings))
    say = steps.say
    said: list[int] = []

    def flooding(connection: Any, claim: Claim, lines: Any) -> bool:
        said.append(len(lines))
        carrier.note("build", "\n".join(f"more {number}" for number in range(600)))
        return say(connection, claim, lines)

    monkeypatch.setattr(steps, "say", flooding)
    carrier.note("build", "\n".join(f"line {number}" for number in range(1200)))
    carrier.flush()
    assert said == [500, 500, 200]
    for _ in range(10):
        carrier.flush()
    count = len(said)
    carrier.note("build", "unheard")
    carrier.flush()
    assert len(said) <= count + 1
    with catalog.database.reading() as connection:
        (last,) = reading.tail(connection, carrier.claim.run, rows=1)
    assert (last.number, "what follows is not kept" in last.text) == (limits.RUN_LINES, True)


def test_what_is_cut_shows_no_half_of_a_secret(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines and errors are cut before the worker sees them: secrets are taken out before that, and all is bounded."""
    secret = "hunter2-hunter2"  # of nobody
    monkeypatch.setenv("TIDEWAITER_INDEX_OURS_PASSWORD", secret)
    out = io.BytesIO()
    said = Said(out, Redactor(settings))
    for most, tell in (
        (limits.RUN_LINE_CHARACTERS, said.note),
        (limits.CATALOG_TEXT_CHARACTERS, lambda text: said.failed(InputError(text, next_step="none"))),
    ):
        for behind in ("", "x" * (8 * limits.MIB)):
            out.seek(0)
            out.truncate()
            tell("x" * (most - 7) + secret + behind)
            line = out.getvalue()
            assert b"hunter" not in line
            assert b"[secre" in line
            assert len(line) < 2 * most
            assert frames.FRAME.decode(line)


def test_a_step_that_wakes_up_late_writes_nothing(settings: Settings, catalog: Catalog) -> None:
    """One whose worker lost the run meanwhile changes nothing in the catalog, whatever it was about to do."""
    asking_runs.submit(settings, catalog, Asked(kind="sweep", trigger=COMMAND))
    claim = claimed(catalog)
    held = Held(row=claim.row, worker=claim.worker, attempt=claim.attempt)
    run = SweepRun(settings, Request(run=claim.run, held=held), SILENT)
    try:
        assert run.step("expire")["waivers"] == 0
        with catalog.database.writing() as connection:
            claims.dismiss(connection, claim.worker, at=clock.now())
        with pytest.raises(LostClaimError):
            run.step("expire")
        claimed(catalog, "w2")
        with pytest.raises(LostClaimError):
            run.step("expire")
    finally:
        run.close()


_STUBBORN = """#!{python}
import os, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
with open("{file}.new", "w") as file:
    file.write(str(child.pid))
os.rename("{file}.new", "{file}")
time.sleep(300)
"""
_DYING = """
import subprocess
from tidewaiter.pipelines.durable import runner
child = subprocess.Popen(["sh", "-c", "setsid sleep 300 & wait"], start_new_session=True)
print(child.pid, flush=True)
input()
runner._die()
"""


def is_alive(pid: int) -> bool:
    """Whether it runs; what has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_step_that_does_not_listen_ends_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ignores SIGTERM is killed, and so is what it started in a session of its own."""
    program, file = tmp_path / "program", tmp_path / "child"
    program.write_text(_STUBBORN.format(python=sys.executable, file=file))
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(limits, "STEP_STOP_SECONDS", 0.5)
    process = step_process.StepProcess()
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = int(file.read_text())
    assert is_alive(child)
    process.stop()
    assert not process.alive
    assert not is_alive(child)


def test_a_step_without_its_worker_ends_with_all_that_it_started() -> None:
    """Whatever it started, and what that started, is gone when it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", _DYING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018  # asked for
    with process.stdin, process.stdout:
        child = int(process.stdout.readline())
        deadline = time.monotonic() + 30
        while not (found := descendants._below(child)):
            assert time.monotonic() < deadline
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(30) == -signal.SIGKILL
    assert not [one for one in (child, *found) if is_alive(one)]


_PRESENT = """
import sys, time
from pathlib import Path
from tidewaiter.pipelines.durable import presence
with presence.shown(Path(sys.argv[1]), "w-01234567"):
    print("here", flush=True)
    time.sleep(120)
"""


def test_a_dead_worker_of_the_same_home_is_known_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its process lives, stopped or not, it is not gone; killed, it is; of another machine that is not known."""
    process = subprocess.Popen([sys.executable, "-c", _PRESENT, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"here\n"
    try:
        assert not presence.is_gone(tmp_path, "w-01234567")
        os.kill(process.pid, signal.SIGSTOP)
        assert not presence.is_gone(tmp_path, "w-01234567.3")
    finally:
        process.kill()
        process.wait()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(presence, "_MACHINE", tmp_path / "none")
        assert not presence.is_gone(tmp_path, "w-01234567")
    assert presence.is_gone(tmp_path, "w-01234567.3")
    assert not presence.is_gone(tmp_path, "w-89abcdef")


def test_what_a_dead_worker_of_the_home_had_is_taken_up_at_once(settings: Settings, catalog: Catalog) -> None:
    """Its name goes, its run is carried out, and no beat has to be waited for."""
    run = ask(settings, catalog)
    held = claimed(catalog, "dead-01234567")
    path = settings.home.path / "leases" / ".worker-dead-01234567"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Path("/proc/sys/kernel/random/boot_id").read_bytes().strip())
    other = working.Worker(settings, catalog, SILENT, "w-89abcdef", 1)
    try:
        with catalog.database.writing() as connection:  # as on PostgreSQL, where others are not dismissed on entering
            claims.enter(connection, held.worker, concurrency=1, version="1", at=clock.now())
            connection.exec_driver_sql(f"UPDATE pipeline_run SET state = 'running', worker = '{held.worker}'")
        begun = time.monotonic()
        other.run(threading.Event(), once=True)
        assert time.monotonic() - begun < limits.WORKER_BEAT_SECONDS * limits.WORKER_SILENT_BEATS + 30
        assert not path.exists()
    finally:
        other.close()
    assert (now(catalog, run).state, now(catalog, run).worker) == ("failed", "w-89abcdef")
