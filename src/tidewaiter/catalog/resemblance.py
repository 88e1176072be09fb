"""Component sets that are nearly the same: images that could stand on one lock.

Two sets with a similarity (Jaccard: what both have, of what either has) of at least `t` share `k` of the rarest
`n - ceil(t * n) + k` components of either, n being its size. So each set is compared only with those that are found
under `k` of its rarest components (prefix filtering; Wang, Li and Feng, "Can we beat the prefix filtering?"). And only
with the first set of each group: a thousand nearly equal sets are a thousand comparisons, not half a million.
"""

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain

import msgspec
from sqlalchemy import Connection, func, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.rows import CHUNK
from tidewaiter.core import limits

_SHARED = 4
_MET = 64
"""Sets that are met under a component for the work of one comparison."""
_MEMBER = schema.component_set_member.c


class Alike(msgspec.Struct, frozen=True):
    """A component set of a group, with an image that has it."""

    name: str
    digest: str
    images: int
    """Images with exactly these packages."""
    similarity: float
    """With the first of the group: 1 is the same."""
    added: int
    """Packages, as name and version, that the first of the group does not have."""
    removed: int
    """Packages that only the first of the group has."""


class Group(msgspec.Struct, frozen=True):
    """Component sets that are nearly the same; the one with the most images first."""

    members: tuple[Alike, ...]
    images: int


class Resemblances(msgspec.Struct, frozen=True):
    """Groups of nearly the same component sets, those with the most images first."""

    groups: tuple[Group, ...]
    complete: bool
    """False when there was too much to compare; the component sets with the fewest images are missing then."""


class _Close(msgspec.Struct, frozen=True):
    members: int
    similarity: float
    added: int
    removed: int


def groups(connection: Connection, *, threshold: float = 0.9, rows: int = limits.PAGE_ROWS) -> Resemblances:
    """Groups of component sets whose similarity with the first of their group is at least `threshold`, below 1."""
    images = _images(connection)
    sets = _sets(connection, images)
    found: dict[int, list[_Close]] = {}
    under: dict[int, list[int]] = defaultdict(list)
    left = limits.RESEMBLANCE_COMPARISONS
    complete = True
    for number in sorted(sets, key=lambda one: (-images[one], one)):
        members = sets[number]
        shared = _shared(len(members), threshold)
        rarest = members[: len(members) - math.ceil(threshold * len(members)) + shared]
        met = Counter(chain.from_iterable(under[one] for one in rarest if one in under))
        candidates = [
            leader for leader, times in met.items() if times >= min(shared, _shared(len(sets[leader]), threshold))
        ]
        left -= len(candidates) + met.total() // _MET
        if left < 0:
            complete = False
            break
        close = _nearest(number, candidates, sets, threshold)
        if close is None:
            found[number] = []
            for one in rarest:
                under[one].append(number)
        else:
            found[close[0]].append(close[1])
    grouped = [(leader, close) for leader, close in found.items() if close]
    grouped.sort(key=lambda one: (-images[one[0]] - sum(images[other.members] for other in one[1]), one[0]))
    shown = grouped[:rows]
    examples = _examples(
        connection, [number for leader, close in shown for number in (leader, *(c.members for c in close))]
    )
    return Resemblances(tuple(_group(leader, close, images, examples) for leader, close in shown), complete)


def _shared(size: int, threshold: float) -> int:
    """How many of their rarest components sets must share that are like enough."""
    return min(_SHARED, math.ceil(threshold * size))


def _nearest(
    number: int, candidates: Iterable[int], sets: dict[int, "array[int]"], threshold: float
) -> tuple[int, _Close] | None:
    """The first set among the candidates that is most like this one; None when none is like enough."""
    own = set(sets[number])
    best: tuple[int, _Close] | None = None
    for leader in candidates:
        size = len(sets[leader])
        if min(size, len(own)) < threshold * max(size, len(own)):
            continue
        both = len(own.intersection(sets[leader]))
        similarity = both / (len(own) + size - both)
        if similarity >= threshold and (best is None or similarity > best[1].similarity):
            best = leader, _Close(number, similarity, len(own) - both, size - both)
    return best


def _images(connection: Connection) -> dict[int, int]:
    """How many images in repositories have each component set."""
    of = schema.artifact.c
    here = select(schema.repository_artifact.c.artifact_id).where(schema.repository_artifact.c.artifact_id == of.id)
    query = (
        select(of.component_set_id, func.count().label("images"))
        .where(of.component_set_id.is_not(None), here.exists())
        .group_by(of.component_set_id)
    )
    return {row.component_set_id: row.images for row in connection.execute(query)}


def _sets(connection: Connection, wanted: dict[int, int]) -> dict[int, "array[int]"]:
    """The components of each set, as their places in the order of rarity, rarest first; of empty sets nothing."""
    query = select(_MEMBER.component_set_id, _MEMBER.component_id).order_by(_MEMBER.component_set_id)
    sets: dict[int, array[int]] = {}
    current, members = 0, array("q")
    for number, component in connection.execution_options(yield_per=10_000).execute(query):
        if number != current:
            current, members = number, sets.setdefault(number, array("q"))
        members.append(component)
    frequency: Counter[int] = Counter()
    for number in sets.keys() - wanted.keys():
        del sets[number]
    for members in sets.values():
        frequency.update(members)
    ordered = sorted(frequency, key=lambda one: (frequency[one], one))
    place = dict(zip(ordered, range(len(ordered)), strict=True))
    return {number: array("q", sorted(map(place.__getitem__, members))) for number, members in sets.items()}


def _examples(connection: Connection, sets: list[int]) -> dict[int, tuple[str, str]]:
    """Name and digest of an image with each of the component sets."""
    of, place = schema.artifact.c, schema.repository_artifact.c
    found: dict[int, tuple[str, str]] = {}
    for start in range(0, len(sets), CHUNK):
        query = (
            select(of.component_set_id, schema.repository.c.name, of.digest)
            .join(schema.repository_artifact, place.artifact_id == of.id)
            .join(schema.repository, schema.repository.c.id == place.repository_id)
            .where(of.component_set_id.in_(sets[start : start + CHUNK]))
            .order_by(schema.repository.c.name.desc(), of.digest.desc())
        )
        found.update((row.component_set_id, (row.name, row.digest)) for row in connection.execute(query))
    return found


def _group(leader: int, close: list[_Close], images: dict[int, int], examples: dict[int, tuple[str, str]]) -> Group:
    ordered = [_Close(leader, 1.0, 0, 0), *sorted(close, key=lambda one: (-one.similarity, one.members))]
    members = tuple(
        Alike(*examples[one.members], images[one.members], round(one.similarity, 4), one.added, one.removed)
        for one in ordered
    )
    return Group(members, sum(one.images for one in members))
