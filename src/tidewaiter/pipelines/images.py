"""Opening the image that a user named, wherever it lies."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.core.errors import NotFoundError
from tidewaiter.oci import archive, image
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.oci.reference import ArchiveReference, LayoutReference, RegistryReference, StoreReference
from tidewaiter.pipelines.workshop import Workshop

if TYPE_CHECKING:
    from tidewaiter.distribution.registry import Repository


class NamedImage(msgspec.Struct, frozen=True):
    """An opened image and how it was named."""

    image: Image
    reference: str
    """Without the transport."""
    name: str
    """Repository name without host; empty for archives and layouts that carry none."""
    tag: str
    """Empty when the image was named by digest."""


class StoredReference(msgspec.Struct, frozen=True):
    """An image of the store, by digest, and how it was named; `tag` is empty when it was named by digest."""

    name: str
    tag: str
    digest: Digest


def tags_of(workshop: Workshop, name: str) -> list[str]:
    """Tags of the repository `name` in the catalog, the newest image first."""
    found = workshop.catalog.list_images(search=name).items
    return [tag.name for item in found if item.name == name for tag in item.tags]


def _next(name: str, tags: Sequence[str]) -> str:
    if tags:
        return f"Name one: {', '.join(f'{name}:{tag}' for tag in tags[:10])}."
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return references.path_step(name)
    return "Build it first: `tidewaiter build PROJECT`."


def store_reference(workshop: Workshop, given: StoreReference) -> StoredReference:
    """The digest behind a store reference: its own, its tag's, or that of the only tag when none was named.

    Raises:
        NotFoundError: there is no such tag, or none was named and there are several.
    """
    if given.digest is not None:
        return StoredReference(name=given.name, tag=given.tag or "", digest=given.digest)
    tag = given.tag
    if tag is None:
        tags = tags_of(workshop, given.name)
        if len(tags) != 1:
            raise NotFoundError(f"the store has {len(tags)} tags of {given.name}", next_step=_next(given.name, tags))
        tag = tags[0]
    digest = workshop.resolve_tag(given.name, tag)
    if digest is None:
        raise NotFoundError(
            f"the store has no image {given.name}:{tag}",
            next_step="`tidewaiter build PROJECT` makes one; a registry image is written HOST/REPO:TAG.",
        )
    return StoredReference(name=given.name, tag=tag, digest=digest)


def stored_descriptor(store: Layout, digest: Digest) -> Descriptor:
    """Descriptor of a manifest in the store."""
    data = store.read(digest)
    stated = documents.decode_manifest(data).media_type
    return Descriptor(media_type=stated or documents.MANIFEST, digest=digest, size=len(data))


def open_named(workshop: Workshop, text: str) -> NamedImage:
    """The image that `text` names, with its documents verified; layers are read when they are asked for.

    Raises:
        InputError: the text is no reference, or the image is malformed.
        NotFoundError: there is no such image.
        NetworkError: the registry could not be asked.
    """
    given = references.parse(text)
    if isinstance(given, StoreReference):
        return open_stored(workshop, store_reference(workshop, given))
    if isinstance(given, LayoutReference):
        loaded = image.from_layout(given.path, given.tag)
        return NamedImage(image=loaded, reference=str(given), name="", tag=given.tag or "")
    if isinstance(given, ArchiveReference):
        return NamedImage(image=archive.load_archive(given), reference=str(given), name="", tag="")
    repository = connect(workshop, given)
    loaded = image.load(repository, repository.resolve(given.target))
    return NamedImage(image=loaded, reference=str(given), name=given.repository, tag=given.tag or "")


def open_stored(workshop: Workshop, found: StoredReference) -> NamedImage:
    """The image of the store that `found` names by digest."""
    loaded = image.load(workshop.store, stored_descriptor(workshop.store, found.digest))
    shown = f"{found.name}:{found.tag}" if found.tag else f"{found.name}@{found.digest}"
    return NamedImage(image=loaded, reference=shown, name=found.name, tag=found.tag)


def connect(workshop: Workshop, given: RegistryReference) -> "Repository":
    """The repository that `given` names, with the passwords of Docker's config file."""
    from tidewaiter.pipelines import connecting

    return connecting.connect(workshop.client, workshop.settings, given)
