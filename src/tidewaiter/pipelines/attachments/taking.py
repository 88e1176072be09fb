"""What is attached to a fetched image comes into the store: kept for whoever asks, believed by nobody yet."""

from collections.abc import Iterator, Sequence
from typing import Literal

from tidewaiter.catalog.records import AttestationRecord
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.distribution import attached
from tidewaiter.distribution.attached import Suffix
from tidewaiter.distribution.layout_place import LayoutPlace, artifact_type
from tidewaiter.distribution.registry import RawManifest
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.pipelines.attachments import attaching
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.signing import bundle as bundles
from tidewaiter.signing import cosign, predicates

_UNKNOWN = "unknown"
_Kind = Literal["tag", "bundle", "artifact"]


class Taking(LayoutPlace):
    """The store as a target of an image and of what is attached to it, which it notes instead of listing it."""

    def __init__(self, workshop: Workshop, image: Digest) -> None:
        super().__init__(workshop.store)
        self._workshop = workshop
        self._image = image
        self._tagged: dict[Suffix, RawManifest] = {}
        self._referring: dict[Digest, RawManifest] = {}

    def attach(self, tag: str, descriptor: Descriptor, data: bytes) -> None:
        """Note what cosign attached to the image; what it attached to a referrer is listed in `index.json`."""
        raw = RawManifest(data, descriptor.media_type, descriptor.digest)
        for suffix in attached.UNITED:
            if tag == attached.tag(self._image, suffix):
                self._tagged[suffix] = raw
                self.write_manifest(descriptor, data)
                return
        super().attach(tag, descriptor, data)

    def put_manifest(self, descriptor: Descriptor, data: bytes, tags: Sequence[str]) -> None:
        """Store a manifest; note it when it refers to the image, or to what does."""
        document = documents.decode_manifest(data, descriptor.media_type)
        if document.subject is None or tags or descriptor.digest == self._image:
            super().put_manifest(descriptor, data, tags)
            return
        self.write_manifest(descriptor, data)
        self._referring[descriptor.digest] = RawManifest(data, descriptor.media_type, descriptor.digest)

    def record(self) -> None:
        """Record what came, beside what is attached to the image already.

        Raises:
            InputError: what lies under a tag of cosign's is malformed, or (LimitError) too much.
        """
        if not self._tagged and not self._referring:
            return
        with attaching.alone(self._workshop, self._image):
            there = attaching.usable(self._workshop, self._image)
            beside: dict[Suffix, Descriptor | None] = {"sig": there.sig, "att": there.att}
            records: list[AttestationRecord] = []
            for suffix, raw in self._tagged.items():
                layers = attached.decode(raw.data, raw.media_type).layers
                if len(layers) > limits.SIGNATURE_LAYERS:
                    raise LimitError(
                        f"{attached.tag(self._image, suffix)} has {len(layers)} layers",
                        next_step=f"At most {limits.SIGNATURE_LAYERS} are kept: pull without --with referrers.",
                    )
                united = attaching.unite(self.layout, beside[suffix], raw, self._image)
                records += self._layers(suffix, layers, united.digest)
            records += map(self._referrer, self._referring.values())
            self._workshop.catalog.record_attestations(records)

    def _layers(self, suffix: Suffix, layers: Sequence[Descriptor], manifest: Digest) -> Iterator[AttestationRecord]:
        for layer in layers:
            if suffix == "sig":
                try:
                    signature = cosign.signature_of(layer)
                except InputError:
                    continue  # it lies there, and vouches for nothing
                yield self._row("tag", predicates.SIGNATURE, manifest, digests.of(signature), len(signature))
            else:
                # What the layer says it holds decides nothing; that it is no signature is known from where it lay.
                claimed = (layer.annotations or {}).get(cosign.PREDICATE_TYPE) or _UNKNOWN
                kind = _UNKNOWN if claimed == predicates.SIGNATURE else claimed
                yield self._row("tag", kind, manifest, layer.digest, layer.size)

    def _referrer(self, raw: RawManifest) -> AttestationRecord:
        document = documents.decode_manifest(raw.data, raw.media_type)
        subject = document.subject.digest if document.subject else None
        if isinstance(document, Manifest) and len(document.layers) == 1 and subject == self._image:
            blob = document.layers[0]
            if blob.media_type == bundles.MEDIA_TYPE:
                claimed = (document.annotations or {}).get(cosign.BUNDLE_PREDICATE_TYPE) or _UNKNOWN
                return self._row("bundle", claimed, raw.digest, blob.digest, blob.size)
        return self._row("artifact", artifact_type(document) or _UNKNOWN, raw.digest, raw.digest, len(raw.data))

    def _row(self, kind: _Kind, predicate_type: str, manifest: Digest, blob: Digest, size: int) -> AttestationRecord:
        return AttestationRecord(
            digest=self._image,
            format=kind,
            predicate_type=predicate_type,
            manifest_digest=manifest,
            blob_digest=blob,
            size=size,
            created=clock.now(),
        )
