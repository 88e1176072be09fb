"""DSSE envelopes: exact bytes are signed, two spellings of base64 are read, and nothing unsigned is believed."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotVerifiedError
from tidewaiter.signing import dsse, keys

KEY = keys.create()
OTHER = keys.create()


def envelope(**changes: Any) -> bytes:
    """A good envelope of `hello`, with fields replaced."""
    document: dict[str, Any] = json.loads(dsse.sign(b"hello", KEY))
    return json.dumps({**document, **changes}).encode()


def test_pae_of_the_specification() -> None:
    """The test vector of the DSSE protocol; lengths are in bytes."""
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


@given(st.text(), st.binary(), st.text(), st.binary())
def test_pae_tells_everything_apart(kind: str, payload: bytes, other_kind: str, other_payload: bytes) -> None:
    """Two pairs of type and payload have the same encoding only when they are the same pair."""
    same = (kind, payload) == (other_kind, other_payload)
    assert (dsse.pae(kind, payload) == dsse.pae(other_kind, other_payload)) == same


def test_another_implementation_verifies() -> None:
    """The signature is plain ECDSA over the encoding, written as standard base64, and there is no key ID."""
    document = json.loads(dsse.sign(b'{"a":1}', KEY))
    assert document.keys() == {"payload", "payloadType", "signatures"}
    (signature,) = document["signatures"]
    assert signature.keys() == {"sig"}
    public = serialization.load_pem_public_key(KEY.public.pem)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signed = b'DSSEv1 28 application/vnd.in-toto+json 7 {"a":1}'
    public.verify(base64.b64decode(signature["sig"], validate=True), signed, ec.ECDSA(hashes.SHA256()))
    assert base64.b64decode(document["payload"], validate=True) == b'{"a":1}'


def test_what_was_signed_comes_back() -> None:
    """A trusted key's envelope verifies, with the key named; also one in URL-safe base64 or with unknown fields."""
    payload = bytes(range(256))
    written = dsse.sign(payload, KEY)
    found = dsse.verify(written, [OTHER.public, KEY.public])
    assert (found.payload, found.fingerprint) == (payload, KEY.public.fingerprint)
    url_safe = json.loads(written)
    url_safe["payload"] = base64.urlsafe_b64encode(payload).decode()
    url_safe["extra"] = {"of": "a later version"}
    assert "_" in url_safe["payload"]
    assert dsse.verify(json.dumps(url_safe).encode(), [KEY.public]).payload == payload


def test_one_good_signature_of_several_is_enough() -> None:
    """Signatures of strangers, and such that are none, do not hide the one that counts."""
    good = json.loads(envelope())["signatures"]
    stranger = json.loads(dsse.sign(b"hello", OTHER))["signatures"]
    rubbish = [{"sig": base64.b64encode(b"rubbish").decode(), "keyid": "x"}]
    assert dsse.verify(envelope(signatures=stranger + rubbish + good), [KEY.public]).payload == b"hello"


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": base64.b64encode(b"hullo").decode()},
        {"payloadType": "application/vnd.in-toto+jso"},
        {"payloadType": None},
        {"payload": None},
        {"payload": "!"},
        {"payload": base64.b64encode(b"hello").decode() + "\n"},
        {"signatures": []},
        {"signatures": None},
        {"signatures": [{}]},
        {"signatures": ["sig"]},
        {"signatures": [{"sig": ""}]},
        {"signatures": [{"sig": 5}]},
    ],
    ids=str,
)
def test_a_changed_envelope_is_refused(changes: dict[str, Any]) -> None:
    """Whatever is changed, the answer is that it does not hold."""
    assert dsse.verify(envelope(), [KEY.public]).payload == b"hello"
    with pytest.raises(NotVerifiedError):
        dsse.verify(envelope(**changes), [KEY.public])


def test_the_type_is_signed_and_asked_for() -> None:
    """An envelope of another type is refused though its signature holds; relabelling it breaks the signature."""
    other = dsse.sign(b"hello", KEY, payload_type="text/plain")
    assert dsse.verify(other, [KEY.public], payload_type="text/plain").payload == b"hello"
    with pytest.raises(NotVerifiedError, match="text/plain"):
        dsse.verify(other, [KEY.public])
    relabelled = json.dumps({**json.loads(other), "payloadType": dsse.IN_TOTO}).encode()
    with pytest.raises(NotVerifiedError, match="no trusted key"):
        dsse.verify(relabelled, [KEY.public])


def test_nobody_trusted_is_no_trust() -> None:
    """Without keys, and with a stranger's only, nothing is verified."""
    with pytest.raises(NotVerifiedError) as caught:
        dsse.verify(envelope(), [])
    assert caught.value.code == "no_trusted_key"
    with pytest.raises(NotVerifiedError):
        dsse.verify(envelope(), [OTHER.public])


def test_two_readings_are_refused() -> None:
    """A field that stands twice is refused: two parsers could read it differently."""
    twice = envelope()[:-1] + b', "payload": "aHVsbG8="}'
    with pytest.raises(InputError, match="twice"):
        dsse.parse(twice)


@pytest.mark.parametrize("name", ["Payload", "PAYLOAD", "payload_type", "PayloadType", "Signatures"])
def test_fields_that_some_readers_take_for_known_ones_are_refused(name: str) -> None:
    """Go folds the case of names and protobuf takes snake case too: beside the true field, such a one may win."""
    with pytest.raises(InputError, match="another one"):
        dsse.parse(envelope(**{name: "aHVsbG8="}))


@pytest.mark.parametrize("name", ["Sig", "SIG", "KeyID", "key_id"])
def test_so_are_those_of_signatures(name: str) -> None:
    """The same inside a signature."""
    (signature,) = json.loads(envelope())["signatures"]
    with pytest.raises(InputError, match="another one"):
        dsse.parse(envelope(signatures=[{**signature, name: "AAAA"}]))


@pytest.mark.parametrize(
    "text", ["AB==", "AA=", "AA===", "AAAA====", "AA==AA==", "A A=", "AAA=\n", "+A-A", "/A_A", "é"]
)
def test_base64_has_one_spelling(text: str) -> None:
    """Stray bits, missing or needless padding, white space and two alphabets in one text are refused."""
    assert dsse.parse(envelope(payload="AA==")).payload == b"\0"
    with pytest.raises(InputError, match="base64"):
        dsse.parse(envelope(payload=text))


def test_bounds() -> None:
    """Bytes and signatures are bounded, and both bounds can be reached."""
    written = envelope()
    assert dsse.parse(written, limit=len(written)).payload == b"hello"
    with pytest.raises(LimitError):
        dsse.parse(written, limit=len(written) - 1)
    one = json.loads(written)["signatures"]
    assert len(dsse.parse(envelope(signatures=one * limits.SIGNATURE_LAYERS)).signatures) == limits.SIGNATURE_LAYERS
    with pytest.raises(LimitError):
        dsse.parse(envelope(signatures=one * (limits.SIGNATURE_LAYERS + 1)))
