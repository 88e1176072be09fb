"""Sigstore bundles, version 0.3 (sigstore/protobuf-specs, `sigstore_bundle.proto`): one DSSE envelope, signed once.

Bundles are protobuf messages in JSON. What protobuf's leniency would let another reader see differently is refused:
fields under two names, fields twice, unknown fields, several signatures. A key signed it or whoever a certificate names
(keyless), never both: who vouches must not depend on the reader. Of bundles signed by a key, entries of transparency
logs and timestamps are passed over.
"""

import base64
import hashlib
from typing import Any, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.signing import dsse, strict_json
from tidewaiter.signing.keys import PublicKey

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_REFUSE = "Refuse this bundle: it is broken, or made in a way that is not read here."
_FIELDS = frozenset({"mediaType", "verificationMaterial", "dsseEnvelope"})
_MATERIAL = frozenset({"publicKey", "certificate", "tlogEntries", "timestampVerificationData"})
_ENVELOPE = frozenset({"payload", "payloadType", "signatures"})
_PUBLIC_KEY = frozenset({"hint"})
_CERTIFICATE = frozenset({"rawBytes"})
_SIGNATURE = frozenset({"sig", "keyid"})


class Bundle(msgspec.Struct, frozen=True):
    """What a bundle holds, believed by nobody yet."""

    envelope: bytes
    """A DSSE envelope with one signature, as the bytes that stand in the bundle."""
    by: Literal["key", "certificate"]
    """What its signature is to be verified with."""
    hint: str = ""
    """Which key signed, in the signer's words: for people, never relied on."""


class _Material(msgspec.Struct):
    public_key: dict[str, str] | msgspec.UnsetType = msgspec.field(name="publicKey", default=msgspec.UNSET)
    certificate: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    tlog_entries: list[dict[str, Any]] = msgspec.field(name="tlogEntries", default_factory=list)
    timestamps: dict[str, Any] = msgspec.field(name="timestampVerificationData", default_factory=dict)


class _Wire(msgspec.Struct):
    media_type: str = msgspec.field(name="mediaType")
    material: _Material = msgspec.field(name="verificationMaterial")
    envelope: msgspec.Raw = msgspec.field(name="dsseEnvelope")


def hint(public: PublicKey) -> str:
    """What sigstore's clients write as the hint of a key: base64 of SHA-256 of its SubjectPublicKeyInfo."""
    return base64.b64encode(hashlib.sha256(public.der).digest()).decode()


def encode(envelope: bytes, public: PublicKey) -> bytes:
    """The bundle of the DSSE envelope `envelope`, which the private half of `public` signed.

    Raises:
        InputError: the envelope is none that `parse` would hand back, or (LimitError) too large.
    """
    data = b'{"mediaType":%b,"verificationMaterial":{"publicKey":{"hint":%b}},"dsseEnvelope":%b}' % (
        msgspec.json.encode(MEDIA_TYPE),
        msgspec.json.encode(hint(public)),
        envelope,
    )
    parse(data)
    return data


def parse(data: bytes, *, limit: int = limits.ATTESTATION_BYTES) -> Bundle:
    """What the bundle `data` holds.

    Raises:
        LimitError: it is over `limit` bytes.
        InputError: it is malformed, of another version, unsigned, signed more than once, with a chain of certificates
            or with both key and certificate, or has fields that readers could differ about.
    """
    document = strict_json.loads(data, limit=limit)
    if document.get("mediaType") != MEDIA_TYPE:
        raise InputError(
            f"the bundle is of type {str(document.get('mediaType'))[:100]!r}, not {MEDIA_TYPE!r}", next_step=_REFUSE
        )
    material = document.get("verificationMaterial")
    if isinstance(material, dict) and "x509CertificateChain" in material:
        raise InputError("the bundle has a chain of certificates, as older versions have", next_step=_REFUSE)
    if isinstance(material, dict) and ("certificate" in material) == ("publicKey" in material):
        raise InputError("the bundle has both a key and a certificate, or neither", next_step=_REFUSE)
    _only(document, _FIELDS, "the bundle")
    _only(material, _MATERIAL, "the bundle's verification material")
    envelope = _only(document.get("dsseEnvelope"), _ENVELOPE, "the bundle's envelope")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise InputError("the bundle does not hold exactly one signature", next_step=_REFUSE)
    _only(signatures[0], _SIGNATURE, "the bundle's signature")
    try:
        wire = msgspec.json.decode(data, type=_Wire)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(f"the bundle is malformed: {error}", next_step=_REFUSE) from error
    dsse.parse(bytes(wire.envelope), limit=limit)
    if wire.material.public_key is msgspec.UNSET:
        _only(wire.material.certificate, _CERTIFICATE, "the bundle's certificate")
        return Bundle(envelope=bytes(wire.envelope), by="certificate")
    _only(wire.material.public_key, _PUBLIC_KEY, "the bundle's public key")
    return Bundle(envelope=bytes(wire.envelope), by="key", hint=wire.material.public_key.get("hint", ""))


def _only(value: object, known: frozenset[str], what: str) -> dict[str, Any]:
    """`value`, an object without other fields than `known`."""
    if not isinstance(value, dict):
        raise InputError(f"{what} is no object", next_step=_REFUSE)
    if value.keys() - known:
        unknown = ", ".join(sorted(value.keys() - known))
        raise InputError(f"{what} has unknown fields: {unknown[:200]}", next_step=_REFUSE)
    return value
