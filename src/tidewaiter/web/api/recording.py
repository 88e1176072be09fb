"""Saying what runs where, which image serves which model, who answers for what, and what was built."""

from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tidewaiter.access.roles import Permission, project_of
from tidewaiter.catalog import model_versions, workloads
from tidewaiter.catalog.answers import ImageRecord
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.records import BuildRecord
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import NotFoundError, RefusedError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.pipelines import recording, tracing
from tidewaiter.pipelines.recording import ModelSeen, Owned, Recorded
from tidewaiter.web.api.route import Ask, Routes

ROUTES = Routes("recording")
_RECORD = Permission.CATALOG_RECORD
_BULK_BYTES = 4 * limits.MIB

Image = Annotated[
    str,
    Meta(max_length=limits.API_NAME_CHARACTERS, description="A digest, NAME@DIGEST, or NAME:TAG of the catalog."),
]
SeenAt = Annotated[
    str, Meta(max_length=40, description="When it was seen (2027-06-30T12:00:00Z); empty: now. In the order of time.")
]
OwnerName = Annotated[str, Meta(max_length=200, description="Who answers for it from now on; empty: as before.")]


class WorkloadSeen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One look at a container of a workload."""

    workload: Annotated[str, Meta(min_length=1, max_length=800, description="CLUSTER/NAMESPACE/NAME.")]
    image: Image = ""
    kind: Annotated[str, Meta(min_length=1, max_length=64, description="As Kubernetes calls it.")] = "Deployment"
    container: Annotated[str, Meta(max_length=255, description="When the workload has several.")] = ""
    owner: OwnerName = ""
    seen: SeenAt = ""
    gone: Annotated[bool, Meta(description="It runs that image no longer, or without `image` any.")] = False


class ManyWorkloads(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Looks at workloads."""

    items: Annotated[tuple[WorkloadSeen, ...], Meta(min_length=1, max_length=limits.BULK_ITEMS)]


class ModelVersionSeen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One look at a version of a model."""

    model: Annotated[str, Meta(min_length=1, max_length=600, description="NAME:VERSION.")]
    image: Image = ""
    stage: Annotated[str, Meta(max_length=64, description="Of that version, for example `production`.")] = ""
    owner: OwnerName = ""
    seen: SeenAt = ""
    gone: Annotated[bool, Meta(description="That image serves it no longer, or without `image` none does.")] = False


class ManyModels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Looks at model versions."""

    items: Annotated[tuple[ModelVersionSeen, ...], Meta(min_length=1, max_length=limits.BULK_ITEMS)]


class Ownership(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers for something."""

    kind: Literal["repository", "namespace", "workload", "model"]
    subject: Annotated[str, Meta(min_length=1, max_length=800)]
    owner: Annotated[str, Meta(max_length=200, description="Empty: nobody.")]


class ManyOwners(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers for what."""

    items: Annotated[tuple[Ownership, ...], Meta(min_length=1, max_length=limits.BULK_ITEMS)]


def _sighting(catalog: Catalog, one: WorkloadSeen) -> Sighting:
    cluster, namespace, name = workloads.split(one.workload)
    return Sighting(
        cluster=cluster,
        namespace=namespace,
        name=name,
        digest=tracing.digest_of(catalog, one.image) if one.image else "",
        kind=one.kind,
        container=one.container,
        owner=one.owner,
        seen_at=tracing.seen_at(one.seen),
        gone=one.gone,
    )


def _look(catalog: Catalog, one: ModelVersionSeen) -> ModelSeen:
    digest = tracing.digest_of(catalog, one.image) if one.image else ""
    seen = Seen(digest, tracing.seen_at(one.seen), one.stage, one.gone)
    return ModelSeen(model=model_versions.split(one.model), seen=seen, owner=one.owner)


@ROUTES.change("POST", "/workloads", permission=_RECORD)
def record_workload(ask: Ask, body: WorkloadSeen) -> Sighting:
    """Record which image a workload runs; what it ran before is gone then, and stays in its history."""
    sighting = _sighting(ask.source.catalog, body)
    ask.together(lambda connection: workloads.record(connection, [sighting], clock.now()))
    return sighting


@ROUTES.change("POST", "/workloads/bulk", permission=_RECORD, body_bytes=_BULK_BYTES)
def record_workloads(ask: Ask, body: ManyWorkloads) -> Recorded:
    """As `record_workload` for many. What cannot be recorded is listed, the rest is recorded."""
    return recording.sightings(ask.catalog, [partial(_sighting, ask.source.catalog, one) for one in body.items])


@ROUTES.change("POST", "/models", permission=_RECORD)
def record_model(ask: Ask, body: ModelVersionSeen) -> ModelSeen:
    """Record which image serves a model version; what did before no longer does, and stays in its history."""
    seen = _look(ask.source.catalog, body)
    ask.together(
        lambda connection: model_versions.record(connection, seen.model, seen.seen, clock.now(), owner=seen.owner)
    )
    return seen


@ROUTES.change("POST", "/models/bulk", permission=_RECORD, body_bytes=_BULK_BYTES)
def record_models(ask: Ask, body: ManyModels) -> Recorded:
    """As `record_model` for many. What cannot be recorded is listed, the rest is recorded."""
    return recording.models(ask.catalog, [partial(_look, ask.source.catalog, one) for one in body.items])


class OwnerSet(msgspec.Struct, frozen=True, kw_only=True):
    """Whether that changed anything."""

    changed: bool


@ROUTES.change("PUT", "/owners", permission=_RECORD)
def set_owner(ask: Ask, body: Ownership) -> OwnerSet:
    """Say who answers for a repository or folder of them, a namespace, a workload or a model."""
    return OwnerSet(changed=tracing.set_owner(ask.catalog, body.kind, body.subject, body.owner))


@ROUTES.change("POST", "/owners/bulk", permission=_RECORD, body_bytes=_BULK_BYTES)
def set_owners(ask: Ask, body: ManyOwners) -> Recorded:
    """As `set_owner` for many. What cannot be recorded is listed, the rest is recorded."""
    given = [partial(Owned, kind=one.kind, subject=one.subject, owner=one.owner) for one in body.items]
    return recording.owned(ask.catalog, given)


class NewBuild(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A build that a CI job finished and pushed."""

    build: BuildRecord
    tag: Annotated[str, Meta(max_length=128, description="That the image got in its repository.")] = ""


def _require_own(ask: Ask, repository: str, digest: str) -> None:
    """An image that lies in projects of others only does not come into this one because somebody says so."""
    try:
        places = {place.name for place in ask.source.catalog.whereabouts(digest).places}
    except NotFoundError:
        return  # it is new
    may = any(ask.identity.may(Permission.IMAGE_PULL, project_of(name)) for name in places)
    if places and repository not in places and not may:
        raise RefusedError(
            f"{digest} lies in projects in which {ask.identity.name} has no role",
            next_step="Ask an administrator for a role there.",
            code="forbidden",
        )


@ROUTES.change("POST", "/images", permission=Permission.IMAGE_PUSH, in_project=True, status=201)
def record_image(ask: Ask, body: NewBuild) -> ImageRecord:
    """Record how an image was built: commit, locks, pipeline run, layers.

    It is a claim about where the image comes from. What is in the image is for the server to find out (`check_image`),
    and who built it is whoever sends this, whatever the record says.
    """
    repository = body.build.repository
    ask.require(repository)
    references.parse(f"{repository}@{body.build.digest}")
    _require_own(ask, repository, body.build.digest)
    build = msgspec.structs.replace(body.build, builder=ask.identity.name, digest=digests.parse(body.build.digest))
    catalog = ask.catalog
    catalog.record_build(build)
    if body.tag:
        catalog.set_tag(repository, references.check_tag(body.tag), build.digest)
    return catalog.image(str(build.digest))
