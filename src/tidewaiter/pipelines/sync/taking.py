"""Reading one manifest of a repository, with what is below it, as far as it is not known: bytes in, values out.

1. A manifest that was read is not asked for again; below a known index only what is still to be inspected. What refers
   to a manifest that a tag names is asked for each time, where the registry can say it. What a list says of a manifest
   is a claim: it decides nothing once somebody names that manifest.
2. An image's layers are read in child processes. A layer that another thread is reading is waited for, and one that was
   read before, by whatever command, is not fetched.
3. What is wrong with one image is that image's affair. That the registry has gone is everybody's.
"""

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, NamedTuple

import msgspec

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.recording import moment
from tidewaiter.catalog.synced import Child, Kind, Status, TakenManifest
from tidewaiter.core import limits
from tidewaiter.core.errors import (
    InputError,
    IntegrityError,
    LimitError,
    NetworkError,
    NotFoundError,
    StorageError,
    TidewaiterError,
)
from tidewaiter.core.progress import SILENT
from tidewaiter.distribution.layout_place import artifact_type
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource, Image
from tidewaiter.oci.layout import ATTACHED
from tidewaiter.oci.manifest import Descriptor, Index, Manifest, Platform
from tidewaiter.pipelines import looking
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.sync.sources import Offers, Target
from tidewaiter.pipelines.workshop import Workshop

_BUILDKIT = "vnd.docker.reference.type"
"""Annotation by which BuildKit marks a manifest of an index that is no image."""
_REFERRERS = "referrers"


class VanishedError(NetworkError):
    """The registry no longer answers, or wants to be left alone."""


class Problem(msgspec.Struct, frozen=True):
    """Something that could not be taken in, and why."""

    name: str
    message: str
    settled: bool = False
    """Whether the image itself is malformed, so that trying again would find the same."""


class Taken(NamedTuple):
    """What one target came to."""

    target: Target
    digest: Digest
    manifests: tuple[TakenManifest, ...]
    images: tuple[Digest, ...]
    """Images that it means, known before or not."""
    problems: tuple[Problem, ...]
    named: bool
    """Whether the catalog knows now what the digest names."""
    referring: tuple[tuple[Digest, tuple[Child, ...]], ...]
    """What came to refer to it since it was read."""


class Wanted(NamedTuple):
    """What is to be inspected."""

    platforms: Collection[Platform]
    """Empty: all."""
    inspect: bool
    """Whether images are inspected, or only seen."""


class Claims:
    """Layers that are being read, or were."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[tuple[Digest, Digest]] = set()
        self._done: set[tuple[Digest, Digest]] = set()

    @contextmanager
    def hold(self, layers: Collection[tuple[Digest, Digest]]) -> Iterator[None]:
        """Wait until nobody reads any of these layers; those that nobody has read yet are then read by the caller."""
        with self._changed:
            self._changed.wait_for(lambda: self._held.isdisjoint(layers))
            ours = set(layers) - self._done
            self._held |= ours
        done = False
        try:
            yield
            done = True
        finally:
            with self._changed:
                self._held -= ours
                if done:
                    self._done |= ours
                self._changed.notify_all()


class _Held:
    """A source of which a manifest is here already."""

    def __init__(self, source: BlobSource, digest: Digest, data: bytes) -> None:
        self._source, self._digest, self._data = source, digest, data

    def open(self, digest: Digest) -> IO[bytes]:
        return self._source.open(digest)

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        return self._data if digest == self._digest else self._source.read(digest, limit=limit)


class Taker(NamedTuple):
    """Takes in what one repository offers; from any number of threads."""

    workshop: Workshop
    offers: Offers
    wanted: Wanted
    claims: Claims

    @property
    def catalog(self) -> Catalog:
        """What is known."""
        return self.workshop.catalog

    def look(self, target: Target) -> Digest | Problem | None:
        """What the target means now, or why that cannot be known; None when a tag is listed and names nothing.

        Raises:
            NotFoundError: it is the one that the user named, and is not there.
            VanishedError: the registry does not answer any more.
        """
        try:
            return self.offers.look(target)
        except NotFoundError:
            if not self.offers.complete:
                raise
            return None
        except TidewaiterError as error:
            return self.problem(error, target, None)

    def take(self, target: Target, digest: Digest) -> Taken:
        """Everything below the digest that is not known.

        Raises:
            VanishedError: the registry does not answer any more.
            StorageError: the disk or the catalog refused.
        """
        walk = _Walk(self, target)
        named = walk.take(digest, self.catalog.sync_statuses([digest]).get(digest), 0)
        found = tuple(dict.fromkeys(walk.images))
        return Taken(target, digest, tuple(walk.manifests), found, tuple(walk.problems), named, tuple(walk.referring))

    def problem(self, error: TidewaiterError, target: Target, digest: Digest | None) -> Problem:
        """What is wrong with one thing; raises when it is wrong with everything."""
        if isinstance(error, StorageError | VanishedError):
            raise error
        if isinstance(error, NetworkError):
            if error.code == "busy":
                raise VanishedError(error.message, next_step=error.next_step, code=error.code) from error
            try:
                self.offers.ask()
            except NetworkError as gone:
                raise VanishedError(gone.message, next_step=gone.next_step, code=gone.code) from error
        name = self.offers.name + (f":{target.tag}" if target.tag else "") + (f"@{digest}" if digest else "")
        malformed = isinstance(error, InputError) and not isinstance(error, IntegrityError | NotFoundError)
        return Problem(name, error.message, malformed)


class _Walk:
    """What is below one target."""

    def __init__(self, taker: Taker, target: Target) -> None:
        self._taker = taker
        self._target = target
        self.manifests: list[TakenManifest] = []
        self.images: list[Digest] = []
        self.problems: list[Problem] = []
        self.referring: list[tuple[Digest, tuple[Child, ...]]] = []
        self._met: dict[Digest, int] = {}
        """What was walked, at which depth: indexes may list the same again and again."""
        self._full = False

    def take(self, digest: Digest, status: Status | None, depth: int) -> bool:
        """Take in the manifest and what is below it, unless that is known; whether it is known now."""
        if self._met.get(digest, limits.INDEX_DEPTH + 1) <= depth:
            return True
        if digest in self._met or len(self._met) < limits.SYNC_MANIFESTS:
            self._met[digest] = depth
            return self._take(digest, status, depth)
        if not self._full:
            self._full = True
            message = f"more than {limits.SYNC_MANIFESTS} manifests are below it"
            self.problems.append(Problem(f"{self._taker.offers.name}:{self._target.tag}", message, settled=True))
        return False

    def _take(self, digest: Digest, status: Status | None, depth: int) -> bool:
        wanted = self._taker.wanted
        if status is not None and status.read:  # step 1
            if depth == 0 and status.kind != "artifact":
                self._refer_again(digest)
            if status.kind == "index":
                self._below(self._taker.catalog.sync_children(digest), depth)
                return True
            if status.kind == "artifact":
                return True
            self.images.append(digest)
            if status.inspected or status.problem or not wanted.inspect:
                return True
        try:
            raw = self._taker.offers.manifest(digest)
            document = documents.decode_manifest(raw.data, raw.media_type)
        except TidewaiterError as error:
            problem = self._taker.problem(error, self._target, digest)
            self.problems.append(problem)
            if problem.settled and not isinstance(error, LimitError):
                self.images.append(digest)  # whatever it is: nobody knows what is in it
                self.manifests.append(
                    TakenManifest(digest=digest, media_type="", kind="image", problem=problem.message)
                )
                return True
            return bool(status and status.read)
        if isinstance(document, Index):
            self._index(digest, raw.media_type, document, depth)
        elif _is_image(document):
            self._image(digest, raw.media_type, raw.data, document)
        else:
            self._artifact(digest, raw.media_type, document)
        return True

    # What is below

    def _index(self, digest: Digest, media_type: str, index: Index, depth: int) -> None:
        listed = ATTACHED.fullmatch(self._target.tag) if depth == 0 else None
        if listed:
            self._list(digest, media_type, index)
            return
        children = tuple({one.digest: _child(one) for one in index.manifests}.values())
        self._below(children, depth)
        self.manifests.append(
            TakenManifest(
                digest=digest,
                media_type=media_type,
                kind="index",
                artifact_type=index.artifact_type or "",
                children=children,
                referrers=self._referrers(digest),
                subject=index.subject.digest if index.subject else None,
            )
        )

    def _below(self, children: Sequence[Child], depth: int) -> None:
        if depth >= limits.INDEX_DEPTH:
            message = f"indexes are nested deeper than {limits.INDEX_DEPTH}"
            self.problems.append(Problem(f"{self._taker.offers.name}:{self._target.tag}", message, settled=True))
            return
        platforms = self._taker.wanted.platforms
        wanted = [one for one in children if one.kind != "artifact" and (not platforms or _fits(one, platforms))]
        known = self._taker.catalog.sync_statuses([one.digest for one in wanted])
        for one in wanted:
            self.take(one.digest, known.get(one.digest), depth + 1)

    # Kinds of manifests

    def _image(self, digest: Digest, media_type: str, data: bytes, manifest: Manifest) -> None:
        self.images.append(digest)
        seen = TakenManifest(
            digest=digest,
            media_type=media_type,
            kind="image",
            size=_size(manifest),
            subject=manifest.subject.digest if manifest.subject else None,
        )
        try:
            seen = self._inspected(seen, data)
        except TidewaiterError as error:
            problem = self._taker.problem(error, self._target, digest)
            self.problems.append(problem)
            seen = msgspec.structs.replace(seen, problem=problem.message if problem.settled else "")
        self.manifests.append(msgspec.structs.replace(seen, referrers=() if seen.subject else self._referrers(digest)))

    def _inspected(self, seen: TakenManifest, data: bytes) -> TakenManifest:
        taker = self._taker
        descriptor = Descriptor(media_type=seen.media_type, digest=seen.digest, size=len(data))
        image = images.load(_Held(taker.offers.blobs, seen.digest, data), descriptor)
        created = moment(image.config.created or "")
        if not taker.wanted.inspect:
            return msgspec.structs.replace(seen, created=created)
        tag = self._target.tag
        named = NamedImage(image, taker.offers.name + (f":{tag}" if tag else f"@{seen.digest}"), taker.offers.name, tag)
        with taker.claims.hold(_layers(image)):  # step 2
            facts = looking.inspect(taker.workshop, named, threads=1, progress=SILENT)
        return msgspec.structs.replace(seen, created=created, facts=facts)

    def _artifact(self, digest: Digest, media_type: str, manifest: Manifest) -> None:
        self.manifests.append(
            TakenManifest(
                digest=digest,
                media_type=media_type,
                kind="artifact",
                size=_size(manifest),
                artifact_type=_type_of(manifest),
                subject=manifest.subject.digest if manifest.subject else _subject(self._target.tag),
            )
        )

    def _list(self, digest: Digest, media_type: str, index: Index) -> None:
        """The list of referrers that a registry without the API keeps under a tag."""
        listed = tuple({one.digest: _referrer(one) for one in index.manifests}.values())
        self.manifests.append(
            TakenManifest(
                digest=digest,
                media_type=media_type,
                kind="artifact",
                artifact_type=_REFERRERS,
                referrers=listed,
                subject=_subject(self._target.tag),
            )
        )

    def _refer_again(self, digest: Digest) -> None:
        """What a tag names may have been signed since it was read."""
        listed = self._referrers(digest)
        known = self._taker.catalog.sync_referrers(digest) if listed else frozenset()
        new = tuple(one for one in listed if one.digest not in known)
        if new:
            self.referring.append((digest, new))

    def _referrers(self, digest: Digest) -> tuple[Child, ...]:
        try:
            return tuple(map(_referrer, self._taker.offers.referrers(digest)))
        except TidewaiterError as error:
            self.problems.append(self._taker.problem(error, self._target, digest))
            return ()


def _layers(image: Image) -> set[tuple[Digest, Digest]]:
    return {(blob.digest, diff_id) for blob, diff_id in image.layers}


def _is_image(manifest: Manifest) -> bool:
    """Whether a container engine may run it: signatures and the like have an image's config, but no file system."""
    if manifest.config.media_type not in documents.CONFIG_TYPES:
        return False
    return not manifest.layers or any(".tar" in layer.media_type for layer in manifest.layers)


def _size(manifest: Manifest) -> int:
    """Bytes of all layers, as the manifest says; no number is too large for its author."""
    return min(sum(layer.size for layer in manifest.layers), limits.LAYER_BYTES * limits.IMAGE_LAYERS)


def _type_of(manifest: Manifest) -> str:
    stated = artifact_type(manifest) or ""
    if stated in documents.CONFIG_TYPES and manifest.layers:
        return manifest.layers[0].media_type  # cosign's: what they are stands in their layers
    return stated


def _subject(tag: str) -> Digest | None:
    """What a tag made of a digest belongs to."""
    if not ATTACHED.fullmatch(tag):
        return None
    try:
        return digests.parse(tag.partition(".")[0].replace("-", ":", 1))
    except InputError:
        return None


def _child(entry: Descriptor) -> Child:
    platform = _shown(entry.platform)
    kind: Kind = "artifact"
    if entry.media_type in documents.INDEX_TYPES:
        kind = "index"
    elif entry.media_type in documents.MANIFEST_TYPES and not (
        platform == "unknown/unknown" and _BUILDKIT in (entry.annotations or {})
    ):
        kind = "image"
    said = entry.artifact_type or (entry.annotations or {}).get(_BUILDKIT, "")
    return Child(entry.digest, entry.media_type, entry.size, kind, platform, said)


def _referrer(entry: Descriptor) -> Child:
    return Child(entry.digest, entry.media_type, entry.size, "artifact", "", entry.artifact_type or "")


def _shown(platform: Platform | None) -> str:
    if platform is None:
        return ""
    return "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))


def _fits(child: Child, platforms: Collection[Platform]) -> bool:
    """Whether it is for one of the platforms, or may be: an index need not say."""
    if not child.platform:
        return True
    shown = {_shown(one) for one in platforms}
    return child.platform in shown or child.platform.rpartition("/")[0] in shown
