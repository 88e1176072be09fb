"""What the product writes beside an image in cosign's tag format, one signature or attestation at a time."""

from collections.abc import Mapping

import msgspec

from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.pipelines.attachments.attaching import Signed, Writing
from tidewaiter.signing import keys, predicates, simple_signing
from tidewaiter.signing.keys import PrivateKey

_ANYBODY = keys.create().public
"""An envelope holds its own signature: whose key it is, only the catalog would like to know."""


def sign(
    layout: Layout,
    image: Digest,
    *,
    repository_identity: str,
    key: PrivateKey,
    annotations: Mapping[str, str] | None = None,
    existing: Descriptor | None = None,
) -> Descriptor:
    """The `.sig` manifest with one signature more than `existing` has."""
    payload = simple_signing.encode(repository_identity, image, annotations)
    signed = Signed(
        predicate_type=predicates.SIGNATURE,
        document=payload,
        signature=key.sign(payload),
        public=key.public,
        builder="",
    )
    writing = Writing(layout, _descriptor(image), sig=existing)
    writing.write(signed, "tag")
    assert writing.sig is not None
    return writing.sig


def attest(
    layout: Layout, image: Digest, envelope: bytes, predicate_type: str, existing: Descriptor | None = None
) -> Descriptor:
    """The `.att` manifest with the attestation `envelope` beside what `existing` has."""
    signed = Signed(predicate_type=predicate_type, document=envelope, public=_ANYBODY, builder="")
    writing = Writing(layout, _descriptor(image), att=existing)
    writing.write(signed, "tag")
    assert writing.att is not None
    return writing.att


def _descriptor(image: Digest) -> Descriptor:
    return Descriptor(media_type=documents.MANIFEST, digest=image, size=0)


def manifest(source: BlobSource, descriptor: Descriptor) -> Manifest:
    """The manifest that `descriptor` names."""
    return msgspec.json.decode(source.read(descriptor.digest), type=Manifest)
