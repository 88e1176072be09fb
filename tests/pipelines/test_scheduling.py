"""Schedules: once each, whatever happens to those who look."""

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from git_server import commit, git_server
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import reading, turns
from tidewaiter.catalog.runs.records import Run
from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.triggers import scheduling

START = dt.datetime(2026, 11, 22, 12, 0, 30, tzinfo=dt.UTC)
HOURLY = '[[schedule]]\nname = "hourly"\nevery = "1h"\nteam = "ops"\n'


def at(hours: float) -> dt.datetime:
    return START + dt.timedelta(hours=hours)


def settings_of(home: Path, text: str) -> Settings:
    (home / "settings.toml").write_text(text)
    return all_settings.load({"TIDEWAITER_HOME": str(home)})


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Of a home in the test's folder."""
    with Catalog.open(settings_of(tmp_path, "")) as opened:
        yield opened


def runs(catalog: Catalog) -> tuple[Run, ...]:
    with catalog.database.reading() as connection:
        return tuple(reversed(reading.listed(connection).runs))


def test_a_schedule_comes_once_each_time(tmp_path: Path, catalog: Catalog) -> None:
    """Not when it is new, once when it is due, and not again until the next time."""
    settings = settings_of(tmp_path, HOURLY)
    assert scheduling.due(settings, catalog, START) == ()
    assert scheduling.due(settings, catalog, at(0.9)) == ()
    (run,) = scheduling.due(settings, catalog, at(1))
    assert (run.kind, run.asked.team, run.asked.trigger.by) == ("sweep", "ops", "schedule hourly")
    assert scheduling.due(settings, catalog, at(1)) == ()
    assert len(scheduling.due(settings, catalog, at(2))) == 1
    assert len(runs(catalog)) == 2


def test_what_was_missed_comes_once(tmp_path: Path, catalog: Catalog) -> None:
    """After a weekend without a worker there is one run, not fifty; then it goes on as before."""
    settings = settings_of(tmp_path, HOURLY)
    scheduling.due(settings, catalog, START)
    assert len(scheduling.due(settings, catalog, at(50))) == 1
    assert scheduling.due(settings, catalog, at(50.4)) == ()
    assert len(scheduling.due(settings, catalog, at(51))) == 1


def test_many_workers_make_one(tmp_path: Path, catalog: Catalog) -> None:
    """Eight that look at the same moment ask for one run."""
    settings = settings_of(tmp_path, HOURLY)
    scheduling.due(settings, catalog, START)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: scheduling.due(settings, catalog, at(1)), range(8)))
    assert len(runs(catalog)) == 1
    assert sum(map(len, made)) == 1


def test_a_worker_that_dies_in_between_changes_nothing(
    tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after it asked and before it said when the next time is: the next worker gets the same run."""
    settings = settings_of(tmp_path, HOURLY)
    scheduling.due(settings, catalog, START)

    class KilledError(Exception):
        pass

    def killed(*_: object) -> bool:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(turns, "go_on", killed)
        with pytest.raises(KilledError):
            scheduling.due(settings, catalog, at(1))
    (first,) = runs(catalog)
    (again,) = scheduling.due(settings, catalog, at(1.1))
    assert again.id == first.id
    assert len(runs(catalog)) == 1


def test_a_changed_schedule_begins_anew_and_a_gone_one_is_forgotten(tmp_path: Path, catalog: Catalog) -> None:
    """Neither makes a run for times that nobody set it to."""
    scheduling.due(settings_of(tmp_path, HOURLY), catalog, START)
    other = settings_of(tmp_path, HOURLY.replace("1h", "30m"))
    assert scheduling.due(other, catalog, at(5)) == ()
    assert len(scheduling.due(other, catalog, at(5.5))) == 1
    none = settings_of(tmp_path, "")
    assert scheduling.due(none, catalog, at(6)) == ()
    with catalog.database.reading() as connection:
        assert turns.every(connection) == {}


def test_a_source_is_cleared_at_its_tip(tmp_path: Path, catalog: Catalog) -> None:
    """A run for each folder of the commit that the branch is at then; a server that is away is tried again, later."""
    root = tmp_path / "repositories"
    tip = commit(root / "proj", {"a": "1"})
    with git_server(root) as server:
        text = f"""plain_http = "{server.host}"
[[source]]
name = "proj"
url = "{server.url}/proj/.git"
folders = ["a", "b"]
team = "vision"
push = "registry.example/vision/proj"
[[schedule]]
name = "nightly"
kind = "clear"
source = "proj"
cron = "0 * * * *"
"""
        settings = settings_of(tmp_path, text)
        scheduling.due(settings, catalog, START)
        server.token = "nobody has it"
        assert scheduling.due(settings, catalog, at(1)) == ()
        server.token = None
        wait = dt.timedelta(seconds=limits.SCHEDULE_RETRY_SECONDS)
        assert scheduling.due(settings, catalog, at(1) + wait / 2) == ()
        made = scheduling.due(settings, catalog, at(1) + wait)
    assert [run.asked.source.folder for run in made if run.asked.source] == ["a", "b"]
    assert {(run.asked.source.commit, run.asked.source.ref) for run in made if run.asked.source} == {
        (tip, "refs/heads/main")
    }
    assert {(run.asked.team, run.asked.push) for run in made} == {("vision", "registry.example/vision/proj")}
    assert len(runs(catalog)) == 2
