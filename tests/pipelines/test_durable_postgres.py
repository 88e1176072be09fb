"""Many workers on PostgreSQL: two of three are killed, and the third goes on with what they had."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

import postgres
import workplace
from tidewaiter.catalog import workflows
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.postgres import WRITING
from tidewaiter.catalog.runs import claims, reading
from tidewaiter.catalog.runs.records import Asked, Run, Trigger
from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable import asking_runs
from tidewaiter.pipelines.durable.shapes import SHAPES

pytestmark = pytest.mark.interop
STEPS = SHAPES["clear"].steps
RESUMED_SECONDS = 30
RUNS = 4
PATIENCE = 150.0
"""Seconds for a start, and for being noticed, on a machine that does other things beside; less than a session had to
itself once, before PostgreSQL ended it (300 s)."""
LATE = 5
"""Beats that may come between dismissing a worker and looking here."""
SLEEPER = Path(__file__).resolve().parents[1] / "kill_worker.py"


@pytest.fixture
def settings(home: Path, postgres_server: postgres.Server) -> Iterator[Settings]:
    """Of a home with a key, whose catalog is on a server."""
    with postgres.in_use(postgres_server):
        variables = {"TIDEWAITER_HOME": str(home), **postgres.variables(home)}
        assert workplace.run(home, "key", "generate", extra=variables).code == 0
        yield all_settings.load(variables)
        postgres.drop_homes()


def start(settings: Settings, name: str) -> "subprocess.Popen[bytes]":
    """A worker as a user starts it."""
    home = settings.home.path
    extra = postgres.variables(home)
    return subprocess.Popen(
        workplace.command("worker", "--name", name, "--concurrency", "1"), env={**workplace.environment(home), **extra}
    )


def runs(catalog: Catalog) -> tuple[Run, ...]:
    """All runs, without their steps."""
    with catalog.database.reading() as connection:
        return reading.listed(connection).runs


def ask(settings: Settings, catalog: Catalog, project: Path, count: int) -> None:
    """Ask for runs of so many projects that share their base and wheel."""
    for number in range(count):
        other = project.with_name(f"project-{number}")
        shutil.copytree(project, other)
        (other / "main.py").write_text(f"import six\n\nprint({number}, six.__version__)\n")
        workplace.commit(other)
        asking_runs.submit(
            settings, catalog, Asked(kind="clear", path=str(other), trigger=Trigger(kind="command")), key=f"k{number}"
        )


def is_held(run: Run, names: tuple[str, ...]) -> bool:
    """Whether one of these workers has it."""
    return run.state == "running" and run.worker.startswith(names)


def test_two_of_three_workers_are_killed(settings: Settings, project: Path) -> None:
    """What they had is taken up within 30 s by the third, which ends all runs, each step done once."""
    with Catalog.open(settings) as catalog:
        ask(settings, catalog, project, RUNS)
        workers = {name: start(settings, name) for name in ("one", "two", "three")}
        try:
            deadline = time.monotonic() + 120
            while len(held := [run for run in runs(catalog) if is_held(run, ("one-", "two-"))]) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            for name in ("one", "two"):
                os.kill(workers[name].pid, signal.SIGKILL)
            killed = time.monotonic()
            lost = {run.id for run in runs(catalog) if is_held(run, ("one-", "two-"))}
            assert lost <= {run.id for run in held}
            while any(run.id in lost and is_held(run, ("one-", "two-")) for run in runs(catalog)):
                assert time.monotonic() - killed < RESUMED_SECONDS, "nobody noticed"
                time.sleep(0.05)
            while any(run.state != "done" for run in runs(catalog)):
                assert not [run for run in runs(catalog) if run.state in {"failed", "poisoned", "denied"}]
                assert time.monotonic() - killed < 240
                time.sleep(0.2)
            with catalog.database.reading() as connection:
                found = [reading.run(connection, run.id) for run in runs(catalog)]
                assert [name.partition("-")[0] for name in claims.beats(connection)] == ["three"]
            for run in found:
                assert [(step.name, step.state) for step in run.steps] == [(name, "done") for name in STEPS]
                assert sum(step.attempts for step in run.steps) <= len(STEPS) + run.attempts - 1
            assert len({run.result["digest"] for run in found}) == RUNS
            assert {run.attempts for run in found if run.id in lost} == {2}
        finally:
            for process in workers.values():
                process.terminate()
            assert workers["three"].wait(60) == 0


def is_stopped(process: "subprocess.Popen[bytes]") -> bool:
    """Whether it sleeps (SIGSTOP)."""
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


def writers(settings: Settings) -> int:
    """How many sessions hold the lock of those who write, and say nothing."""
    assert not isinstance(settings.catalog, Path)
    halves = f"classid = {WRITING >> 32 & 0xFFFFFFFF} AND objid = {WRITING & 0xFFFFFFFF}"
    query = (
        f"SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND {halves}"
        " AND granted AND state = 'idle in transaction' AND datname = current_database()"
    )
    with psycopg.connect(settings.catalog.secret, autocommit=True) as connection:
        found = connection.execute(query).fetchone()
    assert found is not None
    return int(found[0])


def wait(wanted: Callable[[], bool], seconds: float) -> None:
    """Until it is so."""
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.parametrize("moment", ["stop:build", "hang:build"])
def test_a_worker_that_hangs_loses_its_run(settings: Settings, project: Path, moment: str) -> None:
    """One that is stopped for long is taken for dead; when it goes on it throws away what it had, and works on.

    So it is too when it stops in the middle of a change, where it keeps everybody else from making one.
    """
    inside = moment.startswith("hang")
    home = settings.home.path
    environment = {**workplace.environment(home), **postgres.variables(home)}
    with Catalog.open(settings) as catalog:
        ask(settings, catalog, project, 1)
        first = subprocess.Popen([sys.executable, str(SLEEPER), moment], env=environment, cwd=SLEEPER.parent)
        second = None
        try:
            wait(lambda: is_stopped(first), 120)
            if inside:  # else the process of its step may be
                wait(lambda: writers(settings) == 1, 5)
            (before,) = runs(catalog)
            assert (before.state, before.attempts) == ("running", 1)
            second = start(settings, "second")
            wait(lambda: runs(catalog)[0].attempts == 2, PATIENCE)
            with catalog.database.reading() as connection:
                (count,) = claims.beats(connection).values()
            # So many beats are 18 s, whatever else the machine does; while nobody can write, nobody beats.
            assert count <= limits.WORKER_SILENT_BEATS + 1 + LATE
            os.kill(first.pid, signal.SIGCONT)
            wait(lambda: runs(catalog)[0].state == "done", 240)
            with catalog.database.reading() as connection:
                found = reading.run(connection, before.id)
            assert found.worker.startswith("second-")
            assert [(step.name, step.state) for step in found.steps] == [(name, "done") for name in STEPS]
            assert found.attempts == 2
            second.terminate()
            assert second.wait(60) == 0
            again = asking_runs.retry(settings, catalog, found.id, by="ada")
            wait(lambda: runs(catalog)[0].state == "done", 240)
            (latest, *_) = runs(catalog)
            assert latest.id == again.id
            assert re.fullmatch(r"sleeper-[0-9a-f]{8}\.1", latest.worker), "it did not enter anew"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(first.pid, signal.SIGCONT)
            for process in (first, second):
                if process is not None:
                    process.terminate()
                    assert process.wait(60) == 0


def test_the_engine_keeps_no_transaction_open_for_long(settings: Settings) -> None:
    """A worker that stops in the middle of one of the engine's loses it as it would lose one of the catalog."""
    engine = workflows.engine(settings)
    with engine.connect() as connection:
        bound = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
    engine.dispose()
    assert bound == f"{limits.CATALOG_IDLE_SECONDS}s"
