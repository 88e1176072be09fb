"""Steps: where a thing comes from and what it reaches; what runs where, what serves which model, who owns what."""

import datetime as dt

import msgspec

from tidewaiter.catalog import as_of, listed_at, listing, model_versions, owners, verdicts_at, workloads
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.listed_at import PageAt
from tidewaiter.catalog.model_versions import ModelVersion
from tidewaiter.catalog.owners import Ownership
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.trace import asking as tracing
from tidewaiter.catalog.trace.graph import Trace
from tidewaiter.catalog.verdicts_at import VerdictAt
from tidewaiter.catalog.workloads import Sighting, Workload
from tidewaiter.core import clock, limits, moments
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.pipelines import placing
from tidewaiter.pipelines.uncollected import uncollected
from tidewaiter.policy.environments import NOTHING_SAID, Environments
from tidewaiter.policy.waivers import Waiver


class Stood(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts of an image that stood on a day, and the waivers that were in force then."""

    digest: str
    as_of: dt.datetime | None
    """None: now."""
    verdicts: tuple[VerdictAt, ...]
    waivers: tuple[Waiver, ...]
    """In force at that moment, for whichever image, as they read then."""
    unknown: tuple[str, ...]


def trace(
    catalog: Catalog,
    thing: str,
    *,
    as_of_day: str = "",
    depth: int = limits.TRACE_DEPTH,
    rows: int = limits.TRACE_ROWS,
    packages: bool = False,
    said: Environments = NOTHING_SAID,
) -> Trace:
    """The way of a thing, as `catalog.trace.asking.trace`, its workloads with the environments that `said` says.

    Raises what that and `as_of.moment` raise.
    """
    at = as_of.moment(as_of_day, clock.now())
    with uncollected(), catalog.database.reading() as connection:
        found = tracing.trace(connection, thing, at=at, depth=depth, rows=rows, packages=packages)
    return msgspec.structs.replace(found, nodes=placing.nodes(found.nodes, said))


def digest_of(catalog: Catalog, image: str) -> Digest:
    """The digest that `image` names: itself, NAME@DIGEST, or what a tag of the catalog means.

    Raises:
        InputError: it is malformed.
        NotFoundError: there is no such tag.
    """
    named = image.rpartition("@")[2]
    if named.startswith(("sha256:", "sha512:")):
        return digests.parse(named)
    with catalog.database.reading() as connection:
        return listing.named(connection, image)[1]


def seen_at(text: str) -> dt.datetime:
    """The moment in `text`, RFC 3339 with a zone; now when it is empty. Raises `InputError`."""
    return moments.exact(text) if text else clock.now()


def record_workload(catalog: Catalog, sighting: Sighting) -> None:
    """Write down a look at a workload; raises what `workloads.record` raises."""
    with catalog.database.writing() as connection:
        workloads.record(connection, [sighting], clock.now())


def record_workloads(catalog: Catalog, sightings: list[Sighting]) -> None:
    """As `record_workload` for many: all or none."""
    with catalog.database.writing() as connection:
        workloads.record(connection, sightings, clock.now())


def record_model(catalog: Catalog, model: tuple[str, str], seen: Seen, *, owner: str = "") -> None:
    """Write down which image serves a model version; raises what `model_versions.record` raises."""
    with catalog.database.writing() as connection:
        model_versions.record(connection, model, seen, clock.now(), owner=owner)


def set_owner(catalog: Catalog, kind: owners.Kind, subject: str, owner: str) -> bool:
    """Let `owner` answer for it from now on, nobody when empty; whether that changes anything."""
    with catalog.database.writing() as connection:
        return owners.put(connection, kind, subject, owner, clock.now())


def list_workloads(
    catalog: Catalog,
    *,
    as_of_day: str = "",
    everything: bool = False,
    owner: str = "",
    not_allowed: bool = False,
    said: Environments = NOTHING_SAID,
) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
    """What runs, or ran on a day, with the environments that `said` says; and what of that day is not known.

    Args:
        catalog: to look into.
        as_of_day: a day or moment; empty for the present.
        everything: also what is gone.
        owner: only what this owner answers for.
        not_allowed: only what runs an image that no verdict allows in the environment where it runs.
        said: which environment each namespace belongs to, as settings say.
    """
    at = as_of.moment(as_of_day, clock.now())
    with catalog.database.reading() as connection:
        listed = workloads.listed(connection, at, everything=everything)
        unknown = as_of.unknown(connection, at, "owners", "verdicts", "workloads")
    found = placing.workloads(catalog, (one for one in listed if owner in {"", one.owner}), said, at)
    return tuple(one for one in found if not not_allowed or one.verdict not in {"", "allow"}), unknown


class WorkloadsPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the list of workloads."""

    items: tuple[Workload, ...]
    next: workloads.Place | None
    """Where the part behind it begins; None at the end."""
    unknown: tuple[str, ...]


def workloads_part(
    catalog: Catalog,
    *,
    as_of_day: str,
    everything: bool,
    owner: str,
    not_allowed: bool,
    said: Environments,
    after: workloads.Place | None,
    rows: int,
) -> WorkloadsPart:
    """As `list_workloads`, at most `rows` behind `after`; as much is read as that takes."""
    at = as_of.moment(as_of_day, clock.now())
    shown: list[tuple[workloads.Place, Workload]] = []
    with catalog.database.reading() as connection:
        known = owners.load(connection, at)
        unknown = as_of.unknown(connection, at, "owners", "verdicts", "workloads")
    several = rows + 1 if not (owner or not_allowed) else max(rows + 1, limits.LISTED_ROWS)
    while len(shown) <= rows:
        with catalog.database.reading() as connection:
            read = workloads.part(connection, at, everything=everything, after=after, known=known, rows=several)
        mine = [(place, one) for place, one in read if owner in {"", one.owner}]
        placed = placing.workloads(catalog, (one for _, one in mine), said, at)
        found = ((place, one) for (place, _), one in zip(mine, placed, strict=True))
        shown += [(place, one) for place, one in found if not not_allowed or one.verdict not in {"", "allow"}]
        if len(read) < several:
            break
        after = read[-1][0]
    following = shown[rows - 1][0] if len(shown) > rows else None
    return WorkloadsPart(items=tuple(one for _, one in shown[:rows]), next=following, unknown=unknown)


def list_models(
    catalog: Catalog, *, as_of_day: str = "", everything: bool = False, owner: str = ""
) -> tuple[tuple[ModelVersion, ...], tuple[str, ...]]:
    """Model versions that are served, or were on a day, of one owner or of all; and what of that day is not known."""
    at = as_of.moment(as_of_day, clock.now())
    with catalog.database.reading() as connection:
        found = model_versions.listed(connection, at, everything=everything)
        unknown = as_of.unknown(connection, at, "models", "owners")
    return tuple(one for one in found if owner in {"", one.owner}), unknown


def list_owners(catalog: Catalog, *, as_of_day: str = "") -> tuple[tuple[Ownership, ...], tuple[str, ...]]:
    """Who answers for what, now or on a day; and what of that day is not known."""
    at = as_of.moment(as_of_day, clock.now())
    with catalog.database.reading() as connection:
        return owners.listed(connection, at), as_of.unknown(connection, at, "owners")


def list_images(
    catalog: Catalog, as_of_day: str, *, repository: str = "", tag: str = "", cursor: str = "", rows: int
) -> tuple[PageAt, dt.datetime, tuple[str, ...]]:
    """What lay where on a day, as `listed_at.listed`; the moment that was meant, and what of it is not known.

    Raises what that and `as_of.moment` raise.
    """
    at = as_of.moment(as_of_day, clock.now()) or clock.now()
    with catalog.database.reading() as connection:
        found = listed_at.listed(connection, at, repository=repository, tag=tag, cursor=cursor, rows=rows)
        return found, at, as_of.unknown(connection, at, "findings", "owners", "tags", "verdicts")


def verdicts(catalog: Catalog, image: str, *, as_of_day: str = "") -> Stood:
    """The verdicts of an image that stood on a day, by environment, and the waivers that were in force.

    Raises:
        InputError: image or day are malformed.
        NotFoundError: there is no such image, or was none by that name.
    """
    now = clock.now()
    at = as_of.moment(as_of_day, now)
    digest = _digest_at(catalog, image, at)
    given = tuple(_as_it_read(one, at or now) for one in catalog.waivers())
    with catalog.database.reading() as connection:
        return Stood(
            digest=digest,
            as_of=at,
            verdicts=verdicts_at.verdicts(connection, digest, at, now),
            waivers=tuple(one for one in given if one.state(at or now) == "in_force"),
            unknown=as_of.unknown(connection, at, "tags", "verdicts"),
        )


def _digest_at(catalog: Catalog, image: str, at: dt.datetime | None) -> Digest:
    repository, _, tag = image.rpartition(":")
    if at is not None and repository and "@" not in image:
        with catalog.database.reading() as connection:
            found = as_of.tag(connection, at, repository, tag)
        if found:
            return digests.parse(found[0].digest)
    return digest_of(catalog, image)


def _as_it_read(waiver: Waiver, at: dt.datetime) -> Waiver:
    """The waiver without what was done with it after `at`."""
    if waiver.revoked_at is not None and waiver.revoked_at > at:
        return msgspec.structs.replace(waiver, revoked_at=None, revoked_by="", revocation="")
    return waiver
