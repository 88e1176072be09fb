"""Writing one image into one tar file that every engine loads.

The file is an OCI layout (`oci-layout`, `index.json`, `blobs/`) that also has Docker's `manifest.json`, as
`docker save` writes it: containerd, podman and skopeo read the former, Docker the latter. The same image gives the
same bytes. The file appears under its name when it is complete.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tidewaiter.core import durable
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import LAYOUT_FILE, REF_NAME
from tidewaiter.oci.manifest import Descriptor, Index, Manifest
from tidewaiter.oci.unfinished import Unfinished, other_bytes

CONTAINERD_NAME = "io.containerd.image.name"
_ARCHIVE_END = 2 * tarfile.BLOCKSIZE


class ArchiveNames(msgspec.Struct, frozen=True):
    """Under which names an image is found in the archive; empty when it has none."""

    tag: str = ""
    """`org.opencontainers.image.ref.name`, what skopeo calls it."""
    full: str = ""
    """With host and tag, what containerd calls it."""
    familiar: str = ""
    """What Docker calls it: without `docker.io`."""


def blob_name(digest: Digest) -> str:
    """Where a blob lies in the archive."""
    return f"blobs/{digests.algorithm(digest)}/{digests.hexadecimal(digest)}"


class ArchiveWriter(Unfinished):
    """An archive on its way. Use as a context manager; without `commit` nothing remains.

    Every method raises `StorageError` when the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folders: set[str] = set()
        self.blobs: set[Digest] = set()
        super().__init__(path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp"), path)
        self._add("oci-layout", LAYOUT_FILE)

    def _member(self, name: str, size: int, *, folder: bool = False) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        if folder:
            info.type, info.mode = tarfile.DIRTYPE, 0o755
        self._file.write(info.tobuf(tarfile.GNU_FORMAT))

    def _pad(self, size: int) -> None:
        self._file.write(bytes(-size % tarfile.BLOCKSIZE))

    def _add(self, name: str, data: bytes) -> None:
        try:
            self._member(name, len(data))
            self._file.write(data)
            self._pad(len(data))
        except OSError as error:
            raise durable.storage_error(error, str(self.path)) from error

    def add_blob(self, digest: Digest, size: int, pieces: Iterable[bytes]) -> None:
        """Append a blob; once it failed, so has the archive.

        Raises:
            IntegrityError: the bytes do not have the digest or size.
        """
        found = hashlib.new(digests.algorithm(digest))
        written = 0
        try:
            for folder in ("blobs", f"blobs/{digests.algorithm(digest)}"):
                if folder not in self._folders:
                    self._folders.add(folder)
                    self._member(folder + "/", 0, folder=True)
            self._member(blob_name(digest), size)
            for data in pieces:
                written += len(data)
                if written > size:
                    break
                found.update(data)
                self._file.write(data)
            self._pad(size)
        except OSError as error:
            raise durable.storage_error(error, str(self.path)) from error
        if written != size or found.hexdigest() != digests.hexadecimal(digest):
            raise other_bytes(f"{found.name}:{found.hexdigest()}", written, digest, size)
        self.blobs.add(digest)

    def commit(
        self, root: Descriptor, names: ArchiveNames, others: Iterable[Descriptor], image: Manifest | None
    ) -> None:
        """Write the tables of contents and let the file appear.

        Args:
            root: what the archive is of.
            names: of `root`.
            others: listed beside it: what refers to it.
            image: the one that Docker loads; None when there is none that it could.
        """
        named = {REF_NAME: names.tag, CONTAINERD_NAME: names.full}
        annotations = {key: value for key, value in named.items() if value} or None
        first = msgspec.structs.replace(root, annotations=annotations)
        index = Index(schema_version=2, media_type=documents.INDEX, manifests=[first, *others])
        self._add("index.json", documents.encode(index))
        if image is not None:
            saved = {
                "Config": blob_name(image.config.digest),
                "RepoTags": [names.familiar] if names.familiar else None,
                "Layers": [blob_name(layer.digest) for layer in image.layers],
            }
            self._add("manifest.json", msgspec.json.encode([saved]))
        try:
            self._file.write(bytes(_ARCHIVE_END))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self.path)
            durable.sync_directory(self.path.parent)
        except OSError as error:
            raise durable.storage_error(error, str(self.path)) from error
