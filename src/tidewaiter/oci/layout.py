"""An OCI layout folder as a store (image-spec `image-layout.md`).

A blob appears under its digest complete or not at all: it is written beside, hashed, synced, then renamed. A layout
that is not `synced` leaves it to the operating system when bytes reach the disk, as other tools do.
`index.json` is replaced atomically under a lock, so two processes never lose each other's tags.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from tidewaiter.core import durable, leases, limits
from tidewaiter.core.errors import InputError, IntegrityError, NotFoundError
from tidewaiter.core.files import open_regular
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Index
from tidewaiter.oci.unfinished import Unfinished, other_bytes

REF_NAME = "org.opencontainers.image.ref.name"
LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK = 1 << 20
ATTACHED = re.compile(r"sha(?:256|512)-[a-f0-9]{64,128}(?:\.[a-z]+)?")
"""Tags of signatures, and of the list of referrers that stands in for the referrers API."""


def only_image(entries: Sequence[Descriptor]) -> Descriptor | None:
    """The one image of an `index.json`; None when it lists several, or none.

    Signatures and other things that refer to an image are listed beside it; they do not count.
    """
    images = [one for one in entries if not ATTACHED.fullmatch((one.annotations or {}).get(REF_NAME, ""))]
    named = [one for one in images if (one.annotations or {}).get(REF_NAME)]
    return next((alone[0] for alone in (entries, images, named) if len(alone) == 1), None)


def _file_digest(file: BinaryIO, algorithm: str) -> "hashlib._Hash":
    found = hashlib.new(algorithm)
    while data := file.read(_CHUNK):
        found.update(data)
    return found


class BlobWriter(Unfinished):
    """A blob on its way into a layout. Use as a context manager; without `commit` nothing remains."""

    def __init__(self, layout: "Layout") -> None:
        self._layout = layout
        self._hash = hashlib.sha256()
        self.size = 0
        try:
            layout.ingest.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise durable.storage_error(error, str(layout.path)) from error
        super().__init__(layout.ingest / f"{os.getpid()}-{os.urandom(8).hex()}", layout.path)

    def write(self, data: bytes, /) -> None:
        """Append bytes; raises `StorageError` when the disk refuses."""
        try:
            self._file.write(data)
        except OSError as error:
            raise durable.storage_error(error, str(self._layout.path)) from error
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> Digest:
        """SHA-256 of what was written so far."""
        return Digest("sha256:" + self._hash.hexdigest())

    def commit(self, expected: Digest | None = None, *, size: int | None = None) -> Digest:
        """Make the blob visible under its digest and return it.

        Raises:
            IntegrityError: it is not the digest or size expected; nothing becomes visible.
            StorageError: the disk refused.
        """
        actual = self.digest
        if expected is not None and digests.algorithm(expected) != "sha256":
            self._file.flush()
            with self._temporary.open("rb") as written:
                other = _file_digest(written, digests.algorithm(expected))
            actual = Digest(f"{digests.algorithm(expected)}:{other.hexdigest()}")
        if (expected is not None and actual != expected) or (size is not None and size != self.size):
            raise other_bytes(actual, self.size, expected or actual, self.size if size is None else size)
        target = self._layout.blob_path(actual)
        try:
            self._file.flush()
            os.fchmod(self._file.fileno(), 0o644)
            if self._layout.synced:
                os.fsync(self._file.fileno())
            self._file.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.replace(target)
            if self._layout.synced:
                durable.sync_directory(target.parent)
        except OSError as error:
            raise durable.storage_error(error, str(target)) from error
        return actual


class Layout:
    """An OCI layout in the folder `path`, made on first write."""

    def __init__(self, path: Path, *, synced: bool = True) -> None:
        self.path = path
        self.synced = synced
        """Whether what was written survives a power cut as soon as it is named."""

    @property
    def ingest(self) -> Path:
        """Where blobs are written before they have a name; not part of the layout."""
        return self.path / ".ingest"

    def create(self) -> None:
        """Make an empty layout unless there is one, and remove what a killed process left a day ago."""
        with durable.exclusive(self.path / ".lock"):
            if not (self.path / "oci-layout").exists():
                (self.path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
                durable.write_atomically(self.path / "oci-layout", LAYOUT_FILE, synced=self.synced)
            if not (self.path / "index.json").exists():
                self._write_index([])
        durable.remove_abandoned(self.ingest)

    def blob_path(self, digest: Digest) -> Path:
        """Where the blob lies, or would lie; in a home it is claimed, since whoever asks is about to use it."""
        path = self.path.joinpath("blobs", digests.algorithm(digest), digests.hexadecimal(digest))
        leases.claim(path)
        return path

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the blob is there, with that size when one is given."""
        try:
            status = self.blob_path(digest).stat()
        except FileNotFoundError:
            return False
        return size is None or status.st_size == size

    def open(self, digest: Digest) -> BinaryIO:
        """The blob's bytes; raises `NotFoundError`. Not verified: use `read` or a hashing reader."""
        try:
            return open_regular(self.blob_path(digest))
        except FileNotFoundError as error:
            raise NotFoundError(
                f"{self.path} has no blob {digest}",
                next_step="Pull or build the image again.",
                code="blob_unknown",
            ) from error

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        """A small blob, verified against its digest.

        Raises:
            NotFoundError: it is not there.
            IntegrityError: it is over `limit` or its bytes have another digest.
        """
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise IntegrityError(f"blob {digest} is over {limit} bytes", next_step="Do not use this image.")
        actual = f"{digests.algorithm(digest)}:{hashlib.new(digests.algorithm(digest), data).hexdigest()}"
        if actual != digest:
            raise IntegrityError(
                f"blob {digest} in {self.path} is damaged: its bytes have digest {actual}",
                next_step=f"Remove {self.blob_path(digest)} and build or pull the image again.",
            )
        return data

    def writer(self) -> BlobWriter:
        """A writer for a blob whose digest is not known yet."""
        return BlobWriter(self)

    def put(self, data: bytes) -> Digest:
        """Store small bytes and return their digest; does nothing when they are there intact."""
        digest = digests.of(data)
        if self.has(digest, len(data)) and self.blob_path(digest).read_bytes() == data:
            return digest
        with self.writer() as writer:
            writer.write(data)
            return writer.commit(digest)

    def verify(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there and its bytes have the digest and size of `descriptor` (reads it whole)."""
        if not self.has(descriptor.digest, descriptor.size):
            return False
        with self.open(descriptor.digest) as file:
            found = _file_digest(file, digests.algorithm(descriptor.digest))
        return f"{digests.algorithm(descriptor.digest)}:{found.hexdigest()}" == descriptor.digest

    # index.json

    def index(self) -> list[Descriptor]:
        """Descriptors of `index.json`; raises `NotFoundError` when this is no layout."""
        try:
            with open_regular(self.path / "index.json") as file:
                data = file.read(limits.MANIFEST_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(
                f"{self.path} is not an OCI layout: it has no index.json",
                next_step="Name a folder that skopeo, buildah or tidewaiter wrote.",
            ) from error
        document = documents.decode_manifest(data, documents.INDEX)
        if not isinstance(document, Index):
            raise InputError(f"{self.path}/index.json is not an index", next_step="Write the layout again.")
        return document.manifests

    def _write_index(self, manifests: list[Descriptor]) -> None:
        document = Index(schema_version=2, media_type=documents.INDEX, manifests=manifests)
        durable.write_atomically(self.path / "index.json", documents.encode(document), synced=self.synced)

    def resolve(self, name: str | None) -> Descriptor:
        """The descriptor tagged `name` in `index.json`; with None, the only one.

        Raises:
            NotFoundError: no such tag, or several when none was named.
        """
        entries = self.index()
        if name is None:
            alone = only_image(entries)
            if alone is not None:
                return alone
            raise NotFoundError(
                f"{self.path} holds {len(entries)} images",
                next_step=f"Name one: {', '.join(self.tags()) or 'none'}.",
            )
        for entry in entries:
            if (entry.annotations or {}).get(REF_NAME) == name:
                return entry
        raise NotFoundError(
            f"{self.path} has no image {name!r}",
            next_step=f"It holds: {', '.join(self.tags()) or 'nothing'}.",
        )

    def tags(self) -> list[str]:
        """Names in `index.json`, sorted."""
        names = ((entry.annotations or {}).get(REF_NAME) for entry in self.index())
        return sorted(name for name in names if name)

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let `name` mean `descriptor`, atomically and without losing what others write."""
        annotations = {**(descriptor.annotations or {}), REF_NAME: name}
        entry = msgspec.structs.replace(descriptor, annotations=annotations)
        with durable.exclusive(self.path / ".lock"):
            others = [old for old in self.index() if (old.annotations or {}).get(REF_NAME) != name]
            self._write_index(sorted([*others, entry], key=lambda one: (one.annotations or {}).get(REF_NAME, "")))

    def list_unnamed(self, descriptor: Descriptor) -> None:
        """List a manifest without a name, so that other tools find what refers to an image; once, whoever asks."""
        with durable.exclusive(self.path / ".lock"):
            entries = self.index()
            if all(old.digest != descriptor.digest for old in entries):
                self._write_index([descriptor, *entries])

    def untag(self, name: str) -> None:
        """Remove `name` from `index.json`; nothing happens when it is not there."""
        with durable.exclusive(self.path / ".lock"):
            self._write_index([old for old in self.index() if (old.annotations or {}).get(REF_NAME) != name])

    def blobs(self) -> Iterator[Digest]:
        """Digests of all blobs present."""
        for folder in sorted((self.path / "blobs").iterdir()):
            for path in sorted(folder.iterdir()):
                yield digests.parse(f"{folder.name}:{path.name}")
