"""The only place that reads the time."""

import datetime as dt


def now() -> dt.datetime:
    """Current time in UTC, with whole seconds."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def rfc3339(moment: dt.datetime) -> str:
    """Moment as RFC 3339 in UTC with a `Z`, for example `2026-01-31T12:00:00Z`."""
    return moment.astimezone(dt.UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def from_epoch(seconds: float) -> dt.datetime:
    """UTC moment of a Unix time in seconds."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def parse_rfc3339(text: str) -> dt.datetime:
    """UTC moment of an RFC 3339 time; raises `ValueError` when it is none or has no zone."""
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return moment.astimezone(dt.UTC)
