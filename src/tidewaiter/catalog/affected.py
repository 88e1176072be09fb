"""From an advisory or a package to the versions, layers and images that it concerns, by what is stored of each version.

Only `finding` is asked what is affected; no image is looked at again.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, Text, and_, cast, func, or_, select, union_all

from tidewaiter.catalog import findings, schema
from tidewaiter.catalog.records import Visibility
from tidewaiter.catalog.rows import CHUNK

_T = TypeVar("_T")


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An advisory that touches a package version."""

    advisory: str
    aliases: tuple[str, ...]
    severity: str
    fixed_in: tuple[str, ...]
    """The nearest first; empty when no fix is known."""
    found_as: str
    """Package name under which the advisory is filed."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Why a package version, or some advisories about it, could not be judged."""

    reason: str
    advisories: tuple[str, ...]
    """Empty when no advisory could be looked up."""


class ConcernedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A package version, the advisories that touch it, and the layers that hold it."""

    purl: str
    ecosystem: str
    name: str
    version: str
    findings: tuple[Hit, ...]
    """Of an advisory that was asked for, only its own."""
    gaps: tuple[Gap, ...]
    layers: tuple[str, ...]
    """Diff IDs."""
    images: int


class ImageTag(msgspec.Struct, frozen=True):
    """A tag of an image, and whether a verdict cleared it."""

    name: str
    visibility: Visibility


class ConcernedImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image in a repository with one of the versions."""

    name: str
    """Empty when the image is in no repository."""
    digest: str
    tags: tuple[ImageTag, ...]
    cleared: bool
    purls: tuple[str, ...]


class Concerned(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalog knows of an advisory or a package. Empty is an answer only for what was matched."""

    versions: tuple[ConcernedVersion, ...]
    images: tuple[ConcernedImage, ...]
    not_inspected: int
    """Images of the catalog whose packages are not known: they may be concerned as well."""
    revision: str
    """Of the advisories that every version was matched with; empty when there was no matching yet."""
    matched_at: dt.datetime | None


def spellings(advisory: str) -> set[str]:
    """An advisory's id as given and as its database writes it: `GHSA-` and lower case, else upper case."""
    upper = advisory.upper()
    return {advisory, f"GHSA-{advisory[5:].lower()}" if upper.startswith("GHSA-") else upper}


def by_advisory(connection: Connection, names: Collection[str]) -> Concerned:
    """What an advisory touches that is known under one of `names`, its ids and aliases."""
    alias, gap = schema.advisory_alias.c, schema.component_gap.c
    wanted = sorted(set().union(*map(spellings, names)))
    advisories = set(connection.scalars(select(alias.advisory_id).distinct().where(alias.alias.in_(wanted))))
    of = schema.finding.c
    found = {
        number
        for some in _chunks(sorted(advisories))
        for number in connection.scalars(select(of.component_id).distinct().where(of.advisory_id.in_(some)))
    }
    named = or_(*(cast(gap.advisories, Text).contains(f'"{name}"', autoescape=True) for name in wanted))
    undecided = set(connection.scalars(select(gap.component_id).where(named)))
    return _concerned(connection, found | undecided, advisories, frozenset(wanted))


def by_purl(connection: Connection, purl: str) -> Concerned:
    """The versions of a package, or with a version in `purl` that one, whatever their qualifiers."""
    of = schema.component.c
    # Ranges instead of LIKE, so that the index on the purl answers. `?` is followed by `@`, and `@` by `A`.
    end = purl + ("@" if "@" in purl.rpartition("/")[2] else "A")
    found = union_all(
        select(of.id).where(of.purl == purl), select(of.id).where(and_(of.purl >= purl + "?", of.purl < end))
    )
    return _concerned(connection, set(connection.scalars(found)), None, None)


def _chunks(values: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def _concerned(
    connection: Connection,
    components: Collection[int],
    advisories: Collection[int] | None,
    names: Collection[str] | None,
) -> Concerned:
    numbers = sorted(components)
    of_set: dict[int, list[int]] = defaultdict(list)
    member, artifact = schema.component_set_member.c, schema.artifact.c
    for some in _chunks(numbers):
        query = select(member.component_set_id, member.component_id).where(member.component_id.in_(some))
        for members, number in connection.execute(query).all():
            of_set[members].append(number)
    purls: dict[int, str] = {}
    for some in _chunks(numbers):
        purls.update(
            (row.id, row.purl)
            for row in connection.execute(
                select(schema.component.c.id, schema.component.c.purl).where(schema.component.c.id.in_(some))
            )
        )
    held = {members: tuple(sorted(purls[one] for one in inside)) for members, inside in of_set.items()}
    images = _images(connection, held)
    known = findings.matching(connection)
    unknown = select(func.count()).select_from(schema.artifact).where(artifact.component_set_id.is_(None))
    return Concerned(
        versions=_versions(connection, numbers, advisories, names, images),
        images=images,
        not_inspected=connection.scalar(unknown) or 0,
        revision=known.revision if known else "",
        matched_at=known.matched_at if known else None,
    )


def _images(connection: Connection, purls: Mapping[int, tuple[str, ...]]) -> tuple[ConcernedImage, ...]:
    """Images by component set, each set with its concerned purls."""
    place, artifact, tag = schema.repository_artifact.c, schema.artifact.c, schema.tag.c
    found = []
    for some in _chunks(sorted(purls)):
        tags: dict[tuple[int, int], list[ImageTag]] = defaultdict(list)
        tagged = (
            select(tag.repository_id, tag.artifact_id, tag.name, tag.visibility)
            .join(schema.artifact, artifact.id == tag.artifact_id)
            .where(artifact.component_set_id.in_(some))
            .order_by(tag.name)
        )
        for row in connection.execute(tagged):
            tags[row.repository_id, row.artifact_id].append(ImageTag(row.name, row.visibility))
        query = (
            select(
                artifact.id, place.repository_id, schema.repository.c.name, artifact.digest, artifact.component_set_id
            )
            .join(schema.repository_artifact, place.artifact_id == artifact.id, isouter=True)
            .join(schema.repository, schema.repository.c.id == place.repository_id, isouter=True)
            .where(artifact.component_set_id.in_(some))
        )
        for number, repository, name, digest, members in connection.execute(query).all():
            said = tuple(tags.get((repository, number), ()))
            found.append(
                ConcernedImage(
                    name=name or "",
                    digest=digest,
                    tags=said,
                    cleared="cleared" in {one.visibility for one in said},
                    purls=purls[members],
                )
            )
    return tuple(sorted(found, key=lambda one: (one.name, one.digest)))


def _versions(
    connection: Connection,
    numbers: Sequence[int],
    advisories: Collection[int] | None,
    names: Collection[str] | None,
    images: Iterable[ConcernedImage],
) -> tuple[ConcernedVersion, ...]:
    hits = _hits(connection, numbers, advisories)
    gaps, layers = _gaps(connection, numbers, names), _layers(connection, numbers)
    holding: dict[str, set[str]] = defaultdict(set)
    for image in images:
        for purl in image.purls:
            holding[purl].add(image.digest)
    of = schema.component.c
    found = [
        ConcernedVersion(
            purl=row.purl,
            ecosystem=row.ecosystem,
            name=row.name,
            version=row.version,
            findings=tuple(hits.get(row.id, ())),
            gaps=tuple(gaps.get(row.id, ())),
            layers=tuple(layers.get(row.id, ())),
            images=len(holding[row.purl]),
        )
        for some in _chunks(numbers)
        for row in connection.execute(select(of.id, of.purl, of.ecosystem, of.name, of.version).where(of.id.in_(some)))
    ]
    return tuple(sorted(found, key=lambda one: one.purl))


def _hits(connection: Connection, numbers: Sequence[int], advisories: Collection[int] | None) -> dict[int, list[Hit]]:
    of, advisory, alias = schema.finding.c, schema.advisory.c, schema.advisory_alias.c
    rows = [
        row
        for some in _chunks(numbers)
        for row in connection.execute(
            select(of.component_id, of.advisory_id, advisory.name, of.severity, of.fixed_in, of.found_as)
            .join(schema.advisory, advisory.id == of.advisory_id)
            .where(of.component_id.in_(some))
            .order_by(advisory.name)
        )
        if advisories is None or row.advisory_id in advisories
    ]
    aliases: dict[int, list[str]] = defaultdict(list)
    for some in _chunks(sorted({row.advisory_id for row in rows})):
        query = select(alias.advisory_id, alias.alias).where(alias.advisory_id.in_(some)).order_by(alias.alias)
        for known in connection.execute(query):
            aliases[known.advisory_id].append(known.alias)
    found: dict[int, list[Hit]] = defaultdict(list)
    for row in rows:
        found[row.component_id].append(
            Hit(
                advisory=row.name,
                aliases=tuple(one for one in aliases[row.advisory_id] if one != row.name),
                severity=row.severity,
                fixed_in=tuple(row.fixed_in),
                found_as=row.found_as,
            )
        )
    return found


def _gaps(connection: Connection, numbers: Sequence[int], names: Collection[str] | None) -> dict[int, list[Gap]]:
    """Gaps of the components; with `names` only those that leave open an advisory of one of them."""
    of = schema.component_gap.c
    found: dict[int, list[Gap]] = defaultdict(list)
    for some in _chunks(numbers):
        query = select(schema.component_gap).where(of.component_id.in_(some)).order_by(of.reason)
        for row in connection.execute(query):
            if names is None or not set(names).isdisjoint(row.advisories):
                found[row.component_id].append(Gap(reason=row.reason, advisories=tuple(row.advisories)))
    return found


def _layers(connection: Connection, numbers: Sequence[int]) -> dict[int, list[str]]:
    at, layer = schema.layer_component.c, schema.layer.c
    found: dict[int, list[str]] = defaultdict(list)
    for some in _chunks(numbers):
        query = (
            select(at.component_id, layer.diff_id)
            .distinct()
            .join(schema.layer, layer.id == at.layer_id)
            .where(at.component_id.in_(some))
            .order_by(layer.diff_id)
        )
        for row in connection.execute(query):
            found[row.component_id].append(row.diff_id)
    return found
