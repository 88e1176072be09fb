"""What reaches what: advisories and packages down to what runs, and the way of anything up and down."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidewaiter.access.roles import Permission
from tidewaiter.advisories.database import Database
from tidewaiter.catalog.answers import Use
from tidewaiter.catalog.reach.affected import Concerned, Wanted
from tidewaiter.catalog.resemblance import Resemblances
from tidewaiter.catalog.trace.graph import Trace
from tidewaiter.core import limits
from tidewaiter.pipelines import affected, tracing
from tidewaiter.policy import environments
from tidewaiter.web.api import fields
from tidewaiter.web.api.paging import Paging, part
from tidewaiter.web.api.route import Ask, Page, Routes

ROUTES = Routes("lineage")
_READ = Permission.CATALOG_READ
_Of = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.API_NAME_CHARACTERS,
        description="An advisory (CVE-…, GHSA-…, PYSEC-…), or a package URL with or without version.",
    ),
]


class AffectedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked about, and which part of the answer is wanted."""

    of: _Of
    running: Annotated[bool, Meta(description="Only images that a workload runs.")] = False
    owner: fields.Owner = ""
    as_of: fields.AsOf = ""
    rows: Annotated[
        int,
        Meta(
            ge=1,
            le=limits.API_ROWS,
            description="Name at most so many images, workloads and model versions, of each; all are counted.",
        ),
    ] = limits.AFFECTED_ROWS


@ROUTES.get("/affected", permission=_READ, errors=(404,))
def find_affected(ask: Ask, query: AffectedQuery) -> Concerned:
    """What an advisory touches, or a package is in: versions, images, workloads, model versions, owners; what to bump.

    404 when no advisory of that name is known here: it cannot be said what it touches then, neither yes nor no.
    """
    with Database(ask.source.home.advisories) as database:
        return affected.answer(
            ask.source.catalog,
            database,
            query.of,
            wanted=Wanted(running=query.running, owner=query.owner, rows=query.rows),
            as_of_day=query.as_of,
            said=environments.said_by(ask.source.settings),
        )


class UsesQuery(Paging, frozen=True, kw_only=True):
    """Of what."""

    of: _Of


@ROUTES.get("/uses", permission=_READ)
def list_uses(ask: Ask, query: UsesQuery) -> Page[Use]:
    """Images that contain a package, or a package that an advisory touches, by name."""
    found = ask.source.catalog.images_with(query.of)
    return part(found, lambda one: (one.name, one.digest, one.purl, one.advisory), query)


class TraceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked about, and how far."""

    of: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=limits.API_NAME_CHARACTERS,
            description="A tag (NAME:TAG), digest, commit, pipeline run, package (package URL or NAME@VERSION), "
            "workload (CLUSTER/NAMESPACE/NAME) or model version (NAME:VERSION); KIND: before it says which of them.",
        ),
    ]
    direction: Annotated[Literal["both", "up", "down"], Meta(description="What it comes from, or what it reaches.")] = (
        "both"
    )
    depth: Annotated[int, Meta(ge=1, le=limits.TRACE_DEPTH_LARGEST, description="At most so many steps each way.")] = (
        limits.TRACE_DEPTH
    )
    rows: Annotated[int, Meta(ge=1, le=limits.API_ROWS, description="At most so many of each kind, each way.")] = (
        limits.TRACE_ROWS
    )
    packages: Annotated[bool, Meta(description="On the way up also the packages of images and layers.")] = False
    as_of: fields.AsOf = ""


@ROUTES.get("/trace", permission=_READ, errors=(404,))
def trace_thing(ask: Ask, query: TraceQuery) -> Trace:
    """Where a thing comes from, and what it reaches.

    Up: image, build, commit, pipeline run, materials, base, layers. Down: images, tags, workloads that run them, model
    versions that they serve, images that rest on them. What a bound leaves out is said.
    """
    found = tracing.trace(
        ask.source.catalog,
        query.of,
        as_of_day=query.as_of,
        depth=query.depth,
        rows=query.rows,
        packages=query.packages,
        said=environments.said_by(ask.source.settings),
    )
    return found if query.direction == "both" else _one_way(found, up=query.direction == "up")


def _one_way(found: Trace, *, up: bool) -> Trace:
    """The part of a trace that is reached from its start by going one way only."""
    beyond: dict[str, list[str]] = {}
    for edge in found.edges:
        near, far = (edge.source, edge.target) if up else (edge.target, edge.source)
        beyond.setdefault(near, []).append(far)
    reached, waiting = set(found.start), list(found.start)
    while waiting:
        new = [far for far in beyond.get(waiting.pop(), ()) if far not in reached]
        reached.update(new)
        waiting += new
    return msgspec.structs.replace(
        found,
        nodes=tuple(node for node in found.nodes if node.id in reached),
        edges=tuple(edge for edge in found.edges if {edge.source, edge.target} <= reached),
        cut=tuple(cut for cut in found.cut if (cut.direction == "up") == up),
    )


class DuplicatesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How much alike."""

    similarity: Annotated[
        float, Meta(ge=0.5, le=1, description="Packages that two sets share, of all that either has.")
    ] = 0.9
    limit: Annotated[int, Meta(ge=1, le=limits.API_PAGE_ITEMS, description="At most so many groups.")] = (
        limits.PAGE_ROWS
    )


@ROUTES.get("/duplicates", permission=_READ)
def list_duplicates(ask: Ask, query: DuplicatesQuery) -> Resemblances:
    """Groups of package sets that are nearly the same, those with the most images first.

    Images whose packages no other image has are in the list of images, by its filter `snowflake`.
    """
    return ask.source.catalog.resemblances(threshold=query.similarity, rows=query.limit)
