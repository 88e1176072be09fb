"""Bringing advisories in from a file or folder."""

from pathlib import Path

import msgspec

from tidewaiter.advisories import feed
from tidewaiter.advisories.advisory import Advisory, family
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.rows import Changes, Mirrored, Row, rows_of
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError
from tidewaiter.core.progress import SILENT, Progress


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did. Counts are entries."""

    ecosystems: tuple[str, ...]
    """Families of ecosystems that were touched (`PyPI`, `Debian`)."""
    source: str
    as_of: str
    """Newest change in the feed (RFC 3339), or the date of the export that was given."""
    entries: int
    """Entries in the feed that hold, that is without withdrawn ones."""
    withdrawn: int
    added: int
    changed: int
    removed: int
    whole: bool = True
    """False when only what a mirror's list calls changed was fetched; `withdrawn` counts those of it then."""


class _Feed:
    """The entries of a feed, packed family by family as they are read."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.rows: dict[str, dict[str, Row]] = {}
        self.newest = ""
        self.withdrawn = 0
        self.without_package = 0

    def add(self, advisory: Advisory, where: str, *, now: str) -> None:
        if advisory.id in self.ids:
            raise InputError(
                f"{where}: {advisory.id} is in the feed twice",
                next_step="Fetch the feed again; nothing was imported.",
                code="bad_feed",
            )
        self.ids.add(advisory.id)
        if advisory.modified <= now:  # a date from the future must not make old data look fresh
            self.newest = max(self.newest, advisory.modified)
        if advisory.withdrawn:
            self.withdrawn += 1
            return
        rows = rows_of(advisory)
        self.without_package += not rows
        for name, row in rows.items():
            self.rows.setdefault(name, {})[advisory.id] = row

    def family(self, path: Path) -> str:
        """The one family that every entry is about; raises `InputError` when there is none or several."""
        held = len(self.ids) - self.withdrawn - self.without_package
        common = [name for name, rows in self.rows.items() if held and len(rows) == held]
        if len(common) == 1:
            return common[0]
        found = ", ".join(sorted(self.rows)[:8]) or "no package"
        raise InputError(
            f"{path.name} does not say which ecosystem it is the export of: its entries are about {found}",
            next_step="Name the ecosystem with --ecosystem, for example --ecosystem PyPI.",
            code="bad_feed",
        )


def import_feed(
    database: Database,
    path: Path,
    *,
    ecosystem: str = "",
    as_of: str = "",
    source: str = "",
    force: bool = False,
    mirrored: Mirrored | None = None,
    progress: Progress = SILENT,
) -> ImportResult:
    """Import an OSV bulk export (zip), a folder of OSV entries, or one entry in JSON; all of it or nothing.

    An export or a folder is the whole data of one ecosystem: entries that it lacks go away, as withdrawn ones do.
    One entry is added to what is there, and removed when it is withdrawn; it does not make an ecosystem covered.

    Args:
        database: where to.
        path: the file or folder.
        ecosystem: what an export is of, without release; found out when every entry is about the same.
        as_of: date of the export (RFC 3339); else its newest change.
        source: where it comes from, for the reader; else the file's name.
        force: accept an export that has half the known entries or fewer.
        mirrored: the state of the mirror that the export is from; updates go on from there.
        progress: shows the entries read.

    Raises:
        InputError: the feed is malformed, or not of one ecosystem.
        LimitError: the feed or an entry is over a limit.
        RefusedError: the feed has shrunk by half.
        StorageError: the database could not be written; it is as it was.
    """
    if not feed.is_export(path):
        return _import_one(database, path, source or path.name)
    if as_of:
        as_of = _given_date(as_of)
    now = clock.rfc3339(clock.now())
    found = _Feed()
    with progress.task(f"Reading {path.name}") as task:
        for document in feed.documents(path):
            found.add(feed.parse(document), document.where, now=now)
            task.advance()
    name = family(ecosystem) if ecosystem else found.family(path)
    rows = found.rows.get(name, {})
    if not rows:
        raise InputError(
            f"{path.name} has no entry about a package of {name}",
            next_step="Check that this is the right export; nothing was imported.",
            code="bad_feed",
        )
    if not (as_of or found.newest):
        raise InputError(
            f"{path.name} does not say how old it is: no entry has a date",
            next_step="Give the date of the export with --as-of.",
            code="bad_feed",
        )
    as_of = as_of or found.newest
    changes = database.replace(
        name, rows.values(), source=source or path.name, as_of=as_of, force=force, mirrored=mirrored
    )
    return result(
        changes,
        ecosystems=(name,),
        source=source or path.name,
        as_of=as_of,
        entries=len(rows),
        withdrawn=found.withdrawn,
    )


def _import_one(database: Database, path: Path, source: str) -> ImportResult:
    advisory = feed.parse(feed.file_document(path))
    if advisory.withdrawn:
        changes = database.withdraw(advisory.id)
        return result(changes, ecosystems=(), source=source, as_of=advisory.modified, entries=0, withdrawn=1)
    rows = rows_of(advisory)
    if not rows:
        raise InputError(
            f"{path.name}: {advisory.id} names no package",
            next_step="Only advisories about packages can be matched; nothing was imported.",
            code="bad_feed",
        )
    changes = database.put_single(rows)
    ecosystems = tuple(sorted(rows))
    return result(changes, ecosystems=ecosystems, source=source, as_of=advisory.modified, entries=1, withdrawn=0)


def _given_date(text: str) -> str:
    try:
        moment = clock.parse_rfc3339(text)
    except ValueError as error:
        raise InputError(
            f"{text[:60]!r} is not a date with time and zone",
            next_step="Write the date of the export as 2026-01-31T12:00:00Z.",
        ) from error
    if moment > clock.now():
        raise InputError(f"{text[:60]} is in the future", next_step="Give the date on which the export was made.")
    return clock.rfc3339(moment)


def result(
    changes: Changes,
    *,
    ecosystems: tuple[str, ...],
    source: str,
    as_of: str,
    entries: int,
    withdrawn: int,
    whole: bool = True,
) -> ImportResult:
    """What `changes` did, with the rest that is to be told of an import."""
    return ImportResult(
        ecosystems=ecosystems,
        source=source,
        as_of=as_of,
        entries=entries,
        withdrawn=withdrawn,
        added=changes.added,
        changed=changes.changed,
        removed=changes.removed,
        whole=whole,
    )
