"""`advisories import|update|status`."""

from typing import TYPE_CHECKING, Annotated

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop

if TYPE_CHECKING:
    from tidewaiter.pipelines.refreshing import Feed, Refreshed


def _report(found: "Refreshed", output: Format) -> int:
    matched, verdicts = found.matched, found.redecided
    if output == "json":
        listed = [one._asdict() for one in found.exploited]
        emit_json({"imported": found.imported, "exploited": listed, "matched": matched, "redecided": verdicts})
        return 0
    for result in found.imported:
        emit(
            f"{', '.join(result.ecosystems)}: {result.entries} entries as of {result.as_of[:10]} from {result.source}: "
            f"{result.added} added, {result.changed} changed, {result.removed} removed, {result.withdrawn} withdrawn"
        )
    for one in found.exploited:
        emit(f"{one.kind}: {one.entries} CVEs as of {one.as_of[:10]} from {one.source}")
    emit(
        f"catalog: {matched.added} findings are new, {matched.changed} changed, {matched.removed} gone; "
        f"they concern {matched.images} images"
    )
    if verdicts.verdicts:
        emit(
            f"verdicts: {verdicts.verdicts} were decided anew, {verdicts.denied} are denied now, "
            f"{verdicts.allowed} are allowed now"
        )
    for tag in verdicts.withdrawn:
        emit(f"no longer cleared: {tag}")
    if verdicts.without:
        emit(f"{verdicts.without} verdicts of an older release are not decided anew; `tidewaiter check IMAGE` does it")
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
    from tidewaiter.pipelines import refreshing

    with workshop() as shop:
        return _report(refreshing.take(shop, file, ecosystem=ecosystem, as_of=as_of, force=force), output)


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
    from tidewaiter.pipelines import refreshing

    with workshop() as shop:
        return _report(refreshing.update(shop, ecosystem, force=force), output)


def status(*, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show which ecosystems have advisory data, and how old it is.

    Args:
        output: text or json.
    """
    from tidewaiter.pipelines import refreshing

    with workshop() as shop:
        found = refreshing.held(shop.settings)
    if output == "json":
        emit_json(
            {
                "revision": found.revision,
                "ecosystems": [_told(one, "ecosystem") for one in found.ecosystems],
                "missing": found.missing + found.missing_lists,
                "exploited": [_told(one, "kind") for one in found.exploited],
            }
        )
        return 0
    emit(f"revision {found.revision}")
    console.table(
        ("ecosystem", "entries", "as of", "age in days", "source"),
        [
            (one.name, str(one.entries), one.as_of, "" if one.age_days is None else str(one.age_days), one.source)
            for one in found.ecosystems
        ],
    )
    for one in found.exploited:
        emit(f"{one.name}: {one.entries} CVEs as of {one.as_of[:10]}, {one.age_days} days old, from {one.source}")
    for name in found.missing:
        emit(f"{name}: no data, so packages of {name} are not checked; `tidewaiter advisories update` fetches it")
    for name in found.missing_lists:
        emit(f"{name}: no data, so it is not known what is exploited; `tidewaiter advisories update` fetches it")
    return 0


def _told(feed: "Feed", kind: str) -> dict[str, object]:
    return {
        kind: feed.name,
        "entries": feed.entries,
        "as_of": feed.as_of,
        "age_days": feed.age_days,
        "source": feed.source,
    }
