"""When schedules come round: as another implementation says, and on the days when clocks change."""

import datetime as dt
import itertools

import pytest
from croniter import croniter  # type: ignore[import-untyped]  # it has no types
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewaiter.core import cron
from tidewaiter.core.errors import InputError

UTC = dt.UTC


def times(line: str, zone: str, after: dt.datetime, count: int) -> list[str]:
    """The next times, as they are in UTC."""
    turns, found = cron.turns(line, "", zone), []
    for _ in range(count):
        after = turns.after(after)
        found.append(after.strftime("%m-%d %H:%M"))
    return found


def _field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    # croniter takes a range of one number for the whole round.
    span = st.lists(number, min_size=2, max_size=2, unique=True).map(lambda both: f"{min(both)}-{max(both)}")
    step = st.builds(lambda one, width: f"{one}/{width}", st.one_of(st.just("*"), span), st.integers(1, 7))
    one = st.one_of(st.just("*"), number.map(str), span, step)
    return st.lists(one, min_size=1, max_size=3).map(",".join)


# Days up to 28: a 30th of February never comes, which is another test.
_LINES = st.tuples(_field(0, 59), _field(0, 23), st.one_of(st.just("*"), st.integers(1, 28).map(str)), _field(1, 12))


@settings(deadline=None, max_examples=25)  # croniter may search for long
@given(line=_LINES, weekday=st.one_of(st.just("*"), st.integers(0, 6).map(str)), begin=st.integers(0, 2 * 10**9))
def test_times_are_those_of_croniter(line: tuple[str, ...], weekday: str, begin: int) -> None:
    """In UTC, of lists, ranges and steps, with either day or both, the next five times are croniter's."""
    text = " ".join((*line, weekday))
    now = dt.datetime.fromtimestamp(begin, UTC)
    ours, theirs = cron.turns(text, "", "UTC"), croniter(text, now)
    for _ in range(5):
        now = ours.after(now)
        assert now == theirs.get_next(dt.datetime)


def test_names_and_short_forms() -> None:
    """Names of months and days, 7 for Sunday, and `@weekly`."""
    begin = dt.datetime(2026, 11, 22, 12, tzinfo=UTC)  # a Sunday
    assert times("0 6 * dec mon-fri", "UTC", begin, 2) == ["12-01 06:00", "12-02 06:00"]
    assert times("0 0 * * 7", "UTC", begin, 1) == times("@weekly", "UTC", begin, 1) == ["11-29 00:00"]
    assert times("30 2 29 2 *", "UTC", begin, 1) == ["02-29 02:30"]


def test_a_time_that_the_clock_skips_comes_later_once() -> None:
    """On 29 March 2026 Berlin's clock goes from 2:00 to 3:00: what is set for 2:30 comes at 3:30, that day."""
    begin = dt.datetime(2026, 3, 27, 12, tzinfo=UTC)
    assert times("30 2 * * *", "Europe/Berlin", begin, 3) == ["03-28 01:30", "03-29 01:30", "03-30 00:30"]


def test_a_time_that_comes_twice_counts_once() -> None:
    """On 25 October 2026 Berlin's clock shows 2:30 twice: what is set for it comes the first time only."""
    begin = dt.datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert times("30 2 * * *", "Europe/Berlin", begin, 2) == ["10-25 00:30", "10-26 01:30"]


@pytest.mark.parametrize("begin", [dt.datetime(2026, 3, 28, 23, tzinfo=UTC), dt.datetime(2026, 10, 24, 23, tzinfo=UTC)])
def test_what_comes_every_hour_is_not_moved_by_clocks(begin: dt.datetime) -> None:
    """Every 30 minutes is every 30 minutes, on both days."""
    turns, found = cron.turns("*/30 * * * *", "", "Europe/Berlin"), [begin]
    for _ in range(10):
        found.append(turns.after(found[-1]))
    assert {later - one for one, later in itertools.pairwise(found)} == {dt.timedelta(minutes=30)}


def test_zones_far_from_utc() -> None:
    """In Shanghai half past two in the morning of a weekday is the evening before in UTC."""
    begin = dt.datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert times("30 2 * * 1", "Asia/Shanghai", begin, 2) == ["11-22 18:30", "11-29 18:30"]
    assert times("0 0 * * *", "Pacific/Auckland", begin, 1) == ["11-23 11:00"]


def test_every_so_often() -> None:
    """Six hours are six hours from the beginning of 1970, wherever one begins to count."""
    turns = cron.turns("", "6h", "UTC")
    assert turns.after(dt.datetime(2026, 1, 1, 5, 59, 59, tzinfo=UTC)) == dt.datetime(2026, 1, 1, 6, tzinfo=UTC)
    assert turns.after(dt.datetime(2026, 1, 1, 6, tzinfo=UTC)) == dt.datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "every", "zone"),
    [
        ("", "", "UTC"),
        ("* * * * *", "5m", "UTC"),
        ("* * * *", "", "UTC"),
        ("60 * * * *", "", "UTC"),
        ("* * 0 * *", "", "UTC"),
        ("5-1 * * * *", "", "UTC"),
        ("*/0 * * * *", "", "UTC"),
        ("x * * * *", "", "UTC"),
        ("0 0 30 2 *", "", "UTC"),
        ("0 0 * * *", "", "Mars/Base"),
        ("0 0 * * *", "", "../../etc/passwd"),
        ("", "0m", "UTC"),
        ("", "5", "UTC"),
        ("", "999999d", "UTC"),
        ("٣ * * * *", "", "UTC"),
    ],
)
def test_what_means_nothing_is_refused(line: str, every: str, zone: str) -> None:
    """Malformed lines and zones, days that never come, and both ways at once."""
    with pytest.raises(InputError):
        cron.turns(line, every, zone)
