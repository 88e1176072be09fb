"""Keep a home within its bound: cached things and layers that no image needs, least recently used first.

1. Measure what lies in the cache; that takes time, and others may work meanwhile.
2. Take the gate: nobody begins to use anything, and it is known what those who work are using.
3. Ask the catalog and `index.json` what is wanted, and follow that to every blob that it needs.
4. Blobs that nobody needs or uses: a layer that a later build could reuse is a cache entry, all else is garbage.
5. Choose by the bound or by age, and remove; folders are renamed now and deleted after the gate was given back.

Killed at any moment this leaves a valid store: what it removes is needed by nobody.
"""

import contextlib
import os
import secrets
import shutil
import stat
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tidewaiter.catalog import glance, keeping
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.keeping import Kept
from tidewaiter.core import clock, durable, leases
from tidewaiter.core.errors import StorageError, UndeterminedError
from tidewaiter.core.leases import Uses
from tidewaiter.core.settings import Home, Settings
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines import cached
from tidewaiter.pipelines.cached import Entry
from tidewaiter.pipelines.reachable import needed

GARBAGE = "unreferenced"
"""Section of blobs that neither an image needs nor a build could reuse."""
_DAY = 24 * 3600


class Section(msgspec.Struct, frozen=True):
    """One kind of thing in the cache: what was there, and what was removed of it. Sizes in bytes."""

    name: str
    entries: int
    bytes: int
    in_use: int
    """Entries that a running process uses, so that they stay."""
    removed_entries: int
    removed_bytes: int


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What a home held beside its images, and what was removed (or would be, in a dry run). Sizes in bytes."""

    bound: int | None
    """None when things were chosen by age alone."""
    images_bytes: int
    """What images, signatures and documents need; it does not count towards the bound."""
    before_bytes: int
    after_bytes: int
    running: int
    """Processes that work in the home."""
    dry_run: bool
    sections: tuple[Section, ...]


class _Blobs(msgspec.Struct, frozen=True):
    entries: list[Entry]
    garbage: list[Entry]
    needed_bytes: int


def prune(settings: Settings, *, keep: int | None, unused_days: float | None = None, dry_run: bool = False) -> Pruned:
    """Remove what was not used for `unused_days`, then the least recently used until `keep` bytes are left.

    None for either leaves that out; garbage always goes.

    Raises:
        UndeterminedError: it cannot be said what the images need; nothing is removed.
        StorageError: the disk refused.
        DeadlineError: another prune does not come to an end.
    """
    home = settings.home
    if not home.path.is_dir():
        return _result([], set(), keep, images=0, running=0, dry_run=dry_run)
    _require_catalog(settings)
    store = Layout(home.store)
    if (home.store / "index.json").exists():
        durable.remove_abandoned(store.ingest)
    seen = cached.seen(home)  # 1
    doomed: list[Path] = []
    with leases.alone(home.path) as uses:  # 2
        blobs = _blobs(home, store, settings, uses)
        entries = [*(one.entry(home, uses) for one in seen if os.path.lexists(one.path)), *blobs.entries]
        chosen = _choose(entries, keep=keep, before=_cutoff(unused_days)) | set(blobs.garbage)  # 5
        entries += blobs.garbage
        if not dry_run:
            try:
                for entry in entries:
                    if entry in chosen:
                        doomed += _remove(entry.paths)
                doomed += _sweep(home, uses)
            except OSError as error:
                raise durable.storage_error(error, str(error.filename or home.path)) from error
    for path in doomed:
        _delete(path)
    return _result(entries, chosen, keep, images=blobs.needed_bytes, running=uses.running, dry_run=dry_run)


def survey(settings: Settings) -> Pruned:
    """What the home holds and what its bound is; nothing is removed. Raises as `prune`."""
    return prune(settings, keep=settings.cache_bytes, dry_run=True)


def _require_catalog(settings: Settings) -> None:
    home = settings.home
    if settings.database_url is None and not home.catalog.exists() and any(home.store.glob("blobs/*/*")):
        raise UndeterminedError(
            f"{home.catalog} is missing, so nobody knows which images of the store are wanted",
            next_step="Restore it from a backup; or run any command that builds, and what index.json lists is kept.",
            code="catalog_missing",
        )


def _cutoff(days: float | None) -> float | None:
    return None if days is None else clock.now().timestamp() - days * _DAY


def _kept(settings: Settings) -> Kept:
    """What the catalog wants. On a full disk it is read by nobody else meanwhile; raises `StorageError`."""
    try:
        with Catalog.open(settings) as catalog:
            return catalog.kept_digests()
    except StorageError as error:
        try:
            return keeping.kept_alone(settings.catalog)
        except glance.UnansweredError:
            raise error from None


def _blobs(home: Home, store: Layout, settings: Settings, uses: Uses) -> _Blobs:
    """Steps 3 and 4."""
    if not (home.store / "index.json").exists():
        return _Blobs([], [], 0)
    wanted = needed(store, _kept(settings))
    records: dict[Digest, list[Path]] = defaultdict(list)
    for record in cached.records(home):
        records[record.digest].append(record.path)
    entries: list[Entry] = []
    garbage: list[Entry] = []
    needed_bytes = 0
    for digest in store.blobs():
        path = store.blob_path(digest)
        status = path.stat()
        if digest in wanted:
            needed_bytes += status.st_size
            records.pop(digest, None)
            continue
        name = path.relative_to(home.path).as_posix()
        of_layer = records.pop(digest, None)
        entry = Entry(
            section=GARBAGE if of_layer is None else cached.LAYERS,
            paths=(path, *(of_layer or ())),
            size=status.st_size,
            used=max(status.st_mtime, uses.last.get(name, 0.0)),
            in_use=name in uses.claimed,
        )
        (garbage if of_layer is None and not entry.in_use else entries).append(entry)
    garbage += [
        Entry(section=GARBAGE, paths=tuple(lost), size=sum(map(_length, lost)), used=0.0, in_use=False)
        for lost in records.values()  # of blobs that are gone
    ]
    return _Blobs(entries, garbage, needed_bytes)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _choose(entries: Iterable[Entry], *, keep: int | None, before: float | None) -> set[Entry]:
    """The entries to remove."""
    listed = sorted(entries, key=lambda entry: entry.used)
    left = sum(entry.size for entry in listed)
    chosen: set[Entry] = set()
    for entry in listed:
        old = before is not None and entry.used < before
        over = keep is not None and left > keep
        if not entry.in_use and (old or over):
            chosen.add(entry)
            left -= entry.size
    return chosen


def _remove(paths: Iterable[Path]) -> list[Path]:
    """Remove files; folders only lose their name and are returned, to be deleted when the gate is open again."""
    doomed = []
    for path in paths:
        try:
            if path.is_dir() and not path.is_symlink():
                doomed.append(path.rename(path.with_name(f".pruned-{secrets.token_hex(8)}")))
            else:
                path.unlink()
        except FileNotFoundError:
            continue
    return doomed


def _sweep(home: Home, uses: Uses) -> list[Path]:
    """Remove locks that nobody holds and what killed processes left; folders as in `_remove`."""
    for lock in cached.locks(home):
        durable.remove_lock(lock)
    now = clock.now().timestamp()
    left = [
        path
        for path in cached.leftovers(home)
        if not uses.running or path.name.startswith(".pruned-") or now - path.lstat().st_mtime > _DAY
    ]
    return _remove(left)


def _delete(folder: Path) -> None:
    """Delete a folder, also one whose folders may not be written; what resists is tried again next time."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(parent, name)
            with contextlib.suppress(OSError):
                if not path.is_symlink() and not path.stat().st_mode & stat.S_IWUSR:
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _result(
    entries: list[Entry], chosen: set[Entry], bound: int | None, *, images: int, running: int, dry_run: bool
) -> Pruned:
    sections: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        sections[entry.section].append(entry)
    rows = []
    for name, those in sorted(sections.items()):
        gone = [entry for entry in those if entry in chosen]
        rows.append(
            Section(
                name=name,
                entries=len(those),
                bytes=sum(entry.size for entry in those),
                in_use=sum(entry.in_use for entry in those),
                removed_entries=len(gone),
                removed_bytes=sum(entry.size for entry in gone),
            )
        )
    before = sum(row.bytes for row in rows)
    return Pruned(
        bound=bound,
        images_bytes=images,
        before_bytes=before,
        after_bytes=before - sum(row.removed_bytes for row in rows),
        running=running,
        dry_run=dry_run,
        sections=tuple(rows),
    )
