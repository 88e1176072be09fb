"""Verifying an image signature of the tag scheme. Three ends: `Verified`, `NotVerifiedError`, `UndeterminedError`.

1. Somebody is trusted: no keys, no trust.
2. There is a signature manifest; its bytes have its digest, and it is well formed and bounded.
3. A layer is a simple-signing payload whose stored bytes have the layer's digest and size.
4. The layer's signature over exactly these bytes was made by a trusted key.
5. The payload, strictly parsed, is an image signature and names the image.
6. Annotations and repository are as the caller requires (nothing is required by default).

One layer that passes 3 to 6 is enough. A layer that could not be read makes a missing pass undetermined.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import (
    InputError,
    IntegrityError,
    LimitError,
    NotFoundError,
    NotVerifiedError,
    StorageError,
    UndeterminedError,
)
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource
from tidewaiter.oci.manifest import Descriptor, Manifest
from tidewaiter.signing import cosign, simple_signing
from tidewaiter.signing.keys import PublicKey

ABSENT = "signature_absent"
INVALID = "signature_invalid"
UNREADABLE = "signature_unreadable"


class Verified(msgspec.Struct, frozen=True):
    """A signature that holds: who made it, over which bytes, saying what."""

    fingerprint: Digest
    payload: bytes
    docker_reference: str
    annotations: Mapping[str, Any]


class Requirements(msgspec.Struct, frozen=True):
    """What a payload must say besides the image's digest."""

    annotations: Mapping[str, str] = {}
    repository: str | None = None
    """The `docker-reference`; None accepts any, so that promotion, mirrors and archives work."""


ANY = Requirements()


class _RejectedError(Exception):
    """This layer does not pass; the text says why."""


def verify(
    source: BlobSource,
    image: Digest,
    signature: Descriptor | None,
    public_keys: Sequence[PublicKey],
    *,
    requirements: Requirements = ANY,
) -> Verified:
    """The first signature in the manifest `signature` by one of `public_keys` over `image`.

    Raises:
        NotVerifiedError: code `signature_absent` when there is none, `signature_invalid` when none holds.
        UndeterminedError: something could not be read, so that neither can be said.
    """
    # 1. Somebody is trusted.
    if not public_keys:
        raise NotVerifiedError(
            f"no key is trusted, so nothing vouches for {image}",
            next_step="Name a public key with --key, or generate a key pair and sign the image.",
            code="no_trusted_key",
        )
    # 2. There is a signature manifest.
    if signature is None:
        raise NotVerifiedError(f"{image} has no signature", next_step="Sign it with `tidewaiter sign`.", code=ABSENT)
    manifest = _manifest(source, image, signature)
    reasons: list[str] = []
    unreadable: UndeterminedError | None = None
    for layer in manifest.layers:
        try:
            return _check(source, image, layer, public_keys, requirements)
        except _RejectedError as error:
            reasons.append(str(error))
        except UndeterminedError as error:
            unreadable = error
    if unreadable is not None:
        raise unreadable
    if not reasons:
        raise NotVerifiedError(
            f"the signature manifest of {image} holds no signature",
            next_step="Sign the image with `tidewaiter sign`.",
            code=ABSENT,
        )
    raise _invalid(image, "; ".join(dict.fromkeys(reasons[:5])))


def _invalid(image: Digest, reason: str) -> NotVerifiedError:
    return NotVerifiedError(
        f"no signature of {image} holds: {reason}",
        next_step="Do not run this image unless you know who built it; check that the right public key is trusted.",
        code=INVALID,
    )


def _read(source: BlobSource, digest: Digest, limit: int) -> bytes:
    """Bytes of a blob with that digest; raises `UndeterminedError` when they cannot be had."""
    try:
        return source.read(digest, limit=limit)
    except (NotFoundError, IntegrityError, LimitError) as error:
        # Storage that lost or damaged a blob says nothing about who signed.
        raise UndeterminedError(
            f"a part of the signature cannot be read: {error.message}", next_step=error.next_step, code=UNREADABLE
        ) from error
    except OSError as error:
        raise StorageError(
            f"a part of the signature cannot be read: {error.strerror}", next_step="Check the disk, then try again."
        ) from error


class _Bounded:
    """A source whose missing or damaged blobs mean "could not find out"."""

    def __init__(self, source: BlobSource) -> None:
        self.open = source.open
        self._source = source

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        return _read(self._source, digest, limit)


def _manifest(source: BlobSource, image: Digest, signature: Descriptor) -> Manifest:
    try:
        return cosign.read_manifest(_Bounded(source), signature)
    except InputError as error:
        raise _invalid(image, error.message) from error


def _check(
    source: BlobSource,
    image: Digest,
    layer: Descriptor,
    public_keys: Sequence[PublicKey],
    requirements: Requirements,
) -> Verified:
    """Steps 3 to 6 for one layer; raises `_RejectedError` or `UndeterminedError`."""
    # 3. Stored bytes, of the right kind and size.
    if layer.media_type != simple_signing.MEDIA_TYPE:
        raise _RejectedError(f"a layer is of type {layer.media_type[:100]!r}, not a signature")
    if layer.size > limits.PAYLOAD_BYTES:
        raise _RejectedError(f"a payload is announced with {layer.size} bytes, over {limits.PAYLOAD_BYTES}")
    payload = _read(source, layer.digest, limits.PAYLOAD_BYTES)
    if len(payload) != layer.size:
        raise _RejectedError(f"a payload has {len(payload)} bytes instead of {layer.size}")
    try:
        # 4. Made by a trusted key over exactly these bytes.
        signature = cosign.signature_of(layer)
        signer = next((key for key in public_keys if key.holds(signature, payload)), None)
        if signer is None:
            raise _RejectedError("it was not made by a trusted key over these bytes")
        # 5. An image signature, of this image.
        said = simple_signing.parse(payload)
    except InputError as error:
        raise _RejectedError(error.message) from error
    if said.digest != image:
        raise _RejectedError(f"it is a signature of {said.digest}")
    # 6. What the caller requires.
    if requirements.repository is not None and said.docker_reference != requirements.repository:
        raise _RejectedError(f"it was made for {said.docker_reference[:200]!r}")
    for name, value in requirements.annotations.items():
        if said.annotations.get(name) != value:
            raise _RejectedError(f"its annotation {name[:100]!r} is not {value[:100]!r}")
    return Verified(
        fingerprint=signer.fingerprint,
        payload=payload,
        docker_reference=said.docker_reference,
        annotations=said.annotations,
    )
