"""What a worker does for runs: retries, ends, poison, cancelling, limits of time, logs; with the real processes."""

import datetime as dt
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

import workplace
from servers import Serve, reply
from tidewaiter.catalog import expiring
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import claims, reading
from tidewaiter.catalog.runs.records import ENDED, Asked, Run, Trigger
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable import asking_runs, presence, step_process, working
from tidewaiter.pipelines.durable.crew import Crew
from tidewaiter.pipelines.durable.frames import Request

COMMAND = Trigger(kind="command", by="ada")


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a home with a key; what is started finds it, too."""
    assert workplace.run(home, "key", "generate").code == 0
    monkeypatch.setenv("TIDEWAITER_HOME", str(home))
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    return all_settings.load()


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    """Its catalog."""
    with Catalog.open(settings) as opened:
        yield opened


def ask(settings: Settings, catalog: Catalog, project: Path) -> str:
    """Ask for a run of the project."""
    return asking_runs.submit(settings, catalog, Asked(kind="clear", path=str(project), trigger=COMMAND)).id


def now(catalog: Catalog, run: str) -> Run:
    """The run as it stands."""
    with catalog.database.reading() as connection:
        return reading.run(connection, run)


def said(catalog: Catalog, run: str) -> str:
    """Its log."""
    with catalog.database.reading() as connection:
        return "\n".join(line.text for line in reading.log(connection, run).lines)


def until(catalog: Catalog, run: str, wanted: Callable[[Run], bool], seconds: float = 90) -> Run:
    """The run once it is so."""
    deadline = time.monotonic() + seconds
    while not wanted(found := now(catalog, run)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


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


def is_in(step: str) -> Callable[[Run], bool]:
    """Whether the run is in that step."""
    return lambda run: any(one.name == step and one.state == "running" for one in run.steps)


@pytest.fixture
def slow(project: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project without a lock, whose index lets `resolve` wait for as long as the test likes."""
    release = threading.Event()

    def late(handler: BaseHTTPRequestHandler) -> None:
        release.wait(60)
        reply(handler, 404)

    monkeypatch.setenv("TIDEWAITER_PYTHON_INDEX", serve(late))
    (project / "requirements.in").write_text("not-there==1.0\n")
    (project / "pylock.toml").unlink()
    workplace.commit(project)
    yield project
    release.set()


def test_a_run_is_done_and_what_it_asked_for_stands(settings: Settings, catalog: Catalog, project: Path) -> None:
    """One worker takes a project the whole way; what came of it is cleared, and a second run makes nothing new."""
    first = ask(settings, catalog, project)
    working.work(settings, SILENT, name="w", once=True)
    found = now(catalog, first)
    assert found.state == "done"
    assert found.worker.startswith("w-")
    assert found.attempts == 1
    catalog.require_cleared("team/small", found.result["digest"], found.result["reference"].rpartition(":")[2])
    again = asking_runs.retry(settings, catalog, first, by="bob")
    assert again.asked.trigger.kind == "retry"
    assert again.asked.trigger.delivery == first
    working.work(settings, SILENT, once=True)
    second = now(catalog, again.id)
    assert second.result["digest"] == found.result["digest"]
    build = next(step for step in second.steps if step.name == "build")
    assert build.answer["reused"] == build.answer["layers"]
    with catalog.database.reading() as connection:
        assert claims.beats(connection) == {}, "a worker that ended left its name"


@pytest.mark.thorough
def test_a_denial_is_an_end_of_its_own(settings: Settings, catalog: Catalog, project: Path) -> None:
    """What policy denies is denied, not failed, and is not tried again; nothing is signed or pushed."""
    text = (project / "tidewaiter.toml").read_text().replace('environment = "staging"', 'environment = "production"')
    (project / "tidewaiter.toml").write_text(text)
    workplace.commit(project)
    run = ask(settings, catalog, project)
    working.work(settings, SILENT, once=True)
    found = now(catalog, run)
    assert (found.state, found.steps[-1].name, found.steps[-1].state) == ("denied", "decide", "denied")
    assert found.error is not None
    assert found.error["code"] == "denied"
    assert found.steps[-1].attempts == 1
    assert found.result["digest"].startswith("sha256:")


def test_bad_input_fails_at_once(settings: Settings, catalog: Catalog, tmp_path: Path) -> None:
    """A folder that is no project, and one that is not there, fail with their code; nothing is tried again."""
    (tmp_path / "empty").mkdir()
    runs = [ask(settings, catalog, tmp_path / name) for name in ("empty", "missing")]
    working.work(settings, SILENT, once=True)
    for run in runs:
        found = now(catalog, run)
        assert (found.state, [step.attempts for step in found.steps]) == ("failed", [1])
        assert found.error is not None
        assert set(found.error) == {"code", "message", "next"}


@pytest.mark.thorough
def test_what_is_out_of_reach_is_tried_again(
    settings: Settings, catalog: Catalog, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that cannot be reached is asked several times, each told; then the run has failed with its code.

    The password in its address, which a variable holds as a secret, too, stands nowhere in log and errors.
    """
    secret = "hunter2-hunter2"  # of nobody
    monkeypatch.setattr(limits, "STEP_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(limits, "STEP_TRIES", 3)
    monkeypatch.setenv("TIDEWAITER_INDEX_OURS_PASSWORD", secret)
    monkeypatch.setenv("TIDEWAITER_PYTHON_INDEX", f"http://someone:{secret}@127.0.0.1:9/simple")
    run = ask(settings, catalog, slow)
    working.work(all_settings.load(), SILENT, once=True)
    found = now(catalog, run)
    last = found.steps[-1]
    assert (found.state, last.name, last.attempts) == ("failed", "resolve", 3)
    assert found.error is not None
    assert found.error["code"] == "network"
    log = said(catalog, run)
    assert log.count("tried again in") == 2
    assert secret not in f"{log}{found.error}{found.steps}"


@pytest.mark.thorough
def test_cancelling_ends_the_step_that_is_under_way(settings: Settings, catalog: Catalog, slow: Path) -> None:
    """A run in the middle of a step ends within moments, its process is gone, and its worker goes on with others."""
    run = ask(settings, catalog, slow)
    with at_work(settings):
        until(catalog, run, is_in("resolve"))
        begun = time.monotonic()
        assert asking_runs.cancel(settings, catalog, run, by="ada").cancelling
        found = until(catalog, run, lambda one: one.state in ENDED)
        assert time.monotonic() - begun < 3 * limits.STEP_STOP_SECONDS
        assert (found.state, found.steps[-1].state) == ("cancelled", "cancelled")
        other = ask(settings, catalog, settings.home.path / "nothing")
        assert until(catalog, other, lambda one: one.state in ENDED).state == "failed"
    with pytest.raises(RefusedError):
        asking_runs.cancel(settings, catalog, other, by="ada")


@pytest.mark.thorough
def test_a_step_has_its_time(settings: Settings, catalog: Catalog, slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that takes longer than the setting says is ended, and the run has failed with that reason."""
    monkeypatch.setenv("TIDEWAITER_PIPELINE_STEP_SECONDS", "6")
    run = ask(settings, catalog, slow)
    working.work(all_settings.load(), SILENT, once=True)
    found = now(catalog, run)
    assert found.state == "failed"
    assert found.error is not None
    assert found.error["code"] == "step_timeout"


@pytest.mark.thorough
def test_what_kills_its_process_is_poison(
    settings: Settings, catalog: Catalog, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step whose process dies three times ends the run with its reason; the worker lives, and works on."""
    taken: list[int] = []
    take = Crew.take

    def noted(crew: Crew) -> step_process.StepProcess:
        process = take(crew)
        taken.append(process.pid)
        return process

    monkeypatch.setattr(Crew, "take", noted)
    run = ask(settings, catalog, slow)
    with at_work(settings):
        for deaths in range(settings.pipelines.poison):
            until(catalog, run, lambda one, begun=deaths + 1: is_in("resolve")(one) and one.steps[-1].attempts == begun)  # type: ignore[misc]  # bound now
            time.sleep(0.5)
            os.kill(taken[-1], signal.SIGKILL)
        found = until(catalog, run, lambda one: one.state in ENDED)
        assert found.state == "poisoned"
        assert found.error is not None
        assert found.error["code"] == "poison_run"
        assert "SIGKILL" in found.error["message"]
        assert found.attempts == 1
        other = ask(settings, catalog, settings.home.path / "nothing")
        until(catalog, other, lambda one: one.state in ENDED)


@pytest.mark.thorough
def test_a_worker_that_stops_gives_its_runs_back(settings: Settings, catalog: Catalog, slow: Path) -> None:
    """Stopped in the middle of a step, it leaves the run to the next one, at once and without a loss."""
    run = ask(settings, catalog, slow)
    with at_work(settings):
        until(catalog, run, is_in("resolve"))
    found = now(catalog, run)
    assert (found.state, found.steps[-1].state) == ("queued", "waiting")
    with at_work(settings):
        begun = until(catalog, run, lambda one: one.attempts == 2 and is_in("resolve")(one))
        assert begun.steps[0].attempts == 1
        asking_runs.cancel(settings, catalog, run, by="ada")
        until(catalog, run, lambda one: one.state == "cancelled")


def test_a_home_has_one_worker(settings: Settings) -> None:
    """A second worker of a catalog that is a file is refused, and told what to do instead."""
    with presence.alone(settings), pytest.raises(RefusedError, match="another worker") as refused:
        working.work(settings, SILENT, once=True)
    assert refused.value.code == "worker_running"
    assert "PostgreSQL" in refused.value.next_step


def test_names_of_workers_are_looked_at(settings: Settings) -> None:
    """A name that could be mistaken for something else, or is too long, is an error."""
    for name in ("a b", "x" * (limits.WORKER_NAME_CHARACTERS + 1), "-x"):
        with pytest.raises(InputError):
            working.work(settings, SILENT, name=name, once=True)


def test_old_runs_go_with_what_the_engine_knows_of_them(settings: Settings, catalog: Catalog, project: Path) -> None:
    """A worker forgets runs that ended long ago, their workflows with them."""
    run = ask(settings, catalog, project / "nothing")
    working.work(settings, SILENT, once=True)
    with catalog.database.plainly(writing=True) as connection:
        long_ago = (clock.now().replace(tzinfo=None) - dt.timedelta(days=91)).isoformat(" ")
        connection.execute("UPDATE pipeline_run SET ended_at = ?", (long_ago,))
    working.work(settings, SILENT, once=True)
    with catalog.database.reading() as connection:
        assert reading.unknown(connection, [run]) == {run}
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(settings.home.path / "workflows.db")) as engine:
        assert engine.execute("SELECT COUNT(*) FROM workflow_status").fetchone() == (0,)


def test_a_process_says_what_it_cannot_do(settings: Settings) -> None:
    """A step that this release does not have is bad input with a way out; the process goes on serving."""
    del settings
    process = step_process.StepProcess()
    try:
        asked = Asked(kind="clear", path="/", trigger=COMMAND)
        for _ in range(2):
            found = process.perform(
                Request(run="run-1", step="teleport", asked=asked),
                heard=lambda _: None,
                seconds=60,
                interrupted=threading.Event(),
            )
            assert getattr(found, "code", None) == "unknown_step"
    finally:
        process.stop()
    assert not process.alive


@pytest.mark.thorough
def test_a_sweep_judges_what_is_there_anew(
    settings: Settings, catalog: Catalog, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict that ends soon is renewed although new advisories are out of reach, of which the end says so."""
    for feed in ("OSV_MIRROR", "KEV_FEED", "EPSS_FEED"):
        monkeypatch.setenv(f"TIDEWAITER_{feed}", "http://127.0.0.1:9/none")
    ask(settings, catalog, project)
    working.work(settings, SILENT, once=True)
    soon = clock.now().replace(tzinfo=None) + dt.timedelta(hours=1)
    with catalog.database.plainly(writing=True) as connection:
        connection.execute("UPDATE verdict SET valid_until = ?", (soon.isoformat(" "),))
    with catalog.database.reading() as connection:
        (before,) = expiring.tags(connection, clock.now() + dt.timedelta(hours=2))
        assert expiring.tags(connection, clock.now()) == ()
    assert (before.repository, before.environment) == ("team/small", "staging")
    run = asking_runs.submit(settings, catalog, Asked(kind="sweep", trigger=COMMAND)).id
    working.work(all_settings.load(), SILENT, once=True)
    found = now(catalog, run)
    assert found.error is not None
    assert (found.state, found.error["code"]) == ("failed", "advisories_unreachable")
    answers = {step.name: step.answer for step in found.steps}
    assert answers["expire"] == {"waivers": 0, "renewed": 1, "denied": 0, "undecided": 0}
    with catalog.database.reading() as connection:
        assert expiring.tags(connection, clock.now() + dt.timedelta(hours=2)) == ()
