"""Times as they are written and read."""

import datetime as dt

import pytest

from tidewaiter.core import clock


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC), "2026-01-02T03:04:05Z"),
        (dt.datetime(1, 1, 1, tzinfo=dt.UTC), "0001-01-01T00:00:00Z"),
        (dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=8))), "2025-12-31T17:00:00Z"),
    ],
)
def test_rfc3339(moment: dt.datetime, text: str) -> None:
    """Times are written in UTC with whole seconds and four-digit years, and read back the same."""
    assert clock.rfc3339(moment) == text
    assert clock.parse_rfc3339(text) == moment.replace(microsecond=0)


def test_a_time_without_zone_is_refused() -> None:
    """A time that could be in any zone is no time."""
    with pytest.raises(ValueError, match="no time zone"):
        clock.parse_rfc3339("2026-01-02T03:04:05")
