"""What is attached to images of the store: put there, listed, and gathered from there or from a registry.

Nothing is visible before the catalog names it:

1. Hold the lock of the image: two that attach at once would each keep what both found, and one lose the other's.
2. Ask the catalog what is attached already; what is there is not attached twice.
3. Write the blobs and the manifests. In the tag format a new manifest has everything that the current one has.
4. Record all of it in one transaction. Killed before that, a process leaves blobs that nobody names, and the same
   command completes the work; killed after it, the work is complete.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.catalog.records import AttestationRecord, SignatureRecord
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NotFoundError, TidewaiterError
from tidewaiter.distribution import attached
from tidewaiter.distribution.attached import Outdated, Suffix
from tidewaiter.distribution.registry import RawManifest
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.pipelines.attachments.outdated import outdated
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import bundle as bundles
from tidewaiter.signing import cosign, dsse, predicates
from tidewaiter.signing.gathered import Broken, Format, Gathered, Unread
from tidewaiter.signing.keys import PublicKey

if TYPE_CHECKING:
    from tidewaiter.distribution.registry import Repository


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody has just signed for an image.

    An image signature has two shapes, one for each format: a simple-signing payload, and an envelope whose predicate
    type is `predicates.SIGNATURE`. An attestation is one envelope, for both.
    """

    predicate_type: str
    document: bytes
    """A DSSE envelope, or a simple-signing payload."""
    signature: bytes = b""
    """ASN.1 DER, of a payload; an envelope holds its own."""
    public: PublicKey
    builder: str

    def blob(self, kind: Format) -> Digest:
        """What tells it from everything else that is attached in that format, as the catalog records it."""
        if kind == "bundle":
            return digests.of(bundles.encode(self.document, self.public))
        return digests.of(self.signature or self.document)

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that this shape belongs to."""
        if self.predicate_type != predicates.SIGNATURE:
            return ("tag", "bundle")
        return ("tag",) if self.signature else ("bundle",)


class Stored(msgspec.Struct, frozen=True):
    """What is attached to an image in the store: manifests, each of which is there or was."""

    sig: Descriptor | None = None
    att: Descriptor | None = None
    referrers: tuple[Descriptor, ...] = ()

    def names(self, image: Digest) -> dict[str, Descriptor]:
        """The manifests that cosign looks for under tags, by those."""
        beside: dict[Suffix, Descriptor | None] = {"sig": self.sig, "att": self.att}
        return {attached.tag(image, suffix): found for suffix, found in beside.items() if found is not None}


@contextmanager
def alone(workshop: Workshop, image: Digest) -> Iterator[None]:
    """The only one of this catalog that attaches to the image (step 1). Raises `DeadlineError`."""
    file = workshop.settings.home.cache / "signing" / f"{digests.hexadecimal(image)}.lock"
    with workshop.catalog.database.alone(f"what is attached to {image}", file=file):
        yield


def stored(workshop: Workshop, image: Digest) -> Stored:
    """What the catalog says is attached to the image, whether the store still has it or not."""
    rows = workshop.catalog.attestations(image)
    of_tag = {row.predicate_type == predicates.SIGNATURE: row.manifest_digest for row in rows if row.format == "tag"}
    sig = of_tag.get(True) or _older_signature(workshop, image)
    att = of_tag.get(False)
    # Image signatures first: whoever copies in this order, and is stopped, leaves no attestations without a signature.
    ordered = sorted(rows, key=lambda row: row.predicate_type != predicates.SIGNATURE)
    referrers = dict.fromkeys(row.manifest_digest for row in ordered if row.format != "tag")
    return Stored(
        sig=_descriptor(workshop, sig) if sig else None,
        att=_descriptor(workshop, att) if att else None,
        referrers=tuple(_descriptor(workshop, digest) for digest in referrers),
    )


def _older_signature(workshop: Workshop, image: Digest) -> Digest | None:
    """The `.sig` manifest of an image that was signed before attestations were recorded."""
    try:
        found = workshop.catalog.image(image).signatures
    except NotFoundError:
        return None
    return next((digests.parse(one.manifest_digest) for one in found if one.format == "tag"), None)


def _descriptor(workshop: Workshop, digest: Digest) -> Descriptor:
    """Of a manifest of the store; of one that is lost or damaged only the digest is known."""
    try:
        data = workshop.store.read(digest)
        document = documents.decode_manifest(data)
    except (NotFoundError, InputError):
        return Descriptor(media_type=documents.MANIFEST, digest=digest, size=0)
    return Descriptor(
        media_type=document.media_type or documents.MANIFEST,
        digest=digest,
        size=len(data),
        artifact_type=document.artifact_type,
        annotations=document.annotations,
    )


def attach(workshop: Workshop, image: Descriptor, signed: Sequence[Signed], formats: Collection[Format]) -> Stored:
    """Attach what was signed to an image of the store, in each of the `formats`, and record it.

    Returns everything that is attached to the image afterwards. What is attached already is not attached again.

    Raises:
        NotFoundError: the store or the catalog does not know the image.
        InputError: an envelope is malformed, or the image carries too many (LimitError).
        StorageError: it could not be written.
    """
    with alone(workshop, image.digest):  # step 1
        rows = workshop.catalog.attestations(image.digest)  # step 2
        known = {(row.format, row.blob_digest) for row in rows}
        wanted = {(kind, one.blob(kind)): one for one in signed for kind in one.formats if kind in formats}
        fresh = [(one, key[0]) for key, one in wanted.items() if key not in known]
        there = usable(workshop, image.digest)
        old = partial(outdated, workshop, image.digest)
        writing = Writing(workshop.store, image, sig=there.sig, att=there.att, outdated=old)
        records = [writing.write(one, kind) for one, kind in fresh]  # step 3
        signatures = [_signature(one) for one in records if one.predicate_type == predicates.SIGNATURE]
        workshop.catalog.record_attestations(records, signatures)  # step 4
        return stored(workshop, image.digest)


def usable(workshop: Workshop, image: Digest) -> Stored:
    """As `stored`, without manifests of the tag format that are lost: what is added cannot be added to those."""
    there = stored(workshop, image)
    for suffix, manifest in (("sig", there.sig), ("att", there.att)):
        if manifest is not None and not manifest.size:
            workshop.progress.note(f"what the store had under .{suffix} of {image[:19]} is lost; only the new stands")
            there = msgspec.structs.replace(there, **{suffix: None})
    return there


def _signature(record: AttestationRecord) -> SignatureRecord:
    return SignatureRecord(
        digest=record.digest,
        key_fingerprint=record.key_fingerprint,
        builder=record.builder,
        manifest_digest=record.manifest_digest,
        created=record.created,
        format=record.format,
    )


class Writing:
    """Writes what was signed for an image into a layout, one after another; nothing names it there.

    `sig` and `att` are what is attached in the tag format: with what is written, in the end. What is `outdated` gives
    way when there is too much.
    """

    def __init__(
        self,
        layout: Layout,
        image: Descriptor,
        *,
        sig: Descriptor | None = None,
        att: Descriptor | None = None,
        outdated: Outdated = tuple,
    ) -> None:
        self.sig = sig
        self.att = att
        self.referrers: list[Descriptor] = []
        self._layout = layout
        self._image = image
        self._outdated = outdated
        self._now = clock.now()
        layout.read(image.digest)  # what is not there cannot be vouched for

    def write(self, one: Signed, kind: Format) -> AttestationRecord:
        """Write it in the format `kind`; what is to be recorded of it. Raises as `attach`."""
        if kind == "bundle":
            data = bundles.encode(one.document, one.public)
            manifest = cosign.bundle(self._layout, self._image, data, one.predicate_type, self._now)
            self.referrers.append(manifest)
            size = len(data)
        elif one.predicate_type == predicates.SIGNATURE:
            layer = cosign.signature_layer(one.document, one.signature)
            manifest = self.sig = self._tagged(self.sig, layer, one.document)
            size = len(one.signature)
        else:
            dsse.parse(one.document)
            manifest = self.att = self._tagged(
                self.att, cosign.attestation_layer(one.document, one.predicate_type), one.document
            )
            size = len(one.document)
        return AttestationRecord(
            digest=self._image.digest,
            format=kind,
            predicate_type=one.predicate_type,
            manifest_digest=manifest.digest,
            blob_digest=one.blob(kind),
            size=size,
            key_fingerprint=one.public.fingerprint,
            builder=one.builder,
            created=self._now,
        )

    def _tagged(self, there: Descriptor | None, layer: Descriptor, document: bytes) -> Descriptor:
        self._layout.put(document)
        config, manifest = attached.compose([layer])
        ours = RawManifest(manifest, documents.MANIFEST, digests.of(manifest))
        united = unite(self._layout, there, ours, self._image.digest, self._outdated)
        if united.digest == ours.digest:
            self._layout.put(config)
        return united


def unite(
    layout: Layout, there: Descriptor | None, ours: RawManifest, image: Digest, outdated: Outdated = tuple
) -> Descriptor:
    """The manifest in the layout that has everything of both; raises as `attached.unite`.

    When it is the manifest `ours` itself, the caller sees to its config.
    """
    known = RawManifest(layout.read(there.digest), there.media_type, there.digest) if there else None
    united = attached.unite(known, ours, f"{image}", outdated)
    if united is None:
        assert there is not None  # noqa: S101  # nothing holds nothing
        return there
    if united.config is not None:
        layout.put(united.config)
    layout.put(united.data)
    return united.descriptor


def gather_stored(workshop: Workshop, image: Digest) -> Gathered:
    """Everything that is attached to an image of the store, believed by nobody yet.

    What the catalog names and the store lost is `unread`. Raises `StorageError` when the catalog cannot be read.
    """
    there = stored(workshop, image)
    return cosign.gather(workshop.store, image, sig=there.sig, att=there.att, referrers=there.referrers)


def gather_remote(repository: "Repository", image: Digest) -> Gathered:
    """Everything that lies beside an image in a registry, believed by nobody yet; nothing is raised.

    Both formats are looked for: under cosign's tags, and by the referrers API or the tag that stands in for it. What
    could not be asked is `unread`, what is not as its format says `broken`.
    """
    broken: list[Broken] = []
    unread: list[Unread] = []
    named: dict[Suffix, Descriptor | None] = {}
    for suffix in attached.UNITED:
        try:
            named[suffix] = attached.find(repository, image, suffix)
        except TidewaiterError as error:
            _put_down(error, f"the manifest under the tag .{suffix}", broken, unread)
    referrers: tuple[Descriptor, ...] = ()
    try:
        referrers = repository.referrers(image)
    except TidewaiterError as error:
        _put_down(error, "the list of referrers", broken, unread)
    found = cosign.gather(repository, image, sig=named.get("sig"), att=named.get("att"), referrers=referrers)
    return Gathered(found.found, (*broken, *found.broken), (*unread, *found.unread))


def _put_down(error: TidewaiterError, what: str, broken: list[Broken], unread: list[Unread]) -> None:
    # Of a list that is too long nobody knows what it holds.
    if isinstance(error, InputError) and not isinstance(error, (IntegrityError, LimitError, NotFoundError)):
        broken.append(Broken(what, error.message))
    else:
        unread.append(Unread(what, error.message))
