"""An OCI layout, the store's or any folder's, as a place to copy from and to.

A blob is written beside the layout's blobs, in a file named by its digest and locked while it is written. A killed
copy leaves that file; the next one hashes what is there and asks for the rest only.
"""

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Self

import msgspec

from tidewaiter.core import durable, limits
from tidewaiter.core.errors import DeadlineError, IntegrityError, NotFoundError, StorageError
from tidewaiter.distribution.endpoints import Pieces, Source
from tidewaiter.distribution.transfer import Stop
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import REF_NAME, Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.oci.unfinished import other_bytes

_CHUNK = 1 << 20
_STAMPS = ".verified"
_LARGE = 32 << 20
_QUEUED_PIECES = 8
_SYNC_EVERY = 32 << 20


class _Noted(msgspec.Struct, frozen=True):
    boot: str
    """Of the system that wrote unsynced blobs: a power cut may have lost them since. Empty when all were synced."""
    blobs: dict[str, tuple[int, int, int]]


class _Stamps:
    """Blobs that were hashed before, by size, time and inode of their files at that moment."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.path / _STAMPS
        self._synced = layout.synced
        self._lock = threading.Lock()
        self._changed = False
        self._boot = "" if layout.synced else _boot()
        self._known: dict[str, tuple[int, int, int]] = {}
        try:
            noted = msgspec.json.decode(self._path.read_bytes(), type=_Noted)
        except (OSError, ValueError, RecursionError):
            return
        if not noted.boot or noted.boot == _boot():
            self._known = dict(noted.blobs)
            self._boot = noted.boot or self._boot

    def hold(self, digest: Digest, status: os.stat_result) -> bool:
        """Whether the file is as it was when it was hashed."""
        return self._known.get(digest) == (status.st_size, status.st_mtime_ns, status.st_ino)

    def set(self, digest: Digest, status: os.stat_result) -> None:
        """Note that the blob has just been hashed and is right."""
        with self._lock:
            self._known[digest] = (status.st_size, status.st_mtime_ns, status.st_ino)
            self._changed = True

    def save(self) -> None:
        """Write down what is new; what another process noted meanwhile is hashed once more, no harm is done."""
        if not self._changed:
            return
        try:
            noted = msgspec.json.encode(_Noted(self._boot, self._known))
            durable.write_atomically(self._path, noted, synced=self._synced)
        except StorageError:
            return  # the copy is done; the next one hashes again
        self._changed = False


def _boot() -> str:
    """What is the same until the machine starts again; something new where that cannot be read."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.urandom(16).hex()


class LayoutPlace:
    """A layout folder.

    Args:
        layout: the folder.
        names: tags that lie elsewhere than in `index.json`, as those beside images of the store do.
        beside: manifests that refer to others, and lie elsewhere as well.
        listed: whether `index.json` is read and written.
    """

    near = True
    parallel = True

    def __init__(
        self,
        layout: Layout,
        *,
        names: Mapping[str, Descriptor] | None = None,
        beside: Sequence[Descriptor] = (),
        listed: bool = True,
    ) -> None:
        self.layout = layout
        self._names = names or {}
        self._beside = tuple(beside)
        self._listed = listed
        self._unsynced: set[Path] = set()
        self._folders: set[Path] = set()

    @cached_property
    def _stamps(self) -> _Stamps:
        return _Stamps(self.layout)

    # Source

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        """A small blob, verified."""
        return self.layout.read(digest, limit=limit)

    def pieces(self, blob: Descriptor, offset: int) -> Iterator[bytes]:
        """The blob's bytes from `offset` on; raises `IntegrityError` when the file has another size."""
        with self.layout.open(blob.digest) as file:
            if os.fstat(file.fileno()).st_size != blob.size:
                raise self._damaged(blob)
            file.seek(offset)
            left = blob.size - offset
            while left and (data := file.read(min(_CHUNK, left))):
                left -= len(data)
                yield data

    def check(self, blob: Descriptor) -> None:
        """Raise `IntegrityError` when the blob is damaged here."""
        if not self.layout.verify(blob):
            raise self._damaged(blob)

    def _damaged(self, blob: Descriptor) -> IntegrityError:
        return IntegrityError(
            f"blob {blob.digest} in {self.layout.path} is damaged",
            next_step=f"Remove {self.layout.blob_path(blob.digest)} and build or pull the image again.",
        )

    def tagged(self, tag: str) -> Descriptor | None:
        """What a name of `index.json` means; None when there is none."""
        if tag in self._names:
            return self._names[tag]
        if not self._listed:
            return None
        try:
            found = self.layout.resolve(tag)
        except NotFoundError:
            return None
        return msgspec.structs.replace(found, annotations=None, platform=None)

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """Manifests of `index.json`, or of the fallback index that it names, whose subject is the one given."""
        listed = self.layout.index() if self._listed else []
        return listed_referrers([*self._beside, *listed], self.layout.read, subject)

    # Target

    def named(self, tag: str) -> Digest | None:  # noqa: ARG002 - a name in a folder says nothing about its blobs
        """None: what a folder holds is known only blob by blob."""
        return None

    def has_manifest(self, digest: Digest) -> bool:  # noqa: ARG002 - as above
        """False: as `named`."""
        return False

    def has_blob(self, digest_or_blob: Digest | Descriptor) -> bool:
        """Whether the blob is there; with a descriptor, whether its bytes are right too."""
        if not isinstance(digest_or_blob, Descriptor):
            return self.layout.has(digest_or_blob)
        blob = digest_or_blob
        try:
            status = self.layout.blob_path(blob.digest).stat()
        except FileNotFoundError:
            return False
        if status.st_size != blob.size:
            return False
        if self._stamps.hold(blob.digest, status):
            return True
        if not self.layout.verify(blob):
            return False
        self._stamps.set(blob.digest, status)
        return True

    def remember(self, digest: Digest) -> None:
        """Nothing: what lies in a folder is looked at."""

    def take_over(self, blob: Descriptor, source: Source) -> bool:  # noqa: ARG002 - blobs of two folders never share a file
        """False: two layouts share no file, so that changing one cannot damage the other."""
        return False

    def write(self, blob: Descriptor, pieces: Pieces, stop: Stop) -> None:
        """Fetch the blob, or the rest of it, verify it and make it visible.

        Raises:
            IntegrityError: the bytes do not have the digest or size.
            StorageError: the disk refused; what was written of this blob is removed.
        """
        target = self.layout.blob_path(blob.digest)
        partial = self.layout.ingest / f"{digests.algorithm(blob.digest)}-{target.name}.partial"
        self._make(partial.parent)
        with _held(partial, stop) as file:
            if self.has_blob(blob):  # another process has fetched it while we waited
                partial.unlink(missing_ok=True)
                return
            try:
                self._fill(file, blob, pieces)
                self._publish(file, partial, target)
            except OSError as error:
                partial.unlink(missing_ok=True)
                raise durable.storage_error(error, str(self.layout.path)) from error
            except IntegrityError:
                partial.unlink(missing_ok=True)
                raise
            except BaseException:
                if not os.fstat(file.fileno()).st_size:  # nothing arrived that would be worth keeping
                    partial.unlink(missing_ok=True)
                raise
            self._stamps.set(blob.digest, os.fstat(file.fileno()))

    def _make(self, folder: Path) -> None:
        if folder in self._folders:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise durable.storage_error(error, str(self.layout.path)) from error
        self._folders.add(folder)

    def _publish(self, file: FileIO, partial: Path, target: Path) -> None:
        os.fchmod(file.fileno(), 0o644)
        self._make(target.parent)
        if self.layout.synced:
            os.fsync(file.fileno())
            self._unsynced.add(target.parent)
        partial.replace(target)

    def _sync(self) -> None:
        """Make the blobs' names survive a power cut; once for all of them, before a manifest names them."""
        while self._unsynced:
            durable.sync_directory(self._unsynced.pop())

    def _fill(self, file: FileIO, blob: Descriptor, pieces: Pieces) -> None:
        found = hashlib.new(digests.algorithm(blob.digest))
        size = 0
        there = os.fstat(file.fileno()).st_size
        while size < min(blob.size, there) and (data := file.read(min(_CHUNK, blob.size - size))):
            found.update(data)
            size += len(data)
        kept = size
        if there:
            file.seek(kept)
            file.truncate(kept)
        if size < blob.size or not _is(blob.digest, found.hexdigest()):
            synced = self.layout.synced
            with _Behind(file, found, synced=synced) if blob.size - size > _LARGE else _Direct(file, found) as sink:
                for data in pieces(size) if size < blob.size else ():
                    sink.write(data)
                    size += len(data)
                    if size > blob.size:
                        break
        if size == blob.size and _is(blob.digest, found.hexdigest()):
            return
        if kept:
            # What an earlier copy left may be the damaged part, so nothing of it is used.
            file.seek(0)
            file.truncate(0)
            self._fill(file, blob, pieces)
            return
        raise other_bytes(f"{digests.algorithm(blob.digest)}:{found.hexdigest()}", size, blob.digest, blob.size)

    def write_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest whose blobs are here; nothing names it."""
        self._sync()
        if not self.has_blob(descriptor):
            with self.layout.writer() as writer:
                writer.write(data)
                writer.commit(descriptor.digest, size=len(data))

    def put_manifest(self, descriptor: Descriptor, data: bytes, tags: Sequence[str]) -> None:
        """Store a manifest; list it in `index.json` under each of `tags`, or unnamed when it has a subject."""
        self.write_manifest(descriptor, data)
        for tag in tags:
            self.layout.tag(tag, descriptor)
        if not tags and self._listed:
            document = documents.decode_manifest(data, descriptor.media_type)
            if document.subject is not None:
                self.layout.list_unnamed(msgspec.structs.replace(descriptor, artifact_type=artifact_type(document)))

    def attach(self, tag: str, descriptor: Descriptor, data: bytes) -> None:
        """Let a tag of cosign's name a manifest, together with what others attached; errors as in `attached.unite`."""
        from tidewaiter.distribution import attached
        from tidewaiter.distribution.registry import RawManifest

        # Two that attach at once would each keep what both found, and one would lose the other's.
        with durable.exclusive(self.layout.ingest / "attached.lock"):
            named = self.tagged(tag)
            there = RawManifest(self.read(named.digest), named.media_type, named.digest) if named else None
            united = attached.unite(there, RawManifest(data, descriptor.media_type, descriptor.digest), tag)
            if united is None:
                return
            if united.config is not None:
                self.layout.put(united.config)
            self.put_manifest(united.descriptor, united.data, [tag])

    def finish(self) -> None:
        """Keep in mind which blobs were hashed."""
        self._sync()
        self._stamps.save()


def fallback_tag(subject: Digest) -> str:
    """The tag under which registries without the referrers API keep the list (distribution-spec)."""
    return f"{digests.algorithm(subject)}-{digests.hexadecimal(subject)}"


def listed_referrers(
    listed: Sequence[Descriptor], read: Callable[[Digest], bytes], subject: Digest
) -> tuple[Descriptor, ...]:
    """Those of the entries of an `index.json`, or of the fallback index that it names, that refer to `subject`."""
    entries = list(listed)
    fallback = next((one for one in entries if name_of(one) == fallback_tag(subject)), None)
    if fallback is not None:
        document = documents.decode_manifest(read(fallback.digest), fallback.media_type)
        if isinstance(document, documents.Index):
            entries += document.manifests
    found: dict[Digest, Descriptor] = {}
    for entry in entries:
        if entry is fallback or entry.media_type not in documents.MANIFEST_TYPES | documents.INDEX_TYPES:
            continue
        try:
            document = documents.decode_manifest(read(entry.digest), entry.media_type)
        except NotFoundError:
            continue  # listed, but not here: nothing to copy
        if document.subject is not None and document.subject.digest == subject:
            found[entry.digest] = entry
    return tuple(found.values())


def artifact_type(document: documents.Manifest | documents.Index) -> str | None:
    if document.artifact_type or isinstance(document, documents.Index):
        return document.artifact_type
    return document.config.media_type


def name_of(entry: Descriptor) -> str | None:
    """The tag of an entry of `index.json`."""
    return (entry.annotations or {}).get(REF_NAME)


def _is(digest: Digest, hexadecimal: str) -> bool:
    return hexadecimal == digests.hexadecimal(digest)


@contextmanager
def _held(partial: Path, stop: Stop) -> Iterator[FileIO]:
    """The file `partial`, opened for reading and writing, locked against other threads and processes."""
    deadline = time.monotonic() + limits.LOCK_SECONDS
    while True:
        try:
            handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise durable.storage_error(error, str(partial)) from error
        file = FileIO(handle, "r+")  # unbuffered, so that a kill leaves all that was written
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    stop.check()
                    if time.monotonic() >= deadline:
                        raise DeadlineError(
                            f"another process has been fetching the same blob for {limits.LOCK_SECONDS:.0f} s",
                            next_step="Wait for it or stop it, then run the same command again.",
                        ) from error
                    time.sleep(0.05)
            try:
                same = os.fstat(file.fileno()).st_ino == partial.stat().st_ino
            except FileNotFoundError:
                same = False
            if same:
                yield file
                return
            # Its last holder has published or removed it; there is another file by that name, or none.
        finally:
            file.close()


class _Direct:
    """Writes and hashes in the thread that reads: for blobs that are not worth another one."""

    def __init__(self, file: FileIO, found: "hashlib._Hash") -> None:
        self._file = file
        self._found = found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, data: bytes) -> None:
        """Take the next bytes; raises `OSError`."""
        _write(self._file, data)
        self._found.update(data)


class _Behind:
    """Writes and hashes large blobs in a thread of its own, while the one that reads waits for the network.

    With `synced` it syncs as it goes, or the whole disk work of a large blob would come at its end.
    """

    def __init__(self, file: FileIO, found: "hashlib._Hash", *, synced: bool) -> None:
        self._file = file
        self._found = found
        self._synced = synced
        import queue  # for large blobs only

        self._queue: queue.Queue[bytes | None] = queue.Queue(maxsize=_QUEUED_PIECES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="blob writer")

    def _work(self) -> None:
        unsynced = 0
        while (data := self._queue.get()) is not None:
            if self._error is not None:
                continue  # the reader must not wait for room
            try:
                _write(self._file, data)
                self._found.update(data)
                unsynced += len(data)
                if self._synced and unsynced >= _SYNC_EVERY:
                    os.fdatasync(self._file.fileno())
                    unsynced = 0
            except BaseException as error:  # noqa: BLE001  # handed to the reader, which must not wait for a dead thread
                self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def write(self, data: bytes) -> None:
        """Hand over the next bytes; raises what went wrong with earlier ones, an `OSError` as a rule."""
        if self._error is not None:
            raise self._error
        self._queue.put(data)


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a write near the end of a disk may be short
        view = view[file.write(view) or 0 :]
