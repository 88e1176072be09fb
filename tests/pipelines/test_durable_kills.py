"""A worker is killed at every boundary of a step and inside of each; another one goes on, and nothing is done twice."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

import workplace
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import reading
from tidewaiter.catalog.runs.records import Asked, Run, Trigger
from tidewaiter.core import settings as all_settings
from tidewaiter.pipelines.durable import asking_runs
from tidewaiter.pipelines.durable.shapes import SHAPES

KILLER = Path(__file__).resolve().parents[1] / "kill_worker.py"
STEPS = SHAPES["clear"].steps
BOUNDARIES = [f"{when}:{step}" for step in (*STEPS, "end") for when in ("before", "said")]
INSIDE = [f"inside:{step}:0.05" for step in STEPS]
SHORT = ("said:build", "inside:sign:0.02")
RESUMED_SECONDS = 30
_TABLES = ("artifact", "build", "verdict", "signature", "attestation", "attachment", "tag", "pipeline_run")


class Place(msgspec.Struct):
    """A home, and the same project at the same commit for another home in which nobody is killed."""

    home: Path
    twin: Path
    project: Path
    commits: int = 0

    def change(self) -> None:
        """Commit something new."""
        self.commits += 1
        (self.project / "main.py").write_text(f"import six\n\nprint({self.commits}, six.__version__)\n")
        workplace.commit(self.project)

    def catalog(self, home: Path) -> Catalog:
        """The catalog of a home."""
        return Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(home)}))

    def ask(self, home: Path) -> str:
        """Ask for a run; its id."""
        with self.catalog(home) as catalog:
            asked = Asked(kind="clear", path=str(self.project), trigger=Trigger(kind="command"))
            return asking_runs.submit(all_settings.load({"TIDEWAITER_HOME": str(home)}), catalog, asked).id

    def counted(self, home: Path) -> dict[str, int]:
        """How many rows say that something was done."""
        with self.catalog(home) as catalog, catalog.database.plainly(writing=False) as connection:
            return {name: connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in _TABLES}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, warm_home: Path) -> Iterator[Place]:
    """Two homes with keys and warm caches, and a project."""
    folder = tmp_path_factory.mktemp("kills")
    for name in ("home", "twin"):
        for part in ("cache", "store"):
            shutil.copytree(warm_home / part, folder / name / part, symlinks=True)
        (folder / name / "store/index.json").unlink()
        assert workplace.run(folder / name, "key", "generate").code == 0
    project = workplace.small_project(folder / "project", folder / "home")
    yield Place(folder / "home", folder / "twin", project)
    shutil.rmtree(folder)


def worker(home: Path, moment: str, *steps: str) -> "subprocess.Popen[bytes]":
    """A worker that is killed at that moment; of another release when its `steps` are given."""
    words = [sys.executable, str(KILLER), moment, *([",".join(steps)] if steps else [])]
    return subprocess.Popen(words, env=workplace.environment(home), cwd=KILLER.parent)


def finished(place: Place, run: str) -> tuple[Run, float]:
    """The run after another worker went on with it, and how long it took to take it up."""
    with place.catalog(place.home) as catalog:

        def now() -> Run:
            with catalog.database.reading() as connection:
                return reading.run(connection, run)

        stood, begun, taken_up = now(), time.monotonic(), 0.0
        second = worker(place.home, "never")
        while second.poll() is None:
            if not taken_up and now().attempts > stood.attempts:
                taken_up = time.monotonic() - begun
            time.sleep(0.05)
        assert second.returncode == 0
        found = now()
    for before in stood.steps:
        if before.state == "done":
            assert found.steps[before.number - 1] == before, "a step that was done was begun again"
    assert stood.state == "done" or 0 < taken_up < RESUMED_SECONDS
    return found, taken_up


def check(place: Place, moment: str) -> None:
    """Kill a worker at that moment, let another one go on, and compare with a home where nobody was killed."""
    place.change()
    before, twin_before = place.counted(place.home), place.counted(place.twin)
    run, twin_run = place.ask(place.home), place.ask(place.twin)
    assert worker(place.home, moment).wait(120) == -signal.SIGKILL
    found, _ = finished(place, run)
    assert worker(place.twin, "never").wait(120) == 0
    with place.catalog(place.twin) as catalog, catalog.database.reading() as connection:
        whole = reading.run(connection, twin_run)
    assert found.state == whole.state == "done", found.error
    assert found.result == whole.result
    assert [(step.name, step.state) for step in found.steps] == [(name, "done") for name in STEPS]
    assert sum(step.attempts for step in found.steps) <= len(STEPS) + 1
    added = {name: count - before[name] for name, count in place.counted(place.home).items()}
    wanted = {name: count - twin_before[name] for name, count in place.counted(place.twin).items()}
    assert added == wanted, "the broken run recorded more, or less, than the whole one"


@pytest.mark.parametrize("moment", SHORT)
@pytest.mark.thorough
def test_a_killed_worker_loses_nothing(place: Place, moment: str) -> None:
    """Killed between two steps and inside of one: the next worker goes on, and what was done stands."""
    check(place, moment)


@pytest.mark.thorough
@pytest.mark.parametrize("moment", [one for one in (*BOUNDARIES, *INSIDE) if one not in SHORT])
def test_a_worker_killed_anywhere_loses_nothing(place: Place, moment: str) -> None:
    """As above, at every boundary of a step and inside of each."""
    check(place, moment)


@pytest.mark.thorough
def test_a_release_does_not_strand_what_runs(place: Place) -> None:
    """A run goes on with the steps that it began with; a new one has those of now, unknown ones end it."""
    place.change()
    older = ("fetch", "build", "record")
    run = place.ask(place.home)
    assert worker(place.home, "said:build", "fetch", "build", "inspect", "build").wait(120) == -signal.SIGKILL
    found, _ = finished(place, run)
    assert [(step.name, step.state) for step in found.steps] == [
        (name, "done") for name in ("fetch", "build", "inspect", "build")
    ]
    assert (found.state, found.application_version) == ("done", "other")
    run = place.ask(place.home)
    assert worker(place.home, "before:teleport", "fetch", "teleport", *older).wait(120) == -signal.SIGKILL
    found, _ = finished(place, run)
    assert found.error is not None
    assert (found.state, found.error["code"]) == ("failed", "unknown_step")
    with place.catalog(place.home) as catalog:
        settings = all_settings.load({"TIDEWAITER_HOME": str(place.home)})
        again = asking_runs.retry(settings, catalog, run, by="ada")
    found, _ = finished(place, again.id)
    assert (found.state, found.application_version) == ("done", SHAPES["clear"].version)


@pytest.mark.thorough
def test_without_the_engines_file_runs_go_on(place: Place) -> None:
    """When what the engine keeps is lost, the catalog knows which steps are done, and the rest is done."""
    place.change()
    run = place.ask(place.home)
    assert worker(place.home, "before:decide").wait(120) == -signal.SIGKILL
    for left in place.home.glob("workflows.db*"):
        left.unlink()
    found, _ = finished(place, run)
    assert (found.state, [step.attempts for step in found.steps]) == ("done", [1] * len(STEPS))


@pytest.mark.thorough
def test_with_a_catalog_of_before_everything_is_there_in_the_end(place: Place) -> None:
    """A catalog from a backup knows less than the engine does: what it does not have is done again, and recorded."""
    place.change()
    run = place.ask(place.home)
    with (
        closing(sqlite3.connect(place.home / "catalog.db")) as catalog_file,
        closing(sqlite3.connect(place.home / "backup.db")) as backup,
    ):
        catalog_file.backup(backup)
    if worker(place.home, "before:push").wait(120) != -signal.SIGKILL:
        with place.catalog(place.home) as catalog, catalog.database.reading() as connection:
            pytest.fail(str(reading.run(connection, run)))
    for left in place.home.glob("catalog.db-*"):
        left.unlink()
    (place.home / "backup.db").replace(place.home / "catalog.db")
    found, _ = finished(place, run)
    assert (found.state, [step.name for step in found.steps]) == ("done", list(STEPS)), found.error
    with place.catalog(place.home) as catalog:
        catalog.require_cleared("team/small", found.result["digest"], found.result["reference"].rpartition(":")[2])
