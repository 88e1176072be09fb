"""What runs where, which image serves which model, who answers for what; now and on a day."""

from typing import Annotated, Literal

from msgspec import Meta

from tidewaiter.access.roles import Permission
from tidewaiter.catalog import as_of, model_versions, owners
from tidewaiter.catalog.model_versions import ModelVersion
from tidewaiter.catalog.owners import Ownership
from tidewaiter.catalog.workloads import Place, Workload
from tidewaiter.core import clock
from tidewaiter.pipelines import tracing
from tidewaiter.policy import environments
from tidewaiter.web.api import fields
from tidewaiter.web.api.paging import Item, Paging, RowNumber, Text, cursor, position
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("running")
_READ = Permission.CATALOG_READ


class Known(Page[Item], frozen=True):
    """A part of a list about a day."""

    unknown: tuple[str, ...] = ()
    """What of that day is not known, in words."""


_Epoch = Annotated[float, Meta(ge=0, le=253_402_300_799)]
"""Seconds, up to the year 9999."""


def _place(text: str) -> Place | None:
    found = position(text, tuple[Text, Text, Text, Text, Text, _Epoch, RowNumber])
    return None if found is None else Place(*found[:5], clock.from_epoch(found[5]), found[6])


class RunningQuery(Paging, frozen=True, kw_only=True):
    """Which of them, when."""

    owner: fields.Owner = ""
    all: Annotated[bool, Meta(description="Also what is gone.")] = False
    as_of: fields.AsOf = ""


class WorkloadsQuery(RunningQuery, frozen=True, kw_only=True):
    """Which workloads, when."""

    not_allowed: Annotated[
        bool, Meta(description="Only what runs an image that no verdict allows in the environment where it runs.")
    ] = False


@ROUTES.get("/workloads", permission=_READ)
def list_workloads(ask: Ask, query: WorkloadsQuery) -> Known[Workload]:
    """What runs, by cluster, namespace and name."""
    found = tracing.workloads_part(
        ask.source.catalog,
        as_of_day=query.as_of,
        everything=query.all,
        owner=query.owner,
        not_allowed=query.not_allowed,
        said=environments.said_by(ask.source.settings),
        after=_place(query.after),
        rows=query.limit,
    )
    last = found.next
    following = None if last is None else (*last[:5], last.first_seen.timestamp(), last.row)
    return Known(found.items, cursor(following), found.unknown)


@ROUTES.get("/models", permission=_READ)
def list_models(ask: Ask, query: RunningQuery) -> Known[ModelVersion]:
    """Model versions and the images that serve them."""
    seen = position(query.after, tuple[Text, Text, _Epoch, RowNumber])
    at = as_of.moment(query.as_of, clock.now())
    with ask.source.catalog.database.reading() as connection:
        found = model_versions.part(
            connection,
            at,
            everything=query.all,
            owner=query.owner,
            after=None if seen is None else model_versions.Place(*seen[:2], clock.from_epoch(seen[2]), seen[3]),
            rows=query.limit,
        )
        return Known(found.items, cursor(found.next), as_of.unknown(connection, at, "models", "owners"))


class OwnersQuery(Paging, frozen=True, kw_only=True):
    """Which of them, when."""

    kind: Annotated[
        Literal["", "repository", "namespace", "workload", "model"], Meta(description="Of what kind of thing.")
    ] = ""
    owner: fields.Owner = ""
    as_of: fields.AsOf = ""


@ROUTES.get("/owners", permission=_READ)
def list_owners(ask: Ask, query: OwnersQuery) -> Known[Ownership]:
    """Who answers for repositories, namespaces, workloads and models; the nearest owner counts."""
    after = position(query.after, tuple[Text, Text])
    at = as_of.moment(query.as_of, clock.now())
    with ask.source.catalog.database.reading() as connection:
        found = owners.part(connection, at, kind=query.kind, owner=query.owner, after=after, rows=query.limit)
        return Known(found.items, cursor(found.next), as_of.unknown(connection, at, "owners"))
