"""From a commit of a source to what is asked for: a run for each of its folders."""

from collections.abc import Iterator

from tidewaiter.access.roles import project_of
from tidewaiter.catalog.runs.records import Asked, Source, Trigger
from tidewaiter.core.settings import Settings, SourceTable


def of_commit(
    table: SourceTable, commit: str, ref: str, trigger: Trigger, *, folders: tuple[str, ...] = (), push: bool = True
) -> Iterator[Asked]:
    """What is asked for, for each folder (those of the source when none is named).

    Without `push` the image stays in the store, wherever the source's images go otherwise.
    """
    for folder in folders or table.folders:
        yield Asked(
            kind="clear",
            source=Source(
                repository=table.url,
                commit=commit,
                ref=ref,
                folder=folder,
                submodules=table.submodules,
                lfs=table.lfs,
            ),
            team=table.team,
            push=table.push if push else "",
            trigger=trigger,
        )


def project(table: SourceTable) -> str:
    """The project in which a role lets somebody ask for runs of a source: that of its images, else its team's name."""
    return project_of(table.push) if table.push else table.team


def project_of_run(settings: Settings, asked: Asked) -> str | None:
    """The project that a run belongs to: its source's, else that of its images, else its team's name.

    None for a sweep, which is about every project.
    """
    if asked.kind == "sweep":
        return None
    source = asked.source
    tables = [one for one in settings.sources if source is not None and one.url == source.repository]
    # Several may be of one repository, each of them another team's.
    own = (one for one in tables if one.team == asked.team and asked.push in {"", one.push})
    table = next((one for one in own if source is not None and source.folder in one.folders), None)
    if table is not None or tables:
        return project(table or tables[0])
    return project_of(asked.push) if asked.push else asked.team
