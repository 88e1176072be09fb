"""Step: advisories are imported or fetched, and findings and verdicts of the catalog follow them.

1. The data is taken, all of it or nothing.
2. What is in the catalog is matched with it anew, and what rests on findings that changed is decided anew.
"""

from pathlib import Path

import msgspec

from tidewaiter.advisories import exploited, fetching, importing, mirror
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.finding import age_days
from tidewaiter.advisories.importing import ImportResult
from tidewaiter.advisories.rows import Exploited
from tidewaiter.core.errors import InputError, TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines import redeciding, rematching
from tidewaiter.pipelines.redeciding import Redecided
from tidewaiter.pipelines.workshop import Workshop

LISTS: tuple[exploited.Kind, ...] = ("KEV", "EPSS")


class Matched(msgspec.Struct, frozen=True, kw_only=True):
    """What changed advisories meant for findings."""

    versions: int
    """Package versions that were matched."""
    added: int
    changed: int
    removed: int
    images: int
    """That these findings concern."""


class Refreshed(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken, and what followed from it."""

    imported: tuple[ImportResult, ...]
    exploited: tuple[Exploited, ...]
    """Lists of exploited vulnerabilities."""
    matched: Matched
    redecided: Redecided


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """Advisory data of one ecosystem, or a list of exploited vulnerabilities."""

    name: str
    entries: int
    as_of: str
    """Newest change (RFC 3339)."""
    age_days: int | None
    source: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The advisory data that a home has."""

    revision: str
    """Names the data by content."""
    ecosystems: tuple[Feed, ...]
    exploited: tuple[Feed, ...]
    missing: tuple[str, ...]
    """Ecosystems without data: packages of theirs are not checked."""
    missing_lists: tuple[str, ...]
    """Lists without data: it is not known what is exploited."""


def held(settings: Settings) -> Held:
    """Which data there is, and how old it is. Raises `StorageError`."""
    with Database(settings.home.advisories) as database:
        covered, lists, revision = database.coverage(), database.exploited(), database.revision()
    families = {name.partition(":")[0] for name in covered}
    return Held(
        revision=revision,
        ecosystems=tuple(
            _feed(one.ecosystem, one.entries, one.as_of, one.source) for _, one in sorted(covered.items())
        ),
        exploited=tuple(_feed(one.kind, one.entries, one.as_of, one.source) for _, one in sorted(lists.items())),
        missing=tuple(name for name in mirror.ECOSYSTEMS if name not in families),
        missing_lists=tuple(name for name in LISTS if name not in lists),
    )


def _feed(name: str, entries: int, as_of: str, source: str) -> Feed:
    return Feed(name=name, entries=entries, as_of=as_of, age_days=age_days(as_of) if as_of else None, source=source)


def take(
    workshop: Workshop, file: str, *, ecosystem: str = "", as_of: str = "", force: bool = False, source: str = ""
) -> Refreshed:
    """Take advisories, KEV or EPSS from a file, a folder or an address.

    Args:
        workshop: of the home.
        file: the file or folder, or the address of a file.
        ecosystem: what an export is of, when it does not say so itself.
        as_of: date of the export (RFC 3339); else its newest change.
        force: accept data that has lost half of its entries or more.
        source: where a file comes from, for the reader; else its name.

    Raises:
        InputError: it is malformed.
        LimitError: it is over a limit.
        RefusedError: it has shrunk by half.
        UndeterminedError: an address could not be fetched.
        StorageError: it could not be written.
    """
    with Database(workshop.settings.home.advisories) as database:

        def taken(path: Path, source: str) -> Refreshed:
            kind = exploited.kind_of(path)
            if kind is not None:
                found = exploited.import_list(database, path, kind, as_of=as_of, source=source, force=force)
                return _followed(workshop, database, exploited=(found,))
            result = importing.import_feed(
                database, path, ecosystem=ecosystem, as_of=as_of, source=source, force=force, progress=workshop.progress
            )
            return _followed(workshop, database, imported=(result,))

        if not fetching.is_address(file):
            return taken(Path(file), source)
        with fetching.fetched(workshop.client, workshop.settings, file, progress=workshop.progress) as path:
            return taken(path, fetching.shown(file))


def require_exports(names: tuple[str, ...]) -> None:
    """Return when each may be an ecosystem with an export of its own, or a list; raises `InputError`."""
    for name in names:
        if not name or ":" in name or "/" in name:
            raise InputError(
                f"{name[:60]!r} is no ecosystem with an export of its own",
                next_step="Write the name without a release, for example --ecosystem Debian.",
            )


def update(workshop: Workshop, names: tuple[str, ...] = (), *, force: bool = False) -> Refreshed:
    """Fetch what changed in these ecosystems and lists, or in all; what cannot be reached stays as it is.

    Raises as `take`; what was taken before that counts.
    """
    require_exports(names)
    chosen = names or (*mirror.ECOSYSTEMS, *LISTS)
    settings, progress = workshop.settings, workshop.progress
    with Database(settings.home.advisories) as database:
        osv = [name for name in chosen if name not in LISTS]
        lists = [kind for kind in LISTS if kind in chosen]
        try:
            imported = mirror.update(
                database, workshop.client, settings, ecosystems=osv, force=force, progress=progress
            )
            found = mirror.update_exploited(database, workshop.client, settings, lists, force=force, progress=progress)
        except TidewaiterError:
            _follow(workshop, database, lists=True)
            raise
        return _followed(workshop, database, imported=imported, exploited=found)


def _followed(
    workshop: Workshop,
    database: Database,
    *,
    imported: tuple[ImportResult, ...] = (),
    exploited: tuple[Exploited, ...] = (),
) -> Refreshed:
    matched, redecided = _follow(workshop, database, lists=bool(exploited))
    return Refreshed(imported=imported, exploited=exploited, matched=matched, redecided=redecided)


def _follow(workshop: Workshop, database: Database, *, lists: bool) -> tuple[Matched, Redecided]:
    """Bring findings and verdicts to the advisories of now; with `lists` what is exploited may be new, too."""
    found = rematching.rematch(workshop.catalog, database, workshop.progress)
    kinds = [one.change for one in found.changes]
    matched = Matched(
        versions=found.versions,
        added=kinds.count("added"),
        changed=kinds.count("changed"),
        removed=kinds.count("removed"),
        images=found.images,
    )
    if lists:
        workshop.catalog.outdate_findings()
    return matched, redeciding.redecide(workshop, database)
