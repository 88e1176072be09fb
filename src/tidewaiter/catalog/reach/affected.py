"""From an advisory or a package to what it concerns: versions, layers, images, workloads, model versions, owners.

1. The package versions (`affected_versions`): by their findings, now or as they were known on a day.
2. Every image whose component set holds one of them, and through which base (`affected_images`).
3. What runs of these images, which model versions they serve, who answers for them.
4. Which base or dependency to bump (`fixes`).

Only findings are asked what is affected; no image is looked at again. Everything is counted; so many are named.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, and_, func, select, union_all

from tidewaiter.catalog import as_of, findings, model_versions, owners, schema, workloads
from tidewaiter.catalog.model_versions import ModelVersion
from tidewaiter.catalog.owners import Owners
from tidewaiter.catalog.reach import fixes
from tidewaiter.catalog.reach import images as affected_images
from tidewaiter.catalog.reach import versions as affected_versions
from tidewaiter.catalog.reach.fixes import Fix, Place
from tidewaiter.catalog.reach.images import ConcernedImage, Image, Images
from tidewaiter.catalog.reach.summing import Sums
from tidewaiter.catalog.reach.versions import ConcernedVersion, Versions
from tidewaiter.catalog.workloads import Workload
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError


class Wanted(NamedTuple):
    """Which part of the answer is asked for."""

    running: bool = False
    """Only images that a workload runs."""
    owner: str = ""
    """Only what this owner answers for: images, workloads, model versions."""
    rows: int = limits.AFFECTED_ROWS
    """How many images, workloads and model versions are named, of each."""


ALL = Wanted()


class OwnerShare(msgspec.Struct, frozen=True, kw_only=True):
    """How much of it one owner answers for."""

    owner: str
    """Empty: nobody is known."""
    images: int
    workloads: int
    models: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are, named or not."""

    images: int
    """Digests."""
    cleared: int
    """Of them, with a tag that is cleared."""
    derived: int
    """Of them, with an affected package in a layer of their base."""
    running: int
    """Of them, run by a workload."""
    workloads: int
    models: int


class Concerned(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalog knows of an advisory or a package. Empty is an answer only for what was matched."""

    versions: tuple[ConcernedVersion, ...]
    images: tuple[ConcernedImage, ...]
    """By repository and digest, at most as many as were asked for."""
    workloads: tuple[Workload, ...]
    """That run one of the images."""
    models: tuple[ModelVersion, ...]
    """That one of the images serves."""
    owners: tuple[OwnerShare, ...]
    """Those with the most images first."""
    totals: Totals
    cut: tuple[str, ...]
    """Which of `images`, `workloads` and `models` there are more of."""
    fixes: tuple[Fix, ...]
    """What to bump: what clears the most images first, then the most findings, then by name."""
    unfixed: int
    """Images with a finding for which no fix is known."""
    not_inspected: int
    """Images of the catalog whose packages are not known: they may be concerned as well."""
    running_unknown: int
    """Workloads whose image the catalog does not know, or did not inspect: they may be concerned as well."""
    revision: str
    """Of the advisories that every version was matched with; empty when there was no matching yet."""
    matched_at: dt.datetime | None
    as_of: dt.datetime | None
    """None: now."""
    unknown: tuple[str, ...]
    """What of that day is not known, in words."""


def spellings(advisory: str) -> set[str]:
    """An advisory's id as given and as its database writes it: `GHSA-` and lower case, else upper case."""
    upper = advisory.upper()
    return {advisory, f"GHSA-{advisory[5:].lower()}" if upper.startswith("GHSA-") else upper}


def by_advisory(
    connection: Connection, names: Collection[str], wanted: Wanted = ALL, at: dt.datetime | None = None
) -> Concerned:
    """What an advisory touches that is known under one of `names`; as it was known at `at`."""
    known = sorted(set().union(*map(spellings, names)))
    return _concerned(connection, affected_versions.of_advisory(connection, known, at), wanted, at)


def by_purl(connection: Connection, purl: str, wanted: Wanted = ALL, at: dt.datetime | None = None) -> Concerned:
    """The versions of a package, or with a version in `purl` that one, whatever their qualifiers."""
    of = schema.component.c
    # Ranges instead of LIKE, so that the index on the purl answers. `?` is followed by `@`, and `@` by `A`.
    end = purl + ("@" if "@" in purl.rpartition("/")[2] else "A")
    found = union_all(
        select(of.id).where(of.purl == purl), select(of.id).where(and_(of.purl >= purl + "?", of.purl < end))
    )
    numbers = sorted(set(connection.scalars(found)))
    return _concerned(connection, affected_versions.of_components(connection, numbers, at), wanted, at)


def _concerned(connection: Connection, versions: Versions, wanted: Wanted, at: dt.datetime | None) -> Concerned:
    if not 1 <= wanted.rows <= limits.AFFECTED_ROWS_LARGEST:
        raise InputError(
            f"{wanted.rows} rows are out of bounds", next_step=f"Give 1 to {limits.AFFECTED_ROWS_LARGEST}."
        )
    answering = owners.load(connection, at)
    everything = at is None and not (wanted.running or wanted.owner)
    reached = (_summed if everything else _looked_at)(connection, versions, wanted, at, answering)
    remedies, unfixed = fixes.find(connection, versions, reached.places)
    known = findings.matching(connection)
    rows = wanted.rows
    pairs = (("images", reached.placed), ("workloads", len(reached.running)), ("models", len(reached.serving)))
    return Concerned(
        versions=versions.answers(reached.of_component),
        images=affected_images.answers(
            connection, reached.images, versions, reached.shown, known=(reached.cleared, reached.runs, answering), at=at
        ),
        workloads=tuple(reached.running[:rows]),
        models=tuple(reached.serving[:rows]),
        owners=_shares(reached),
        totals=Totals(
            images=reached.digests,
            cleared=len(reached.cleared),
            derived=reached.derived,
            running=len(reached.runs),
            workloads=len(reached.running),
            models=len(reached.serving),
        ),
        cut=tuple(name for name, count in pairs if count > rows),
        fixes=remedies,
        unfixed=unfixed,
        not_inspected=_not_inspected(connection, at),
        running_unknown=_running_unknown(connection, at),
        revision=known.revision if known and at is None else "",
        matched_at=known.matched_at if known and at is None else None,
        as_of=at,
        unknown=(
            *as_of.unknown(connection, at, "findings", "images", "models", "owners", "tags", "workloads"),
            *(("what could not be judged on that day is not kept",) if at is not None else ()),
        ),
    )


class _Reached(NamedTuple):
    """What is reached, as far as it is wanted."""

    digests: int
    """Images."""
    placed: int
    """Images in repositories: one that is in two counts twice."""
    derived: int
    cleared: Collection[int]
    of_component: Mapping[int, int]
    holding: Mapping[str, int]
    """Images of each owner."""
    running: Sequence[Workload]
    serving: Sequence[ModelVersion]
    runs: Mapping[str, int]
    places: Sequence[Place]
    images: Images
    """At least those that are shown."""
    shown: Sequence[Image]


def _summed(
    connection: Connection, versions: Versions, wanted: Wanted, at: dt.datetime | None, known: Owners
) -> _Reached:
    """All of it, now, counted by the database."""
    held = affected_images.held_by(connection, versions)
    bases = affected_images.bases_of(connection, {layer for pairs in versions.layers.values() for layer, _ in pairs})
    sums = Sums(connection, held, bases)
    used = sums.used(known)
    shown = sums.first(wanted.rows)
    images = sums.some(shown)
    return _Reached(
        digests=sums.groups.total(),
        placed=sums.places.total(),
        derived=sums.derived,
        cleared=affected_images.cleared(connection, images, versions, at),
        of_component=sums.of_component(),
        holding=sums.holding({name: known.of_repository(name) for name, _ in sums.places}),
        running=used.running,
        serving=used.serving,
        runs=used.runs,
        places=sums.fixed_at(used),
        images=images,
        shown=shown,
    )


def _looked_at(
    connection: Connection, versions: Versions, wanted: Wanted, at: dt.datetime | None, known: Owners
) -> _Reached:
    """A part of it, or what it was: image by image."""
    images = affected_images.find(connection, versions, at)
    running = list(workloads.listed(connection, at, running=images.named, known=known))
    serving = list(model_versions.listed(connection, at, served_by=images.named, known=known))
    images, running, serving = _filtered(images, running, serving, known, wanted)
    runs = Counter(one.digest for one in images.meant_by(running))
    owned = {name: known.of_repository(name) for name in images.repositories}
    return _Reached(
        digests=len(images.digests),
        placed=len(images.all),
        derived=sum(1 for one in images.distinct if one.bases and images.below(one)),
        cleared=affected_images.cleared(connection, images, versions, at) & images.numbers,
        of_component=images.count_of_component(),
        holding=Counter(owner for owner, _ in {(owned[one.repository], one.number) for one in images.all}),
        running=running,
        serving=serving,
        runs=runs,
        places=_places(images, runs),
        images=images,
        shown=images.all[: wanted.rows],
    )


def _places(images: Images, runs: Collection[str]) -> list[Place]:
    repositories: dict[tuple[int, frozenset[int]], set[str]] = defaultdict(set)
    for one in images.all:  # an image may be in several
        repositories[one.members, one.bases].add(one.repository)
    return [
        Place(
            components=images.held[members],
            bases={layer: images.bases[layer] for layer in layers},
            repositories=repositories[members, layers],
            images=len(some),
            running=sum(one.digest in runs for one in some),
        )
        for (members, layers), some in images.groups().items()
    ]


# What the images are for


def _filtered(
    images: Images, running: list[Workload], serving: list[ModelVersion], known: Owners, wanted: Wanted
) -> tuple[Images, list[Workload], list[ModelVersion]]:
    """What is asked for.

    An owner answers for the images of its repositories, whoever runs them, and for its workloads and models with the
    images that they need, wherever those lie.
    """
    if wanted.owner:
        own = {name for name in images.repositories if known.of_repository(name) == wanted.owner}
        answered = {one.digest for one in images.all if one.repository in own}
        running = [one for one in running if one.owner == wanted.owner or images.means_one_of(one, answered)]
        serving = [one for one in serving if one.owner == wanted.owner or images.means_one_of(one, answered)]
        at_work = [one for one in running if one.owner == wanted.owner]
        served = [one for one in serving if one.owner == wanted.owner]
        used = {one.digest for one in (*images.meant_by(at_work), *images.meant_by(served))}
        images = images.only(lambda one: one.repository in own or one.digest in used)
    if wanted.running:
        run = {one.digest for one in images.meant_by(running)}
        images = images.only(lambda one: one.digest in run)
        serving = [one for one in serving if images.means_one_of(one, run)]
    return images, running, serving


def _shares(reached: _Reached) -> tuple[OwnerShare, ...]:
    runs = Counter(one.owner for one in reached.running)
    models = Counter(one.owner for one in reached.serving)
    shares = [
        OwnerShare(owner=owner, images=reached.holding.get(owner, 0), workloads=runs[owner], models=models[owner])
        for owner in {*reached.holding, *runs, *models}
    ]
    return tuple(sorted(shares, key=lambda one: (-one.images, -one.workloads, -one.models, one.owner)))


# What is not known


def _kind(column: Any) -> Any:  # noqa: ANN401 - a condition
    """Condition: it is an image, and no index or other artifact of a registry."""
    return func.coalesce(column, "image") == "image"


def _not_inspected(connection: Connection, at: dt.datetime | None) -> int:
    of, seen = schema.artifact.c, schema.synced_manifest.c
    query = (
        select(func.count())
        .select_from(schema.artifact)
        .join(schema.synced_manifest, seen.artifact_id == of.id, isouter=True)
        .where(of.component_set_id.is_(None), _kind(seen.kind))
    )
    return connection.scalar(query if at is None else query.where(of.recorded_at <= at)) or 0


def _running_unknown(connection: Connection, at: dt.datetime | None) -> int:
    of, period, seen = schema.artifact.c, schema.workload_period.c, schema.synced_manifest.c
    runs = as_of.open_at(period.first_seen, period.gone_at, at)
    there = select(of.id).where(of.digest == period.digest)
    missing = select(period.workload_id).where(runs, period.known.is_(False), ~there.exists())
    unread = (
        select(period.workload_id)
        .join(schema.artifact, of.digest == period.digest)
        .join(schema.synced_manifest, seen.artifact_id == of.id, isouter=True)
        .where(runs, of.component_set_id.is_(None), _kind(seen.kind))
    )
    return len(set(connection.scalars(missing)) | set(connection.scalars(unread)))
