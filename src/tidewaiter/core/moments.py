"""Days and moments, as people write them: `2027-06-30`, or `2027-06-30T12:00:00Z`."""

import datetime as dt

from tidewaiter.core import clock
from tidewaiter.core.errors import InputError

_DAY = "2027-06-30"


def begin(text: str) -> dt.datetime:
    """The beginning of the day `text`, or the moment that it names with its zone; raises `InputError`."""
    return _moment(text, dt.timedelta(0))


def end(text: str) -> dt.datetime:
    """The end of the day `text`, or the moment that it names with its zone; raises `InputError`."""
    return _moment(text, dt.timedelta(days=1))


def exact(text: str) -> dt.datetime:
    """The moment that `text` names with its zone; raises `InputError`, also for a day."""
    try:
        return clock.parse_rfc3339(text).replace(microsecond=0)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{text[:60]!r} is no moment", next_step=f"Write it like {_DAY}T12:00:00Z.") from error


def _moment(text: str, of_day: dt.timedelta) -> dt.datetime:
    try:
        if len(text) == len(_DAY):
            return clock.parse_rfc3339(f"{text}T00:00:00Z") + of_day
        return clock.parse_rfc3339(text).replace(microsecond=0)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{text[:60]!r} is no day", next_step=f"Write it like {_DAY}, or {_DAY}T12:00:00Z.") from error
