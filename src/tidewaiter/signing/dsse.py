"""DSSE envelopes (secure-systems-lab/dsse, protocol and envelope v1): bytes of a stated type, signed.

What is signed is the pre-authentication encoding of type and payload, so that nothing of it can be read in two
ways. No key ID is written: cosign skips a signature whose key ID it does not know.
"""

import base64
import binascii
from collections.abc import Sequence

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotVerifiedError
from tidewaiter.oci.digest import Digest
from tidewaiter.signing import strict_json
from tidewaiter.signing.keys import PrivateKey, PublicKey

MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
"""Payload type of in-toto statements."""

_REFUSE = "Refuse this attestation: it is broken."
_URL_SAFE = str.maketrans("-_", "+/")


class Envelope(msgspec.Struct, frozen=True):
    """What an envelope says, believed by nobody yet."""

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]


class Verified(msgspec.Struct, frozen=True):
    """A payload of the expected type that a trusted key signed."""

    payload: bytes
    fingerprint: Digest
    """Of that key."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: PrivateKey, *, payload_type: str = IN_TOTO) -> bytes:
    """An envelope with one signature, as canonical JSON."""
    signature = key.sign(pae(payload_type, payload))
    return msgspec.json.encode(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        }
    )


def parse(data: bytes, *, limit: int = limits.ATTESTATION_BYTES) -> Envelope:
    """The envelope in `data`. Unknown fields are passed over, as the format asks: nothing is read from them.

    Raises:
        LimitError: it is over `limit` bytes, or has more than `SIGNATURE_LAYERS` signatures.
        InputError: it is malformed.
    """
    document = strict_json.loads(data, limit=limit)
    payload_type, signatures = document.get("payloadType"), document.get("signatures")
    if not isinstance(payload_type, str) or not isinstance(signatures, list):
        raise InputError("the envelope lacks a payload type or signatures", next_step=_REFUSE)
    if len(signatures) > limits.SIGNATURE_LAYERS:
        raise LimitError(f"the envelope has {len(signatures)} signatures", next_step=_REFUSE)
    return Envelope(
        payload_type=payload_type,
        payload=_bytes(document.get("payload"), "payload"),
        signatures=tuple(_bytes(one.get("sig") if isinstance(one, dict) else None, "signature") for one in signatures),
    )


def _bytes(text: object, what: str) -> bytes:
    """Bytes in standard or URL-safe base64; readers of envelopes take both."""
    if not isinstance(text, str):
        raise InputError(f"the envelope's {what} is missing", next_step=_REFUSE)
    try:
        return base64.b64decode(text.translate(_URL_SAFE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"the envelope's {what} is not base64", next_step=_REFUSE) from error


def verify(
    data: bytes,
    public_keys: Sequence[PublicKey],
    *,
    payload_type: str = IN_TOTO,
    limit: int = limits.ATTESTATION_BYTES,
) -> Verified:
    """The payload of the envelope in `data`, signed by one of `public_keys`.

    1. Somebody is trusted.
    2. The envelope is well formed and bounded.
    3. Its payload is of the type asked for.
    4. One of its signatures over type and payload was made by a trusted key.

    Raises:
        NotVerifiedError: any of these does not hold.
    """
    # 1. Somebody is trusted.
    if not public_keys:
        raise NotVerifiedError(
            "no key is trusted, so nothing vouches for this attestation",
            next_step="Name the public key of whoever makes such attestations.",
            code="no_trusted_key",
        )
    # 2. Well formed and bounded.
    try:
        envelope = parse(data, limit=limit)
    except InputError as error:
        raise _invalid(error.message) from error
    # 3. Of the type asked for.
    if envelope.payload_type != payload_type:
        raise _invalid(f"its payload is {envelope.payload_type[:100]!r}, not {payload_type!r}")
    # 4. Signed by a trusted key.
    signed = pae(envelope.payload_type, envelope.payload)
    for signature in envelope.signatures:
        for key in public_keys:
            if key.holds(signature, signed):
                return Verified(payload=envelope.payload, fingerprint=key.fingerprint)
    raise _invalid("no trusted key signed it")


def _invalid(reason: str) -> NotVerifiedError:
    return NotVerifiedError(
        f"the attestation does not hold: {reason}",
        next_step="Do not rely on what it says; check that the right public key is trusted.",
        code="attestation_invalid",
    )
