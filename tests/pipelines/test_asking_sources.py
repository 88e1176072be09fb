"""Which project a run belongs to."""

import msgspec
import pytest

from tidewaiter.catalog.runs.records import Trigger
from tidewaiter.core import settings as all_settings
from tidewaiter.core.settings.sources import SourceTable
from tidewaiter.pipelines.triggers import asking_sources


@pytest.mark.parametrize("push", [True, False])
def test_two_sources_of_one_repository_keep_their_projects(push: bool) -> None:
    """A run of a repository that two teams build from belongs to the project of the source it was asked for."""
    url = "https://git.example/team/mono.git"
    tables = (
        SourceTable(name="red", url=url, team="red", folders=("red",), push="registry.example/red/app"),
        SourceTable(name="blue", url=url, team="blue", folders=("blue",), push="registry.example/blue/app"),
    )
    settings = msgspec.structs.replace(all_settings.load({}), sources=tables)
    for table in tables:
        (asked,) = asking_sources.of_commit(table, "a" * 40, "", Trigger(kind="api"), push=push)
        assert asking_sources.project_of_run(settings, asked) == asking_sources.project(table)
    assert asking_sources.project(tables[0]) != asking_sources.project(tables[1])
