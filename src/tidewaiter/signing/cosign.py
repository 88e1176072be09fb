"""Cosign's manifests: what vouches for an image, kept in a layout like any other image.

Tag format: the manifest under `sha256-HEX.sig` has one layer a signature, that under `.att` one layer an attestation.
Bundle format: one manifest a bundle, which refers to the image as its subject.
Where they are listed (tags and referrers in a registry, the catalog at home) is the caller's business.
"""

import base64
import datetime as dt
import time
from collections.abc import Sequence

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NotFoundError, TidewaiterError
from tidewaiter.distribution import attached
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.signing import bundle as bundles
from tidewaiter.signing import dsse, simple_signing, strict_base64
from tidewaiter.signing.gathered import Broken, Found, Gathered, Place, Unread

SIGNATURE = attached.SIGNATURE
"""Layer annotation: standard base64 of the signature in DER; empty for attestations, which hold theirs."""
PREDICATE_TYPE = "predicateType"
"""Layer annotation of an attestation."""
BUNDLE_PREDICATE_TYPE = "dev.sigstore.bundle.predicateType"
"""Manifest annotation of a bundle."""
_BUNDLE_CONTENT = "dev.sigstore.bundle.content"
_CREATED = "org.opencontainers.image.created"

_REFUSE = "Refuse this signature."


_KINDS: dict[Place, tuple[str, int, str]] = {
    "sig": (simple_signing.MEDIA_TYPE, limits.PAYLOAD_BYTES, "signature"),
    "att": (dsse.MEDIA_TYPE, limits.ATTESTATION_BYTES, "attestation"),
    "bundle": (bundles.MEDIA_TYPE, limits.ATTESTATION_BYTES, "bundle"),
}
"""Of what lies in each place: its media type, how long it may be, and what people call it."""


def _decode(data: bytes, descriptor: Descriptor) -> Manifest:
    document = documents.decode_manifest(data, descriptor.media_type)
    if not isinstance(document, Manifest):
        raise InputError(f"{descriptor.digest} is an index, not a signature", next_step=_REFUSE)
    return document


def _bounded(manifest: Manifest, descriptor: Descriptor) -> Manifest:
    if len(manifest.layers) > limits.SIGNATURE_LAYERS:
        raise LimitError(
            f"{descriptor.digest} carries {len(manifest.layers)} signatures",
            next_step=f"At most {limits.SIGNATURE_LAYERS} are read: remove old ones from its tag.",
        )
    return manifest


def signature_of(layer: Descriptor) -> bytes:
    """The signature of a layer in DER; raises `InputError` when there is none or it is not base64."""
    text = (layer.annotations or {}).get(SIGNATURE)
    if not text:
        raise InputError("a layer carries no signature", next_step=_REFUSE)
    return strict_base64.decode(text, "a signature")


def signature_layer(payload: bytes, signature: bytes) -> Descriptor:
    """The layer of a `.sig` manifest for a simple-signing payload and its signature in DER."""
    return Descriptor(
        media_type=simple_signing.MEDIA_TYPE,
        digest=digests.of(payload),
        size=len(payload),
        annotations={SIGNATURE: base64.b64encode(signature).decode()},
    )


def attestation_layer(envelope: bytes, predicate_type: str) -> Descriptor:
    """The layer of an `.att` manifest for a DSSE envelope."""
    return Descriptor(
        media_type=dsse.MEDIA_TYPE,
        digest=digests.of(envelope),
        size=len(envelope),
        annotations={PREDICATE_TYPE: predicate_type, SIGNATURE: ""},
    )


def bundle(layout: Layout, subject: Descriptor, bundle: bytes, predicate_type: str, created: dt.datetime) -> Descriptor:
    """Store `bundle` so that it refers to the image `subject`; the descriptor as a list of referrers has it.

    `predicate_type` and `created` are stated for people and for those who choose what to fetch.

    Raises:
        NotFoundError: `layout` has no such image.
        InputError: the bundle is malformed or too large.
        IntegrityError: the image's bytes in `layout` are damaged.
    """
    layout.read(subject.digest, limit=limits.MANIFEST_BYTES)
    bundles.parse(bundle)
    annotations = {
        _BUNDLE_CONTENT: "dsse-envelope",
        BUNDLE_PREDICATE_TYPE: predicate_type,
        _CREATED: clock.rfc3339(created),
    }
    manifest = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            artifact_type=bundles.MEDIA_TYPE,
            config=Descriptor(media_type=documents.EMPTY, digest=layout.put(b"{}"), size=2),
            layers=[Descriptor(media_type=bundles.MEDIA_TYPE, digest=layout.put(bundle), size=len(bundle))],
            subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
            annotations=annotations,
        )
    )
    return Descriptor(
        media_type=documents.MANIFEST,
        digest=layout.put(manifest),
        size=len(manifest),
        artifact_type=bundles.MEDIA_TYPE,
        annotations=annotations,
    )


def gather(
    source: BlobSource,
    image: Digest,
    *,
    sig: Descriptor | None,
    att: Descriptor | None,
    referrers: Sequence[Descriptor],
) -> Gathered:
    """Everything beside the image `image` in `source` that may vouch for it, believed by nobody yet.

    `sig` and `att` are the manifests under its tags; `referrers` is all that refers to it, of whatever type: those
    that are no bundles are passed over. Nothing is raised: what is not as its format says is `broken`, what could not
    be read is `unread`. Documents themselves are not parsed.
    """
    gathering = _Gathering(source, image)
    if sig is not None:
        gathering.layers(sig, "sig")
    if att is not None:
        gathering.layers(att, "att")
    candidates = [entry for entry in {one.digest: one for one in referrers}.values() if _may_be_bundle(entry)]
    for entry in candidates[: limits.GATHERED_REFERRERS]:
        gathering.referrer(entry)
    if len(candidates) > limits.GATHERED_REFERRERS:
        more = len(candidates) - limits.GATHERED_REFERRERS
        gathering.unread.append(Unread(f"{more} more referrers", f"only {limits.GATHERED_REFERRERS} are read"))
    return Gathered(tuple(gathering.found), tuple(gathering.broken), tuple(gathering.unread))


def _may_be_bundle(entry: Descriptor) -> bool:
    """Some registries and clients list the type of the config as type of the artifact, or none."""
    kind = entry.artifact_type or documents.EMPTY
    return entry.media_type in documents.MANIFEST_TYPES and (kind == documents.EMPTY or _is_bundle(kind))


def _is_bundle(kind: str) -> bool:
    return kind.startswith("application/vnd.dev.sigstore.bundle")


class _UnreadError(Exception):
    """It could not be read; the text says why."""


class _Gathering:
    """What was gathered so far, and the bounds of it."""

    def __init__(self, source: BlobSource, image: Digest) -> None:
        self.found: list[Found] = []
        self.broken: list[Broken] = []
        self.unread: list[Unread] = []
        self._source = source
        self._image = image
        self._deadline = time.monotonic() + limits.GATHERED_SECONDS
        self._room = limits.GATHERED_BYTES
        self._documents: dict[Digest, bytes] = {}
        """Keys often sign the same payload."""

    def layers(self, descriptor: Descriptor, place: Place) -> None:
        """Take in the layers of the manifest under the tag of `place`."""
        what = f"the manifest {descriptor.digest} under the tag .{place}"
        manifest = self._manifest(descriptor, what)
        if manifest is None:
            return
        try:
            _bounded(manifest, descriptor)
        except LimitError as error:
            self.broken.append(Broken(what, error.message))
            return
        for layer in manifest.layers:
            self._layer(layer, place, claimed_type=(layer.annotations or {}).get(PREDICATE_TYPE, ""))

    def referrer(self, entry: Descriptor) -> None:
        """Take in the bundle of the manifest `entry`, if it is one."""
        what = f"the referrer {entry.digest}"
        manifest = self._manifest(entry, what)
        if manifest is None:
            return
        kinds = [manifest.artifact_type or "", *(layer.media_type for layer in manifest.layers)]
        if not any(map(_is_bundle, kinds)):
            return
        if manifest.subject is None or manifest.subject.digest != self._image:
            self.broken.append(Broken(what, "it refers to another image"))
        elif len(manifest.layers) != 1:
            self.broken.append(Broken(what, f"it has {len(manifest.layers)} layers instead of one bundle"))
        else:
            claimed = (manifest.annotations or {}).get(BUNDLE_PREDICATE_TYPE, "")
            self._layer(manifest.layers[0], "bundle", claimed_type=claimed)

    def _manifest(self, descriptor: Descriptor, what: str) -> Manifest | None:
        try:
            return _decode(self._read(descriptor.digest, limits.MANIFEST_BYTES), descriptor)
        except _UnreadError as error:
            self.unread.append(Unread(what, str(error)))
        except InputError as error:
            self.broken.append(Broken(what, error.message))
        return None

    def _layer(self, layer: Descriptor, place: Place, *, claimed_type: str) -> None:
        media_type, limit, name = _KINDS[place]
        what = f"the {name} {layer.digest}"
        if layer.media_type != media_type:
            self.broken.append(Broken(what, f"it is of type {layer.media_type[:100]!r}, not {media_type!r}"))
            return
        if layer.size > limit:
            self.broken.append(Broken(what, f"it is announced with {layer.size} bytes, over {limit}"))
            return
        try:
            signature = signature_of(layer) if place == "sig" else b""
            document = self._document(layer)
        except InputError as error:
            self.broken.append(Broken(what, error.message))
        except _UnreadError as error:
            self.unread.append(Unread(what, str(error)))
        else:
            one = Found(
                place=place, blob=layer.digest, document=document, signature=signature, claimed_type=claimed_type
            )
            if one not in self.found:
                self.found.append(one)

    def _document(self, layer: Descriptor) -> bytes:
        if layer.digest not in self._documents:
            if layer.size > self._room:
                raise _UnreadError(f"signatures and attestations of one image may have {limits.GATHERED_BYTES} bytes")
            document = self._read(layer.digest, layer.size)
            self._documents[layer.digest] = document
            self._room -= len(document)
        document = self._documents[layer.digest]
        if len(document) != layer.size:
            raise InputError(f"it has {len(document)} bytes instead of {layer.size}", next_step=_REFUSE)
        return document

    def _read(self, digest: Digest, limit: int) -> bytes:
        """Bytes with that digest; raises `InputError` when they are not of the kind that is asked for.

        Raises `_UnreadError` for everything else: storage that lost or damaged bytes says nothing about who signed.
        """
        if time.monotonic() > self._deadline:
            raise _UnreadError(f"reading took over {limits.GATHERED_SECONDS} seconds")
        try:
            return self._source.read(digest, limit=limit)
        except TidewaiterError as error:
            if isinstance(error, InputError) and not isinstance(error, NotFoundError | IntegrityError | LimitError):
                raise
            raise _UnreadError(error.message) from error
        except OSError as error:
            raise _UnreadError(error.strerror or str(error)) from error
