"""Bundles of entries: read back as they were written, and refused when anything is missing or too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, LimitError
from tidewaiter.signing.tlog import entries


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_a_bundle_is_read_back(given_entries: list[bytes]) -> None:
    """Entries of any bytes, empty ones too."""
    assert entries.parse(entries.encode(given_entries), len(given_entries)) == given_entries


def test_the_form_is_that_of_the_specification() -> None:
    """Two bytes of length, the larger first, before each entry."""
    assert entries.encode([b"ab", b"", b"c" * 258]) == b"\0\x02ab\0\0\x01\x02" + b"c" * 258


@pytest.mark.parametrize(("data", "width"), [(b"", 1), (b"\0", 1), (b"\0\x02a", 1), (b"\0\x01a", 0), (b"\0\x01a", 2)])
def test_a_bundle_of_another_length_is_refused(data: bytes, width: int) -> None:
    """Fewer entries, more of them, or half of one."""
    with pytest.raises(IntegrityError):
        entries.parse(data, width)


def test_an_entry_has_a_largest_size() -> None:
    """65,535 bytes are an entry, one more is none."""
    longest = b"x" * limits.LOG_ENTRY_BYTES
    assert entries.parse(entries.encode([longest]), 1) == [longest]
    with pytest.raises(LimitError, match="65536"):
        entries.encode([longest + b"x"])
