"""The copy engine: an image, or an index with everything in it, from one place to another, byte for byte.

1. Read the manifests, from the root down, and list every blob that they need once.
2. Ask the target what it has, but for what the older image under the tag vouches for (`vouching`); take over what lies
   beside it; move only the rest, several blobs at once.
3. Write the manifests, children first, then the tags. So a name never means something incomplete. A target that refuses
   them has lost what manifests there name: then it is asked for all of that, and sent what it lacks.
4. On request do the same for what refers to the image: signatures, SBOMs, attestations. What others attached stays.

Manifests are never written anew: what arrives has the digest that it had. The one exception is what cosign attached
under a tag, where others attached something at the target (`attached`).
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NetworkError, NotFoundError
from tidewaiter.core.progress import SILENT, Progress, Task
from tidewaiter.distribution.endpoints import Source, Target
from tidewaiter.distribution.transfer import Stop, in_parallel
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Index, Manifest, Platform

if TYPE_CHECKING:
    from tidewaiter.distribution.vouching import Older

Outcome = Literal["sent", "mounted", "skipped"]
_REFUSED = frozenset({NotFoundError.default_code, "registry_refused"})
_FEW_BLOBS = 2
"""Config and one layer: as soon asked for as the manifest that names them."""
_UNNOTICED_BYTES = 4 << 20
"""Signatures and attestations are many and small; each alone is not worth a line."""


class Moved(msgspec.Struct, frozen=True):
    """How many blobs (configs and layers), and how many bytes in them; manifests do not count."""

    blobs: int = 0
    bytes: int = 0


class CopyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy did."""

    digest: Digest
    media_type: str
    manifests: int
    """Of the image: one, or an index with its children."""
    sent: Moved
    mounted: Moved
    """Taken over at the target without moving bytes."""
    skipped: Moved
    """There already."""
    left: Moved
    """Foreign layers that the source does not hold either; they stay at their own addresses."""
    referrers: tuple[Digest, ...] = ()
    """Manifests that were copied along because they refer to the image."""


class _Plan:
    """What belongs to one root: manifests, children first, and the blobs that each of them names itself."""

    def __init__(self) -> None:
        self.manifests: dict[Digest, tuple[Descriptor, bytes]] = {}
        self.blobs: dict[Digest, dict[Digest, Descriptor]] = {}


def is_manifest(descriptor: Descriptor) -> bool:
    """Whether a child of an index is itself a manifest; other things in an index are blobs."""
    if descriptor.media_type in documents.MANIFEST_TYPES | documents.INDEX_TYPES:
        return True
    return descriptor.media_type.endswith("+json") and (".manifest." in descriptor.media_type)


def _read(source: Source, descriptor: Descriptor) -> tuple[bytes, Manifest | Index]:
    data = source.read(descriptor.digest, limit=limits.MANIFEST_BYTES)
    if len(data) != descriptor.size:
        raise IntegrityError(
            f"manifest {descriptor.digest} has {len(data)} bytes instead of {descriptor.size}",
            next_step="Do not use this image: its documents contradict each other.",
        )
    return data, documents.decode_manifest(data, descriptor.media_type)


def _add(source: Source, descriptor: Descriptor, plan: _Plan, depth: int = 1) -> None:
    if depth > limits.INDEX_DEPTH:
        raise InputError(f"indexes are nested deeper than {limits.INDEX_DEPTH}", next_step="Do not use this image.")
    if descriptor.digest in plan.manifests:
        return
    if len(plan.manifests) >= limits.INDEX_MANIFESTS:
        raise LimitError(
            f"the image has more than {limits.INDEX_MANIFESTS} manifests", next_step="Copy one platform: --platform."
        )
    data, document = _read(source, descriptor)
    own: dict[Digest, Descriptor] = {}
    if isinstance(document, Index):
        for child in document.manifests:
            if is_manifest(child):
                _add(source, child, plan, depth + 1)
            else:
                own[child.digest] = child
    else:
        own = {blob.digest: blob for blob in (document.config, *document.layers)}
    plan.blobs[descriptor.digest] = own
    plan.manifests[descriptor.digest] = (descriptor, data)


def parse_platform(text: str) -> Platform:
    """The platform in `OS/ARCHITECTURE[/VARIANT]`; raises `InputError`."""
    parts = text.split("/")
    if len(parts) not in {2, 3} or not all(part and part.replace("_", "").isalnum() for part in parts):
        raise InputError(f"{text[:100]!r} is not a platform", next_step="Write it as linux/amd64 or linux/arm/v7.")
    return Platform(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else None)


def _fits(entry: Platform, wanted: Platform) -> bool:
    same = (entry.os, entry.architecture) == (wanted.os, wanted.architecture)
    return same and (wanted.variant is None or entry.variant == wanted.variant)


def choose(source: Source, descriptor: Descriptor, wanted: Platform | None) -> Descriptor:
    """What to copy: `descriptor` itself, or the image of the platform `wanted` in the index that it names.

    An image that is in no index is taken as it is: its name asks for it, whatever its platform.

    Raises:
        NotFoundError: the index has no such image.
    """
    if wanted is None:
        return descriptor
    shown: set[str] = set()
    found = _find(source, descriptor, wanted, shown)
    if found is None:
        raise NotFoundError(
            f"the index has no {wanted.os}/{wanted.architecture} image",
            next_step=f"It has: {', '.join(sorted(shown)[:20]) or 'no platforms'}.",
        )
    return Descriptor(media_type=found.media_type, digest=found.digest, size=found.size)


def _find(
    source: Source, descriptor: Descriptor, wanted: Platform, shown: set[str], depth: int = 1
) -> Descriptor | None:
    """The image of the platform `wanted`, also in indexes that are in the index; `shown` gathers what is there."""
    if depth > limits.INDEX_DEPTH:
        raise InputError(f"indexes are nested deeper than {limits.INDEX_DEPTH}", next_step="Do not use this image.")
    _, document = _read(source, descriptor)
    if not isinstance(document, Index):
        return descriptor
    children = [one for one in document.manifests if is_manifest(one)]
    shown |= {f"{one.platform.os}/{one.platform.architecture}" for one in children if one.platform}
    fitting = [one for one in children if one.platform and _fits(one.platform, wanted)]
    # A child that states no platform may be an index that has the image; an image comes after those.
    silent = [one for one in children if one.platform is None]
    for child in [*fitting, *sorted(silent, key=lambda one: one.media_type not in documents.INDEX_TYPES)]:
        found = _find(source, child, wanted, shown, depth + 1)
        if found is not None:
            return found
    return None


class _Copy:
    """One running copy: what was done so far, for the root and for what refers to it."""

    def __init__(self, source: Source, target: Target, threads: int, progress: Progress, title: str) -> None:
        self.source = source
        self.target = target
        self.threads = threads if target.parallel else 1
        self.progress = progress
        self.title = title
        self.outcomes: dict[Digest, tuple[Outcome | Literal["left"], int]] = {}
        self.done: set[Digest] = set()
        self.along = False
        """Whether it is at what refers to the image."""

    def moved(self, wanted: str) -> Moved:
        """Count of the blobs that ended so."""
        sizes = [size for outcome, size in self.outcomes.values() if outcome == wanted]
        return Moved(len(sizes), sum(sizes))

    def tree(self, root: Descriptor, tags: Sequence[str], *, again: bool = False) -> _Plan:
        """Copy a root with everything below it; `again` writes its manifest even where it is."""
        plan = _Plan()
        _add(self.source, root, plan)
        named = {tag: self.target.named(tag) for tag in tags}
        wanted = [tag for tag in tags if named[tag] != root.digest]
        missing: list[Digest] = []
        vouched: list[Descriptor] = []
        if len(wanted) == len(tags):  # what a tag names is there with all its parts
            older = self._older(named)
            missing = self._missing(plan, root.digest, older, tagged=bool(tags))
            vouched = self._vouched(plan, missing, older)
        self.outcomes.update((blob.digest, ("skipped", blob.size)) for blob in vouched)
        self._blobs(plan, missing)
        written = [one for one in plan.manifests if one in missing or (one == root.digest and (wanted or again))]
        try:
            self._write(plan, written, root.digest, wanted)
        except (NetworkError, NotFoundError) as error:
            asked = {blob for one in missing for blob in plan.blobs[one]} - {blob.digest for blob in vouched}
            unasked = {blob for blobs in plan.blobs.values() for blob in blobs} - asked
            if not unasked or error.code not in _REFUSED:
                raise
            # Step 3: it has lost some of what manifests there name.
            for digest in unasked:
                self.outcomes.pop(digest, None)
            everything = list(plan.manifests)
            self._blobs(plan, everything)
            self._write(plan, everything, root.digest, wanted)
        for blob in vouched:
            self.target.remember(blob.digest)
        self.done.update(plan.manifests)
        return plan

    def _older(self, named: Mapping[str, Digest | None]) -> "Older | None":
        """What the tags name at the target, as far as the source says what that is without requests."""
        digests = {digest for digest in named.values() if digest is not None}
        if not digests or not self.source.near:
            return None
        from tidewaiter.distribution import vouching

        return vouching.older(self.source, digests)

    def _missing(self, plan: _Plan, root: Digest, older: "Older | None", *, tagged: bool) -> list[Digest]:
        """The manifests that the target lacks.

        The root is written anyway when it gets a tag: then it is asked for only where that may spare several blobs.
        """
        if not tagged and self._has(root):
            return []
        left = plan.blobs[root].keys() - (older.blobs if older else ()) - self.outcomes.keys()
        known = not tagged or len(left) <= _FEW_BLOBS
        asked = [one for one in plan.manifests if one not in self.done and not (known and one == root)]
        there = in_parallel(lambda one, _: self.target.has_manifest(one), asked, threads=self.threads)
        present = {one for one, found in zip(asked, there, strict=True) if found} | self.done
        return [one for one in plan.manifests if one not in present]

    def _has(self, digest: Digest) -> bool:
        return digest in self.done or self.target.has_manifest(digest)

    def _vouched(self, plan: _Plan, missing: Sequence[Digest], older: "Older | None") -> list[Descriptor]:
        """Those blobs of the `missing` manifests that older ones at the target name."""
        if older is None:
            return []
        wanted = {digest: blob for one in missing for digest, blob in plan.blobs[one].items() if not blob.urls}
        unproven = wanted.keys() - self.outcomes.keys() - older.blobs
        for image, blobs in older.images.items():
            asked = image in plan.manifests
            if image not in missing if asked else len(unproven & blobs) > 1 and self._has(image):
                unproven -= blobs
        return [blob for digest, blob in wanted.items() if digest not in unproven and digest not in self.outcomes]

    def _write(self, plan: _Plan, written: Sequence[Digest], root: Digest, tags: Sequence[str]) -> None:
        for digest in written:
            descriptor, data = plan.manifests[digest]
            self.target.put_manifest(descriptor, data, tags if digest == root else ())

    def _blobs(self, plan: _Plan, missing: Sequence[Digest]) -> None:
        """Move what the `missing` manifests name and the target lacks."""
        wanted = {digest: blob for one in missing for digest, blob in plan.blobs[one].items()}
        for blobs in plan.blobs.values():
            for blob in blobs.values():
                if blob.digest not in wanted:
                    self.outcomes.setdefault(blob.digest, ("skipped", blob.size))
        todo = [blob for blob in wanted.values() if blob.digest not in self.outcomes]
        if not todo:
            return
        # The longest first: at the end no thread is left alone with a large one. A file is written in order.
        ordered = sorted(todo, key=lambda blob: -blob.size) if self.threads > 1 else todo
        total = sum(blob.size for blob in ordered)
        progress = SILENT if self.along and total < _UNNOTICED_BYTES else self.progress
        with progress.task(self.title, total=total, unit="bytes") as task:
            results = in_parallel(partial(self._blob, task=task), ordered, threads=self.threads)
        for blob, outcome in zip(ordered, results, strict=True):
            self.outcomes[blob.digest] = (outcome, blob.size)

    def _blob(self, blob: Descriptor, stop: Stop, *, task: Task) -> Outcome | Literal["left"]:
        stop.check()
        if self.target.has_blob(blob):
            task.advance(blob.size)
            return "skipped"
        if blob.urls and not self.source.has_blob(blob.digest):
            task.advance(blob.size)
            return "left"
        if self.target.take_over(blob, self.source):
            task.advance(blob.size)
            return "mounted"
        reached = 0

        def pieces(offset: int) -> Iterator[bytes]:
            nonlocal reached
            at = offset
            for data in self.source.pieces(blob, offset):
                stop.check()
                yield data
                at += len(data)
                if at > reached:  # a repeated transfer does not count twice
                    task.advance(at - reached)
                    reached = at

        try:
            self.target.write(blob, pieces, stop)
        except IntegrityError:
            self.source.check(blob)  # says so if it is the source that is damaged
            raise
        return "sent"

    def referrers(self, plan: _Plan) -> tuple[Digest, ...]:
        """Copy what refers to the manifests of `plan`, and what refers to that; digests of what was copied."""
        self.along = True
        found: dict[Digest, None] = {}
        waiting = [(digest, 1) for digest in plan.manifests]
        while waiting:
            subject, depth = waiting.pop(0)
            for descriptor, tags, unites in self._referring(subject):
                if descriptor.digest in found:
                    continue
                if depth > limits.REFERRER_DEPTH or len(found) >= limits.REFERRERS_COPIED:
                    raise LimitError(
                        f"more than {limits.REFERRERS_COPIED} manifests refer to the image, or deeper than "
                        f"{limits.REFERRER_DEPTH}",
                        next_step="Copy without --with referrers, and the ones that you want by their digests.",
                    )
                found[descriptor.digest] = None
                # A copy that was stopped may have left a referrer that the target's list of them does not name.
                below = self.attached(descriptor, tags) if unites else self.tree(descriptor, tags, again=not tags)
                waiting.extend((digest, depth + 1) for digest in below.manifests)
        return tuple(found)

    def attached(self, descriptor: Descriptor, tags: Sequence[str]) -> _Plan:
        """Copy what cosign attached under one of its tags, without taking away what the target has under it."""
        plan = _Plan()
        _add(self.source, descriptor, plan)
        self._blobs(plan, list(plan.manifests))
        for tag in tags:
            self.target.attach(tag, descriptor, plan.manifests[descriptor.digest][1])
        self.done.update(plan.manifests)
        return plan

    def _referring(self, subject: Digest) -> Iterator[tuple[Descriptor, tuple[str, ...], bool]]:
        """What refers to a manifest, under which tags, and whether those may hold what others attached as well."""
        for descriptor in self.source.referrers(subject):
            # What the list says beside it (artifact type, annotations) is the list's, not part of the manifest.
            bare = Descriptor(media_type=descriptor.media_type, digest=descriptor.digest, size=descriptor.size)
            yield bare, (), False
        from tidewaiter.distribution import attached

        for suffix in attached.SUFFIXES:
            tag = attached.tag(subject, suffix)
            named = self.source.tagged(tag)
            if named is not None:
                yield named, (tag,), suffix in attached.UNITED


def copy(
    source: Source,
    target: Target,
    root: Descriptor,
    *,
    tags: Sequence[str] = (),
    referrers: bool = False,
    threads: int = limits.TRANSFERS,
    progress: Progress = SILENT,
    title: str = "copying",
) -> CopyResult:
    """Copy what `root` names in `source`, let each of `tags` name it in `target`, and say what was done.

    A target that has a manifest has what it names, so that nothing below it is asked for again.

    Raises:
        NotFoundError: the source lacks a part of the image.
        IntegrityError: bytes do not have their digest or size.
        NetworkError: a registry could not be reached or refused.
        StorageError: the disk refused.
        LimitError: the image, or what refers to it, is over a bound of `core.limits`.
    """
    running = _Copy(source, target, threads, progress, title)
    plan = running.tree(root, tags)
    along = running.referrers(plan) if referrers else ()
    target.finish()
    return CopyResult(
        digest=root.digest,
        media_type=root.media_type,
        manifests=len(plan.manifests),
        sent=running.moved("sent"),
        mounted=running.moved("mounted"),
        skipped=running.moved("skipped"),
        left=running.moved("left"),
        referrers=along,
    )
