"""Step: a cleared image, with its signature, to a registry."""

import msgspec

from tidewaiter.core.errors import InputError, TidewaiterError
from tidewaiter.distribution import attached
from tidewaiter.distribution.copy import CopyResult, copy
from tidewaiter.distribution.registry import Repository
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.oci.reference import RegistryReference, StoreReference
from tidewaiter.pipelines.copying import Places
from tidewaiter.pipelines.images import store_reference
from tidewaiter.pipelines.workshop import Workshop


class Shipped(msgspec.Struct, frozen=True):
    """What was pushed: the image, and its signature when it has one."""

    reference: str
    digest: Digest
    image: CopyResult
    signature: CopyResult | None
    shared_layers: int | None
    """How many layers were shared that nobody had shared before; None when none are, by choice or by failure."""


def ship(places: Places, text: str, destination: str, *, referrers: bool = False) -> Shipped:
    """Push an image of the store that is cleared, and its cosign signature beside it.

    Raises:
        DeniedError: the image is not cleared.
        UndeterminedError: the verdict that cleared it is no longer valid.
        InputError: the source is not in the store, or the destination is no registry name.
        NetworkError: the registry could not be reached or refused.
    """
    given = references.parse(text)
    if not isinstance(given, StoreReference):
        raise InputError(
            f"{text} is not in the store",
            next_step="Push an image of the store: NAME:TAG. Between other places use `tidewaiter copy`.",
        )
    target = references.parse_registry(destination)
    workshop = places.workshop
    found = store_reference(workshop, given)
    # Nothing leaves the store before policy allowed it under this very name, or after that answer has run out.
    workshop.catalog.require_cleared(found.name, found.digest, found.tag or None)
    tag = target.tag or found.tag
    if not tag:
        raise InputError("no tag to push to", next_step="Write HOST/REPO:TAG.")
    origin = places.origin(StoreReference(name=found.name, tag=found.tag or None, digest=found.digest))
    place = places.registry(target)
    title = f"pushing to {place.repository}"
    sent = copy(
        origin.place, place, origin.root, tags=[tag], referrers=referrers, progress=workshop.progress, title=title
    )
    signature = origin.place.tagged(attached.tag(found.digest, "sig"))
    attached_result = None
    if signature is not None:
        tags = [attached.tag(found.digest, "sig")]
        attached_result = copy(
            origin.place, place, signature, tags=tags, progress=workshop.progress, title=f"{title}, its signature"
        )
    named = RegistryReference(host=target.host, repository=target.repository, tag=tag)
    return Shipped(
        reference=str(named),
        digest=found.digest,
        image=sent,
        signature=attached_result,
        shared_layers=_share(workshop, origin.root, place.repository),
    )


def _share(workshop: Workshop, image: Descriptor, pushed_to: Repository) -> int | None:
    """Share the image's layers when a repository for them is set; the image is pushed, whatever comes of this."""
    if not workshop.settings.shared_layers:
        return None
    from tidewaiter.pipelines import shared_layers, trusting  # few pushes need them

    document = documents.decode_manifest(workshop.store.read(image.digest), image.media_type)
    if not isinstance(document, Manifest):
        return None
    try:
        signer = trusting.open_key(workshop, trusting.KEY_NAME, trusting.require_password(workshop))
        layers = [layer.digest for layer in document.layers]
        return shared_layers.publish(workshop, layers, signer, pushed_to)
    except TidewaiterError as error:
        workshop.progress.note(f"the layers are not shared: {error.message}")
        return None
