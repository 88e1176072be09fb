"""When something comes round again: lines of a crontab in a time zone, or every so often.

A clock that is put forward skips times: what is set for one of them comes as much later, once. One that is put back
shows times twice: what is set for one of them comes the first time only. Lines that come every hour are counted in
real hours on both days.
"""

import datetime as dt
import re
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from tidewaiter.core.errors import InputError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_LONGEST_SECONDS = 366 * 86_400
_CHARACTERS = 200
_AHEAD_DAYS = 366 * 9
"""Within nine years there is a 29th of February, also around a year such as 2100."""
_NEXT_STEP = (
    'Write cron = "30 2 * * 1-5" with five fields, or every = "6h" (m, h or d), and a zone such as Asia/Shanghai.'
)


class Turns(Protocol):
    """Says when something comes."""

    def after(self, moment: dt.datetime) -> dt.datetime:
        """The first time behind `moment`, in UTC."""


class Every(msgspec.Struct, frozen=True):
    """Every so many seconds, counted from the beginning of 1970."""

    seconds: int

    def after(self, moment: dt.datetime) -> dt.datetime:
        """The first time behind `moment`, in UTC."""
        return dt.datetime.fromtimestamp((int(moment.timestamp()) // self.seconds + 1) * self.seconds, dt.UTC)


class Crontab(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a crontab."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either: bool
    """Whether a day fits when the month's or the week's does: both are given."""
    hourly: bool
    """Whether it comes in every hour."""
    zone: str

    def after(self, moment: dt.datetime) -> dt.datetime:
        """The first time behind `moment`, in UTC."""
        zone = _zone(self.zone)
        # A day earlier: what stands in it may come after midnight when the clock is put forward then.
        day = moment.astimezone(zone).date() - dt.timedelta(days=1)
        for _ in range(_AHEAD_DAYS):
            if self._fits(day):
                later = [one for one in self._on(day, zone) if one > moment]
                if later:
                    return min(later)
            day += dt.timedelta(days=1)
        raise InputError("it never comes", next_step="Name a day that the month has.")

    def _fits(self, day: dt.date) -> bool:
        of_month, of_week = day.day in self.days, (day.weekday() + 1) % 7 in self.weekdays
        return day.month in self.months and (of_month or of_week if self.either else of_month and of_week)

    def _on(self, day: dt.date, zone: dt.tzinfo) -> list[dt.datetime]:
        """The times of a day; those that its clock skips come later, or not at all when every hour has one."""
        found = []
        for hour in self.hours:
            for minute in self.minutes:
                shown = dt.datetime.combine(day, dt.time(hour, minute))
                for fold in (0, 1) if self.hourly else (0,):
                    real = shown.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC)
                    exists = real.astimezone(zone).replace(tzinfo=None) == shown
                    if exists or not self.hourly:
                        found.append(real)
        return found


def turns(line: str, every: str, zone: str) -> Turns:
    """What a crontab line in a zone, or `every`, says; one of them is empty. Raises `InputError`."""
    if bool(line) == bool(every):
        raise InputError("it needs either cron or every", next_step=_NEXT_STEP)
    if every:
        found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", every)
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 0 < seconds <= _LONGEST_SECONDS:
            raise InputError(f"every is {every[:40]!a}", next_step=_NEXT_STEP)
        return Every(seconds)
    try:
        _zone(zone)
    except (OSError, KeyError, ValueError) as error:  # unknown, or no name of a zone at all
        raise InputError(f"timezone {zone[:60]!a} is not known here", next_step=_NEXT_STEP) from error
    text = _NAMED.get(line.strip().lower(), line)
    fields = text.split()
    if len(text) > _CHARACTERS or len(fields) != 5:
        raise InputError(f"cron {line[:60]!a} does not have five fields", next_step=_NEXT_STEP)
    minutes, hours, days, months, weekdays = fields
    found_days, found_weekdays = _field(days, 1, 31), _field(weekdays, 0, 7, _DAYS)
    made = Crontab(
        minutes=_field(minutes, 0, 59),
        hours=_field(hours, 0, 23),
        days=found_days,
        months=_field(months, 1, 12, _MONTHS),
        weekdays=frozenset(one % 7 for one in found_weekdays),
        either=not days.startswith("*") and not weekdays.startswith("*"),
        hourly=len(_field(hours, 0, 23)) == 24,
        zone=zone,
    )
    made.after(dt.datetime(2000, 1, 1, tzinfo=dt.UTC))  # a 30th of February never comes
    return made


def _zone(name: str) -> dt.tzinfo:
    """The zone of that name. UTC is known also where the machine has no list of zones."""
    return dt.UTC if name == "UTC" else ZoneInfo(name)


def _field(text: str, least: int, most: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    """The numbers that a field means: `*`, `3`, `1-5`, `*/15`, `8-18/2`, names, and lists of them."""
    found: set[int] = set()
    for part in text.lower().split(","):
        given, slash, step = part.partition("/")
        low, dash, high = given.partition("-")
        begin, end = (least, most) if given == "*" else (_number(low, least, names), _number(high, least, names))
        if given != "*" and not dash:
            end = most if slash else begin
        width = _number(step, 0, ()) if slash else 1
        if not (least <= begin <= end <= most) or width < 1:
            raise InputError(f"cron field {text[:40]!a} means nothing", next_step=_NEXT_STEP)
        found.update(range(begin, end + 1, width))
    return frozenset(found)


def _number(text: str, least: int, names: tuple[str, ...]) -> int:
    """A number, or a name in its place; -1 when it is neither."""
    if text in names:
        return names.index(text) + least
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else -1
