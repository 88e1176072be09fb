"""Settings of pipelines: how many runs at a time, how long a step may take, how long runs are kept."""

from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec

from tidewaiter.core.settings import reading

_Team = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class TeamTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[team]]`: how many runs of a team run at the same time, of all workers."""

    name: _Team
    runs: Annotated[int, msgspec.Meta(ge=0)]
    """0: as many as there is room for."""


class PipelineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How pipelines are carried out."""

    concurrency: int
    """Runs of one worker at the same time."""
    limit: int
    """Runs of all workers at the same time; 0: no limit."""
    team_limit: int
    """Of a team that no table names; 0: no limit."""
    teams: Mapping[str, int]
    step_seconds: int
    poison: int
    """After so many deaths of its process in one step a run is poisoned."""
    days: int
    """How long runs are kept after their end; 0: for good."""
    key: str
    """What signs images that a run built."""
    in_server: bool | None
    """Whether `serve` carries out runs itself; None: with a catalog that is a file."""


def pipelines(text: Callable[[str], str], teams: tuple[TeamTable, ...]) -> PipelineSettings:
    """What the settings say, of which `text` gives each by name. Raises `InputError`."""

    def number(name: str, *, least: int) -> int:
        return reading.whole_number(text(name), f"TIDEWAITER_{name.upper()}", least=least)

    in_server = reading.one_of(text("pipeline_in_server"), "TIDEWAITER_PIPELINE_IN_SERVER", ("auto", "yes", "no"))
    return PipelineSettings(
        concurrency=number("pipeline_concurrency", least=1),
        limit=number("pipeline_limit", least=0),
        team_limit=number("pipeline_team_limit", least=0),
        teams={table.name: table.runs for table in teams},
        step_seconds=number("pipeline_step_seconds", least=1),
        poison=number("pipeline_poison", least=1),
        days=number("pipeline_days", least=0),
        key=text("pipeline_key").strip(),
        in_server=None if in_server == "auto" else in_server == "yes",
    )
