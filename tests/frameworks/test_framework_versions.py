import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.frameworks import versions


@pytest.mark.parametrize(
    ("text", "numbers", "series", "release"),
    [
        ("12.5.82", (12, 5, 82), "12.5", "12.5"),
        ("12", (12,), "", ""),
        ("2.15.0.post1", (2, 15, 0), "2.15", "2.15"),
        ("2.16.0rc0", (2, 16, 0), "2.16", ""),
        ("2.15.0+nv24.3", (2, 15, 0), "2.15", ""),
        ("2.23.0.dev20261026", (2, 23, 0), "2.23", ""),
        ("x2.1", (), "", ""),
        ("", (), "", ""),
    ],
)
def test_parts_of_versions(text: str, numbers: tuple[int, ...], series: str, release: str) -> None:
    """Numbers stand at the beginning; a series has two of them; only final releases have a release series."""
    assert versions.numbers(text) == numbers
    assert versions.series(text) == series
    assert versions.release_series(text) == release
    assert versions.major(text) == (numbers[0] if numbers else None)


@given(st.text(max_size=60))
def test_any_text_is_a_version_or_none(text: str) -> None:
    """What images say is hostile; no text makes an error, and what comes out is digits and dots."""
    assert all(number < 10**6 for number in versions.numbers(text))
    assert set(versions.series(text)) <= set("0123456789.")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (("3.9", "3.10", "3.11"), "3.9-3.11"),
        (("3.9",), "3.9"),
        (("2.7", "3.5", "3.6"), "2.7, 3.5, 3.6"),
        (("3.9", "3.11"), "3.9, 3.11"),
    ],
)
def test_ranges_leave_nothing_out(found: tuple[str, ...], text: str) -> None:
    """A range is written only where every minor version between its ends belongs to it."""
    assert versions.ranged(found) == text
