"""`advisories import|update|status`."""

from pathlib import Path
from typing import Annotated

from tidewaiter.advisories import importing
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.finding import age_days
from tidewaiter.advisories.importing import ImportResult
from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop


def _report(results: tuple[ImportResult, ...], output: Format) -> int:
    if output == "json":
        emit_json({"imported": results})
        return 0
    for result in results:
        emit(
            f"{', '.join(result.ecosystems)}: {result.entries} entries as of {result.as_of[:10]} from {result.source}: "
            f"{result.added} added, {result.changed} changed, {result.removed} removed, {result.withdrawn} withdrawn"
        )
    return 0


def import_feed(
    file: Path,
    /,
    *,
    ecosystem: str = "",
    as_of: str = "",
    force: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Import advisories in OSV format.

    The file is a bulk export (zip), a folder of entries, or one entry (JSON). All of it is taken, or nothing.

    Args:
        file: the zip, folder or JSON file.
        ecosystem: what an export is of (PyPI, Debian, ...), when it does not say so itself.
        as_of: date of the export (RFC 3339); default: its newest change.
        force: accept an export that has lost half of its entries or more.
        output: text or json.
    """
    with workshop() as shop, Database(shop.settings.home.advisories) as database:
        result = importing.import_feed(
            database, file, ecosystem=ecosystem, as_of=as_of, force=force, progress=shop.progress
        )
    return _report((result,), output)


def update(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Fetch the current advisories from the OSV mirror.

    What was there stays when the mirror cannot be reached.

    Args:
        output: text or json.
    """
    with workshop() as shop, Database(shop.settings.home.advisories) as database:
        results = importing.update(database, shop.client, shop.settings, progress=shop.progress)
    return _report(results, output)


def status(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show which ecosystems have advisory data, and how old it is.

    Args:
        output: text or json.
    """
    with workshop() as shop, Database(shop.settings.home.advisories) as database:
        found = sorted(database.coverage().values(), key=lambda one: one.ecosystem)
        revision = database.revision()
    rows = [
        {
            "ecosystem": one.ecosystem,
            "entries": one.entries,
            "as_of": one.as_of,
            "age_days": age_days(one.as_of) if one.as_of else None,
            "source": one.source,
        }
        for one in found
    ]
    families = {one.ecosystem.partition(":")[0] for one in found}
    missing = [name for name in importing.MIRRORED if name not in families]
    if output == "json":
        emit_json({"revision": revision, "ecosystems": rows, "missing": missing})
        return 0
    emit(f"revision {revision}")
    console.table(
        ("ecosystem", "entries", "as of", "age in days", "source"),
        [tuple("" if value is None else str(value) for value in row.values()) for row in rows],
    )
    for name in missing:
        emit(f"{name}: no data, so packages of {name} are not checked; `tidewaiter advisories update` fetches it")
    return 0
