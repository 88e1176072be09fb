"""Step: figures about all images, for people who plan."""

import datetime as dt

from tidewaiter.catalog import lead_times as times
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.lead_times import LeadTime, LeadTimes
from tidewaiter.core import limits
from tidewaiter.policy.environments import NOTHING_SAID, Environments


def ways(catalog: Catalog, digest: str, said: Environments) -> tuple[LeadTime, ...]:
    """When an image was committed, cleared and first seen running, as `catalog.lead_times.of_image`."""
    with catalog.database.reading() as connection:
        return times.of_image(connection, digest, said)


def lead_times(
    catalog: Catalog,
    *,
    owner: str = "",
    since: dt.datetime | None = None,
    rows: int = limits.LEAD_TIME_ROWS,
    said: Environments = NOTHING_SAID,
) -> LeadTimes:
    """Lead times from commit to cleared to running, as `catalog.lead_times.report`."""
    with catalog.database.reading() as connection:
        return times.report(connection, said, owner=owner, since=since, rows=rows)
