"""Images with one of the package versions that are asked about, and the bases through which they have them."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

import msgspec
from sqlalchemy import Connection, and_, select, union

from tidewaiter.catalog import as_of, schema
from tidewaiter.catalog.among import among, lots
from tidewaiter.catalog.as_of import Meaning
from tidewaiter.catalog.owners import Owners
from tidewaiter.catalog.reach.versions import Versions


class ImageTag(msgspec.Struct, frozen=True):
    """A tag of an image, and whether a verdict cleared it; `synced` where it was seen elsewhere."""

    name: str
    visibility: Meaning


class ConcernedImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image in a repository with one of the versions."""

    name: str
    """Empty when the image is in no repository."""
    digest: str
    tags: tuple[ImageTag, ...]
    cleared: bool
    purls: tuple[str, ...]
    owner: str
    """Of the repository; empty when nobody is known."""
    workloads: int
    """That run it."""
    bases: tuple[str, ...]
    """Bases, as NAME@DIGEST, in whose layers it has some of the versions."""


class Base(NamedTuple):
    """A known base with an affected layer."""

    name: str
    digest: str

    @property
    def text(self) -> str:
        """`NAME@DIGEST`."""
        return f"{self.name}@{self.digest}"


class Image(NamedTuple):
    """An image in a repository."""

    number: int
    digest: str
    members: int
    """Row number of its component set."""
    repository: str
    bases: frozenset[int]
    """Affected layers, by row number, that it has from a base, or as that base."""


class Named(Protocol):
    """What has the digest of an image, or of an index that lists it."""

    @property
    def digest(self) -> str:
        """As it was recorded."""


class Images:
    """Images by repository and digest."""

    def __init__(
        self,
        every: Sequence[Image],
        held: Mapping[int, Sequence[int]],
        bases: Mapping[int, Base],
        parents: Mapping[str, Collection[str]],
    ) -> None:
        self.all = every
        self.held = held
        """By component set: the components that are asked about."""
        self.bases = bases
        """By row number of an affected layer: the smallest base that has it."""
        self._parents = parents

    @cached_property
    def distinct(self) -> list[Image]:
        """One for each digest."""
        return list({one.number: one for one in self.all}.values())

    @cached_property
    def digests(self) -> dict[str, Image]:
        """By digest."""
        return {one.digest: one for one in self.distinct}

    @cached_property
    def numbers(self) -> set[int]:
        """Row numbers."""
        return {one.number for one in self.distinct}

    @cached_property
    def named(self) -> set[str]:
        """Digests that mean one of the images: its own, and those of indexes that list it."""
        return {
            *self.digests,
            *(index for index, below in self._parents.items() if not self.digests.keys().isdisjoint(below)),
        }

    @cached_property
    def repositories(self) -> set[str]:
        """Their names."""
        return {one.repository for one in self.all}

    def meant_by(self, used: Iterable[Named]) -> Iterator[Image]:
        """The images that are meant, one for each use."""
        for one in used:
            for digest in (one.digest, *self._parents.get(one.digest, ())):
                if digest in self.digests:
                    yield self.digests[digest]

    def means_one_of(self, used: Named, wanted: Collection[str]) -> bool:
        """Whether its digest is that of an image among `wanted`, or of an index that lists one."""
        return used.digest in wanted or any(one in wanted for one in self._parents.get(used.digest, ()))

    def below(self, one: Image) -> list[Base]:
        """The bases, other than itself, through which the image has some of the versions."""
        return sorted({self.bases[layer] for layer in one.bases if self.bases[layer].digest != one.digest})

    def only(self, wanted: Callable[[Image], bool]) -> "Images":
        """Those that are wanted."""
        return Images([one for one in self.all if wanted(one)], self.held, self.bases, self._parents)

    def count_of_component(self) -> Counter[int]:
        """How many images have each component."""
        sets = Counter(one.members for one in self.distinct)
        found: Counter[int] = Counter()
        for members, count in sets.items():
            for component in self.held[members]:
                found[component] += count
        return found

    def groups(self) -> dict[tuple[int, frozenset[int]], list[Image]]:
        """By component set and affected layers of bases: what is the same is to be mended in the same way."""
        found: dict[tuple[int, frozenset[int]], list[Image]] = defaultdict(list)
        for one in self.distinct:
            found[one.members, one.bases].append(one)
        return found


def held_by(connection: Connection, versions: Versions) -> dict[int, list[int]]:
    """By component set: those of the versions that it holds."""
    held: dict[int, list[int]] = defaultdict(list)
    member = schema.component_set_member.c
    for some in lots(versions.numbers):
        query = select(member.component_set_id, member.component_id).where(among(member.component_id, some))
        for members, component in connection.execute(query).all():
            held[members].append(component)
    return held


def find(connection: Connection, versions: Versions, at: dt.datetime | None) -> Images:
    """Every image with one of the versions."""
    held = held_by(connection, versions)
    bases = bases_of(connection, {layer for pairs in versions.layers.values() for layer, _ in pairs})
    through: dict[int, set[int]] = defaultdict(set)
    stack = schema.artifact_layer.c
    for some in lots(sorted(bases)):
        for artifact, layer in connection.execute(
            select(stack.artifact_id, stack.layer_id).where(among(stack.layer_id, some))
        ).all():
            through[artifact].add(layer)
    none: frozenset[int] = frozenset()
    place, of, repository = schema.repository_artifact.c, schema.artifact.c, schema.repository.c
    inside = and_(place.artifact_id == of.id, as_of.in_repository(at))
    found: list[Image] = []
    for some in lots(sorted(held)):
        placed = (
            select(of.id, of.digest, of.component_set_id, repository.name)
            .join(schema.repository_artifact, inside, isouter=True)
            .join(schema.repository, repository.id == place.repository_id, isouter=True)
            .where(among(of.component_set_id, some))
        )
        if at is not None:
            placed = placed.where(of.recorded_at <= at)
        for number, digest, members, name in connection.execute(placed).all():
            layers = frozenset(through[number]) if number in through else none
            found.append(Image(number, digest, members, name or "", layers))
    found.sort(key=lambda one: (one.repository, one.digest))
    return Images(found, held, bases, _parents(connection, {one.number for one in found}))


def bases_of(connection: Connection, layers: Collection[int]) -> dict[int, Base]:
    """By row number of those of `layers` that belong to a base: the known base with the fewest layers, then by name."""
    if not layers:
        return {}
    of, image, said = schema.artifact.c, schema.base_image.c, schema.base_approval.c
    known = union(
        select(schema.base.c.name.label("name"), image.digest.label("digest")).join(
            schema.base_image, image.base_id == schema.base.c.id
        ),
        select(said.name.label("name"), said.digest.label("digest")),
    ).subquery()
    rows = connection.execute(select(of.id, known.c.name, known.c.digest).join(known, known.c.digest == of.digest))
    named: dict[int, Base] = {}
    for number, name, digest in rows:
        named[number] = min(named.get(number, Base(name, digest)), Base(name, digest))
    stack = schema.artifact_layer.c
    sizes: Counter[int] = Counter()
    having: dict[int, list[int]] = defaultdict(list)
    for some in lots(sorted(named)):
        for artifact, layer in connection.execute(
            select(stack.artifact_id, stack.layer_id).where(among(stack.artifact_id, some))
        ):
            sizes[artifact] += 1
            if layer in layers:
                having[layer].append(artifact)
    return {layer: named[min(those, key=lambda one: (sizes[one], named[one]))] for layer, those in having.items()}


def _parents(connection: Connection, numbers: Collection[int]) -> dict[str, set[str]]:
    """By digest of an index: the digests of those of the images that it lists."""
    of = schema.synced_child.c
    if connection.scalar(select(of.parent_id).limit(1)) is None:
        return {}
    above, below = schema.artifact.alias(), schema.artifact.alias()
    found: dict[str, set[str]] = defaultdict(set)
    for some in lots(sorted(numbers)):
        query = (
            select(above.c.digest.label("above"), below.c.digest.label("below"))
            .select_from(schema.synced_child)
            .join(above, above.c.id == of.parent_id)
            .join(below, below.c.id == of.child_id)
            .where(among(of.child_id, some))
        )
        for row in connection.execute(query):
            found[row.above].add(row.below)
    return found


def cleared(connection: Connection, images: Images, versions: Versions, at: dt.datetime | None) -> set[int]:
    """Row numbers of images with a tag that is, or was, cleared; others may be among them."""
    if at is not None:
        said = as_of.tags(connection, at, artifacts=images.numbers)
        return {images.digests[one.digest].number for one in said if one.visibility == "cleared"}
    of, tag, member = schema.artifact.c, schema.tag.c, schema.component_set_member.c
    found: set[int] = set()
    for some in lots(versions.numbers):
        sets = select(member.component_set_id).where(among(member.component_id, some))
        query = select(tag.artifact_id).join(schema.artifact, of.id == tag.artifact_id)
        found.update(connection.scalars(query.where(tag.visibility == "cleared", of.component_set_id.in_(sets))))
    return found


def answers(
    connection: Connection,
    images: Images,
    versions: Versions,
    shown: Sequence[Image],
    *,
    known: tuple[Collection[int], Mapping[str, int], Owners],
    at: dt.datetime | None,
) -> tuple[ConcernedImage, ...]:
    """The images that are `shown`, with their tags; `known`: which are cleared, how often each runs, owners."""
    clear, runs, owning = known
    tags = as_of.tags_by_image(connection, at, {image.number for image in shown})
    purls = {
        members: tuple(sorted(versions.components[component].purl for component in images.held[members]))
        for members in {one.members for one in shown}
    }
    owners = {name: owning.of_repository(name) for name in {one.repository for one in shown}}
    found = []
    for one in shown:
        said = tuple(ImageTag(name, meaning) for name, meaning in tags.get((one.repository, one.number), ()))
        found.append(
            ConcernedImage(
                name=one.repository,
                digest=one.digest,
                tags=said,
                cleared=one.number in clear and any(tag.visibility == "cleared" for tag in said),
                purls=purls[one.members],
                owner=owners[one.repository],
                workloads=runs.get(one.digest, 0),
                bases=tuple(base.text for base in images.below(one)) if one.bases else (),
            )
        )
    return tuple(found)
