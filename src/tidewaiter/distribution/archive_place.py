"""Archives as places: read in place, or written front to back into a file that appears when it is complete."""

from collections.abc import Iterator, Sequence

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.distribution.endpoints import Pieces, Source
from tidewaiter.distribution.layout_place import artifact_type, listed_referrers, name_of
from tidewaiter.distribution.transfer import Stop
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.archive import Archive
from tidewaiter.oci.archive_writer import ArchiveNames, ArchiveWriter
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import REF_NAME
from tidewaiter.oci.manifest import Descriptor, Index, Manifest

_CHUNK = 1 << 20


class ArchiveSource:
    """An archive to copy from."""

    near = True

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        """A small blob, verified."""
        return self._archive.read(digest, limit=limit)

    def has_blob(self, digest: Digest) -> bool:
        """Whether the blob is in the archive."""
        try:
            self._archive.open(digest).close()
        except NotFoundError:
            return False
        return True

    def pieces(self, blob: Descriptor, offset: int) -> Iterator[bytes]:
        """The blob's bytes from `offset` on, not verified."""
        with self._archive.open(blob.digest) as file:
            while offset and (data := file.read(min(_CHUNK, offset))):
                offset -= len(data)
            while data := file.read(_CHUNK):
                yield data

    def check(self, blob: Descriptor) -> None:
        """Nothing: the target's error names the digest, and the archive is the only place it comes from."""

    def tagged(self, tag: str) -> Descriptor | None:
        """What a name of `index.json` means; None when there is none."""
        found = next((one for one in self._archive.listed if name_of(one) == tag), None)
        return found and msgspec.structs.replace(found, annotations=None, platform=None)

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """Manifests listed in the archive whose subject is the one given."""
        return listed_referrers(self._archive.listed, self._archive.read, subject)


class ArchiveTarget:
    """An archive to copy to: both an OCI layout and what Docker loads.

    Args:
        writer: the file; the caller's context manager removes it unless it was finished.
        names: of the image.
        docker: raise `InputError` at the end when Docker could not load it.
    """

    parallel = False

    def __init__(self, writer: ArchiveWriter, names: ArchiveNames, *, docker: bool = False) -> None:
        self._writer = writer
        self._names = names
        self._docker = docker
        self._root: Descriptor | None = None
        self._documents: dict[Digest, Manifest | Index] = {}
        self._others: list[Descriptor] = []

    def named(self, tag: str) -> Digest | None:  # noqa: ARG002 - nothing is in a new file
        """None."""
        return None

    def has_manifest(self, digest: Digest) -> bool:
        """Whether it was written before."""
        return digest in self._documents

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether it was written before."""
        return blob.digest in self._writer.blobs

    def remember(self, digest: Digest) -> None:
        """Nothing: no manifest is in a new file before its blobs."""

    def take_over(self, blob: Descriptor, source: Source) -> bool:  # noqa: ARG002 - a file shares nothing
        """False."""
        return False

    def write(self, blob: Descriptor, pieces: Pieces, stop: Stop) -> None:  # noqa: ARG002 - `pieces` stops by itself
        """Append the blob, verified."""
        self._writer.add_blob(blob.digest, blob.size, pieces(0))

    def put_manifest(self, descriptor: Descriptor, data: bytes, tags: Sequence[str]) -> None:
        """Append a manifest. The first that has `tags` is what the archive is of."""
        if descriptor.digest not in self._writer.blobs:
            self._writer.add_blob(descriptor.digest, len(data), [data])
        document = documents.decode_manifest(data, descriptor.media_type)
        self._documents[descriptor.digest] = document
        if tags and self._root is None:
            self._root = descriptor
        elif tags:
            self._others.append(msgspec.structs.replace(descriptor, annotations={REF_NAME: tags[0]}))
        elif document.subject is not None:
            self._others.append(msgspec.structs.replace(descriptor, artifact_type=artifact_type(document)))

    def attach(self, tag: str, descriptor: Descriptor, data: bytes) -> None:
        """Append the manifest; in a new file nobody attached anything before."""
        self.put_manifest(descriptor, data, [tag])

    def finish(self) -> None:
        """Write the tables of contents; the file appears."""
        if self._root is None:
            raise LookupError("no manifest was put with a tag")
        image = self._loadable(self._root.digest)
        if image is None and self._docker:
            raise InputError(
                f"{self._root.digest} is nothing that Docker loads: not an image, or layers are missing",
                next_step="Copy it to oci-archive:FILE instead.",
            )
        self._writer.commit(self._root, self._names, self._others, image)

    def _loadable(self, digest: Digest) -> Manifest | None:
        """The image, or that of linux/amd64 in the index, when all of it is in the archive."""
        for _ in range(limits.INDEX_DEPTH):
            document = self._documents.get(digest)
            if isinstance(document, Index):
                fitting = [
                    one.digest
                    for one in document.manifests
                    if one.platform is None or (one.platform.os, one.platform.architecture) == ("linux", "amd64")
                ]
                if not fitting:
                    return None
                digest = fitting[0]
                continue
            if document is None or document.config.media_type not in documents.CONFIG_TYPES:
                return None
            whole = all(blob.digest in self._writer.blobs for blob in (document.config, *document.layers))
            return document if whole else None
        return None
