"""What is attached to an image goes to a registry, beside what others attached to it there; and what got lost, again.

1. Under cosign's tags: what the tag names already and ours are united (`distribution.attached`).
2. Manifests that refer to the image: each that the registry does not list is put there, image signatures first, so
   that nobody who looks meanwhile finds attestations and no signature. A registry that keeps no list of referrers
   gets all of them into the tag that stands in for it at once.

Writers of one home take turns. Two that know nothing of each other can lose something of the first of them on a
registry that knows neither the referrers API nor conditional requests; doing the same again puts it back.
"""

import tempfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from tidewaiter.core.errors import InputError, IntegrityError, NotFoundError, TidewaiterError, UndeterminedError
from tidewaiter.distribution import attached, referrers
from tidewaiter.distribution.attached import Outdated, Suffix
from tidewaiter.distribution.layout_place import LayoutPlace
from tidewaiter.distribution.registry import RawManifest, Repository
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Index
from tidewaiter.pipelines.attachments import attaching
from tidewaiter.pipelines.attachments.attaching import Signed, Stored
from tidewaiter.pipelines.attachments.outdated import outdated
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import predicates
from tidewaiter.signing.gathered import Format


class Sent(msgspec.Struct, frozen=True):
    """What a registry did not have, and has now."""

    signatures: int = 0
    """In the tag format."""
    attestations: int = 0
    """In the tag format."""
    referrers: tuple[Digest, ...] = ()
    """Manifests that refer to the image, or to what does: bundles as a rule."""
    lost: tuple[Digest, ...] = ()
    """Manifests that the catalog names, and neither the store nor the registry has whole any more."""

    @property
    def anything(self) -> bool:
        """Whether the registry lacked something."""
        return bool(self.signatures or self.attestations or self.referrers)


def send(workshop: Workshop, repository: Repository, image: Digest) -> Sent:
    """Attach everything in the registry that is attached to the image in the store, which may follow later.

    What others attached stays. What the store lost is taken from the registry itself, if that still has it.

    Raises:
        NetworkError: the registry could not be asked, refused, or others change what is attached all the time.
        InputError: what is attached there is malformed, or (LimitError) too much.
    """
    there = attaching.stored(workshop, image)
    return _send(workshop.store, there, repository, image, partial(outdated, workshop, image))


def send_ahead(workshop: Workshop, repository: Repository, image: Digest) -> Sent | None:
    """As `send`, before the image itself; None when that failed, and is to be tried again once the image is there.

    So nobody finds the image without its signatures, and a registry that asks for them before it takes it has them.
    """
    try:
        return send(workshop, repository, image)
    except TidewaiterError:
        return None


def repair(workshop: Workshop, repository: Repository, image: Digest) -> Sent:
    """Put back what the catalog knows to be attached to the image and the registry lost; raises as `send`.

    Raises:
        NotFoundError: the registry does not have the image.
        UndeterminedError: something is lost in the store, too; what is not, has been put back.
    """
    if not repository.has_manifest(image):
        raise NotFoundError(
            f"{repository} does not have {image}", next_step="Push it first: `tidewaiter push NAME:TAG HOST/REPO`."
        )
    sent = send(workshop, repository, image)
    if sent.lost:
        raise UndeterminedError(
            f"{', '.join(sent.lost)}: attached to the image once, and no longer in the store or in {repository}",
            next_step="Pull them from another registry with `tidewaiter pull --with referrers`, or attest again.",
            code="attached_lost",
        )
    return sent


def attach_remote(
    workshop: Workshop, repository: Repository, image: Digest, signed: Sequence[Signed], formats: Collection[Format]
) -> Sent:
    """Attach what was signed to an image of a registry, which need not be in the store; nothing is recorded.

    Raises: as `send`; NotFoundError when the registry does not have the image.
    """
    raw = repository.manifest(image)
    work = workshop.settings.home.cache / "work"
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        layout = Layout(Path(folder), synced=False)
        layout.create()
        layout.put(raw.data)
        writing = attaching.Writing(layout, raw.descriptor)
        for one in sorted(signed, key=lambda one: one.predicate_type != predicates.SIGNATURE):
            for kind in one.formats:
                if kind in formats:
                    writing.write(one, kind)
        return _send(layout, Stored(writing.sig, writing.att, tuple(writing.referrers)), repository, image)


def _send(layout: Layout, there: Stored, repository: Repository, image: Digest, outdated: Outdated = tuple) -> Sent:
    sending = _Sending(layout, repository, outdated)
    added: dict[Suffix, int] = {}
    refused: list[InputError] = []
    tagged: tuple[tuple[Suffix, Descriptor | None], ...] = (("sig", there.sig), ("att", there.att))
    for suffix, manifest in tagged:  # step 1
        try:
            added[suffix] = sending.tagged(image, suffix, manifest)
        except InputError as error:
            # Anybody who may push can fill a tag or break it: that keeps no withdrawal from arriving as a bundle.
            refused.append(error)
    along = sending.referrers(there.referrers)  # step 2
    if refused:
        raise refused[0]
    return Sent(added["sig"], added["att"], along, tuple(sending.lost))


class _Sending:
    """Manifests and blobs of a layout on their way to a repository."""

    def __init__(self, layout: Layout, repository: Repository, outdated: Outdated) -> None:
        self.lost: list[Digest] = []
        self._layout = layout
        self._place = LayoutPlace(layout, listed=False)
        self._repository = repository
        self._outdated = outdated

    def tagged(self, image: Digest, suffix: Suffix, manifest: Descriptor | None) -> int:
        """How many signatures or attestations the tag did not hold."""
        if manifest is None:
            return 0
        ours = self._manifest(manifest)
        if ours is None:
            return 0
        try:
            return attached.add(self._repository, attached.tag(image, suffix), ours, self._blob, self._outdated)
        except _LostError:
            self.lost.append(manifest.digest)
            return 0

    def referrers(self, manifests: Sequence[Descriptor]) -> tuple[Digest, ...]:
        """Those of the manifests that the registry did not list as referrers."""
        by_subject: dict[Digest, list[RawManifest]] = defaultdict(list)
        for manifest in manifests:
            raw = self._manifest(manifest)
            referring = referrers.subject_of(raw.data) if raw else None
            if raw and referring and referring.subject:
                by_subject[referring.subject.digest].append(raw)
        sent: list[Digest] = []
        for subject, wanted in by_subject.items():
            listed = {one.digest for one in self._repository.referrers(subject)}
            fresh = [raw for raw in wanted if raw.digest not in listed]
            unlisted = [raw for raw in fresh if not self._put(raw)]
            entries = [_entry(raw) for raw in unlisted if raw.digest not in self.lost]
            if entries:
                referrers.add(self._repository, subject, entries)
            sent += [raw.digest for raw in fresh if raw.digest not in self.lost]
        return tuple(sent)

    def _put(self, raw: RawManifest) -> bool:
        """Whether the registry lists the manifest by itself now."""
        document = documents.decode_manifest(raw.data, raw.media_type)
        try:
            if not isinstance(document, Index):
                for blob in (document.config, *document.layers):
                    self._blob(blob)
        except _LostError:
            self.lost.append(raw.digest)
            return False
        return self._repository.put_referrer(raw.data, raw.media_type)

    def _manifest(self, manifest: Descriptor) -> RawManifest | None:
        """From the layout, else from the registry by its digest; None when both lost it."""
        with suppress(NotFoundError, IntegrityError):
            return RawManifest(self._layout.read(manifest.digest), manifest.media_type, manifest.digest)
        with suppress(InputError):
            return self._repository.manifest(manifest.digest)
        self.lost.append(manifest.digest)
        return None

    def _blob(self, blob: Descriptor) -> None:
        """See to it that the registry has the blob. Raises `_LostError`."""
        if self._repository.has_blob(blob.digest):
            return
        if not self._layout.verify(blob):
            raise _LostError
        self._repository.push_blob(blob, lambda: self._place.pieces(blob, 0))


class _LostError(Exception):
    """A blob is gone or damaged."""


def _entry(raw: RawManifest) -> Descriptor:
    referring = referrers.subject_of(raw.data)
    assert referring is not None  # noqa: S101  # only such manifests get here
    return referrers.describe(raw.data, raw.media_type, raw.digest, referring)
