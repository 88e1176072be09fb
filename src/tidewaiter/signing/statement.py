"""In-toto statements (attestation framework, Statement v1): a typed predicate about things named by digest."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.signing import dsse, predicates, strict_json
from tidewaiter.signing.keys import PublicKey, Signer

TYPE = "https://in-toto.io/Statement/v1"
_TYPES = (TYPE, "https://in-toto.io/Statement/v0.1")
"""The older form has the same fields with the same meaning, and cosign still writes it."""
_FIELDS = {"_type", "subject", "predicateType", "predicate"}
_SUBJECT_FIELDS = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
"""Of a resource descriptor (attestation framework, v1)."""
_REFUSE = "Refuse this attestation: it is broken or made for something else."


class Subject(msgspec.Struct, frozen=True):
    """What a statement is about."""

    name: str
    digests: Mapping[str, str]
    """Hexadecimal digits by algorithm."""
    annotations: Mapping[str, Any] = {}

    def is_(self, digest: Digest) -> bool:
        """Whether this is the thing with the digest `digest`."""
        return self.digests.get(digests.algorithm(digest)) == digests.hexadecimal(digest)


class Statement(msgspec.Struct, frozen=True):
    """A predicate of some type about subjects."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, Any]


class Attested(msgspec.Struct, frozen=True):
    """A statement that a trusted key signed."""

    statement: Statement
    fingerprint: Digest
    """Of that key."""


def about(name: str, digest: Digest) -> Subject:
    """A subject with one digest."""
    return Subject(name, {digests.algorithm(digest): digests.hexadecimal(digest)})


def image_signature(name: str, digest: Digest, annotations: Mapping[str, str] | None = None) -> Statement:
    """What an image signature in a bundle says: `name` (`HOST/REPO`) has `digest`, with these annotations.

    Annotations stand where cosign puts what `--annotations` gives it, and looks for it: at the subject.
    """
    subject = msgspec.structs.replace(about(name, digest), annotations=annotations or {})
    return Statement((subject,), predicates.SIGNATURE, {})


def encode(statement: Statement) -> bytes:
    """Canonical JSON: sorted keys, no white space."""
    document = {
        "_type": TYPE,
        "subject": [
            {"name": one.name, "digest": one.digests} | ({"annotations": one.annotations} if one.annotations else {})
            for one in statement.subjects
        ],
        "predicateType": statement.predicate_type,
        "predicate": statement.predicate,
    }
    return msgspec.json.encode(document, order="sorted")


def parse(payload: bytes, *, limit: int = limits.ATTESTATION_BYTES) -> Statement:
    """The statement in `payload`.

    Raises:
        InputError: it is no Statement v1 (or v0.1, which differs in name only), has unknown fields, a predicate that
            is no JSON object, or (LimitError) is over `limit`.
    """
    document = strict_json.loads(payload, limit=limit)
    if document.get("_type") not in _TYPES:
        raise InputError(f"the attestation is no {TYPE}", next_step=_REFUSE)
    if document.keys() - _FIELDS:
        unknown = ", ".join(sorted(document.keys() - _FIELDS))
        raise InputError(f"the attestation has unknown fields: {unknown[:200]}", next_step=_REFUSE)
    predicate_type, predicate = document.get("predicateType"), document.get("predicate", {})
    if predicate_type == predicates.SPDX and isinstance(predicate, str):
        # So `cosign attest --type spdx` writes it: the document as text.
        predicate = strict_json.loads(predicate.encode(), limit=limit)
    if not isinstance(predicate_type, str) or not predicate_type or not isinstance(predicate, dict):
        raise InputError("the attestation has no predicate type, or its predicate is no object", next_step=_REFUSE)
    subjects = document.get("subject")
    if not isinstance(subjects, list) or not subjects:
        raise InputError("the attestation has no subject", next_step=_REFUSE)
    return Statement(tuple(map(_subject, subjects)), predicate_type, predicate)


def _subject(given: object) -> Subject:
    if not isinstance(given, dict) or given.keys() - _SUBJECT_FIELDS:
        raise InputError("a subject of the attestation is no resource descriptor", next_step=_REFUSE)
    name, found, annotations = given.get("name", ""), given.get("digest"), given.get("annotations", {})
    if not isinstance(name, str) or not isinstance(found, dict) or not found:
        raise InputError("a subject of the attestation has no digest", next_step=_REFUSE)
    if not all(isinstance(value, str) for value in found.values()):
        raise InputError("a digest of the attestation is no text", next_step=_REFUSE)
    if not isinstance(annotations, dict):
        raise InputError("the annotations of a subject are no object", next_step=_REFUSE)
    return Subject(name, found, annotations)


def attest(statement: Statement, key: Signer) -> bytes:
    """The statement in a signed envelope."""
    return dsse.sign(encode(statement), key)


def verify(
    envelope: bytes,
    public_keys: Sequence[PublicKey],
    *,
    predicate_type: str,
    subject: Digest,
    limit: int = limits.ATTESTATION_BYTES,
) -> Attested:
    """The statement in `envelope`: signed by one of `public_keys`, of exactly this predicate type, about `subject`.

    1. The envelope holds an in-toto payload that a trusted key signed.
    2. The payload is a well-formed Statement v1.
    3. Its predicate type is the one asked for.
    4. One of its subjects is `subject`.

    Raises:
        NotVerifiedError: any of these does not hold.
    """
    # 1. Signed by a trusted key.
    signed = dsse.verify(envelope, public_keys, limit=limit)
    # 2. A statement.
    try:
        found = parse(signed.payload, limit=limit)
    except InputError as error:
        raise _invalid(error.message) from error
    # 3. Of this type.
    if found.predicate_type != predicate_type:
        raise _invalid(f"its predicate is {found.predicate_type[:200]!r}, not {predicate_type!r}")
    # 4. About this thing.
    if not any(one.is_(subject) for one in found.subjects):
        raise _invalid(f"it is not about {subject}")
    return Attested(statement=found, fingerprint=signed.fingerprint)


def _invalid(reason: str) -> NotVerifiedError:
    return NotVerifiedError(
        f"the attestation does not hold: {reason}",
        next_step="Do not rely on what it says; ask for an attestation about this very thing.",
        code="attestation_invalid",
    )
