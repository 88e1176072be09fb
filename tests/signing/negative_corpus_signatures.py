"""Negative corpus, steps 3 and 4: what is no signature of this image by a key that may sign it."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from negative_corpus_world import (
    CI,
    DEVELOPER,
    GOOD,
    IMAGE,
    NOW,
    OTHER,
    REPOSITORY,
    SERVER,
    SPDX,
    STRANGER,
    Case,
    World,
    at,
    attestation,
    b64,
    bundled,
    envelope,
    found,
    good,
    image_signature,
    payload,
    placed,
    provenance,
    statement,
    subject,
    tag_signature,
    the,
)

from tidewaiter.core import limits
from tidewaiter.oci import digest as digests
from tidewaiter.signing import dsse, predicates
from tidewaiter.signing.gathered import Found
from tidewaiter.signing.keyring import Scope
from tidewaiter.signing.trust import Trust

KIND = predicates.SIGNATURE
PLAIN = payload()
HEX = digests.hexadecimal(IMAGE)


def _edited(**changes: Any) -> bytes:
    """The payload with other top-level fields."""
    return json.dumps({**json.loads(PLAIN), **changes}).encode()


def _critical(**changes: Any) -> bytes:
    critical = json.loads(PLAIN)["critical"]
    return _edited(critical={**critical, **changes})


def _names(text: object) -> bytes:
    return _critical(image={"docker-manifest-digest": text})


def _der(r: bytes, s: bytes) -> bytes:
    body = b"\x02" + bytes([len(r)]) + r + b"\x02" + bytes([len(s)]) + s
    return b"\x30" + bytes([len(body)]) + body


def _raw(signature: bytes) -> bytes:
    """r and s without ASN.1, as JWS and PKCS#11 have them."""
    length = signature[3]
    r, s = signature[4 : 4 + length], signature[6 + length :]
    return r[-32:].rjust(32, b"\0") + s[-32:].rjust(32, b"\0")


def _by_other_means() -> dict[str, bytes]:
    """Signatures over the payload by keys and in ways that are not ECDSA P-256 with SHA-256."""
    p384 = ec.generate_private_key(ec.SECP384R1())
    rsa_key = rsa.generate_private_key(65537, 2048)
    good_one = CI.sign(PLAIN)
    return {
        "by a P-384 key": p384.sign(PLAIN, ec.ECDSA(hashes.SHA256())),
        "by an RSA key": rsa_key.sign(PLAIN, padding.PKCS1v15(), hashes.SHA256()),
        "by an Ed25519 key": ed25519.Ed25519PrivateKey.generate().sign(PLAIN),
        "by the right key over SHA-512": CI._key.sign(PLAIN, ec.ECDSA(hashes.SHA512())),
        "by the right key over the digest of the payload, hashed twice": CI.sign(bytes.fromhex(HEX)),
        "by the right key over the payload's base64": CI.sign(b64(PLAIN).encode()),
        "by the right key over an envelope's encoding of the payload": CI.sign(dsse.pae(dsse.IN_TOTO, PLAIN)),
        "followed by a byte": good_one + b"\0",
        "in a form without ASN.1": _raw(good_one),
        "cut off at its end": good_one[:-1],
        "with a length of two bytes where one is enough": b"\x30\x81" + good_one[1:],
        "of zeros": _der(b"\0", b"\0"),
        "with a zero for s": _der(good_one[4 : 4 + good_one[3]], b"\0"),
        "that is empty": b"",
        "in base64 instead of bytes": b64(good_one).encode(),
    }


def _tag(name: str, one: Found) -> Case:
    return the(f"a signature {name}", 3, "invalid", GOOD.but(signature=one))


_PAYLOADS = {
    "of another image": payload(OTHER),
    "of another kind of payload": _critical(type="atomic container signature"),
    "whose payload names the image twice": PLAIN.replace(
        b'"docker-manifest-digest":', b'"docker-manifest-digest":"%b","docker-manifest-digest":' % OTHER.encode()
    ),
    "whose payload names the image twice, once with an escape": PLAIN.replace(
        b'"docker-manifest-digest":', b'"docker-manifest-diges\\u0074":"%b","docker-manifest-digest":' % OTHER.encode()
    ),
    "whose payload has `critical` twice": PLAIN[:-1] + b',"critical":{}}',
    "whose payload has an unknown field": _edited(more=1),
    "whose payload has an unknown critical field": _critical(expires="never"),
    "whose payload has `Critical` beside `critical`": _edited(Critical=json.loads(payload(OTHER))["critical"]),
    "whose digest is in capitals": _names(f"sha256:{HEX.upper()}"),
    "whose digest ends with a line feed": _names(f"{IMAGE}\n"),
    "whose digest has a zero byte": _names(f"{IMAGE}\0"),
    "whose digest is a list": _names([IMAGE]),
    "whose digest is cut short": _names(IMAGE[:-1]),
    "whose digest is SHA-512 of the same manifest": _names("sha512:" + "0" * 128),
    "whose digest lacks its algorithm": _names(HEX),
    "whose annotations are a list": _edited(optional=[1]),
    "whose payload is nested 30,000 deep": _edited(optional={"a": 1}).replace(
        b'"a": 1', b'"a": ' + b"[" * 30_000 + b"]" * 30_000
    ),
    "whose payload holds NaN": _edited(optional={"a": 1}).replace(b"1}", b"NaN}"),
    "whose payload holds a number of 10,000 digits": _edited(optional={"a": 1}).replace(b"1}", b"1" * 10_000 + b"}"),
    "whose payload starts with a byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "whose payload is UTF-16": PLAIN.decode().encode("utf-16"),
    "whose payload is not UTF-8": PLAIN.replace(b"vision", b"vis\xffion"),
    "whose payload goes on after its end": PLAIN + b"{}",
    "whose payload is cut short": PLAIN[:-1],
    "whose payload is empty": b"",
    "whose payload is a list of payloads": b"[%b]" % PLAIN,
    "whose payload is over the limit": _edited(optional={"a": "x" * limits.PAYLOAD_BYTES}),
    "whose payload is an in-toto statement": statement(KIND, {}),
    "whose payload is an envelope": envelope(statement(KIND, {}), CI),
}

TAG = [
    the("no signature at all", 3, "absent", GOOD.but(signature=())),
    _tag("by a stranger", tag_signature(PLAIN, STRANGER)),
    _tag("over other bytes than those beside it", tag_signature(PLAIN, signature=CI.sign(payload(OTHER)))),
    *(_tag(name, tag_signature(document)) for name, document in _PAYLOADS.items()),
    *(_tag(name, tag_signature(PLAIN, signature=made)) for name, made in _by_other_means().items()),
    the(
        "a payload that lies among attestations",
        3,
        "invalid",
        GOOD.but(signature=found("att", PLAIN, signature=CI.sign(PLAIN))),
    ),
    the(
        "a payload that lies in the place of a bundle",
        3,
        "invalid",
        GOOD.but(signature=found("bundle", PLAIN, signature=CI.sign(PLAIN), kind=KIND)),
    ),
    the(
        "an attestation whose envelope lies among signatures, with a signature over the whole envelope",
        3,
        "invalid",
        GOOD.but(signature=tag_signature(envelope(statement(predicates.SPDX, SPDX), CI))),
    ),
    the(
        "two signatures, of which one is by a stranger and one of another image",
        3,
        "invalid",
        GOOD.but(signature=(tag_signature(PLAIN, STRANGER), tag_signature(payload(OTHER)))),
    ),
    the(
        "a signature whose media type announces a statement of this image",
        3,
        "invalid",
        GOOD.but(signature=found("sig", statement(KIND, {}), signature=CI.sign(statement(KIND, {})), kind=KIND)),
    ),
]


# Signatures in bundles.


def _bundle(name: str, one: Found | bytes) -> Case:
    """A case in which the signature is this, found as a bundle that announces a signature."""
    item = found("bundle", one, kind=KIND) if isinstance(one, bytes) else one
    return the(f"a signature in a bundle {name}", 3, "invalid", good("bundle").but(signature=item))


def _signed(body: bytes, **more: Any) -> Found:
    return placed(envelope(body, CI, **more), "bundle", kind=KIND)


def _subjects(*subjects: object) -> Found:
    return _signed(statement(KIND, {}, subject=list(subjects)))


TRUE = statement(KIND, {})
UNPADDED = TRUE + b" " * ((1 - len(TRUE)) % 3)
TRUE_ENVELOPE = envelope(TRUE, CI)
SIGNATURE = json.loads(TRUE_ENVELOPE)["signatures"][0]
HINT = {"publicKey": {"hint": b64(b"\0" * 32)}}
CERTIFICATE = {"certificate": {"rawBytes": b64(b"\x30\x00")}}

_SUBJECTS: dict[str, tuple[object, ...]] = {
    "of another image": (subject(OTHER),),
    "with no subject": (),
    "whose subject has no digest": ({"name": REPOSITORY},),
    "whose subject has an empty set of digests": ({"name": REPOSITORY, "digest": {}},),
    "that names the image but not by digest": ({"name": f"{REPOSITORY}@{IMAGE}", "digest": {"sha256": "0" * 64}},),
    "whose digest is in capitals": ({"name": "", "digest": {"sha256": HEX.upper()}},),
    "whose algorithm is in capitals": ({"name": "", "digest": {"SHA256": HEX}},),
    "whose digest repeats the algorithm": ({"name": "", "digest": {"sha256": IMAGE}},),
    "whose digest has white space": ({"name": "", "digest": {"sha256": f" {HEX}"}},),
    "whose SHA-256 is right and whose SHA-512 lies": (
        {"name": "", "digest": {"sha256": HEX, "sha512": digests.hexadecimal(OTHER) * 2}},
    ),
    "whose SHA-512 has the digits of the image's SHA-256": ({"name": "", "digest": {"sha512": HEX}},),
    "whose digest is a list": ({"name": "", "digest": {"sha256": [HEX]}},),
    "whose subject is text": (IMAGE,),
    "whose subject has an unknown field": ({**subject(), "Digest": {"sha256": HEX}},),
}

_STATEMENTS: dict[str, bytes] = {
    "of a statement of version 2": statement(KIND, {}, _type="https://in-toto.io/Statement/v2"),
    "of a statement without a type": statement(KIND, {}, _type=None),
    "of a statement whose type has a slash more": statement(KIND, {}, _type="https://in-toto.io/Statement/v1/"),
    "of a statement of version 0.1 in snake case": statement(
        KIND, {}, _type="https://in-toto.io/Statement/v0.1", predicateType=None, predicate_type=KIND
    ),
    "of a statement with an unknown field": statement(KIND, {}, expires="never"),
    "of a statement with `Subject` beside `subject`": statement(KIND, {}, Subject=[subject(OTHER)]),
    "of a statement that has its subject twice": TRUE[:-1] + b',"subject":[]}',
    "of a statement whose predicate is a list": statement(KIND, []),
    "of a statement whose predicate is text": statement(KIND, "yes"),
    "of a statement whose predicate type is a list": statement(KIND, {}, predicateType=[KIND]),
    "of a statement whose predicate type is missing": statement(KIND, {}, predicateType=None),
    "of a statement nested 100,000 deep": statement(KIND, {"a": 1}).replace(
        b'"a": 1', b'"a": ' + b"[" * 100_000 + b"]" * 100_000
    ),
    "of a statement that is cut short": TRUE[:-1],
    "of a signature's payload": PLAIN,
    "of another predicate type: an SBOM, announced as a signature": statement(predicates.SPDX, SPDX),
    "of another predicate type: a provenance, announced as a signature": statement(predicates.PROVENANCE, provenance()),
    "of another predicate type: one that only starts like it": statement(f"{KIND}.1", {}),
    "of another predicate type: the same in capitals": statement(KIND.upper(), {}),
    "of another predicate type: the same with a slash at its end": statement(f"{KIND}/", {}),
    "of another predicate type: the same with a look-alike letter": statement(KIND.replace("o", "о"), {}),  # noqa: RUF001 - that is the attack
    "of another predicate type: the same with a percent sign": statement(KIND.replace("v1", "%761"), {}),
    "of another predicate type: the same without TLS": statement(KIND.replace("https", "http"), {}),
}

_ENVELOPES: dict[str, Found] = {
    "by a stranger, with the hint of a trusted key": image_signature(STRANGER, "bundle"),
    "by a stranger, with the key ID of a trusted key": placed(
        envelope(
            TRUE,
            STRANGER,
            signatures=[{"sig": b64(STRANGER.sign(dsse.pae(dsse.IN_TOTO, TRUE))), "keyid": CI.public.fingerprint}],
        ),
        "bundle",
        kind=KIND,
    ),
    "of a payload type that is not in-toto": _signed(TRUE, payloadType="application/json"),
    "of a payload type that is not in-toto, truly signed": _signed(
        TRUE, signed=dsse.pae("text/plain", TRUE), payloadType="text/plain"
    ),
    "of a payload type with a lone surrogate": _signed(TRUE, payloadType="\ud800"),
    "signed without the envelope's encoding": _signed(TRUE, signed=TRUE),
    "signed over the base64 of its payload": _signed(TRUE, signed=dsse.pae(dsse.IN_TOTO, b64(TRUE).encode())),
    "signed with lengths of another split of type and payload": _signed(
        TRUE, signed=b"DSSEv1 %d %b %d %b" % (len(dsse.IN_TOTO) + 2, dsse.IN_TOTO.encode(), len(TRUE) - 2, TRUE)
    ),
    "signed with the encoding of another version": _signed(
        TRUE, signed=dsse.pae(dsse.IN_TOTO, TRUE).replace(b"DSSEv1", b"DSSEv2")
    ),
    "whose payload is not base64": _signed(TRUE, payload="%%%%"),
    "whose base64 has line feeds": _signed(TRUE, payload=b64(TRUE)[:40] + "\n" + b64(TRUE)[40:]),
    "whose base64 lacks its padding": _signed(UNPADDED, payload=b64(UNPADDED).rstrip("=")),
    "with two signatures, both true": _signed(TRUE, signatures=[SIGNATURE, SIGNATURE]),
    "with two signatures, the first by a stranger": _signed(
        TRUE, signatures=[{"sig": b64(STRANGER.sign(dsse.pae(dsse.IN_TOTO, TRUE)))}, SIGNATURE]
    ),
    "without a signature": _signed(TRUE, signatures=[]),
    "whose signature is an object": _signed(TRUE, signatures={"sig": SIGNATURE["sig"]}),
    "whose signature is empty": _signed(TRUE, signatures=[{"sig": ""}]),
    "whose signature has a second name in another case": _signed(TRUE, signatures=[{**SIGNATURE, "Sig": "AAAA"}]),
}


_DOCUMENTS: dict[str, bytes] = {
    "of version 0.1": bundled(TRUE_ENVELOPE, mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
    "of no version": bundled(TRUE_ENVELOPE, mediaType=None),
    "with a certificate instead of a key": bundled(TRUE_ENVELOPE, verificationMaterial=CERTIFICATE),
    "with a certificate beside the key": bundled(TRUE_ENVELOPE, verificationMaterial={**HINT, **CERTIFICATE}),
    "without verification material": bundled(TRUE_ENVELOPE, verificationMaterial=None),
    "with an unknown field": bundled(TRUE_ENVELOPE, more=1),
    "with an envelope in snake case beside the other": bundled(
        TRUE_ENVELOPE, dsse_envelope=json.loads(envelope(statement(KIND, {}, image=OTHER), CI))
    ),
    "with a signature of a message instead of an envelope": bundled(
        TRUE_ENVELOPE,
        dsseEnvelope=None,
        messageSignature={"messageDigest": {"algorithm": "SHA2_256", "digest": b64(bytes.fromhex(HEX))}},
    ),
    "with its envelope twice": bundled(TRUE_ENVELOPE)[:-1] + b',"dsseEnvelope":{}}',
    "that is cut short": bundled(TRUE_ENVELOPE)[:-1],
    "that is an envelope without a bundle": TRUE_ENVELOPE,
    "that is empty": b"",
}


def _oversize(_folder: Path) -> World:
    document = bundled(TRUE_ENVELOPE) + b" " * limits.ATTESTATION_BYTES
    return good("bundle").but(signature=found("bundle", document, kind=KIND))


BUNDLE = [
    the("no signature among bundles, but attestations", 3, "absent", good("bundle").but(signature=())),
    *(_bundle(name, _subjects(*subjects)) for name, subjects in _SUBJECTS.items()),
    *(_bundle(name, _signed(body)) for name, body in _STATEMENTS.items()),
    *(_bundle(name, one) for name, one in _ENVELOPES.items()),
    *(_bundle(name, document) for name, document in _DOCUMENTS.items()),
    Case("a bundle that is over the limit", 3, "invalid", _oversize),
    the(
        "an attestation in a bundle, in place of a signature",
        3,
        "absent",
        good("bundle").but(signature=attestation(predicates.OPENVEX, {"@context": "x"}, CI, "bundle")),
    ),
    the(
        "the statement of a signature that lies among attestations of the tag format",
        3,
        "invalid",
        GOOD.but(signature=attestation(KIND, {}, CI, "tag")),
    ),
]


# Keys and times.


def _of(name: str, signed_at: object) -> Case:
    return the(f"a signature {name}", 4, "invalid", GOOD.but(signature=tag_signature(payload(signed_at=signed_at))))


def _signature_only(trust: Trust) -> dict[str, Any]:
    """Changes of the policy after which only a signature is asked for."""
    return {"ring": trust.ring, "demanded": (KIND,)}


ALONE = GOOD.trusting(**_signature_only(GOOD.trust))
EARLIER = ALONE.but(signature=image_signature(CI, signed_at=at(hours=2)))
UNTIMED = ALONE.but(signature=image_signature(CI))


def _with(name: str, **changes: Any) -> Case:
    return the(name, 4, "invalid", EARLIER.with_key("ci", **changes))


TIMES = [
    _of("from the future", NOW + dt.timedelta(seconds=limits.CLOCK_SKEW_SECONDS + 1)),
    _of("from the year 9999", "9999-12-31T23:59:59Z"),
    _of("at a time that is none", "yesterday"),
    _of("at a time without a zone", "2026-11-22T10:00:00"),
    _of("at a time that is a number", 1_700_000_000),
    _of("at a time that is empty", ""),
    _of("at a time before all times", "0001-01-01T00:00:00+23:59"),
    the(
        "a bundle with a signature from the future",
        4,
        "invalid",
        good("bundle").but(signature=image_signature(CI, "bundle", signed_at=NOW + dt.timedelta(hours=1))),
    ),
]

KEYS = [
    _with("a signature by a revoked key", revoked_at=at(hours=1)),
    _with("a signature that claims to be from before its key was revoked", revoked_at=at(minutes=1)),
    _with("a signature by a key that will be revoked only later", revoked_at=NOW + dt.timedelta(days=1)),
    _with("a signature from after its key's time", valid_until=at(hours=3)),
    _with("a signature from the very moment at which its key's time was over", valid_until=at(hours=2)),
    _with("a signature from before its key's time", valid_from=at(hours=1)),
    the(
        "a signature without a time, by a key whose time is over",
        4,
        "invalid",
        UNTIMED.with_key("ci", valid_until=at(seconds=1)),
    ),
    the(
        "a signature without a time, by a key whose time has not come",
        4,
        "invalid",
        UNTIMED.with_key("ci", valid_from=NOW + dt.timedelta(seconds=1)),
    ),
    _with("a signature by a key for other repositories", scope=Scope(repositories=("registry.example/audio/*",))),
    _with(
        "a signature by a key for a repository that only starts alike",
        scope=Scope(repositories=("registry.example/vision",)),
    ),
    the(
        "a signature by a key for one host, of an image on another that starts alike",
        4,
        "invalid",
        EARLIER.asked(repository="registry.example.evil/vision/classifier").with_key(
            "ci", scope=Scope(repositories=("registry.example/*",))
        ),
    ),
    the(
        "a signature by a key for some repositories, of an image that lies nobody knows where",
        4,
        "invalid",
        EARLIER.asked(repository="").with_key("ci", scope=Scope(repositories=("registry.example/*",))),
    ),
    _with("a signature by a key for another environment", scope=Scope(environments=("staging",))),
    _with("a signature by a key that may attest SBOMs only", scope=Scope(predicates=(predicates.SPDX,))),
    the("a signature by the key of verdicts", 4, "invalid", ALONE.but(signature=image_signature(SERVER))),
    the("a signature by a developer's own key", 4, "invalid", ALONE.but(signature=image_signature(DEVELOPER))),
    the(
        "a signature by a key that the ring has twice, once revoked",
        4,
        "invalid",
        EARLIER.trusting(
            ring=(
                *EARLIER.trust.ring,
                msgspec.structs.replace(EARLIER.trust.ring[1], name="ci-again", revoked_at=at(days=1)),
            )
        ),
    ),
    the("a policy whose only keys are developers' own", 1, "invalid", ALONE.trusting(ring=ALONE.trust.ring[:1])),
    the("a policy without a key", 1, "absent", ALONE.but(signature=()).trusting(ring=())),
]

CASES = [*TAG, *BUNDLE, *TIMES, *KEYS]
