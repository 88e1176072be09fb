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
    """Hits that share a name, directly or through others."""
    group_of: dict[str, int] = {}
    groups: dict[int, Group[Value]] = {}
    for place, hit in enumerate(hits):
        united = Group(set(_names(hit.advisory)), [hit])
        for other in sorted({group_of[name] for name in united.names if name in group_of}, reverse=True):
            earlier = groups.pop(other)
            united.names.update(earlier.names)
            united.hits[:0] = earlier.hits
        groups[place] = united
        group_of.update(dict.fromkeys(united.names, place))
    return list(groups.values())


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
