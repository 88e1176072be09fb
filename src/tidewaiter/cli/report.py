"""`report`: figures about all images."""

import datetime as dt
from typing import Annotated

from tidewaiter.catalog.lead_times import LeadTime, LeadTimes, Leg, Share
from tidewaiter.cli import console, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock, limits, moments
from tidewaiter.pipelines import reporting
from tidewaiter.policy import environments


def lead_times(
    *,
    owner: str = "",
    since: str = "",
    rows: int = limits.LEAD_TIME_ROWS,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Show how long images take from their commit to being cleared, and to being first seen running.

    Median and 90th percentile, of all images, by owner, and by the month in which they were first built. What is not
    known of an image is told and not counted.

    Args:
        owner: only of repositories that this owner answers for.
        since: only images that were first built on this day (2027-06-30) or later, or since a moment.
        rows: name at most so many images; all are counted.
        output: text or json.
    """
    begin = moments.begin(since) if since else None
    found = _found(owner, begin, rows)
    if output == "json":
        emit_json(found)
        return 0
    shares = [("all", found.total), *((one.name or "nobody is known", one) for one in found.owners)]
    shares += [(one.name, one) for one in found.months]
    console.table(
        ("of", "images", "commit to cleared", "cleared to running", "commit to running"),
        [_share(name, one) for name, one in shares],
    )
    if found.images:
        emit()
        console.table(
            ("image", "digest", "environment", "commit", "committed", "cleared", "running"),
            [_image(one) for one in found.images],
        )
    if found.cut:
        emit(f"not all are named: {found.total.images} images; --rows names more")
    return 0


def _found(owner: str, since: dt.datetime | None, rows: int) -> LeadTimes:
    with remote.opened() as server:
        if server is not None:
            begin = "" if since is None else clock.rfc3339(since)
            return server.get("/reports/lead-times", LeadTimes, {"owner": owner, "since": begin, "rows": rows})
    with workshop(looking=True) as shop:
        said = environments.said_by(shop.settings)
        return reporting.lead_times(shop.catalog, owner=owner, since=since, rows=rows, said=said)


def _share(name: str, one: Share) -> tuple[str, ...]:
    legs = (one.commit_to_cleared, one.cleared_to_running, one.commit_to_running)
    return (name, str(one.images), *map(_leg, legs))


def _leg(leg: Leg) -> str:
    if leg.median is None or leg.p90 is None:
        return f"not known of {leg.unknown}"
    missing = f", not known of {leg.unknown}" if leg.unknown else ""
    return f"{duration(leg.median)}, 90 % {duration(leg.p90)}{missing}"


def _image(one: LeadTime) -> tuple[str, ...]:
    shown = [clock.rfc3339(at) if at else "not known" for at in (one.committed, one.cleared, one.running)]
    return (one.repository, one.digest, one.environment, one.commit[:12], *shown)


def duration(seconds: float) -> str:
    """Seconds for people: `45 s`, `12 min`, `3.5 h`, `2.0 d`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} d"
