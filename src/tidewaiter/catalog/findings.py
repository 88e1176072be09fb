"""Findings by component version, for all images at once: which must be worked out anew, and what that changes.

A component whose row in `component_package` is missing was never matched, or was written by a scan with other data.
"""

import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, select, tuple_, update

from tidewaiter.advisories.finding import Finding, ScanResult
from tidewaiter.catalog import components as components_of
from tidewaiter.catalog import events, finding_periods, questions, recording, schema
from tidewaiter.catalog.among import among, among_texts
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.rows import CHUNK, add_missing, put
from tidewaiter.catalog.storable import storable, storable_tree
from tidewaiter.sbom.component import Component

Package = tuple[str, str]
"""Ecosystem and name, as advisories call it."""

_T = TypeVar("_T")
_KEY_BYTES = 1000
"""PostgreSQL indexes no more than about 2,700 bytes of ecosystem and name together."""
_ROW = 1
"""Number of the only row of `matching`."""


class FindingChange(msgspec.Struct, frozen=True):
    """A finding that is new, that is gone, or that says something else than before."""

    change: Literal["added", "removed", "changed"]
    advisory: str
    purl: str
    severity: str
    """As it is now; of one that is gone, as it was."""


class Matching(msgspec.Struct, frozen=True):
    """The advisories that every component was matched with last."""

    revision: str
    coverage: dict[str, str]
    """Ecosystems with data, and how old each is: RFC 3339, empty when it is not known."""
    matched_at: dt.datetime
    through: int = 0
    """Components up to this row number are matched for certain."""

    def as_of(self, ecosystems: Iterable[str]) -> dt.datetime | None:
        """The oldest data among those of `ecosystems`; None when none of them has any."""
        dates = [self.coverage[name] for name in ecosystems if self.coverage.get(name)]
        return recording.moment(min(dates)) if dates else None


def package(ecosystem: str, name: str) -> Package:
    """The key of a package: what advisories call it; a hash in the place of a text that is too long for any of them."""
    return _key(ecosystem), _key(name)


def _key(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return text if len(data) <= _KEY_BYTES else hashlib.sha256(data).hexdigest()


def matching(connection: Connection) -> Matching | None:
    """What `finish` recorded last; None before it."""
    row = connection.execute(select(schema.matching)).one_or_none()
    return None if row is None else Matching(row.advisories_revision, row.coverage, row.matched_at, row.through or 0)


def is_current(connection: Connection, revision: str, release: str) -> bool:
    """Whether every component was matched with the advisories of `revision` by this release of the program."""
    known = matching(connection)
    if known is None or known.revision != revision:
        return False
    counts = [
        connection.scalar(select(func.count()).where(column > known.through))
        for column in (schema.component.c.id, schema.component_package.c.component_id)
    ]
    # A state begins with the release that it was worked out by.
    foreign = ~schema.package.c.state.startswith(f"{release} ", autoescape=True)
    return counts[0] == counts[1] and connection.scalar(select(schema.package.c.id).where(foreign).limit(1)) is None


class Rematching:
    """One transaction in which components are read, and their findings put."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def states(self, wanted: Sequence[Package]) -> dict[Package, str]:
        """As the function `states`."""
        return states(self._connection, wanted)

    def unmatched(self, limit: int) -> dict[int, Component]:
        """Components that are to be matched whatever the advisories say of their packages; at most `limit`."""
        of = schema.component_package.c
        missing = (
            select(*components_of.COLUMNS)
            .join(schema.component_package, of.component_id == schema.component.c.id, isouter=True)
            .where(of.component_id.is_(None))
            .order_by(schema.component.c.id)
            .limit(limit)
        )
        return components_of.of_rows(self._connection.execute(missing))

    def of_packages(self, wanted: Sequence[Package]) -> dict[int, Component]:
        """Every matched component that is a version of one of the packages."""
        of, package = schema.component_package.c, schema.package.c
        found: dict[int, Component] = {}
        for some in _chunks(wanted):
            query = (
                select(*components_of.COLUMNS)
                .join(schema.component_package, of.component_id == schema.component.c.id)
                .join(schema.package, package.id == of.package_id)
                .where(_named(some))
            )
            found.update(components_of.of_rows(self._connection.execute(query)))
        return found

    def put(
        self,
        components: Mapping[int, Component],
        packages: Mapping[int, Package],
        states: Mapping[Package, str],
        result: ScanResult,
        at: dt.datetime,
    ) -> tuple[FindingChange, ...]:
        """Let the findings of `components` be exactly those of `result`; what that changes.

        Args:
            components: by row number.
            packages: what advisories call the package of each.
            states: the state of the data about each of these packages.
            result: what the matcher said of the components.
            at: when it did.
        """
        told = {one.component_purl for one in result.findings} | {one.purl for one in result.not_checked}
        concerned = {number for number, one in components.items() if one.purl in told}
        concerned |= _with_findings(self._connection, sorted(components))
        changes = _replace(self._connection, components, result, at)
        _put_gaps(self._connection, components, result)
        # Not only what `changes`: an alias less is a waiver less.
        questions.outdate(self._connection, concerned, at)
        _remember(self._connection, packages, states)
        return changes

    def tell(self, changes: Sequence[FindingChange], at: dt.datetime) -> None:
        """Say in the audit log, and so to all who want to know (`events`), what new data changed of known packages."""
        if changes:
            detail = {"changes": [msgspec.to_builtins(one) for one in changes]}
            audit.append(self._connection, events.FINDINGS, f"{len(changes)} findings", detail, at=at, batch=True)


def states(connection: Connection, wanted: Sequence[Package] | None = None) -> dict[Package, str]:
    """The state of the data that each package was matched with last; of all packages, or of those `wanted`."""
    of = schema.package.c
    query = select(of.ecosystem, of.name, of.state)
    parts = [query] if wanted is None else [query.where(_named(some)) for some in _chunks(wanted)]
    return {(row[0], row[1]): row[2] for part in parts for row in connection.execute(part)}


def _named(wanted: Sequence[Package]) -> ColumnElement[bool]:
    return tuple_(schema.package.c.ecosystem, schema.package.c.name).in_(wanted)


def _chunks(values: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def _with_findings(connection: Connection, components: Sequence[int]) -> set[int]:
    """Those of the components that have a finding or a gap."""
    found: set[int] = set()
    for some in _chunks(components):
        for of in (schema.finding.c.component_id, schema.component_gap.c.component_id):
            found.update(connection.scalars(select(of).distinct().where(among(of, some))))
    return found


def _put_gaps(connection: Connection, components: Mapping[int, Component], result: ScanResult) -> None:
    numbers = {component.purl: number for number, component in components.items()}
    for some in _chunks(sorted(components)):
        connection.execute(delete(schema.component_gap).where(among(schema.component_gap.c.component_id, some)))
    rows = [
        {
            "component_id": numbers[gap.purl],
            "position": position,
            "reason": storable(gap.reason),
            "advisories": storable_tree(gap.advisories),
        }
        for position, gap in enumerate(result.not_checked)
    ]
    add_missing(connection, schema.component_gap, rows)


def _remember(connection: Connection, packages: Mapping[int, Package], states: Mapping[Package, str]) -> None:
    rows = [{"ecosystem": eco, "name": name, "state": states[eco, name]} for eco, name in sorted(states)]
    put(connection, schema.package, ("ecosystem", "name"), rows)
    of = schema.package.c
    known: dict[Package, int] = {}
    for some in _chunks(sorted(states)):
        query = select(of.ecosystem, of.name, of.id).where(_named(some))
        known.update(((row.ecosystem, row.name), row.id) for row in connection.execute(query))
    members = [{"component_id": number, "package_id": known[name]} for number, name in packages.items()]
    put(connection, schema.component_package, ("component_id",), members)


class _Said(NamedTuple):
    """What a finding says, apart from when it was found."""

    severity: str
    score: float | None
    vector: str
    fixed_in: tuple[str, ...]
    found_as: str


def _said(finding: Finding) -> _Said:
    return _Said(
        finding.severity,
        finding.score,
        storable(finding.vector),
        tuple(storable_tree(finding.fixed_in)),
        storable(finding.found_as),
    )


def _replace(
    connection: Connection, components: Mapping[int, Component], result: ScanResult, at: dt.datetime
) -> tuple[FindingChange, ...]:
    numbers = {component.purl: number for number, component in components.items()}
    old = _stored(connection, sorted(components))
    new = {(numbers[one.component_purl], storable(one.advisory)): _said(one) for one in result.findings}
    advisories = recording.advisories(connection, result)
    gone = old.keys() - new.keys()
    fresh = {key: said for key, said in new.items() if key not in old or old[key][1] != said}
    of = schema.finding.c
    if gone:
        same = delete(schema.finding).where(
            of.component_id == bindparam("component"), of.advisory_id == bindparam("advisory")
        )
        connection.execute(same, [{"component": key[0], "advisory": old[key][0]} for key in gone])
    rows: list[dict[str, Any]] = [
        {
            "component_id": component,
            "advisory_id": advisories[name],
            **said._asdict(),
            "advisories_revision": result.revision,
            "found_at": at,
        }
        for (component, name), said in fresh.items()
    ]
    put(connection, schema.finding, ("component_id", "advisory_id"), rows)
    finding_periods.follow(connection, components, at)
    changes = [
        FindingChange("changed" if key in old else "added", key[1], components[key[0]].purl, said.severity)
        for key, said in fresh.items()
    ]
    changes += [FindingChange("removed", key[1], components[key[0]].purl, old[key][1].severity) for key in gone]
    return tuple(sorted(changes, key=lambda one: (one.purl, one.advisory, one.change)))


def _stored(connection: Connection, components: Sequence[int]) -> dict[tuple[int, str], tuple[int, _Said]]:
    """Findings by component and name of the advisory, with the advisory's row number."""
    of, advisory = schema.finding.c, schema.advisory.c
    found = {}
    for chunk in _chunks(components):
        query = (
            select(schema.finding, advisory.name.label("advisory"))
            .join(schema.advisory, advisory.id == of.advisory_id)
            .where(among(of.component_id, chunk))
        )
        for row in connection.execute(query):
            said = _Said(row.severity, row.score, row.vector, tuple(row.fixed_in), row.found_as)
            found[row.component_id, row.advisory] = (row.advisory_id, said)
    return found


def finish(connection: Connection, revision: str, coverage: Mapping[str, str], at: dt.datetime) -> None:
    """Record that every component of the catalog is matched with the advisories of `revision`."""
    of, done = schema.component.c.id, schema.component_package.c.component_id
    missing = select(func.min(of)).join(schema.component_package, done == of, isouter=True).where(done.is_(None))
    # Those that come later have larger numbers: one transaction writes at a time, and no component is ever removed.
    first = connection.scalar(missing)
    through = connection.scalar(select(func.max(of))) if first is None else first - 1
    row = {"id": _ROW, "advisories_revision": revision, "coverage": dict(coverage), "matched_at": at}
    row["through"] = through
    put(connection, schema.matching, ("id",), [row])


def forget(connection: Connection, members: int, revision: str) -> None:
    """The components of a set were matched by a scan: with other data than all have, they are to be matched again."""
    known = matching(connection)
    if known is not None and known.revision == revision:
        return
    inside = select(schema.component_set_member.c.component_id).where(
        schema.component_set_member.c.component_set_id == members
    )
    gone = connection.execute(
        delete(schema.component_package).where(schema.component_package.c.component_id.in_(inside))
    )
    if gone.rowcount:
        connection.execute(update(schema.matching).values(through=None))


def reach(connection: Connection, purls: Collection[str]) -> tuple[int, int]:
    """How many component sets hold one of these packages, and how many images have one of those sets."""
    member, of = schema.component_set_member.c, schema.component.c
    sets: set[int] = set()
    for chunk in _chunks(sorted(purls)):
        query = (
            select(member.component_set_id)
            .distinct()
            .join(schema.component, of.id == member.component_id)
            .where(among_texts(of.purl, chunk))
        )
        sets.update(connection.scalars(query))
    images = 0
    for some in _chunks(sorted(sets)):
        counted = select(func.count()).where(among(schema.artifact.c.component_set_id, some))
        images += connection.scalar(counted) or 0
    return len(sets), images
