"""Figures over time."""

from typing import Annotated

import msgspec
from msgspec import Meta

from tidewaiter.access.roles import Permission
from tidewaiter.catalog.lead_times import LeadTimes
from tidewaiter.core import limits, moments
from tidewaiter.pipelines import reporting
from tidewaiter.policy import environments
from tidewaiter.web.api import fields
from tidewaiter.web.api.route import Ask, Routes

ROUTES = Routes("reports")


class LeadTimesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Of what."""

    owner: fields.Owner = ""
    since: fields.Moment = ""
    rows: Annotated[int, Meta(ge=1, le=limits.API_ROWS, description="Name at most so many images.")] = (
        limits.LEAD_TIME_ROWS
    )


@ROUTES.get("/reports/lead-times", permission=Permission.CATALOG_READ)
def report_lead_times(ask: Ask, query: LeadTimesQuery) -> LeadTimes:
    """How long images take from the commit to being cleared, and from there to running."""
    return reporting.lead_times(
        ask.source.catalog,
        owner=query.owner,
        since=moments.begin(query.since) if query.since else None,
        rows=query.rows,
        said=environments.said_by(ask.source.settings),
    )
