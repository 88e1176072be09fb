"""Step: an image that a project stands on, or takes files from, into the store; only what is missing is fetched.

What it fetches with is imported when there is an image to bring: most builds stand on a base made here.
"""

from typing import TYPE_CHECKING

from tidewaiter.assembly.foreign import ImageName
from tidewaiter.core.errors import NotFoundError
from tidewaiter.oci import image as images
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Platform
from tidewaiter.oci.reference import LayoutReference, RegistryReference, StoreReference
from tidewaiter.pipelines.workshop import Workshop

if TYPE_CHECKING:
    from tidewaiter.distribution.endpoints import Source
    from tidewaiter.distribution.layout_place import LayoutPlace


class Fetcher:
    """Brings images into the store of a workshop."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def _source(self, name: ImageName, digest: Digest) -> "tuple[Source, Descriptor]":
        from tidewaiter.distribution.layout_place import LayoutPlace
        from tidewaiter.pipelines.images import connect, stored_descriptor

        if isinstance(name.place, RegistryReference):
            from tidewaiter.distribution.registry_place import RegistryPlace

            repository = connect(self._workshop, name.place)
            return RegistryPlace(repository), repository.resolve(digest)
        layout = Layout(name.place.path) if isinstance(name.place, LayoutReference) else self._workshop.store
        return LayoutPlace(layout), stored_descriptor(layout, digest)

    def digest(self, name: ImageName) -> Digest:
        """What a name without digest means now.

        Raises:
            NotFoundError: nothing, or a layout has several images.
            NetworkError: the registry could not be asked.
        """
        from tidewaiter.pipelines.images import connect, store_reference

        if isinstance(name.place, RegistryReference):
            return connect(self._workshop, name.place).resolve(name.place.target).digest
        if isinstance(name.place, StoreReference):
            return store_reference(self._workshop, name.place).digest
        return Layout(name.place.path).resolve(None).digest

    def bring(self, name: ImageName, platform: Platform) -> Image:
        """The image that `name` means, of an index that of `platform`, with all of its blobs in the store.

        What is there, intact, is neither asked for nor fetched again.

        Raises:
            NotFoundError: there is no such image or platform.
            NetworkError: the registry could not be asked.
            IntegrityError: bytes do not have their digest.
            StorageError: the disk refused.
        """
        from tidewaiter.distribution.copy import choose, copy
        from tidewaiter.distribution.layout_place import LayoutPlace

        digest = name.digest or self.digest(name)
        store = LayoutPlace(self._workshop.store, listed=False)
        try:
            return self._stored(store, digest, platform)
        except NotFoundError:
            if isinstance(name.place, StoreReference):
                raise
        source, root = self._source(name, digest)
        chosen = choose(source, root, platform)
        copy(source, store, chosen, progress=self._workshop.progress, title=f"Fetching {name.shown}")
        if chosen.digest != root.digest:
            self._workshop.store.put(source.read(root.digest))
        return self._stored(store, digest, platform)

    def _stored(self, store: "LayoutPlace", digest: Digest, platform: Platform) -> Image:
        """The image in the store; raises `NotFoundError` when a blob is missing or damaged."""
        from tidewaiter.distribution.copy import choose
        from tidewaiter.pipelines.images import stored_descriptor

        root = choose(store, stored_descriptor(store.layout, digest), platform)
        found = images.load(store.layout, root)
        for blob in (found.manifest.config, *found.manifest.layers):
            if not store.has_blob(blob):
                raise NotFoundError(
                    f"the store has no intact blob {blob.digest} of {digest}",
                    next_step="Name an image whose layers can be fetched; those of some Windows images cannot.",
                )
        store.finish()
        return found
