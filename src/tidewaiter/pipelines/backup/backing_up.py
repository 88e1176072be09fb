"""Back a home up into one file while others work in it.

1. Claim every blob of the store that is there: pruning leaves it alone until the backup is written.
2. While nobody changes tags or keys, read `index.json` and the small files, and copy the catalog as of one moment.
   The checkpoint of the audit log is read before: a log may be longer than its checkpoint says, never shorter.
3. Ask that copy what the store must hold for it; what came in since 1 was claimed while nobody changed tags.
4. Write it all as a stream; a blob is hashed as it goes by.
"""

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from tidewaiter import __version__
from tidewaiter.catalog import copies, keeping
from tidewaiter.catalog.glance import REVISION
from tidewaiter.core import clock, durable, limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError, StorageError
from tidewaiter.core.files import open_regular
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Home, Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import LAYOUT_FILE, Layout
from tidewaiter.pipelines.backup import file as backup_file
from tidewaiter.pipelines.backup.file import Header, Item, Writer
from tidewaiter.pipelines.reachable import absent, needed
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import key_folder

_CHUNK = 1 << 20
_PUBLIC = (".pub", ".json", ".toml", ".vkey")
"""Endings of what lies in a folder of keys and is no secret."""
_CERTIFICATES = (".crt", ".cert")


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was written."""

    file: str
    digest: Digest
    """Over all that is in it."""
    size: int
    """Bytes of the file."""
    created: str
    with_store: bool
    with_keys: bool
    files: int
    bytes: int
    """Of what is in it, unpacked."""
    blobs: int
    secrets_left_out: tuple[str, ...]
    """Private keys of the home that are not in it."""
    missing: tuple[str, ...]
    """Blobs that the catalog or its images need and the store does not have."""


class _Small(msgspec.Struct, frozen=True):
    path: str
    data: bytes
    secret: bool


class _Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written."""

    small: list[_Small]
    left_out: list[str]
    databases: dict[str, Path]
    """Copies, by the path in the backup."""
    blobs: list[Digest]
    missing: list[Digest]


def create(shop: Workshop, target: Path, *, with_store: bool = True, with_keys: bool = False) -> BackedUp:
    """Write a backup of the workshop's home to the file `target`.

    Raises:
        NotFoundError: the folder of `target` is not there.
        InputError: `target` is there already.
        IntegrityError: the catalog or a blob is damaged; no file is left.
        StorageError: the disk refused.
    """
    home = shop.settings.home
    if target.exists():
        raise InputError(f"{target} is there already", next_step="Name another file, or remove it first.")
    if not target.parent.is_dir():
        raise NotFoundError(f"there is no folder {target.parent}", next_step="Make it, or name another file.")
    with _work(home) as work:
        taken = _take(shop, work, with_store=with_store, with_keys=with_keys)
        done = _write(shop, target, taken, with_store=with_store, with_keys=with_keys)
    detail = {"file": target.name, "with_store": with_store, "with_keys": with_keys, "bytes": done.bytes}
    shop.catalog.log("backup.create", done.digest, detail)
    return done


def require_home(settings: Settings) -> None:
    """Make sure that there is something to back up: opening a workshop would make an empty home of a wrong name.

    Raises:
        NotFoundError: the home has no catalog.
        InputError: its catalog is on PostgreSQL, whose own tool takes a consistent copy.
    """
    home = settings.home
    if settings.database_url is not None:
        raise InputError(
            "the catalog is on PostgreSQL, and a backup of the home would be without it",
            next_step=f"Run `pg_dump --format=custom --file=catalog.dump {settings.database_url}`, with the password in"
            f" ~/.pgpass, and copy {home.path} after it; `pg_restore --clean --if-exists` puts the catalog back.",
            code="catalog_on_server",
        )
    if not home.catalog.exists():
        raise NotFoundError(f"{home.path} has no catalog", next_step="Point TIDEWAITER_HOME to the home.")


@contextlib.contextmanager
def _work(home: Home) -> Iterator[Path]:
    """A folder on the disk of the home; what a killed backup leaves there goes a day later."""
    path = home.cache / "work" / f"backup-{secrets.token_hex(8)}"
    try:
        path.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise durable.storage_error(error, str(path)) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _take(shop: Workshop, work: Path, *, with_store: bool, with_keys: bool) -> _Taken:
    home, store = shop.settings.home, shop.store
    if with_store:
        _claim(store)  # 1
    databases = {"catalog.db": work / "catalog.db"}
    with contextlib.ExitStack() as still:  # 2
        if home.keys.is_dir():
            still.enter_context(key_folder.changing(home.keys))
        still.enter_context(durable.exclusive(store.path / ".lock"))
        small, left_out = _small_files(shop, with_keys=with_keys)
        index = store.index() if with_store else []
        _copy(shop.progress, home.catalog, databases["catalog.db"])
        if with_store:
            _claim(store)  # what came in meanwhile
    if with_store:
        document = documents.Index(schema_version=2, media_type=documents.INDEX, manifests=index)
        small.append(_Small("store/oci-layout", LAYOUT_FILE, secret=False))
        small.append(_Small("store/index.json", documents.encode(document), secret=False))
    if home.advisories.exists():
        databases["advisories.db"] = work / "advisories.db"
        _copy(shop.progress, home.advisories, databases["advisories.db"])
    for copy in databases.values():
        copies.require_whole(copy)
    blobs: list[Digest] = []
    missing: list[Digest] = []
    if with_store:  # 3
        kept = keeping.kept_alone(databases["catalog.db"])
        kept = kept._replace(manifests=kept.manifests | {entry.digest for entry in index})
        blobs = sorted(digest for digest in needed(store, kept) if store.has(digest))
        missing = absent(store, kept)
    return _Taken(small=small, left_out=left_out, databases=databases, blobs=blobs, missing=missing)


def _claim(store: Layout) -> None:
    for digest in store.blobs():
        store.blob_path(digest)


def _copy(progress: Progress, source: Path, target: Path) -> None:
    done = 0
    with progress.task(f"Copying {source.name}", total=100) as task:

        def tick(part: float) -> None:
            nonlocal done
            task.advance(int(part * 100) - done)
            done = int(part * 100)

        copies.snapshot(source, target, tick=tick)


def _small_files(shop: Workshop, *, with_keys: bool) -> tuple[list[_Small], list[str]]:
    """Settings, keys, recipes, certificates and the log's checkpoint; and the secrets that were left out."""
    home = shop.settings.home
    found: list[_Small] = []
    left_out: list[str] = []
    total = 0
    for path in _candidates(home):
        name = path.relative_to(home.path).as_posix()
        if not backup_file.is_name(name) or not path.is_file():
            continue
        secret = _is_secret(name)
        if secret and name != "settings.toml" and not with_keys:
            left_out.append(name)
            continue
        data = _read(path, limits.BACKUP_SMALL_BYTES - total)
        total += len(data)
        found.append(_Small(name, data, secret))
    return found, left_out


def _candidates(home: Home) -> Iterator[Path]:
    yield home.settings_file
    # Before the catalog is copied, so that it is not of a longer log.
    yield home.path / "audit" / "checkpoint"
    for folder, pattern in ((home.keys, "*"), (home.recipes, "*"), (home.certificates, "*/*")):
        if folder.is_dir():
            yield from sorted(folder.glob(pattern))


def _is_secret(name: str) -> bool:
    """Whether a file is for its owner only: settings may hold the password of a database."""
    if name.startswith("keys/"):
        return not name.endswith(_PUBLIC)
    return name == "settings.toml" or (name.startswith("certs.d/") and not name.endswith(_CERTIFICATES))


def _read(path: Path, most: int) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}", next_step="Run the backup as the owner of the home."
        ) from error
    if len(data) > most:
        raise LimitError(
            f"settings, keys, recipes and certificates are over {limits.BACKUP_SMALL_BYTES} bytes",
            next_step=f"Move what is none of these, such as {path}, out of the home.",
        )
    return data


def _write(shop: Workshop, target: Path, taken: _Taken, *, with_store: bool, with_keys: bool) -> BackedUp:
    """Step 4."""
    store = shop.store
    items = [Item(one.path, len(one.data), digests.of(one.data), one.secret) for one in taken.small]
    items += [_item(name, path) for name, path in taken.databases.items()]
    sizes = [store.blob_path(digest).stat().st_size for digest in taken.blobs]
    header = Header(
        version=backup_file.VERSION,
        program=__version__,
        schema=copies.revision(taken.databases["catalog.db"]) or REVISION,
        created=clock.rfc3339(clock.now()),
        with_store=with_store,
        with_keys=with_keys,
        files=len(items) + len(sizes),
        bytes=sum(item.size for item in items) + sum(sizes),
        items=tuple(items),
    )
    data = {one.path: one.data for one in taken.small}
    with (
        Writer(target, header) as writer,
        shop.progress.task(f"Writing {target.name}", total=header.bytes, unit="bytes") as task,
    ):

        def pieces(file: BinaryIO) -> Iterator[bytes]:
            with file:
                while piece := file.read(_CHUNK):
                    task.advance(len(piece))
                    yield piece

        for item in items:
            if item.path in data:
                writer.add(item.path, item.size, item.digest, (data[item.path],))
            else:
                writer.add(item.path, item.size, item.digest, pieces(taken.databases[item.path].open("rb")))
        for digest, size in zip(taken.blobs, sizes, strict=True):
            writer.add(backup_file.blob_path(digest), size, digest, pieces(store.open(digest)))
        whole = writer.commit()
    return BackedUp(
        file=str(target),
        digest=whole,
        size=target.stat().st_size,
        created=header.created,
        with_store=with_store,
        with_keys=with_keys,
        files=header.files,
        bytes=header.bytes,
        blobs=len(taken.blobs),
        secrets_left_out=tuple(taken.left_out),
        missing=tuple(taken.missing),
    )


def _item(name: str, path: Path) -> Item:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return Item(name, path.stat().st_size, Digest(f"sha256:{found}"), secret=True)
