"""JSON of signed documents: what two parsers could read differently is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.signing import strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=3), st.booleans())
def test_plain_documents_are_read(document: dict[str, Any], escaped: bool) -> None:
    """As they were written, characters escaped or not."""
    assert strict_json.loads(json.dumps(document, ensure_ascii=escaped).encode()) == document


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":1}',
        b'{"b":{"a":1,"a":2}}',
        b'{"b":[{"a":1,"a":2}]}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":-1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\uDFFF\\ud800"}',
        b'{"\\udc00":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":1} {"a":1}',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":"\n"}',
        b"[]",
        b'"a"',
        b"null",
        b"",
        b'{"a":' * 30_000,
        b'{"a":' + b"1" * 10_000 + b"}",
    ],
    ids=range(26),
)
def test_what_readers_differ_about_is_refused(data: bytes) -> None:
    """Doubled keys, half characters, numbers that are none or infinite, other encodings, and what is no object."""
    with pytest.raises(InputError):
        strict_json.loads(data, limit=1 << 20)


def test_bound() -> None:
    """The limit can be reached, and not passed."""
    assert strict_json.loads(b'{"a":1}', limit=7) == {"a": 1}
    with pytest.raises(LimitError):
        strict_json.loads(b'{"a":1}', limit=6)
