"""Which advisories are about one vulnerability.

Ids and aliases name it: entries that share one are one. An entry that names several CVEs (a distribution's bulletin)
would glue vulnerabilities together that are not the same. It joins each vulnerability it names when all of its CVEs
are there without it, and stands for itself when one is not.
"""

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from tidewaiter.advisories.advisory import Advisory

Value = TypeVar("Value")


class Hit(NamedTuple, Generic[Value]):
    """An advisory that applies, and whatever the caller wants to find again in its group."""

    advisory: Advisory
    value: Value


class Group(NamedTuple, Generic[Value]):
    """Hits of one vulnerability, and every name that it has."""

    names: set[str]
    hits: list[Hit[Value]]


def _names(advisory: Advisory) -> frozenset[str]:
    return frozenset((advisory.id, *advisory.aliases, *advisory.upstream))


def _cves(names: frozenset[str]) -> set[str]:
    return {name for name in names if name.startswith("CVE-")}


def _united(hits: Iterable[Hit[Value]]) -> list[Group[Value]]:
    """Hits that share a name, directly or through others; in the order of `hits`, groups in that of their last ones."""
    group_of: dict[str, int] = {}
    names: dict[int, set[str]] = {}
    places: dict[int, list[int]] = {}
    ordered = list(hits)
    for place, hit in enumerate(ordered):
        names[place], places[place] = set(_names(hit.advisory)), [place]
        met = {place, *(group_of[name] for name in names[place] if name in group_of)}
        largest = max(met, key=lambda one: (len(names[one]), one))  # the smaller join it: a long chain stays cheap
        for other in sorted(met - {largest}):
            group_of.update(dict.fromkeys(names[other], largest))
            names[largest] |= names.pop(other)
            places[largest] += places.pop(other)
        if largest == place:
            group_of.update(dict.fromkeys(names[place], place))
    by_last = sorted(places, key=lambda one: max(places[one]))
    return [Group(names[one], [ordered[place] for place in sorted(places[one])]) for one in by_last]


def group(hits: Iterable[Hit[Value]]) -> list[Group[Value]]:
    """`hits` in groups of one vulnerability each, in a fixed order; a bulletin may be in several."""
    ordered = sorted(hits, key=lambda hit: hit.advisory.id)
    groups = _united(hit for hit in ordered if len(_cves(_names(hit.advisory))) <= 1)
    covered = set[str]().union(*(group.names for group in groups))
    alone = []
    for bulletin in (hit for hit in ordered if len(_cves(_names(hit.advisory))) > 1):
        own = _names(bulletin.advisory)
        if _cves(own) <= covered:
            joined, added = [group for group in groups if group.names & _cves(own)], {bulletin.advisory.id}
        else:
            # Somebody calls this very entry an alias: then it is one, whatever else it names.
            joined, added = [group for group in groups if bulletin.advisory.id in group.names], set(own)
        for group in joined:
            group.names.update(added)
            group.hits.append(bulletin)
        if not joined:
            alone.append(bulletin)
    return groups + _united(alone)


def is_named(advisory: Advisory, names: set[str]) -> bool:
    """Whether findings that go by `names` already say everything that the advisory is about."""
    cves = _cves(_names(advisory))
    return advisory.id in names or (bool(cves) and cves <= names)
