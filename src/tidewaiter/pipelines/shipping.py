"""Step: a cleared image, with its signatures and attestations, to a registry."""

import msgspec

from tidewaiter.core import clock
from tidewaiter.core.errors import DeniedError, InputError, TidewaiterError
from tidewaiter.distribution.copy import CopyResult, copy
from tidewaiter.distribution.registry import Repository
from tidewaiter.oci import manifest as documents
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.oci.reference import RegistryReference, StoreReference
from tidewaiter.pipelines import trusting
from tidewaiter.pipelines.attachments import attaching, sending
from tidewaiter.pipelines.attachments.sending import Sent
from tidewaiter.pipelines.copying import Places
from tidewaiter.pipelines.images import store_reference
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy import environments
from tidewaiter.signing import keyring, predicates


class Shipped(msgspec.Struct, frozen=True):
    """What was pushed: the image, with its signatures and attestations."""

    reference: str
    digest: Digest
    image: CopyResult
    signature: Digest | None
    """Of the manifest that holds its signatures; None when it is not signed."""
    along: Sent
    """Signatures and attestations that the registry did not have."""
    shared_layers: int | None
    """How many layers were shared that nobody had shared before; None when none are, by choice or by failure."""


def ship(places: Places, text: str, destination: str, *, referrers: bool = False) -> Shipped:
    """Push an image of the store that is cleared, with its signatures and attestations in both formats of cosign.

    What others attached to it in the registry stays there. An image that is no longer cleared is not sent; where it
    lies already, the withdrawal of its verdict arrives all the same. With `referrers` everything else that refers to
    the image goes along, too.

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
    tag = target.tag or found.tag
    if not tag:
        raise InputError("no tag to push to", next_step="Write HOST/REPO:TAG.")
    # Nothing leaves the store before policy allowed it under this very name, or after that answer has run out.
    try:
        said, remote = environments.said_by(workshop.settings), f"{target.host}/{target.repository}"
        least = environments.least(said, found.name, remote)
        workshop.catalog.require_cleared(found.name, found.digest, found.tag or None, least=least)
    except DeniedError:
        _withdraw(places, found.digest, target)
        raise
    origin = places.origin(StoreReference(name=found.name, tag=found.tag or None, digest=found.digest))
    place = places.registry(target, opens=True)
    title = f"pushing to {place.repository}"
    along = sending.send_ahead(workshop, place.repository, found.digest)
    sent = copy(
        origin.place, place, origin.root, tags=[tag], referrers=referrers, progress=workshop.progress, title=title
    )
    named = RegistryReference(host=target.host, repository=target.repository, tag=tag)
    # Whatever comes of what is attached to it: the image has left.
    workshop.catalog.log("push", found.digest, {"to": str(named), "name": found.name, "tag": found.tag})
    if along is None:
        along = sending.send(workshop, place.repository, found.digest)
    if along.lost:
        workshop.progress.note(f"{', '.join(along.lost)}: attached to the image once, and lost; the rest was sent")
    return Shipped(
        reference=str(named),
        digest=found.digest,
        image=sent,
        signature=trusting.signature_of(attaching.stored(workshop, found.digest)),
        along=along,
        shared_layers=_share(workshop, origin.root, place.repository),
    )


def _withdraw(places: Places, image: Digest, target: RegistryReference) -> None:
    """Let a registry that has the image know what became of its verdict; the push is denied, whatever comes of this."""
    workshop = places.workshop
    if not any(row.predicate_type == predicates.VERDICT for row in workshop.catalog.attestations(image)):
        return
    try:
        repository = places.registry(target).repository
        if repository.has_manifest(image) and sending.send(workshop, repository, image).anything:
            workshop.progress.note(f"{repository} has the image, and knows now what was attached to it since")
    except TidewaiterError as error:
        workshop.progress.note(f"{target} may still hold a verdict that was withdrawn: {error.message}")


def _share(workshop: Workshop, image: Descriptor, pushed_to: Repository) -> int | None:
    """Share the image's layers when a repository for them is set; the image is pushed, whatever comes of this."""
    if not workshop.settings.shared_layers:
        return None
    from tidewaiter.pipelines import shared_layers  # few pushes need it

    document = documents.decode_manifest(workshop.store.read(image.digest), image.media_type)
    if not isinstance(document, Manifest):
        return None
    try:
        signer = trusting.open_key(workshop, trusting.KEY_NAME, lambda: trusting.require_password(workshop))
        keyring.require_may_sign(signer.trusted, shared_layers.PREDICATE, at=clock.now())
        layers = [layer.digest for layer in document.layers]
        return shared_layers.publish(workshop, layers, signer, pushed_to)
    except TidewaiterError as error:
        workshop.progress.note(f"the layers are not shared: {error.message}")
        return None
