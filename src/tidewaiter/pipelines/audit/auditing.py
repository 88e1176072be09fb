"""Steps: verify the audit log of the home, prove its entries, export it, and drop what is old and exported."""

import datetime as dt
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tidewaiter.catalog import glance
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import reading as audit_reading
from tidewaiter.catalog.audit import retention as audit_retention
from tidewaiter.catalog.audit import verify as audit_verify
from tidewaiter.catalog.audit import witnesses as audit_witnesses
from tidewaiter.catalog.audit.log import Places
from tidewaiter.catalog.audit.reading import Listed
from tidewaiter.catalog.audit.retention import Droppable
from tidewaiter.catalog.audit.verify import Verification, Watched
from tidewaiter.catalog.plain import Plain
from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import (
    InputError,
    NotFoundError,
    RefusedError,
    StorageError,
    TidewaiterError,
    UndeterminedError,
)
from tidewaiter.core.progress import Progress, Task
from tidewaiter.oci import digest as digests
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing.tlog import checkpoint, entries, merkle, note, tiles
from tidewaiter.signing.tlog.note import VerifierKey
from tidewaiter.signing.tlog.proof import Proof

_ROWS = 1000
"""Entries that are listed at most."""


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an export left in its folder."""

    origin: str
    size: int
    """Entries that the folder's checkpoint is of."""
    before: int
    """Those that were there before."""
    written: int
    """Files that are new."""
    only_hashes: int
    """Entries that neither the catalog nor the folder has any more."""
    dropped: int
    """Entries that were dropped from the catalog now."""


def log_key(workshop: Workshop, given: str) -> VerifierKey:
    """The public key in `given`, a vkey or a file that holds one; else the home's. Raises `InputError`."""
    return public_key(given) if given else audit_log.public_key(audit_log.places(workshop.settings))


def public_key(given: str) -> VerifierKey:
    """The public key of a log in `given`, a vkey or a file that holds one. Raises `InputError`."""
    if "+" in given and not Path(given).exists():
        return note.parse_vkey(given)
    return note.parse_vkey(read_file(Path(given), limits.KEY_FILE_BYTES).decode(errors="replace").strip())


def read_file(path: Path, most: int) -> bytes:
    """What is in a file that the user named, `most` bytes and one; raises `InputError`."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Name a file that is there.") from error


def verify(workshop: Workshop, *, key: str, given: Sequence[Path]) -> Verification:
    """Compare the log with what was signed, with the checkpoints in the files `given`, and with the tables.

    Raises:
        InputError: a given file or key cannot be read.
        UndeterminedError: the log cannot be read, or its key is missing.
    """
    settings, files = workshop.settings, audit_log.places(workshop.settings)
    verifier = log_key(workshop, key) if key or files.vkey.exists() else _no_key(workshop, files)
    checkpoints: list[tuple[str, bytes | None]] = [
        (str(files.checkpoint), audit_log.written_checkpoint(files)),
        *((str(path), read_file(path, limits.NOTE_BYTES)) for path in given),
    ]
    # Before the catalog is read, so that they are not of a longer log.
    kept = audit_witnesses.kept(files, audit_witnesses.configured(settings))
    watched = Watched(kept, clock.now(), settings.audit_witness_days)
    with workshop.progress.task("verifying the audit log") as task, audit_log.reading(settings.catalog) as log:
        return audit_verify.verify(log, verifier, checkpoints, watched=watched, tick=_Tick(task))


class _Tick:
    """Turns positions into progress."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._last = 0

    def __call__(self, position: int) -> None:
        self._task.advance(position - self._last)
        self._last = position


def _no_key(workshop: Workshop, files: Places) -> VerifierKey:
    raise UndeterminedError(
        f"the audit log's public key, {files.vkey}, is not there"
        if audit_log.written_checkpoint(files) is not None or _has_entries(workshop)
        else "nothing was logged in this home yet",
        next_step="Give the key with --key, or restore it from a backup."
        if files.checkpoint.exists()
        else "The log begins with the first build, decision or signature.",
        code="audit_key_missing",
    )


def _has_entries(workshop: Workshop) -> bool:
    with audit_log.reading(workshop.settings.catalog) as log:
        return audit_log.state(log) is not None


def prove(workshop: Workshop, position: int, *, key: str) -> Proof:
    """The proof that an entry is in the log, by a checkpoint that witnesses signed where there is one.

    Raises what `audit_reading.prove` raises.
    """
    verifier, files = log_key(workshop, key), audit_log.places(workshop.settings)
    cosigned = audit_witnesses.best(files, verifier, audit_witnesses.configured(workshop.settings), above=position)
    with audit_log.reading(workshop.settings.catalog) as log:
        return audit_reading.prove(log, verifier, position, cosigned=cosigned)


def listed(
    workshop: Workshop, *, subject: str, action: str, since: dt.datetime | None, rows: int, before: int | None = None
) -> list[Listed]:
    """The last entries that fit, below the position `before` when it is given, the latest last."""
    if not 0 < rows <= _ROWS:
        raise InputError(f"{rows} entries cannot be listed", next_step=f"Ask for 1 to {_ROWS}.")
    moment = "" if since is None else glance.stored_moment(since)
    with audit_log.reading(workshop.settings.catalog) as log:
        return audit_reading.listed(log, subject=subject, action=action, since=moment, before=before, rows=rows)


def checkpoint_of(workshop: Workshop) -> bytes:
    """The log's last checkpoint, as it signed it. Raises `NotFoundError` when nothing was logged yet."""
    with audit_log.reading(workshop.settings.catalog) as log:
        return audit_reading.required_state(log).checkpoint


def tile(workshop: Workshop, level: int | None, index: int, width: int) -> bytes:
    """A tile of hashes, or with None for a level the bundle of entries, as C2SP tlog-tiles lays them out.

    Raises:
        NotFoundError: the log does not have it, or not in that width.
        RefusedError: its entries are not what was logged.
    """
    with audit_log.reading(workshop.settings.catalog) as log:
        size = audit_reading.required_state(log).size
        below = size >> tiles.HEIGHT * (level or 0)
        if index * tiles.WIDTH + width > below:
            raise NotFoundError(
                f"the audit log of {size} entries has no such tile",
                next_step="Ask for one that its checkpoint covers.",
            )
        reader = audit_log.Tiles(log)
        if level is not None:
            return reader.read(level, index, width)
        return _bundle_of(log, reader, index, width)


def _bundle_of(log: Plain, reader: audit_log.Tiles, index: int, width: int) -> bytes:
    start = index * tiles.WIDTH
    found = [data for _, data in audit_reading.entries(log, start, start + width)]
    if len(found) < width:
        raise NotFoundError(
            "these entries were exported and dropped",
            next_step="Look into the folder that the log was exported to.",
        )
    if b"".join(map(merkle.leaf_hash, found)) != reader.read(0, index, width):
        raise RefusedError(
            f"entries {start} to {start + width - 1} are not what was logged",
            next_step="Run `tidewaiter audit verify`, which says what was changed.",
            code="audit_manipulated",
        )
    return entries.encode(found)


def export(workshop: Workshop, folder: Path) -> Exported:
    """Write the log into `folder` as C2SP tlog-tiles; what is there already stays. Then drop what is old.

    Every file but the checkpoint is on the disk before that says so: an export that was interrupted goes on.

    Raises:
        RefusedError: the folder has another log, or a later state of this one.
        StorageError: it cannot be written.
    """
    settings = workshop.settings
    key = log_key(workshop, "")
    with audit_log.reading(settings.catalog) as log:
        state = audit_reading.required_state(log)
        export = _Export(log, folder, state.size, workshop.progress)
        before = export.known(key)
        lost = export.write(before)
        os.sync()
        witnesses = audit_witnesses.configured(settings)
        signed = audit_witnesses.dressed(audit_log.places(settings), state.checkpoint, key, witnesses)
        export.put("checkpoint", signed, synced=True)
        old = None
        if settings.audit_days:
            limit = clock.now() - dt.timedelta(days=settings.audit_days)
            old = audit_retention.droppable(log, state.size, glance.stored_moment(limit))
            export.require(old.start, old.end)
    dropped = 0
    if old is not None and old.end > old.start:
        _drop(workshop, old, key.name, folder)
        dropped = old.end - old.start
    return Exported(
        origin=key.name, size=state.size, before=before, written=export.written, only_hashes=lost, dropped=dropped
    )


def _drop(workshop: Workshop, old: Droppable, origin: str, folder: Path) -> None:
    settings = workshop.settings
    try:
        audit_retention.drop(settings, old, origin=origin, exported=str(folder.absolute()))
    except glance.UnansweredError as error:
        raise StorageError(
            f"old entries of the audit log cannot be dropped now: {error}", next_step="Run the command again."
        ) from error


class _Export:
    """One export into a folder."""

    def __init__(self, log: Plain, folder: Path, size: int, progress: Progress) -> None:
        self._log = log
        self._reader = audit_log.Tiles(log)
        self._folder = folder
        self._size = size
        self._progress = progress
        self.written = 0

    def known(self, key: VerifierKey) -> int:
        """How many entries the folder has already."""
        path = self._folder / "checkpoint"
        if not path.exists():
            return 0
        try:
            there = checkpoint.open_signed(read_file(path, limits.NOTE_BYTES), key).checkpoint
        except TidewaiterError as error:
            raise RefusedError(
                f"{self._folder} holds the export of another log, or a changed one: {error.message}",
                next_step="Export into another folder.",
                code="audit_other_export",
            ) from error
        if there.size > self._size or tiles.root(tiles.frontier(self._reader, there.size)) != there.root:
            raise RefusedError(
                f"{self._folder} has {there.size} entries that are not the first of this log's {self._size}",
                next_step="Run `tidewaiter audit verify --checkpoint FILE` with the folder's checkpoint.",
                code="audit_manipulated",
            )
        return there.size

    def write(self, before: int) -> int:
        """Write what the folder lacks, of which the first `before` entries are there; how many entries are lost."""
        lost = 0
        places = [place for place in tiles.places(self._size) if not _inside(place, before)]
        with self._progress.task("exporting the audit log", total=len(places)) as task:
            for place in places:
                assert place.level is not None  # noqa: S101  # `places` gives tiles of hashes only
                self.put(place.path, self._reader.read(place.level, place.index, place.width))
                if place.level == 0:
                    lost += self._bundle(tiles.Place(None, place.index, place.width))
                self._remove_partial(place)
                task.advance()
        for digest, data in audit_reading.documents(self._log):
            known = digests.of(data)
            if digest != known:
                # Nor does it say where a file is written.
                raise RefusedError(
                    f"the document {digest[:80]!a} is not what was logged",
                    next_step="Run `tidewaiter audit verify`, which says what was changed.",
                    code="audit_manipulated",
                )
            self.put(f"documents/{digests.hexadecimal(known)}", data)
        return lost

    def _bundle(self, place: tiles.Place) -> int:
        data = self._entries(place)
        if data is not None:
            self.put(place.path, data)
            self._remove_partial(place)
            return 0
        return 0 if (self._folder / place.path).exists() else place.width

    def _entries(self, place: tiles.Place) -> bytes | None:
        """The bundle of these entries; None when the catalog does not have them."""
        start = place.index * tiles.WIDTH
        found = [data for _, data in audit_reading.entries(self._log, start, start + place.width)]
        if len(found) < place.width:
            return None
        hashes = b"".join(map(merkle.leaf_hash, found))
        if hashes != self._reader.read(0, place.index, place.width):
            raise RefusedError(
                f"entries {start} to {start + place.width - 1} are not what was logged",
                next_step="Run `tidewaiter audit verify`, which says what was changed.",
                code="audit_manipulated",
            )
        return entries.encode(found)

    def _remove_partial(self, place: tiles.Place) -> None:
        """Remove what is there of a tile from before it was full."""
        if place.width == tiles.WIDTH:
            path = self._folder / place.path
            shutil.rmtree(path.with_name(path.name + ".p"), ignore_errors=True)

    def put(self, name: str, data: bytes, *, synced: bool = False) -> None:
        """Write a file unless it is there and the same."""
        path = self._folder / name
        try:
            if path.read_bytes() == data:
                return
        except FileNotFoundError:
            pass
        except OSError as error:
            raise durable.storage_error(error, str(path)) from error
        durable.write_atomically(path, data, synced=synced)
        self.written += 1

    def require(self, start: int, end: int) -> None:
        """Raise `RefusedError` unless the folder has these entries, as the catalog does."""
        for index in range(start // tiles.WIDTH, end // tiles.WIDTH):
            place = tiles.Place(None, index)
            path = self._folder / place.path
            if not path.exists() or path.read_bytes() != self._entries(place):
                raise RefusedError(
                    f"{path} is missing or was changed, so its entries cannot be dropped from the catalog",
                    next_step="Remove the folder's checkpoint and export again.",
                    code="audit_other_export",
                )


def _inside(place: tiles.Place, size: int) -> bool:
    """Whether a tile is full, and all below it lies in the first `size` entries."""
    assert place.level is not None  # noqa: S101  # as above
    return place.width == tiles.WIDTH and (place.index + 1) << tiles.HEIGHT * (place.level + 1) <= size
