"""The package versions that an advisory or a package name means: what touches them, and which layers hold them."""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, Text, cast, or_, select

from tidewaiter.catalog import as_of, schema
from tidewaiter.catalog.among import among, lots


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


class Component(msgspec.Struct, frozen=True):
    """A package version, as it is stored."""

    purl: str
    ecosystem: str
    name: str
    version: str


class Versions(msgspec.Struct, frozen=True):
    """What is asked about, by row number of the component."""

    components: Mapping[int, Component]
    hits: Mapping[int, Sequence[Hit]]
    gaps: Mapping[int, Sequence[Gap]]
    layers: Mapping[int, Sequence[tuple[int, str]]]
    """Row number and diff ID of each layer that holds it."""

    @property
    def numbers(self) -> list[int]:
        """Sorted."""
        return sorted(self.components)

    def answers(self, images: Mapping[int, int]) -> tuple[ConcernedVersion, ...]:
        """By package URL, with the number of images of each."""
        found = [
            ConcernedVersion(
                purl=one.purl,
                ecosystem=one.ecosystem,
                name=one.name,
                version=one.version,
                findings=tuple(self.hits.get(number, ())),
                gaps=tuple(self.gaps.get(number, ())),
                layers=tuple(sorted({diff_id for _, diff_id in self.layers.get(number, ())})),
                images=images.get(number, 0),
            )
            for number, one in self.components.items()
        ]
        return tuple(sorted(found, key=lambda one: one.purl))


def of_advisory(connection: Connection, names: Sequence[str], at: dt.datetime | None) -> Versions:
    """Versions that an advisory with one of the `names` touches, or that could not be judged because of it."""
    alias = schema.advisory_alias.c
    advisories = set(connection.scalars(select(alias.advisory_id).distinct().where(alias.alias.in_(names))))
    of = schema.finding.c if at is None else schema.finding_period.c
    found: set[int] = set()
    for some in lots(sorted(advisories)):
        query = select(of.component_id).distinct().where(among(of.advisory_id, some))
        if at is not None:
            query = query.where(as_of.open_at(of.since, of.until, at))
        found.update(connection.scalars(query))
    if at is None:
        gap = schema.component_gap.c
        named = or_(*(cast(gap.advisories, Text).contains(f'"{name}"', autoescape=True) for name in names))
        found.update(connection.scalars(select(gap.component_id).where(named)))
    return _versions(connection, sorted(found), advisories, frozenset(names), at)


def of_components(connection: Connection, numbers: Sequence[int], at: dt.datetime | None) -> Versions:
    """These versions, and everything that touches them."""
    return _versions(connection, numbers, None, None, at)


def _versions(
    connection: Connection,
    numbers: Sequence[int],
    advisories: Collection[int] | None,
    names: Collection[str] | None,
    at: dt.datetime | None,
) -> Versions:
    of = schema.component.c
    return Versions(
        components={
            row[0]: Component(*row[1:])
            for some in lots(numbers)
            for row in connection.execute(
                select(of.id, of.purl, of.ecosystem, of.name, of.version).where(among(of.id, some))
            )
        },
        hits=_hits(connection, numbers, advisories, at),
        gaps=_gaps(connection, numbers, names) if at is None else {},
        layers=_layers(connection, numbers),
    )


def _hits(
    connection: Connection, numbers: Sequence[int], advisories: Collection[int] | None, at: dt.datetime | None
) -> dict[int, list[Hit]]:
    of = schema.finding.c if at is None else schema.finding_period.c
    advisory, alias = schema.advisory.c, schema.advisory_alias.c
    rows = []
    for some in lots(numbers):
        query = (
            select(of.component_id, of.advisory_id, advisory.name, of.severity, of.fixed_in, of.found_as)
            .join(schema.advisory, advisory.id == of.advisory_id)
            .where(among(of.component_id, some))
            .order_by(advisory.name)
        )
        if at is not None:
            query = query.where(as_of.open_at(of.since, of.until, at))
        rows += [row for row in connection.execute(query) if advisories is None or row.advisory_id in advisories]
    aliases: dict[int, list[str]] = defaultdict(list)
    for some in lots(sorted({row.advisory_id for row in rows})):
        query = select(alias.advisory_id, alias.alias).where(among(alias.advisory_id, some)).order_by(alias.alias)
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
    for some in lots(numbers):
        query = select(schema.component_gap).where(among(of.component_id, some)).order_by(of.reason)
        for row in connection.execute(query):
            if names is None or not set(names).isdisjoint(row.advisories):
                found[row.component_id].append(Gap(reason=row.reason, advisories=tuple(row.advisories)))
    return found


def _layers(connection: Connection, numbers: Sequence[int]) -> dict[int, list[tuple[int, str]]]:
    at, layer = schema.layer_component.c, schema.layer.c
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for some in lots(numbers):
        query = (
            select(at.component_id, layer.id, layer.diff_id)
            .join(schema.layer, layer.id == at.layer_id)
            .where(among(at.component_id, some))
        )
        for component, number, diff_id in connection.execute(query).all():
            found[component].append((number, diff_id))
    return found
