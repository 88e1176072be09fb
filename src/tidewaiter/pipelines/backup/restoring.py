"""Make a home of a backup: the whole of it, or nothing.

1. Read the backup into a folder beside the home, file by file, each with its digest; then the proof that these are all.
2. Make sure that the databases are whole and open with this release; say in the audit log where the home is from.
3. When a home is replaced: take over from it what the backup was made without, the images or the private keys.
4. Put everything on the disk, then give the folder the home's name in one step that nothing can interrupt half-way:
   the old home is there until then, and under another name afterwards. Nobody may work in it meanwhile.

Killed before the step this leaves a folder that the next restore removes; afterwards, the new home, and the old one
under a name that the next restore mends.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tidewaiter.catalog import copies
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.glance import REVISION
from tidewaiter.core import clock, durable, leases
from tidewaiter.core.errors import DeadlineError, InputError, RefusedError, StorageError, TidewaiterError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Home, Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines.backup import file as backup_file
from tidewaiter.pipelines.backup.file import Reader

_UNFINISHED = ".unfinished"
"""Marks what was made here and is no home yet. It goes last: what has another's name and no mark is the old home."""
_AT_CWD = -100
_RENAME_EXCHANGE = 2
_SPARE_BYTES = 64 << 20


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A home that was made of a backup."""

    home: str
    created: str
    """When the backup was made."""
    program: str
    files: int
    bytes: int
    with_store: bool
    with_keys: bool
    taken_over: tuple[str, ...]
    """What came from the home that was replaced, since the backup was made without it."""
    replaced: str
    """Where the old home is now; empty when there was none."""
    log_entries: int
    """Of the audit log as it was backed up."""
    log_entries_before: int
    """Of that of the home that was replaced: what it has more is only there."""
    audit: str
    """Why the log could not go on yet; empty when it did."""


def restore(settings: Settings, file: Path, into: Path, *, force: bool, progress: Progress) -> Restored:
    """Make the home `into` of the backup `file`; a home that is there is replaced only with `force`.

    Raises:
        NotFoundError: there is no such file.
        InputError: the file is no backup, of a newer release, cut or changed; or the catalog is not in the home.
        RefusedError: the home is not empty, or somebody works in it.
        StorageError: the disk refused, or a home cannot be replaced there.
    """
    into = into.resolve()
    require_own_catalog(settings)
    _require_place(into, force=force)
    with Reader(file, schema=REVISION) as reader, _alone(into):
        _require_space(into.parent, reader)
        with _staging(into) as staging:
            _unpack(reader, file, staging, progress)  # 1
            _require_whole(reader, staging)  # 2
            taken_over = _take_over(into, staging, reader)  # 3
            entries, why = _log(settings, staging, into, reader)
            before = _log_size(into)
            replaced = _install(staging, into)  # 4
    header = reader.header
    return Restored(
        home=str(into),
        created=header.created,
        program=header.program,
        files=header.files,
        bytes=header.bytes,
        with_store=header.with_store,
        with_keys=header.with_keys,
        taken_over=taken_over,
        replaced="" if replaced is None else str(replaced),
        log_entries=entries,
        log_entries_before=before,
        audit=why,
    )


# Where it goes


def require_own_catalog(settings: Settings) -> None:
    """Raise `InputError` when the catalog is on PostgreSQL: home and catalog would be of different days."""
    if settings.database_url is not None:
        raise InputError(
            "the catalog is on PostgreSQL, and a backup of a home would not bring it back",
            next_step="Restore with pg_restore; or unset database_url (TIDEWAITER_DATABASE_URL) to use the catalog "
            "that is in the backup.",
            code="catalog_on_server",
        )


def _require_place(into: Path, *, force: bool) -> None:
    if os.path.ismount(into):
        raise StorageError(
            f"{into} is a mount point, which cannot be exchanged in one step",
            next_step="Restore into a folder in it with --into, and point TIDEWAITER_HOME there.",
        )
    if into.exists() and not into.is_dir():
        raise InputError(f"{into} is no folder", next_step="Name a folder with --into.")
    if _is_home(into) and not force:
        raise RefusedError(
            f"{into} is not empty",
            next_step="Restore into another folder with --into, or replace this one with --force.",
            code="home_not_empty",
        )


def _is_home(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


@contextlib.contextmanager
def _alone(into: Path) -> Iterator[None]:
    """One restore of a home at a time; raises `StorageError` when the folder around it cannot be written."""
    lock = into.with_name(f".{into.name}.restore.lock")
    with durable.exclusive(lock, seconds=0):
        for left in into.parent.glob(f".{into.name}.restoring-*"):
            if (left / _UNFINISHED).exists() or not any(left.iterdir()):
                shutil.rmtree(left, ignore_errors=True)
            else:
                _put_aside(left, into)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _require_space(folder: Path, reader: Reader) -> None:
    found = os.statvfs(folder)
    free, wanted = found.f_bavail * found.f_frsize, reader.header.bytes + _SPARE_BYTES
    if free < wanted:
        raise StorageError(
            f"the backup needs {wanted} bytes, and {free} are free at {folder}",
            next_step="Free space, or restore to another disk with --into.",
        )


@contextlib.contextmanager
def _staging(into: Path) -> Iterator[Path]:
    path = into.with_name(f".{into.name}.restoring-{secrets.token_hex(6)}")
    try:
        path.mkdir(mode=0o700)
        (path / _UNFINISHED).touch()
    except OSError as error:
        raise durable.storage_error(error, str(path)) from error
    try:
        yield path
    except BaseException:
        if (path / _UNFINISHED).exists():
            shutil.rmtree(path, ignore_errors=True)
        raise


# What goes there


def _unpack(reader: Reader, backup: Path, staging: Path, progress: Progress) -> None:
    """Step 1."""
    private = {item.path for item in reader.header.items if item.secret}
    with progress.task(f"Restoring {backup.name}", total=reader.header.bytes, unit="bytes") as task:
        for file, digest in reader.files():
            target = staging / file.path
            found = hashlib.new(digests.algorithm(digest))
            try:
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                mode = 0o600 if file.path in private else 0o644
                handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                with os.fdopen(handle, "wb") as written:
                    for piece in file.pieces():
                        found.update(piece)
                        written.write(piece)
                        task.advance(len(piece))
            except FileExistsError as error:
                raise backup_file.damaged(backup, f"{file.path} is in it twice, which") from error
            except OSError as error:
                raise durable.storage_error(error, str(target)) from error
            if found.hexdigest() != digests.hexadecimal(digest):
                raise backup_file.damaged(backup, file.path)


def _require_whole(reader: Reader, staging: Path) -> None:
    """Step 2, as far as the databases are concerned."""
    for name in ("catalog.db", "advisories.db"):
        if (staging / name).exists():
            copies.require_whole(staging / name)
    if copies.revision(staging / "catalog.db") != reader.header.schema:
        raise backup_file.damaged(staging / "catalog.db", "the revision of the catalog")


def _take_over(into: Path, staging: Path, reader: Reader) -> tuple[str, ...]:
    """Step 3; what was taken over, as paths in the home."""
    found = []
    try:
        if not reader.header.with_store and (into / "store").is_dir():
            _link_store(into / "store", staging / "store")
            found.append("store")
        if not reader.header.with_keys and (into / "keys").is_dir():
            found += _private_keys(into / "keys", staging / "keys")
    except OSError as error:
        raise durable.storage_error(error, str(staging)) from error
    return tuple(found)


def _link_store(old: Path, new: Path) -> None:
    """The same blobs under another name: they never change, so that both homes may have them."""
    for folder in sorted((old / "blobs").iterdir()) if (old / "blobs").is_dir() else ():
        (new / "blobs" / folder.name).mkdir(parents=True)
        for blob in folder.iterdir():
            os.link(blob, new / "blobs" / folder.name / blob.name, follow_symlinks=False)
    for name in ("oci-layout", "index.json"):
        if (old / name).exists():
            shutil.copyfile(old / name, new / name)


def _private_keys(old: Path, new: Path) -> list[str]:
    """Copy the private halves of keys whose public halves are the same in both."""
    found = []
    for public in sorted(new.iterdir()) if new.is_dir() else ():
        private = old / f"{public.stem}.key"
        same = old / public.name
        if public.suffix not in {".pub", ".vkey"} or not (private.is_file() and same.is_file()):
            continue
        if same.read_bytes() == public.read_bytes():
            durable.write_atomically(new / private.name, private.read_bytes(), mode=0o600)
            found.append(f"keys/{private.name}")
    return found


def _log(settings: Settings, staging: Path, into: Path, reader: Reader) -> tuple[int, str]:
    """Let the new home's log say where it is from; how many entries it had before, and why it cannot go on yet."""
    here = msgspec.structs.replace(settings, home=Home(staging))
    entries = _log_size(staging)
    detail = {"backup": reader.header.created, "program": reader.header.program, "entries": entries}
    with Catalog.open(here) as catalog:
        catalog.log("backup.restore", "home", detail)
    why = audit_sequencer.settle(here).replace(str(staging), str(into))
    Layout(here.home.store).create()
    return entries, why


def _log_size(home: Path) -> int:
    """Entries of the audit log in a home; 0 when that cannot be told."""
    with contextlib.suppress(TidewaiterError), audit_log.reading(home / "catalog.db") as connection:
        state = audit_log.state(connection)
        return 0 if state is None else state.size
    return 0


# Step 4


def _install(staging: Path, into: Path) -> Path | None:
    """Give the folder the home's name; where the old home is now, None when there was none."""
    with contextlib.ExitStack() as still:
        replaces = _is_home(into)
        if replaces:
            still.enter_context(_nobody_works(into))
        shutil.rmtree(staging / "leases", ignore_errors=True)
        try:
            os.sync()
            if replaces:
                (into / _UNFINISHED).unlink(missing_ok=True)  # of a restore that was killed at its very end
                _exchange(staging, into)
            else:
                staging.rename(into)  # an empty folder in its place goes
        except OSError as error:
            raise _not_there(error, into) from error
        # From here on `staging` is the old home, which nothing may remove.
        try:
            durable.sync_directory(into.parent)
            (into / _UNFINISHED).unlink()
            durable.sync_directory(into)
            return _put_aside(staging, into) if replaces else None
        except OSError as error:
            raise durable.storage_error(error, str(into.parent)) from error


def _put_aside(old: Path, into: Path) -> Path:
    """Give the home that was replaced a name that can be seen; raises `OSError`."""
    moment = clock.rfc3339(clock.now()).replace(":", "")
    replaced = into.with_name(f"{into.name}.replaced-{moment}-{secrets.token_hex(2)}")
    old.rename(replaced)
    durable.sync_directory(into.parent)
    return replaced


def _not_there(error: OSError, into: Path) -> StorageError:
    if error.errno in {errno.EINVAL, errno.ENOSYS, errno.EXDEV}:
        return StorageError(
            f"the file system of {into} cannot exchange two folders in one step",
            next_step="Move the old home away, then restore again.",
        )
    return durable.storage_error(error, str(into))


@contextlib.contextmanager
def _nobody_works(home: Path) -> Iterator[None]:
    with contextlib.ExitStack() as still:
        try:
            still.enter_context(leases.unserved(home))
            uses = still.enter_context(leases.alone(home))
        except DeadlineError as error:
            raise _in_use(home, error.message) from error
        if uses.running:
            raise _in_use(home, f"{uses.running} commands work in it")
        yield


def _in_use(home: Path, why: str) -> RefusedError:
    return RefusedError(
        f"{home} is in use: {why}",
        next_step="Stop `tidewaiter serve` and every command that works there, then restore again.",
        code="home_in_use",
    )


def _exchange(one: Path, other: Path) -> None:
    """Let two folders exchange their names at once (renameat2 of Linux); raises `OSError`."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:  # an old C library
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(other))
    if function(_AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))
