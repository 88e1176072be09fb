"""Days and moments, as people write them."""

import datetime as dt

import pytest

from tidewaiter.core import moments
from tidewaiter.core.errors import InputError

DAY = dt.datetime(2027, 6, 30, tzinfo=dt.UTC)


def test_a_day_has_a_beginning_and_an_end() -> None:
    """A moment is itself, in UTC and whole seconds, whichever is asked for."""
    assert (moments.begin("2027-06-30"), moments.end("2027-06-30")) == (DAY, DAY + dt.timedelta(days=1))
    for read in (moments.begin, moments.end, moments.exact):
        assert read("2027-06-30T02:00:00.7+02:00") == DAY


@pytest.mark.parametrize(
    "text", ["", "30.06.2027", "2027-02-30", "9999-12-31", "2027-06-30T12:00:00", "x" * 4096, "\u202e"]
)
def test_what_is_no_day_is_refused(text: str) -> None:
    """Also one without a zone, and a day whose end is after all days; `exact` refuses days."""
    for read in (moments.end, moments.exact):
        with pytest.raises(InputError):
            read(text)
    with pytest.raises(InputError):
        moments.exact("2027-06-30")
