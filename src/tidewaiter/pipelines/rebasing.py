"""Another base below an image of the store, recorded as an image of its own."""

import datetime as dt
import time
from functools import partial

import msgspec

from tidewaiter.assembly import execution, provenance, rebase, recipe
from tidewaiter.assembly.bench import listings as listings_in
from tidewaiter.assembly.ground import Ground, listings_of
from tidewaiter.assembly.rebase import Side
from tidewaiter.assembly.unpacked_image import UnpackedImage
from tidewaiter.catalog.records import BuildRecord, BuiltLayer, LayerKind, Material
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.manifest import Descriptor, RunConfig
from tidewaiter.oci.reference import StoreReference
from tidewaiter.pipelines import images, resting
from tidewaiter.pipelines.bases import REPOSITORY, publish
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.workshop import Workshop

_MARK = "-on-"
_TAG_CHARACTERS = 128


class Rebased(msgspec.Struct, frozen=True, kw_only=True):
    """An image that stands on another base now. It is `built`, not cleared."""

    reference: str
    digest: Digest
    source: Digest
    """The image as it was."""
    old_base: str
    """Name of the base that it stood on, or its digest."""
    new_base: str
    new_base_digest: Digest
    replaced_layers: int
    kept_layers: int
    seconds: float


def rebased(workshop: Workshop, text: str, new_text: str, *, tag: str | None = None) -> Rebased:
    """Put another base below the image of the store that `text` names, and record it as an image of its own.

    1. Find out how many of its first layers are those of a known base.
    2. Find the new base: a recipe that was built, or an image of the store.
    3. Check that what lies above fits onto it.
    4. Write the image, record it, and tag it `TAG-on-BASE`, or `tag`.

    Raises:
        NotFoundError: there is no such image or base, or the image stands on no known base.
        RefusedError: the new base does not fit; the message says why.
        InputError: the image is not in the store, or stands on this base already.
    """
    started, clock_start = clock.now(), time.monotonic()
    named = _stored(workshop, text)
    image = named.image
    old_name, old_digest, count = _below(workshop, named)
    new = _base_named(workshop, new_text, image.config.architecture)
    if new.image.digest == old_digest:
        raise InputError(f"{named.reference} stands on {new.reference} already", next_step="Name another base.")

    listings = listings_in(workshop.settings)
    listed = listings_of(image, listings, workshop.progress)
    lower = rebase.lower(image, count)
    old_side = Side(name=old_name, image=lower, files=_files(workshop, lower))
    new_side = Side(name=new.reference, image=new.image, files=_files(workshop, new.image))
    rebase.require_fit(image, listed[count:], old_side, new_side, partial(_files, workshop, image))

    name = new.name.removeprefix(REPOSITORY) or new.reference
    # Nothing is known to come from a base that is not here any more: then all that the image says is its own.
    old_config = RunConfig()
    if old_digest is not None and workshop.store.has(old_digest):
        old_config = images.open_stored(
            workshop, images.StoredReference(name=old_name, tag="", digest=old_digest)
        ).image.config.config
    written = rebase.write(image, count, new.image, old_config=old_config, name=name, store=workshop.store)
    record = _rebased_record(workshop, named, new, count, written, name=name, started=started)
    chosen = tag or _tag(named.tag, new.image.digest)
    reference = publish(workshop, record, chosen)
    return Rebased(
        reference=reference,
        digest=written.digest,
        source=image.digest,
        old_base=old_name,
        new_base=name,
        new_base_digest=new.image.digest,
        replaced_layers=count,
        kept_layers=len(image.layers) - count,
        seconds=time.monotonic() - clock_start,
    )


def _stored(workshop: Workshop, text: str) -> NamedImage:
    given = references.parse(text)
    if not isinstance(given, StoreReference):
        raise InputError(f"{text} is not in the store", next_step=f"Run `tidewaiter pull {text}` first.")
    return images.open_stored(workshop, images.store_reference(workshop, given))


def _below(workshop: Workshop, named: NamedImage) -> tuple[str, Digest | None, int]:
    """Step 1: name and digest of the base below the image, and how many layers it has."""
    known = resting.proven(workshop, named.image)
    if known is None:
        raise NotFoundError(
            f"the first layers of {named.reference} are those of no known base",
            next_step="Build its base (`tidewaiter base build NAME`) or pull it, so that its layers are known.",
            code="unknown_base",
        )
    return known


def _base_named(workshop: Workshop, text: str, architecture: str) -> NamedImage:
    """Step 2: the newest build of the recipe `text` for the architecture, else the image of the store."""
    if text not in recipe.names(workshop.settings.home.recipes):
        return _stored(workshop, text)
    repository = f"{REPOSITORY}{text}"
    for tag in images.tags_of(workshop, repository):
        found = images.open_stored(workshop, images.store_reference(workshop, StoreReference(name=repository, tag=tag)))
        if found.image.config.architecture == architecture:
            return found
    raise NotFoundError(
        f"the store has no base {text} for linux/{architecture}",
        next_step=f"Run `tidewaiter base build {text}"
        + ("`." if architecture == "amd64" else f" --platform linux/{architecture}`."),
    )


def _files(workshop: Workshop, image: Image) -> UnpackedImage:
    listings = listings_in(workshop.settings)
    ground = Ground(listing.entries for listing in listings_of(image, listings, workshop.progress))
    root = execution.unpacked(image, workshop.settings.home.cache, workshop.progress)
    return UnpackedImage(ground, root, image.config.config.env or [])


def _tag(before: str, digest: Digest) -> str:
    """The image's tag, and on which base it stands now; what an earlier rebase added is replaced.

    `-dirty` stays last, where policy looks for it.
    """
    dirty = "-dirty" if before.endswith("-dirty") else ""
    added = f"{_MARK}{digests.hexadecimal(digest)[:12]}{dirty}"
    head = before.removesuffix(dirty).partition(_MARK)[0][: _TAG_CHARACTERS - len(added)]
    return head + added if head else added.removeprefix("-")


def _rebased_record(
    workshop: Workshop,
    named: NamedImage,
    new: NamedImage,
    count: int,
    written: Descriptor,
    *,
    name: str,
    started: dt.datetime,
) -> BuildRecord:
    known = workshop.catalog.image(f"{named.name}@{named.image.digest}")
    before = known.builds[0] if known.builds else None
    kinds: dict[str, tuple[LayerKind, str, tuple[str, ...]]] = {
        layer.diff_id: (layer.kind, layer.title, layer.contents) for layer in known.layers
    }
    below = {layer.diff_id: layer for layer in workshop.catalog.image(f"{new.name}@{new.image.digest}").layers}

    def recorded(position: int, layer: Descriptor, diff_id: Digest) -> BuiltLayer:
        kind, title, contents = kinds.get(diff_id, ("", "", ()))
        if position < len(new.image.layers):
            kind, title, contents = "base", below[diff_id].title, below[diff_id].contents
        return BuiltLayer(
            digest=layer.digest, diff_id=diff_id, size=layer.size, kind=kind, title=title, contents=contents
        )

    annotations = named.image.annotations
    layers = [*new.image.layers, *named.image.layers[count:]]
    finished = clock.now()
    return BuildRecord(
        repository=named.name,
        digest=written.digest,
        media_type=written.media_type,
        layers=tuple(recorded(at, layer, diff_id) for at, (layer, diff_id) in enumerate(layers)),
        environment=before.environment if before else "research",
        purpose=before.purpose if before else "",
        source=before.source if before else annotations.get("org.opencontainers.image.source", ""),
        commit=before.commit if before else annotations.get("org.opencontainers.image.revision", ""),
        dirty=bool(before and before.dirty),
        branch=before.branch if before else "",
        builder=provenance.LOCAL_BUILDER,
        started=started,
        finished=finished,
        seconds=(finished - started).total_seconds(),
        created=known.created,
        base_name=name,
        base_digest=new.image.digest,
        base_layers=len(new.image.layers),
        python_lock=digests.parse(before.python_lock) if before and before.python_lock else None,
        materials=(
            Material(f"image {named.reference}", named.image.digest),
            Material(f"base {new.reference}", new.image.digest),
        ),
        reused_layers=len(layers),
        built_layers=0,
    )
