"""Which base an image stands on, and what was said of that base: approved, retired, replaced.

What an image says of its base is a claim: it counts when the first layers are really those of that base.
"""

import msgspec

from tidewaiter.catalog import glance
from tidewaiter.catalog.answers import BaseState
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.pipelines.workshop import Workshop

NAME = "org.opencontainers.image.base.name"
DIGEST = "org.opencontainers.image.base.digest"


class Resting(msgspec.Struct, frozen=True, kw_only=True):
    """The base of an image."""

    name: str
    digest: Digest
    """Manifest of the base alone."""
    layers: int
    """How many of the image's layers, the first ones, are its own; 0 when the image only claims to stand on it."""
    state: BaseState
    """What was said of it last; `known` when nothing was, or when the image only claims it."""
    owner: str = ""
    """Who answers for it."""
    expires_at: str = ""
    """RFC 3339; empty without an end."""
    reason: str = ""
    """Why it was retired."""
    newer: tuple[Digest, ...] = ()
    """Bases of the same name and platform in the store that were approved later and still are, the latest first."""

    @property
    def warning(self) -> str:
        """What whoever builds on it should know now; empty when there is nothing to say."""
        shown = f"the base {self.name}@{self.digest}"
        if self.state == "retired":
            return f"{shown} is retired" + (f": {self.reason}" if self.reason else "")
        if self.state == "expired":
            return f"the approval of {shown} ended {self.expires_at}"
        if self.newer:
            return f"{shown} is outdated: {self.newer[0]} was approved later"
        return ""


def proven(workshop: Workshop, image: Image) -> tuple[str, Digest, int] | None:
    """Name and digest of the base whose layers are the first of the image, and their number; None for no known base.

    Of several the one with the most layers: nothing that an image says hides a larger base that it stands on.
    """
    diff_ids = [diff_id for _, diff_id in image.layers]
    try:
        known = glance.base_under(workshop.settings.catalog, diff_ids)
    except glance.UnansweredError:
        known = workshop.catalog.base_under(diff_ids)
    claimed = _claimed(image)
    if claimed is not None:
        below = _diff_ids(workshop, claimed[1])
        if below and diff_ids[: len(below)] == below and (known is None or len(below) >= known[2]):
            return *claimed, len(below)
    return known


def under(workshop: Workshop, image: Image) -> Resting | None:
    """The base of an image and what was said of it; None when nothing is known or claimed.

    Raises:
        StorageError: the catalog refuses.
        IntegrityError: a document of a base in the store is damaged.
    """
    found = proven(workshop, image)
    if found is None:
        claimed = _claimed(image)
        return None if claimed is None else Resting(name=claimed[0], digest=claimed[1], layers=0, state="known")
    name, digest, layers = found
    return said(workshop, name, digest, layers=layers, platform=(image.config.os, image.config.architecture))


def said(workshop: Workshop, name: str, digest: Digest, *, layers: int, platform: tuple[str, str]) -> Resting:
    """What the catalog says of the base with that digest. Raises `StorageError`."""
    try:
        word = glance.base_word(workshop.settings.catalog, digest, clock.now())
    except glance.UnansweredError:
        word = workshop.catalog.base_word(digest)
    if word is None:
        return Resting(name=name, digest=digest, layers=layers, state="known")
    return Resting(
        name=name,
        digest=digest,
        layers=layers,
        state=word.state,
        owner=word.owner,
        expires_at=word.expires_at,
        reason=word.reason,
        newer=tuple(one for one in word.newer if _platform(workshop, one) == platform),
    )


def _claimed(image: Image) -> tuple[str, Digest] | None:
    text = image.annotations.get(DIGEST, "")
    try:
        digest = digests.parse(text)
    except InputError:
        return None
    return image.annotations.get(NAME) or text, digest


def _stored(workshop: Workshop, digest: Digest) -> Image | None:
    from tidewaiter.pipelines.images import stored_descriptor  # brings more along than a build needs

    try:
        return images.load(workshop.store, stored_descriptor(workshop.store, digest))
    except NotFoundError:
        return None


def _diff_ids(workshop: Workshop, digest: Digest) -> list[Digest]:
    found = _stored(workshop, digest)
    return [] if found is None else [diff_id for _, diff_id in found.layers]


def _platform(workshop: Workshop, digest: Digest) -> tuple[str, str] | None:
    found = _stored(workshop, digest)
    return None if found is None else (found.config.os, found.config.architecture)
