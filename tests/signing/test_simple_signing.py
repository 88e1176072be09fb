"""`signing.simple_signing`: the payload's bytes, and what is refused as one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci import digest as digests
from tidewaiter.signing import simple_signing

IMAGE = digests.of(b"image")
GOOD = simple_signing.encode("host/repo", IMAGE)


def test_the_payload_is_what_cosign_writes() -> None:
    """Order, spacing and `null` are exact."""
    assert (
        b'{"critical":{"identity":{"docker-reference":"host/repo"},"image":{"docker-manifest-digest":"'
        + IMAGE.encode()
        + b'"},"type":"cosign container image signature"},"optional":null}'
    ) == GOOD


def test_annotations_are_sorted_and_escaped_as_go_does() -> None:
    """`<>&` and the two line separators are escaped, other text is UTF-8, keys are in order."""
    payload = simple_signing.encode("r", IMAGE, {"z": "<&>\u2028", "a": 'é"\n\x01\x7f'})
    assert payload.endswith('"optional":{"a":"é\\"\\n\\u0001\x7f","z":"\\u003c\\u0026\\u003e\\u2028"}}'.encode())


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), min_size=1, max_size=5))
def test_annotations_survive_the_round_trip(annotations: dict[str, str]) -> None:
    """Whatever Unicode goes in comes out of the strict parser unchanged."""
    try:
        payload = simple_signing.encode("r", IMAGE, annotations)
    except InputError:
        assert any(0xD800 <= ord(c) <= 0xDFFF for text in [*annotations, *annotations.values()] for c in text)
        return
    assert simple_signing.parse(payload) == simple_signing.Payload("r", IMAGE, annotations)


def test_lone_surrogates_are_bad_input() -> None:
    """Text that is not Unicode cannot be signed."""
    with pytest.raises(InputError):
        simple_signing.encode("r", IMAGE, {"a": "\ud800"})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"{" * 10_000,
        b'{"a":' * 10_000,
        GOOD + b"x",
        GOOD.replace(b'"optional":null', b'"optional":null,"optional":{}'),
        GOOD.replace(b'"optional":null', b'"optional":null,"Critical":{}'),
        GOOD.replace(b'"type":', b'"more":1,"type":'),
        GOOD.replace(b'"type":', b'"type":"x","type":'),
        GOOD.replace(b"cosign container", b"cosign  container"),
        GOOD.replace(IMAGE.encode(), b"sha256:00"),
        GOOD.replace(IMAGE.encode(), b"latest"),
        GOOD.replace(b'"host/repo"', b"7"),
        GOOD.replace(b'"optional":null', b'"optional":"x"'),
        GOOD.replace(b'"optional":null', b'"optional":{"a":NaN}'),
        GOOD.replace(b'"optional":null', b'"optional":{"a":' + b"1" * 5000 + b"}"),
        json.dumps({"critical": None}).encode(),
        json.dumps({"critical": {"identity": {}, "image": {}, "type": simple_signing.TYPE}}).encode(),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    """Malformed, doubled, unknown or missing parts are bad input, never a crash and never a pass."""
    with pytest.raises(InputError):
        simple_signing.parse(data)


def test_the_size_is_bounded() -> None:
    """PAYLOAD_BYTES holds from both sides."""
    fits = GOOD.ljust(limits.PAYLOAD_BYTES)
    assert simple_signing.parse(fits).digest == IMAGE
    with pytest.raises(LimitError):
        simple_signing.parse(fits + b" ")


def test_what_would_not_be_read_is_not_written() -> None:
    """PAYLOAD_BYTES holds from both sides for what is to be signed, too: nobody signs what nobody would verify."""
    room = limits.PAYLOAD_BYTES - len(simple_signing.encode("r", IMAGE, {"a": ""}))
    assert len(simple_signing.encode("r", IMAGE, {"a": "x" * room})) == limits.PAYLOAD_BYTES
    with pytest.raises(LimitError, match="payload has"):
        simple_signing.encode("r", IMAGE, {"a": "x" * (room + 1)})
