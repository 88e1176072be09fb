"""Whether an advisory is about a version: the evaluation algorithm of the OSV schema, and its third answer.

The specification knows affected and unaffected. Here `undecided` is the answer where version numbers cannot tell:
a version that its ecosystem's order does not read, a range whose bounds it does not read, or an entry that names
the package with GIT ranges only. Undecided is never treated as unaffected.

Where one version both ends a range (`fixed`) and starts another (`introduced`), the start counts, in whatever
order the entry lists them; `last_affected` at the version that introduces is a range of this version alone.
"""

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from tidewaiter.advisories.advisory import Affected, EventKind, Range, family
from tidewaiter.advisories.versions import Key, Order, order_of, release_of

Decision = Literal["affected", "unaffected", "undecided"]

_AT_ONE_VERSION: dict[EventKind, int] = {"fixed": 0, "introduced": 1, "last_affected": 2}


class _Bound(NamedTuple):
    kind: EventKind
    text: str
    key: Key


class _Line(NamedTuple):
    """A range whose bounds are read: `always` when every version is in it from its beginning on."""

    order: Order | None
    always: bool
    bounds: tuple[_Bound, ...]
    limits: tuple[Key, ...]


def _key(order: Order | None, text: str) -> Key | None:
    if order is None:
        return None
    try:
        return order(text)
    except ValueError:
        return None


def _line(order: Order | None, found: Range) -> _Line | None:
    """The range with its bounds as keys, sorted; None when a bound is no version."""
    always = False
    bounds: list[_Bound] = []
    ends: list[Key] = []
    unlimited = True
    for event in found.events:
        if event.kind == "introduced" and event.version == "0":
            always = True  # sorts before any version, by the specification
            continue
        if event.kind == "limit" and event.version == "*":
            return _line(order, Range(found.kind, tuple(item for item in found.events if item.kind != "limit")))
        key = _key(order, event.version)
        if key is None:
            return None
        if event.kind == "limit":
            unlimited = False
            ends.append(key)
        else:
            bounds.append(_Bound(event.kind, event.version, key))
    bounds.sort(key=lambda bound: _AT_ONE_VERSION[bound.kind])
    bounds.sort(key=lambda bound: bound.key)
    return _Line(order, always, tuple(bounds), () if unlimited else tuple(ends))


@lru_cache(2_000)
def _listed(order: Order, versions: tuple[str, ...]) -> frozenset[Key]:
    """Keys of a `versions` list; advisories of one package often share it."""
    keys = (_key(order, version) for version in versions)
    return frozenset(key for key in keys if key is not None)


class Scope:
    """One `Affected`, made ready to be asked about many versions."""

    def __init__(self, affected: Affected) -> None:
        self._affected = affected
        self._family = family(affected.ecosystem)
        self._order = order_of(self._family, "ECOSYSTEM")
        lines = [_line(order_of(self._family, item.kind), item) for item in affected.ranges]
        self._lines = tuple(line for line in lines if line is not None)
        self._readable = len(self._lines) == len(lines) and bool(lines or affected.versions)

    def decide(self, version: str) -> Decision:
        """Whether `version` of the package is affected."""
        return "affected" if self.lists(version) else self.decide_by_ranges(version)

    def decide_by_ranges(self, version: str) -> Decision:
        """Whether the ranges include `version`; the `versions` list apart."""
        unread = not self._readable
        own = _key(self._order, version)
        for line in self._lines:
            key = own if line.order is self._order else _key(line.order, version)
            included = self._includes(line, version, key)
            if included:
                return "affected"
            unread = unread or included is None
        if unread or (self._order is not None and own is None):
            return "undecided"
        return "unaffected"

    def lists(self, version: str) -> bool:
        """Whether the `versions` list names `version`, as text or as an equal version."""
        versions = self._affected.versions
        if not versions:
            return False
        if version in versions:
            return True
        if self._order is None:
            return False
        # A rebuild (PyPI's 2.11.0+cpu) is its release: PEP 440 lets `==2.11.0` match it too.
        asked = {_key(self._order, text) for text in (version, release_of(self._family, version))} - {None}
        return bool(asked and not asked.isdisjoint(_listed(self._order, versions)))

    def turning_points(self) -> set[Key] | None:
        """Keys at which the ranges' answer may change; None when a range has an order other than the ecosystem's."""
        points: set[Key] = set()
        for line in self._lines:
            if line.order is not self._order and (line.bounds or line.limits):
                return None
            points.update(bound.key for bound in line.bounds)
            points.update(line.limits)
        return points

    def _includes(self, line: _Line, version: str, key: Key | None) -> bool | None:
        """Whether the range includes the version with `key` in its order; None when it is no version there."""
        if line.always and not line.bounds and not line.limits:
            return True
        if key is None:
            return None
        if line.limits and not any(key < limit for limit in line.limits):
            return False
        inside = line.always
        for bound in line.bounds:
            if bound.kind == "introduced":
                inside = inside or key >= bound.key
            elif bound.kind == "fixed":
                inside = inside and key < bound.key
            elif inside and key > bound.key:
                release = key if "+" in bound.text else _key(line.order, release_of(self._family, version))
                inside = release is not None and release <= bound.key
        return inside

    def fixes(self, version: str) -> list[tuple[Key, str]]:
        """Key and text of every `fixed` version newer than `version` (of every one when `version` is unreadable).

        In the ecosystem's own order; SemVer ranges are left out where the ecosystem has an order of its own, since
        keys of two orders do not compare.
        """
        found: list[tuple[Key, str]] = []
        for line in self._lines:
            if self._order is None or line.order is self._order:
                key = _key(line.order, version)
                fixed = ((bound.key, bound.text) for bound in line.bounds if bound.kind == "fixed")
                found.extend(item for item in fixed if key is None or item[0] > key)
        return found


class Standing(NamedTuple):
    """How one version stands to all entries about a package, by their places.

    Versions with an equal `place` have the same answers and the same newer fixes.
    """

    place: Hashable
    affected: frozenset[int]
    undecided: frozenset[int]


class Index:
    """All entries about one package, made ready for many versions of it.

    Between two neighbouring bounds of all ranges every version gets the same answer from the ranges, so that it is
    worked out once for each such stretch; only the `versions` lists are looked up version by version.
    """

    def __init__(self, affected: Sequence[Affected]) -> None:
        self.scopes = tuple(Scope(item) for item in affected)
        self._family = family(affected[0].ecosystem) if affected else ""
        self._order = order_of(self._family, "ECOSYSTEM")
        points = [scope.turning_points() for scope in self.scopes]
        self._one_order = self._order is not None and None not in points
        self._points: list[Key] = sorted(set().union(*(item for item in points if item))) if self._one_order else []
        self._by_stretch: dict[int, Standing] = {}
        self._by_text: dict[str, Standing] = {}
        self._listing: dict[Key, frozenset[int]] = {}
        if self._order is not None:
            listing: dict[Key, set[int]] = {}
            for number, item in enumerate(affected):
                for key in _listed(self._order, item.versions):
                    listing.setdefault(key, set()).add(number)
            shared: dict[frozenset[int], frozenset[int]] = {}
            self._listing = {
                key: shared.setdefault(frozenset(numbers), frozenset(numbers)) for key, numbers in listing.items()
            }

    def standing(self, version: str) -> Standing:
        """How `version` stands to every entry."""
        standing = self._by_text.get(version)
        if standing is None:
            standing = self._by_text[version] = self._work_out(version)
        return standing

    def _work_out(self, version: str) -> Standing:
        key = _key(self._order, version)
        if key is None or not self._one_order or release_of(self._family, version) != version:
            return self._standing(version, version, self._listing_scopes(version))
        left = bisect_left(self._points, key)
        stretch = 2 * left + (left < len(self._points) and self._points[left] == key)
        standing = self._by_stretch.get(stretch)
        if standing is None:
            standing = self._by_stretch[stretch] = self._standing(stretch, version, frozenset())
        listed = self._listing.get(key)
        if listed is None or listed <= standing.affected:
            return standing
        return Standing((stretch, listed), standing.affected | listed, standing.undecided - listed)

    def _listing_scopes(self, version: str) -> frozenset[int]:
        """Places of the entries whose `versions` list names `version`."""
        return frozenset(number for number, scope in enumerate(self.scopes) if scope.lists(version))

    def _standing(self, place: Hashable, version: str, listed: frozenset[int]) -> Standing:
        decisions = [scope.decide_by_ranges(version) for scope in self.scopes]
        affected = {number for number, decision in enumerate(decisions) if decision == "affected"}
        undecided = {number for number, decision in enumerate(decisions) if decision == "undecided"}
        return Standing(place, frozenset(affected | listed), frozenset(undecided - listed))
