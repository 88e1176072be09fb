"""Step: a cleared image, with its signature, to a registry."""

import msgspec

from tidewaiter.core.errors import InputError
from tidewaiter.distribution import attached
from tidewaiter.distribution.copy import CopyResult, copy
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import RegistryReference, StoreReference
from tidewaiter.pipelines.copying import Places
from tidewaiter.pipelines.images import store_reference


class Shipped(msgspec.Struct, frozen=True):
    """What was pushed: the image, and its signature when it has one."""

    reference: str
    digest: Digest
    image: CopyResult
    signature: CopyResult | None


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
    return Shipped(reference=str(named), digest=found.digest, image=sent, signature=attached_result)
