"""Step: findings of the whole catalog with the advisories of now, at the cost of the packages that these touch.

1. Packages whose advisory data is in another state than their versions were matched with: all of their versions.
2. Versions that were never matched, or that a scan matched with other data.
3. Only then the catalog says that it is matched with this revision.

Each part is one transaction; whoever is killed between two leaves the rest to the next time. The result is what
scanning every image anew would find.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from tidewaiter.advisories.database import Database
from tidewaiter.advisories.matcher import Matcher, subject
from tidewaiter.advisories.package_states import PackageStates
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.findings import FindingChange, Package, Rematching, package
from tidewaiter.core import clock
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.sbom.component import Component

_PACKAGES = 400
"""Packages of one transaction; they have a few versions each."""
_VERSIONS = 4000
"""Versions of one transaction: other writers wait for it."""


class Rematched(msgspec.Struct, frozen=True, kw_only=True):
    """What new advisories meant for the images of the catalog."""

    revision: str
    """Of the advisories."""
    packages: int
    """Packages whose advisory data had changed."""
    versions: int
    """Package versions that were matched anew."""
    changes: tuple[FindingChange, ...]
    component_sets: int
    """Component sets with a package version whose findings changed."""
    images: int
    """Images with one of these component sets."""


class _Data(NamedTuple):
    matcher: Matcher
    states: PackageStates
    at: dt.datetime


def rematch(catalog: Catalog, database: Database, progress: Progress = SILENT) -> Rematched:
    """Bring the findings of every component of the catalog to the advisories of `database`.

    Raises:
        StorageError: the catalog or the advisories cannot be read or written.
    """
    changes: dict[tuple[str, str], FindingChange] = {}
    versions = 0
    with database.reading(), progress.task("Matching package versions") as task:
        data = _Data(Matcher(database), PackageStates(database), clock.now())
        revision = database.revision()
        coverage = {name: one.as_of for name, one in database.coverage().items()}
        stored = catalog.package_states()
        stale = sorted(name for name, state in stored.items() if data.states.state(*name) != state)
        for part in chain(_stale(catalog, data, stale), _unmatched(catalog, data)):
            task.advance(part.versions)
            versions += part.versions
            changes.update(((one.purl, one.advisory), one) for one in part.changes)
    # 3.
    catalog.record_matching(revision, coverage, data.at)
    sets, images = catalog.reach({one.purl for one in changes.values()})
    return Rematched(
        revision=revision,
        packages=len(stale),
        versions=versions,
        changes=tuple(changes[key] for key in sorted(changes)),
        component_sets=sets,
        images=images,
    )


class _Part(NamedTuple):
    versions: int
    changes: tuple[FindingChange, ...]


def _stale(catalog: Catalog, data: _Data, packages: Sequence[Package]) -> Iterator[_Part]:
    # 1.
    for start in range(0, len(packages), _PACKAGES):
        with catalog.rematching() as work:
            part = _match(data, work, work.of_packages(packages[start : start + _PACKAGES]))
            work.tell(part.changes, data.at)
        yield part


def _unmatched(catalog: Catalog, data: _Data) -> Iterator[_Part]:
    # 2.
    while True:
        with catalog.rematching() as work:
            fresh = work.unmatched(_VERSIONS)
            # All versions of a package are in one state: those in another one, put by somebody else, go along.
            wanted = _states(data, _packages(fresh))
            known = work.states(sorted(wanted))
            others = work.of_packages([name for name, state in known.items() if state != wanted[name]])
            part = _match(data, work, {**fresh, **others})
        if not fresh:
            return
        yield part


def _match(data: _Data, work: Rematching, components: Mapping[int, Component]) -> _Part:
    if not components:
        return _Part(0, ())
    packages = _packages(components)
    result = data.matcher.match(components.values())
    return _Part(len(components), work.put(components, packages, _states(data, packages), result, data.at))


def _packages(components: Mapping[int, Component]) -> dict[int, Package]:
    return {number: package(*subject(component)[:2]) for number, component in components.items()}


def _states(data: _Data, packages: Mapping[int, Package]) -> dict[Package, str]:
    return {name: data.states.state(*name) for name in set(packages.values())}
