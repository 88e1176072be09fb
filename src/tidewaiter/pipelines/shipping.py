"""Step: a cleared image, with its signature, to a registry."""

import msgspec

from tidewaiter.core.errors import DeniedError, InputError
from tidewaiter.distribution import attached
from tidewaiter.distribution.push import PushResult, push
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import RegistryReference, StoreReference
from tidewaiter.pipelines.images import StoredReference, connect, store_reference, stored_descriptor
from tidewaiter.pipelines.trusting import stored_signature
from tidewaiter.pipelines.workshop import Workshop


class Shipped(msgspec.Struct, frozen=True):
    """What was pushed: the image, and its signature when it has one."""

    reference: str
    digest: Digest
    image: PushResult
    signature: PushResult | None


def _require_cleared(workshop: Workshop, found: StoredReference) -> None:
    """Nothing leaves the store before policy allowed it under this very name."""
    record = workshop.catalog.image(f"{found.name}@{found.digest}")
    cleared = [tag.name for tag in record.summary.tags if tag.visibility == "cleared"]
    if not cleared or (found.tag and found.tag not in cleared):
        raise DeniedError(
            f"{found.name}:{found.tag or found.digest} is not cleared: no verdict allows it",
            next_step="Run `tidewaiter ci PROJECT`, which builds, checks, signs and clears; then push.",
            code="not_cleared",
        )


def ship(workshop: Workshop, text: str, destination: str) -> Shipped:
    """Push an image of the store that is cleared, and its cosign signature beside it.

    Raises:
        DeniedError: the image is not cleared.
        InputError: the source is not in the store, or the destination is no registry name.
        NetworkError: the registry could not be reached or refused.
    """
    given = references.parse(text)
    if not isinstance(given, StoreReference):
        raise InputError(f"{text} is not in the store", next_step="Push an image of the store: NAME:TAG.")
    target = references.parse_registry(destination)
    found = store_reference(workshop, given)
    _require_cleared(workshop, found)
    tag = target.tag or found.tag
    if not tag:
        raise InputError("no tag to push to", next_step="Write HOST/REPO:TAG.")
    repository = connect(workshop, target)
    image = stored_descriptor(workshop.store, found.digest)
    sent = push(
        workshop.store,
        image,
        repository,
        tags=[tag],
        progress=workshop.progress,
    )
    signature = stored_signature(workshop, found.digest)
    attached_result = None
    if signature is not None:
        attached_result = push(
            workshop.store,
            signature,
            repository,
            tags=[attached.tag(found.digest, "sig")],
            progress=workshop.progress,
        )
    named = RegistryReference(host=target.host, repository=target.repository, tag=tag)
    return Shipped(reference=str(named), digest=found.digest, image=sent, signature=attached_result)
