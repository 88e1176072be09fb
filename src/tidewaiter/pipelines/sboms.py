"""Steps: SBOM documents that others wrote, as files or attached to an image, to what they say.

BuildKit keeps attestations as manifests in the image's index, each with annotations that name the image that it is
about (BuildKit, `docs/attestations/attestation-storage.md`).
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.core.files import open_regular
from tidewaiter.oci import archive, image
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index
from tidewaiter.oci.reference import ArchiveReference, LayoutReference, StoreReference
from tidewaiter.pipelines import images
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.sbom.reading import reader
from tidewaiter.sbom.reading.document import SbomDocument

_REFERENCE_TYPE = "vnd.docker.reference.type"
_REFERENCE_DIGEST = "vnd.docker.reference.digest"
_ATTESTATION = "attestation-manifest"
_PREDICATE_TYPE = "in-toto.io/predicate-type"
_STATEMENT = "application/vnd.in-toto+json"
_WHOLE_IMAGE = "sbom"
"""What BuildKit calls the scan of the image itself; those of build stages are `sbom-STAGE`."""


class AttachedSbom(msgspec.Struct, frozen=True):
    """What the SBOM that came with an image says of it."""

    reference: str
    digest: Digest
    """Of the image."""
    document: SbomDocument


def from_file(path: Path) -> SbomDocument:
    """What the SBOM document in the file `path` says.

    Raises:
        NotFoundError: there is no such file.
        InputError: it cannot be read, or is no SBOM that is known here.
        LimitError: it is over a bound of `core.limits`.
    """
    try:
        with open_regular(path) as file:
            data = file.read(limits.SBOM_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}", next_step="Name an SBOM document: sbom:FILE.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", next_step="Name a file that you may read."
        ) from error
    return reader.read(data, str(path))


def attached(workshop: Workshop, text: str, *, architecture: str = "amd64") -> AttachedSbom:
    """The SBOM that BuildKit attached to the image that `text` names; the image's layers are not read.

    It is what the builder claims: no signature is checked, and nothing is compared with the image.

    Raises:
        NotFoundError: there is no such image, or no SBOM comes with it.
        InputError: the image's documents or the SBOM are malformed.
        NetworkError: the registry could not be asked.
    """
    source, root, shown = _root(workshop, text)
    found = image.load(source, root, architecture=architecture)
    read = [reader.read(data, f"the SBOM of {shown}") for data in _statements(source, root, found.digest)]
    if not read:
        raise NotFoundError(
            f"no SBOM is attached to {shown}",
            next_step="Scan the image itself, or let BuildKit attach one: `--attest type=sbom`.",
        )
    for document in read:
        if document.digest and document.digest != found.digest:
            raise InputError(
                f"the SBOM attached to {shown} is about another image: {document.digest}",
                next_step="Scan the image itself.",
            )
    return AttachedSbom(reference=shown, digest=found.digest, document=_one(read))


def _root(workshop: Workshop, text: str) -> tuple[BlobSource, Descriptor, str]:
    """Where the image lies, the descriptor that its name stands for (an index, it may be), and how it is shown."""
    given = references.parse(text)
    if isinstance(given, StoreReference):
        found = images.store_reference(workshop, given)
        return workshop.store, images.stored_descriptor(workshop.store, found.digest), str(given)
    if isinstance(given, LayoutReference):
        layout = Layout(given.path)
        return layout, layout.resolve(given.tag), str(given)
    if isinstance(given, ArchiveReference):
        opened = archive.open_archive(given)
        return opened, opened.descriptor, str(given)
    repository = images.connect(workshop, given)
    return repository, repository.resolve(given.target), str(given)


def _statements(source: BlobSource, root: Descriptor, digest: Digest) -> Iterator[bytes]:
    """In-toto statements with an SBOM about the image `digest`, in the order of the index."""
    index = documents.decode_manifest(source.read(root.digest, limit=limits.MANIFEST_BYTES), root.media_type)
    for entry in index.manifests if isinstance(index, Index) else ():
        said = entry.annotations or {}
        if said.get(_REFERENCE_TYPE) != _ATTESTATION or said.get(_REFERENCE_DIGEST) != digest:
            continue
        manifest = documents.decode_manifest(source.read(entry.digest, limit=limits.MANIFEST_BYTES), entry.media_type)
        for layer in () if isinstance(manifest, Index) else manifest.layers:
            kind = (layer.annotations or {}).get(_PREDICATE_TYPE, "")
            if layer.media_type == _STATEMENT and reader.is_sbom(kind):
                yield source.read(layer.digest, limit=limits.SBOM_BYTES)


def _one(read: list[SbomDocument]) -> SbomDocument:
    """The document about the image itself; all together when none says that it is the one."""
    whole = [document for document in read if PurePosixPath(document.name).name == _WHOLE_IMAGE]
    if len(read) == 1 or len(whole) == 1:
        return (whole or read)[0]
    components = dict.fromkeys(component for document in read for component in document.components)
    notes = dict.fromkeys(note for document in read for note in document.notes)
    said = f"{len(read)} SBOM documents are attached, and all were read: packages of build stages may be among them"
    return msgspec.structs.replace(read[0], components=tuple(components), notes=(*notes, said))
