"""The analysis of sources in a run that a worker carries out."""

from pathlib import Path

import pytest

import workplace
from tidewaiter.catalog import questions
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import reading
from tidewaiter.catalog.runs.records import Asked, Trigger
from tidewaiter.core import settings as all_settings
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines import asking
from tidewaiter.pipelines.durable import asking_runs, working


def test_a_secret_in_the_sources_ends_a_run_before_its_build(
    home: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker looks at the sources as `ci` does: the run is denied in `analyse`, nothing is built, and the log says
    where the secret stands, not the secret."""
    assert workplace.run(home, "key", "generate").code == 0
    monkeypatch.setenv("TIDEWAITER_HOME", str(home))
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    token = "glpat-" + "x7Kq2Lm9Rt4Vb8Nc3ZdW"
    (project / "main.py").write_text(f'TOKEN = "{token}"\n')
    workplace.commit(project)
    settings = all_settings.load()
    with Catalog.open(settings) as catalog:
        asked = Asked(kind="clear", path=str(project), trigger=Trigger(kind="command", by="ada"))
        name = asking_runs.submit(settings, catalog, asked).id
        working.work(settings, SILENT, name="w", once=True)
        with catalog.database.reading() as connection:
            found = reading.run(connection, name)
            log = "\n".join(line.text for line in reading.log(connection, name).lines)
    assert found.state == "denied"
    assert found.error is not None
    assert found.error["code"] == "analysis_failed"
    assert [(one.name, one.state) for one in found.steps] == [("fetch", "done"), ("analyse", "denied")]
    assert "main.py:1" in log
    assert token not in log
    assert "team/small" not in workplace.run(home, "catalog", "list", "--format", "json").out


def test_policy_is_told_what_the_run_found(home: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that decides knows what the one that analysed found, whether or not one process carried out both."""
    assert workplace.run(home, "key", "generate").code == 0
    monkeypatch.setenv("TIDEWAITER_HOME", str(home))
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    settings = all_settings.load()
    with Catalog.open(settings) as catalog:
        asked = Asked(kind="clear", path=str(project), trigger=Trigger(kind="command", by="ada"))
        name = asking_runs.submit(settings, catalog, asked).id
        working.work(settings, SILENT, name="w", once=True)
        with catalog.database.reading() as connection:
            found = reading.run(connection, name)
            documents = questions.kept(connection, found.result["digest"])
    assert found.state == "done", found.error
    assert [asking.shared(one).analysis.ran for one in documents] == [True]
