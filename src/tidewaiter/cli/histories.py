"""What lists of histories have in common: columns of a period, and what of a day is not known."""

import datetime as dt
from collections.abc import Iterable
from typing import Protocol

from tidewaiter.cli.console import emit
from tidewaiter.core import clock

COLUMNS = ("first seen", "last seen", "gone")


class Period(Protocol):
    """Of a workload or a model version."""

    @property
    def first_seen(self) -> dt.datetime: ...

    @property
    def last_seen(self) -> dt.datetime: ...

    @property
    def gone_at(self) -> dt.datetime | None: ...


def cells(one: Period) -> tuple[str, str, str]:
    """What stands in `COLUMNS`."""
    gone = "" if one.gone_at is None else clock.rfc3339(one.gone_at)
    return clock.rfc3339(one.first_seen), clock.rfc3339(one.last_seen), gone


def emit_unknown(texts: Iterable[str]) -> None:
    """Say what of the day is not known."""
    for text in texts:
        emit(f"not known: {text}")
