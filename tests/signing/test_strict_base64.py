"""Base64 of signed documents: exactly what an encoder writes."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core.errors import InputError
from tidewaiter.signing import strict_base64


@given(st.binary())
def test_what_encoders_write_is_read(data: bytes) -> None:
    """The standard alphabet always; the URL-safe one on request."""
    assert strict_base64.decode(base64.b64encode(data).decode(), "it") == data
    assert strict_base64.decode(base64.b64encode(data).decode(), "it", url_safe=True) == data
    assert strict_base64.decode(base64.urlsafe_b64encode(data).decode(), "it", url_safe=True) == data


@given(st.text(alphabet="AQ+/-_=\n é", max_size=9))
def test_whatever_is_read_is_what_an_encoder_writes(text: str) -> None:
    """No text but the encoder's own gives bytes, in either alphabet."""
    for url_safe, encoders in ((False, [base64.b64encode]), (True, [base64.b64encode, base64.urlsafe_b64encode])):
        try:
            data = strict_base64.decode(text, "it", url_safe=url_safe)
        except InputError:
            continue
        assert text in [encode(data).decode() for encode in encoders]


@pytest.mark.parametrize("given", [None, 5, b"AAAA", ["AAAA"], {}])
def test_what_is_no_text_is_missing(given: object) -> None:
    """The error names what is missing."""
    with pytest.raises(InputError, match="the signature is missing"):
        strict_base64.decode(given, "the signature")
