"""`advisories import|update|status`."""

from pathlib import Path
from typing import Annotated

from tidewaiter.advisories import exploited, fetching, importing, mirror
from tidewaiter.advisories.database import Database, Exploited
from tidewaiter.advisories.finding import age_days
from tidewaiter.advisories.importing import ImportResult
from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core.errors import InputError, TidewaiterError
from tidewaiter.pipelines.workshop import Workshop

_LISTS: tuple[exploited.Kind, ...] = ("KEV", "EPSS")


def _matched(shop: Workshop, database: Database) -> dict[str, int]:
    """Bring the findings of the catalog to the advisories of now; what that changed, in numbers."""
    from tidewaiter.pipelines import rematching

    found = rematching.rematch(shop.catalog, database, shop.progress)
    kinds = [one.change for one in found.changes]
    return {
        "versions": found.versions,
        **{kind: kinds.count(kind) for kind in ("added", "changed", "removed")},
        "images": found.images,
    }


def _report(
    results: tuple[ImportResult, ...], lists: tuple[Exploited, ...], matched: dict[str, int] | None, output: Format
) -> int:
    if output == "json":
        emit_json({"imported": results, "exploited": [one._asdict() for one in lists], "matched": matched})
        return 0
    for result in results:
        emit(
            f"{', '.join(result.ecosystems)}: {result.entries} entries as of {result.as_of[:10]} from {result.source}: "
            f"{result.added} added, {result.changed} changed, {result.removed} removed, {result.withdrawn} withdrawn"
        )
    for one in lists:
        emit(f"{one.kind}: {one.entries} CVEs as of {one.as_of[:10]} from {one.source}")
    if matched is not None:
        emit(
            f"catalog: {matched['added']} findings are new, {matched['changed']} changed, {matched['removed']} gone; "
            f"they concern {matched['images']} images"
        )
    return 0


def import_feed(
    file: str,
    /,
    *,
    ecosystem: str = "",
    as_of: str = "",
    force: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Import advisories (OSV), the KEV catalogue or EPSS scores.

    Advisories come as a bulk export (zip), a folder of entries, or one entry (JSON); KEV as JSON, EPSS as CSV, packed
    with gzip or not. All of it is taken, or nothing.

    Args:
        file: the file or folder, or the address of a file.
        ecosystem: what an export is of (PyPI, Debian, ...), when it does not say so itself.
        as_of: date of the export (RFC 3339); default: its newest change.
        force: accept an export or a list that has lost half of its entries or more.
        output: text or json.
    """
    with workshop() as shop, Database(shop.settings.home.advisories) as database:

        def take(path: Path, source: str) -> int:
            kind = exploited.kind_of(path)
            if kind is not None:
                found = exploited.import_list(database, path, kind, as_of=as_of, source=source, force=force)
                return _report((), (found,), None, output)
            result = importing.import_feed(
                database, path, ecosystem=ecosystem, as_of=as_of, source=source, force=force, progress=shop.progress
            )
            return _report((result,), (), _matched(shop, database), output)

        if not fetching.is_address(file):
            return take(Path(file), "")
        with fetching.fetched(shop.client, shop.settings, file, progress=shop.progress) as path:
            return take(path, fetching.shown(file))


def update(
    *,
    ecosystem: tuple[str, ...] = (),
    force: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Fetch current advisories, KEV and EPSS.

    Only entries that changed since the last time are fetched where the mirror has a list of them. What was there
    stays when something cannot be reached.

    Args:
        ecosystem: one to fetch (PyPI, Debian, ...), or KEV or EPSS; may be given several times; default: all.
        force: accept data that has lost half of its entries or more.
        output: text or json.
    """
    chosen = ecosystem or (*mirror.ECOSYSTEMS, *_LISTS)
    for name in chosen:
        if not name or ":" in name or "/" in name:
            raise InputError(
                f"{name!r} is no ecosystem with an export of its own",
                next_step="Write the name without a release, for example --ecosystem Debian.",
            )
    with workshop() as shop, Database(shop.settings.home.advisories) as database:
        osv = [name for name in chosen if name not in _LISTS]
        lists = [kind for kind in _LISTS if kind in chosen]
        try:
            results = mirror.update(
                database, shop.client, shop.settings, ecosystems=osv, force=force, progress=shop.progress
            )
            found = mirror.update_exploited(
                database, shop.client, shop.settings, lists, force=force, progress=shop.progress
            )
        except TidewaiterError:
            _matched(shop, database)  # what was taken before one could not be fetched holds from now on
            raise
        matched = _matched(shop, database)
    return _report(results, found, matched, output)


def status(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show which ecosystems have advisory data, and how old it is.

    Args:
        output: text or json.
    """
    with workshop() as shop, Database(shop.settings.home.advisories) as database:
        found = sorted(database.coverage().values(), key=lambda one: one.ecosystem)
        lists = database.exploited()
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
    missing = [name for name in mirror.ECOSYSTEMS if name not in families]
    missing_lists = [name for name in _LISTS if name not in lists]
    listed = [{**one._asdict(), "age_days": age_days(one.as_of)} for one in lists.values()]
    if output == "json":
        emit_json({"revision": revision, "ecosystems": rows, "missing": missing + missing_lists, "exploited": listed})
        return 0
    emit(f"revision {revision}")
    console.table(
        ("ecosystem", "entries", "as of", "age in days", "source"),
        [tuple("" if value is None else str(value) for value in row.values()) for row in rows],
    )
    for one in lists.values():
        emit(
            f"{one.kind}: {one.entries} CVEs as of {one.as_of[:10]}, {age_days(one.as_of)} days old, from {one.source}"
        )
    for name in missing:
        emit(f"{name}: no data, so packages of {name} are not checked; `tidewaiter advisories update` fetches it")
    for name in missing_lists:
        emit(f"{name}: no data, so it is not known what is exploited; `tidewaiter advisories update` fetches it")
    return 0
