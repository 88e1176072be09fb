"""DSSE envelopes (secure-systems-lab/dsse, protocol and envelope v1): bytes of a stated type, signed.

What is signed is the pre-authentication encoding of type and payload, so that nothing of it can be read in two
ways. No key ID is written: cosign skips a signature whose key ID it does not know.
"""

import base64
from collections.abc import Mapping, Sequence

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotVerifiedError
from tidewaiter.oci.digest import Digest
from tidewaiter.signing import strict_base64, strict_json
from tidewaiter.signing.keys import PublicKey, Signer

MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
"""Payload type of in-toto statements."""

_REFUSE = "Refuse this attestation: it is broken."
_FIELDS = {name.casefold(): name for name in ("payload", "payloadType", "signatures", "sig", "keyid")}


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


def sign(payload: bytes, key: Signer, *, payload_type: str = IN_TOTO) -> bytes:
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
    _unambiguous(document)
    payload_type, signatures = document.get("payloadType"), document.get("signatures")
    if not isinstance(payload_type, str) or not isinstance(signatures, list):
        raise InputError("the envelope lacks a payload type or signatures", next_step=_REFUSE)
    if len(signatures) > limits.SIGNATURE_LAYERS:
        raise LimitError(f"the envelope has {len(signatures)} signatures", next_step=_REFUSE)
    return Envelope(
        payload_type=payload_type,
        payload=strict_base64.decode(document.get("payload"), "the envelope's payload", url_safe=True),
        signatures=tuple(map(_signature, signatures)),
    )


def _signature(given: object) -> bytes:
    if not isinstance(given, dict) or not isinstance(given.get("keyid", ""), str):
        raise InputError("a signature of the envelope is malformed", next_step=_REFUSE)
    _unambiguous(given)
    return strict_base64.decode(given.get("sig"), "a signature of the envelope", url_safe=True)


def _unambiguous(given: Mapping[str, object]) -> None:
    """Refuse fields that are known ones to some readers only: Go folds case, protobuf takes snake case as well."""
    for name in given:
        if _FIELDS.get(name.replace("_", "").casefold(), name) != name:
            raise InputError(f"the envelope's field {name[:80]!r} is another one to some readers", next_step=_REFUSE)


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
