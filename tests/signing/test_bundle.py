"""Sigstore bundles: one envelope, one signature, one reading."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.signing import bundle, dsse, keys

KEY = keys.create()
ENVELOPE = dsse.sign(b'{"a":"\xc3\xa9"}', KEY)
GOOD = bundle.encode(ENVELOPE, KEY.public)
Change = Callable[[dict[str, Any]], object]


def changed(change: Change) -> bytes:
    """The good bundle with a change."""
    document = json.loads(GOOD)
    change(document)
    return json.dumps(document).encode()


def test_it_is_as_sigstores_clients_write_it() -> None:
    """Media type, hint of the key, and the envelope as it is; what is written is read back."""
    assert json.loads(GOOD) == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": {"hint": base64.b64encode(hashlib.sha256(KEY.public.der).digest()).decode()}
        },
        "dsseEnvelope": json.loads(ENVELOPE),
    }
    found = bundle.parse(GOOD)
    assert found.envelope == ENVELOPE
    assert found.hint == bundle.hint(KEY.public)
    assert dsse.verify(found.envelope, [KEY.public], payload_type=dsse.IN_TOTO).payload == b'{"a":"\xc3\xa9"}'


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it["verificationMaterial"].update(tlogEntries=[]),
        lambda it: it["verificationMaterial"].update(tlogEntries=[{"logIndex": "1"}]),
        lambda it: it["verificationMaterial"].update(timestampVerificationData={"rfc3161Timestamps": []}),
        lambda it: it["verificationMaterial"].update(publicKey={}),
        lambda it: it["verificationMaterial"]["publicKey"].update(hint="anything"),
        lambda it: it["dsseEnvelope"]["signatures"][0].update(keyid="anything"),
    ],
    ids=range(6),
)
def test_what_is_not_relied_on_may_be_there(change: Change) -> None:
    """Log entries, timestamps, hint and key ID change nothing, and the stored bytes of the envelope come back."""
    data = changed(change)
    envelope = bundle.parse(data).envelope
    assert envelope in data
    assert dsse.parse(envelope) == dsse.parse(ENVELOPE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda it: it.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.2"), "of type"),
        (lambda it: it.update(mediaType="application/vnd.dev.sigstore.bundle.v0.4+json"), "of type"),
        (lambda it: it.update(mediaType=None), "of type"),
        (lambda it: it.update(mediaType=["application/vnd.dev.sigstore.bundle.v0.3+json"]), "of type"),
        (lambda it: it.pop("mediaType"), "of type"),
        (lambda it: it.update(media_type=it["mediaType"]), "unknown fields: media_type"),
        (lambda it: it.update(dsse_envelope=it["dsseEnvelope"]), "unknown fields"),
        (lambda it: it.update(DsseEnvelope=it["dsseEnvelope"]), "unknown fields"),
        (lambda it: it.update(messageSignature={"signature": "AAAA"}), "unknown fields"),
        (lambda it: it.update(messageSignature=None), "unknown fields"),
        (lambda it: it.pop("dsseEnvelope"), "no object"),
        (lambda it: it.pop("verificationMaterial"), "no object"),
        (lambda it: it.update(verificationMaterial={}), "or neither"),
        (lambda it: it.update(verificationMaterial=[]), "no object"),
        (lambda it: it["verificationMaterial"].update(certificate={"rawBytes": "AAAA"}), "certificate"),
        (lambda it: it.update(verificationMaterial={"certificate": {"rawBytes": "AAAA", "pem": ""}}), "unknown fields"),
        (lambda it: it.update(verificationMaterial={"x509CertificateChain": {"certificates": []}}), "certificate"),
        (lambda it: it["verificationMaterial"].update(public_key={"hint": "x"}), "unknown fields"),
        (lambda it: it["verificationMaterial"].update(publicKey=None), "malformed"),
        (lambda it: it["verificationMaterial"]["publicKey"].update(hint=5), "malformed"),
        (lambda it: it["verificationMaterial"]["publicKey"].update(rawBytes="AAAA"), "unknown fields"),
        (lambda it: it["verificationMaterial"].update(tlogEntries={}), "malformed"),
        (lambda it: it["verificationMaterial"].update(tlogEntries=[1]), "malformed"),
        (lambda it: it["verificationMaterial"].update(timestampVerificationData=[]), "malformed"),
        (lambda it: it["dsseEnvelope"].update(signatures=[]), "exactly one signature"),
        (lambda it: it["dsseEnvelope"].update(signatures=None), "exactly one signature"),
        (lambda it: it["dsseEnvelope"]["signatures"].append({"sig": "AAAA"}), "exactly one signature"),
        (lambda it: it["dsseEnvelope"]["signatures"][0].update(cert="x"), "unknown fields"),
        (lambda it: it["dsseEnvelope"]["signatures"][0].update(keyid=None), "malformed"),
        (lambda it: it["dsseEnvelope"]["signatures"][0].pop("sig"), "missing"),
        (lambda it: it["dsseEnvelope"].update(payload_type="x"), "unknown fields"),
        (lambda it: it["dsseEnvelope"].pop("payloadType"), "payload type"),
        (lambda it: it["dsseEnvelope"].update(payload=it["dsseEnvelope"]["payload"] + "\n"), "base64"),
        (lambda it: it["dsseEnvelope"].update(payload=it["dsseEnvelope"]["payload"].rstrip("=")), "base64"),
    ],
    ids=range(34),
)
def test_what_can_be_read_in_two_ways_is_refused(change: Change, reason: str) -> None:
    """Unknown and doubled names, other versions, other material, and any number of signatures but one."""
    with pytest.raises(InputError, match=reason):
        bundle.parse(changed(change))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"mediaType"', b'{"mediaType":"x","mediaType"'),
        (b'{"hint"', b'{"hint":"x","hint"'),
        (b'"dsseEnvelope":', b'"dsseEnvelope":{},"dsseEnvelope":'),
        (b'{"payload":', b'{"payload":"AAAA","payload":'),
        (b'{"sig":', b'{"sig":"AAAA","sig":'),
        (b"}}", b"}}}"),
        (b'{"mediaType"', b'\xef\xbb\xbf{"mediaType"'),
        (b'{"mediaType"', b'{"\\u006dediaType":"x","mediaType"'),
        (b'"hint":"', b'"hint":"\xff'),
        (b'"hint":"', b'"hint":"\\ud800'),
        (GOOD, b"[]"),
        (GOOD, b""),
        (GOOD, b"[" * 100_000),
    ],
    ids=range(13),
)
def test_json_that_readers_differ_about_is_refused(old: bytes, new: bytes) -> None:
    """A field that stands twice, also when written differently, half characters, and what is no JSON."""
    data = GOOD.replace(old, new, 1)
    assert data != GOOD
    with pytest.raises(InputError):
        bundle.parse(data)


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"[]",
        b"{}",
        ENVELOPE + b',"mediaType":"x"',
        ENVELOPE + b',"dsseEnvelope":{}',
        ENVELOPE + b"}",
        json.dumps({**json.loads(ENVELOPE), "signatures": json.loads(ENVELOPE)["signatures"] * 2}).encode(),
    ],
    ids=range(7),
)
def test_we_write_no_bundle_that_we_would_refuse(envelope: bytes) -> None:
    """What is no envelope with one signature does not get into a bundle."""
    with pytest.raises(InputError):
        bundle.encode(envelope, KEY.public)


def test_bounds() -> None:
    """Bytes are bounded, and the bound can be reached, reading and writing."""
    assert bundle.parse(GOOD, limit=len(GOOD)).envelope == ENVELOPE
    with pytest.raises(LimitError):
        bundle.parse(GOOD, limit=len(GOOD) - 1)
    with pytest.raises(LimitError):
        bundle.encode(dsse.sign(b"x" * limits.ATTESTATION_BYTES, KEY), KEY.public)
