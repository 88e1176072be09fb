"""Cosign's signature manifest (tag scheme): one layer a signature, kept in a layout like any other image.

Where it is listed (the tag `sha256-HEX.sig` in a registry, the catalog at home) is the caller's business.
"""

import base64
import binascii
from collections.abc import Mapping

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, History, ImageConfig, Manifest, RootFS
from tidewaiter.signing import simple_signing
from tidewaiter.signing.keys import PrivateKey

SIGNATURE = "dev.cosignproject.cosign/signature"
"""Layer annotation: standard base64 of the signature in DER."""

_NO_TIME = "0001-01-01T00:00:00Z"  # what Go writes for no time; signatures carry none in this format


def read_manifest(source: BlobSource, descriptor: Descriptor) -> Manifest:
    """The signature manifest that `descriptor` names, its bytes verified.

    Raises:
        NotFoundError: it is not there.
        InputError: it is malformed, not a manifest, or (LimitError) has too many layers.
    """
    document = documents.decode_manifest(
        source.read(descriptor.digest, limit=limits.MANIFEST_BYTES), descriptor.media_type
    )
    if not isinstance(document, Manifest):
        raise InputError(f"{descriptor.digest} is an index, not a signature", next_step="Refuse this signature.")
    if len(document.layers) > limits.SIGNATURE_LAYERS:
        raise LimitError(
            f"{descriptor.digest} carries {len(document.layers)} signatures",
            next_step=f"At most {limits.SIGNATURE_LAYERS} are read: remove old ones from its tag.",
        )
    return document


def signature_of(layer: Descriptor) -> bytes:
    """The signature of a layer in DER; raises `InputError` when there is none or it is not base64."""
    text = (layer.annotations or {}).get(SIGNATURE)
    if not text:
        raise InputError("a layer carries no signature", next_step="Refuse this signature.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("a signature is not base64", next_step="Refuse this signature.") from error


def sign(
    layout: Layout,
    image: Digest,
    *,
    repository_identity: str,
    key: PrivateKey,
    annotations: Mapping[str, str] | None = None,
    existing: Descriptor | None = None,
) -> Descriptor:
    """Sign the image `image` and return the descriptor of its signature manifest, stored in `layout`.

    `repository_identity` is what the signature says the image is called (`HOST/REPO`, no tag). Signatures of the
    manifest `existing` are kept; if it holds one by the same key over the same payload, it is returned as it is.

    Raises:
        NotFoundError: `layout` has no such image: what is not there cannot be vouched for.
        InputError: `existing` is malformed, full, or the payload would be too large.
        IntegrityError: the image's or a signature's bytes in `layout` are damaged.
    """
    layout.read(image, limit=limits.MANIFEST_BYTES)
    payload = simple_signing.encode(repository_identity, image, annotations)
    if len(payload) > limits.PAYLOAD_BYTES:
        raise LimitError(
            f"the signature's payload has {len(payload)} bytes, over {limits.PAYLOAD_BYTES}",
            next_step="Give fewer or shorter annotations.",
        )
    digest = layout.put(payload)
    layers = read_manifest(layout, existing).layers if existing else []
    for layer in layers:
        if existing and layer.digest == digest and key.public.holds(signature_of(layer), payload):
            return existing
    if len(layers) >= limits.SIGNATURE_LAYERS:
        raise LimitError(
            f"{image} has {len(layers)} signatures already", next_step="Remove old ones before adding another."
        )
    signature = base64.b64encode(key.sign(payload)).decode()
    added = Descriptor(
        media_type=simple_signing.MEDIA_TYPE, digest=digest, size=len(payload), annotations={SIGNATURE: signature}
    )
    return _store(layout, [*layers, added])


def _store(layout: Layout, layers: list[Descriptor]) -> Descriptor:
    config = documents.encode(
        ImageConfig(
            architecture="",
            os="",
            created=_NO_TIME,
            rootfs=RootFS(type="layers", diff_ids=[layer.digest for layer in layers]),
            history=[History(created=_NO_TIME) for _ in layers],
        )
    )
    manifest = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            config=Descriptor(media_type=documents.CONFIG, digest=layout.put(config), size=len(config)),
            layers=layers,
        )
    )
    return Descriptor(media_type=documents.MANIFEST, digest=layout.put(manifest), size=len(manifest))
