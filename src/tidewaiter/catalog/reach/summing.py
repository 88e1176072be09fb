"""How much is reached now, counted by the database: as many rows as there are groups of images, not as images.

Images of one component set with the same affected layers of bases are a group. What is in several repositories counts
once; the few images that are, and those that have several such layers, are looked at one by one.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Subquery, Table, func, literal, select

from tidewaiter.catalog import model_versions, schema, workloads
from tidewaiter.catalog.among import among, among_texts
from tidewaiter.catalog.model_versions import ModelVersion
from tidewaiter.catalog.owners import Owners
from tidewaiter.catalog.reach.fixes import Place
from tidewaiter.catalog.reach.images import Base, Image, Images
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.catalog.workloads import Workload

Group = tuple[int, frozenset[int]]
"""Component set, and affected layers of bases, by row number."""


class _Meant(NamedTuple):
    """An image that is used."""

    number: int
    digest: str
    members: int


class Used(NamedTuple):
    """What runs of the images, and which models they serve."""

    running: list[Workload]
    serving: list[ModelVersion]
    runs: Counter[str]
    """How often each image runs, by digest."""
    groups: Counter[Group]
    """How many images of each group run."""


class Sums:
    """The images with one of the component sets `held`.

    Args:
        connection: of any transaction.
        held: by component set: the components that are asked about.
        bases: by row number of an affected layer: the smallest base that has it.
    """

    def __init__(self, connection: Connection, held: Mapping[int, Sequence[int]], bases: Mapping[int, Base]) -> None:
        self._connection = connection
        self._held = held
        self._bases = bases
        self._inside = among(schema.artifact.c.component_set_id, held)
        self._single, self._several = self._layers()

    def _layers(self) -> tuple[Subquery | None, dict[int, frozenset[int]]]:
        """A query for images with one affected layer of a base, and the layers of those with several."""
        stack = schema.artifact_layer.c
        if not self._bases:
            return None, {}
        here = among(stack.layer_id, self._bases)
        each = (
            select(stack.artifact_id, func.min(stack.layer_id).label("layer")).where(here).group_by(stack.artifact_id)
        )
        number = func.count(stack.layer_id.distinct())
        found: dict[int, set[int]] = defaultdict(set)
        if len(self._bases) > 1:
            many = each.with_only_columns(stack.artifact_id).having(number > 1)
            rows = select(stack.artifact_id, stack.layer_id).where(here, stack.artifact_id.in_(many))
            for artifact, layer in self._connection.execute(rows):
                found[artifact].add(layer)
        return each.subquery(), {artifact: frozenset(layers) for artifact, layers in found.items()}

    def _counted(self, *columns: Any, by_repository: bool) -> list[tuple[Any, ...]]:  # noqa: ANN401 - columns
        """Rows of `columns`, component set, layer, count, for images with at most one affected layer of a base."""
        of, place = schema.artifact.c, schema.repository_artifact.c
        source: Any = schema.artifact
        grouped = [*columns, of.component_set_id]
        if by_repository:
            source = source.outerjoin(schema.repository_artifact, place.artifact_id == of.id)
        if self._single is not None:
            source = source.outerjoin(self._single, self._single.c.artifact_id == of.id)
            grouped.append(self._single.c.layer)
        query = select(*grouped, func.count()).select_from(source).where(self._inside)
        if self._several:
            query = query.where(~among(of.id, self._several))
        rows = self._connection.execute(query.group_by(*grouped)).all()
        if self._single is None:
            return [(*row[:-1], None, row[-1]) for row in rows]
        return [tuple(row) for row in rows]

    @cached_property
    def groups(self) -> Counter[Group]:
        """How many images each group has."""
        found: Counter[Group] = Counter()
        for members, layer, count in self._counted(by_repository=False):
            found[members, _layers_of(layer)] += count
        for one in self._odd:
            found[one.members, one.bases] += 1
        return found

    @cached_property
    def _odd(self) -> list[Image]:
        """Images with several affected layers of bases, once each."""
        return list({one.number: one for one in self._odd_places}.values())

    @cached_property
    def _odd_places(self) -> list[Image]:
        return self._images(among(schema.artifact.c.id, self._several)) if self._several else []

    @cached_property
    def places(self) -> Counter[tuple[str, Group]]:
        """How many images of each group are in each repository; the empty name is no repository."""
        counted = self._counted(schema.repository_artifact.c.repository_id, by_repository=True)
        repository = schema.repository.c
        known = {row[0] for row in counted if row[0] is not None}
        names = {
            row.id: row.name
            for row in self._connection.execute(
                select(repository.id, repository.name).where(among(repository.id, known))
            )
        }
        found: Counter[tuple[str, Group]] = Counter()
        for number, members, layer, count in counted:
            found["" if number is None else names[number], (members, _layers_of(layer))] += count
        for one in self._odd_places:
            found[one.repository, (one.members, one.bases)] += 1
        return found

    @property
    def derived(self) -> int:
        """Images with an affected layer of a base that is not themselves."""
        reached = sum(count for (_, layers), count in self.groups.items() if layers)
        own = {base.digest for base in self._bases.values()}
        themselves = self._images(schema.artifact.c.digest.in_(own)) if own else []
        alone = {one.number for one in themselves if one.bases and not self.some([one]).below(one)}
        return reached - len(alone)

    def some(self, shown: Sequence[Image]) -> Images:
        """Some of the images."""
        return Images(shown, self._held, self._bases, {})

    def first(self, rows: int) -> list[Image]:
        """The first images by repository and digest."""
        by_name: Counter[str] = Counter()
        for (name, _), count in self.places.items():
            by_name[name] += count
        wanted, total = [], 0
        for name in sorted(by_name):
            wanted.append(name)
            total += by_name[name]
            if total >= rows:
                break
        of, place, repository = schema.artifact.c, schema.repository_artifact.c, schema.repository.c
        named = (
            select(of.id, of.digest, of.component_set_id, repository.name)
            .join(schema.repository_artifact, place.artifact_id == of.id)
            .join(schema.repository, repository.id == place.repository_id)
            .where(among_texts(repository.name, wanted), among(of.component_set_id + 0, self._held))
        )
        found = self._read(named)
        if "" in wanted:
            nowhere = ~select(place.artifact_id).where(place.artifact_id == of.id).exists()
            found += self._read(
                select(of.id, of.digest, of.component_set_id, literal("").label("name")).where(self._inside, nowhere)
            )
        found.sort(key=attrgetter("repository", "digest"))
        return found[:rows]

    def _images(self, condition: ColumnElement[bool]) -> list[Image]:
        of, place, repository = schema.artifact.c, schema.repository_artifact.c, schema.repository.c
        return self._read(
            select(of.id, of.digest, of.component_set_id, repository.name)
            .join(schema.repository_artifact, place.artifact_id == of.id, isouter=True)
            .join(schema.repository, repository.id == place.repository_id, isouter=True)
            .where(among(of.component_set_id + 0, self._held), condition)
        )

    def _read(self, query: Select[Any]) -> list[Image]:
        rows = self._connection.execute(query).all()
        through = self._through({row.id for row in rows})
        return [
            Image(number, digest, members, name or "", through.get(number, frozenset()))
            for number, digest, members, name in rows
        ]

    def _through(self, images: Collection[int]) -> dict[int, frozenset[int]]:
        """Affected layers of bases that each of the images has, of those that have some."""
        if not (self._bases and images):
            return {}
        stack = schema.artifact_layer.c
        here = (among(stack.artifact_id, images), among(stack.layer_id + 0, self._bases))
        found: dict[int, set[int]] = defaultdict(set)
        for artifact, layer in self._connection.execute(select(stack.artifact_id, stack.layer_id).where(*here)):
            found[artifact].add(layer)
        return {artifact: frozenset(layers) for artifact, layers in found.items()}

    def holding(self, owning: Mapping[str, str]) -> Counter[str]:
        """How many images each owner has; `owning` says whose a repository is."""
        found: Counter[str] = Counter()
        for (name, _), count in self.places.items():
            found[owning.get(name, "")] += count
        if self.places.total() == self.groups.total():
            return found  # nothing is in two repositories
        of, place = schema.artifact.c, schema.repository_artifact.c
        many = select(place.artifact_id).group_by(place.artifact_id).having(func.count() > 1)
        again = (
            select(place.artifact_id, schema.repository.c.name)
            .join(schema.repository, schema.repository.c.id == place.repository_id)
            .join(schema.artifact, of.id == place.artifact_id)
            .where(place.artifact_id.in_(many), self._inside)
        )
        owners: dict[int, Counter[str]] = defaultdict(Counter)
        for artifact, name in self._connection.execute(again):
            owners[artifact][owning.get(name, "")] += 1
        for counts in owners.values():
            for owner, count in counts.items():
                found[owner] -= count - 1
        return found

    def used(self, owners: Owners) -> Used:
        """What runs and serves now."""
        ran, meant = self._meant_by(schema.workload_period, schema.workload, workloads.COLUMNS)
        served, _ = self._meant_by(schema.model_period, schema.model_version, model_versions.COLUMNS)
        running = workloads.in_order(workloads.of_row(row, owners) for row in ran)
        serving = model_versions.in_order(model_versions.of_row(row, owners) for row in served)
        runs = Counter(image.digest for one in running for image in meant[one.digest])
        at_work = {image.number: image.members for one in running for image in meant[one.digest]}
        through = self._through(at_work)
        groups = Counter((members, through.get(number, frozenset())) for number, members in at_work.items())
        return Used(running, serving, runs, groups)

    def _meant_by(
        self, periods: Table, subject: Table, told: Sequence[ColumnElement[Any]]
    ) -> tuple[list[AnyRow], dict[str, set[_Meant]]]:
        """Rows that begin with the columns `told`, one for each use of the images now; and the images by the digest.

        The digest is that of an image, or of an index that lists some.
        """
        period, of = periods.c, schema.artifact.c
        # Whatever there is less of is gone through: periods, or the images.
        size = self._connection.scalar(select(func.max(period.id))) or 0
        few = size < self.groups.total()
        inside = among(of.component_set_id + 0, self._held) if few else self._inside
        columns = (*told, period.id, of.id, of.component_set_id)
        used = periods.join(subject, subject.c.id == period[f"{subject.name}_id"])
        # What is used is the image itself, or what lists it: the digest of the use is that of the image, or is not.
        queries = [(select(*columns).select_from(used.join(schema.artifact, of.digest == period.digest)), False)]
        if self._indexes:
            above, child = schema.artifact.alias().c, schema.synced_child.c
            through = used.join(above.id.table, above.digest == period.digest)
            through = through.join(schema.synced_child, child.parent_id == above.id)
            listed = through.join(schema.artifact, of.id == child.child_id)
            queries.append((select(*columns, of.digest).select_from(listed), True))
        width, named = len(told), [column.key for column in told].index("digest")
        uses: dict[int, AnyRow] = {}
        found: dict[str, set[_Meant]] = defaultdict(set)
        for query, is_listed in queries:
            for row in self._connection.execute(query.where(period.gone_at.is_(None), inside)).all():
                uses[row[width]] = row
                digest = row[named]
                image = _Meant(row[width + 1], row[width + 3] if is_listed else digest, row[width + 2])
                found[digest].add(image)
        return [uses[number] for number in sorted(uses)], found

    @cached_property
    def _indexes(self) -> bool:
        """Whether the catalog knows an index that lists images."""
        return self._connection.scalar(select(schema.synced_child.c.parent_id).limit(1)) is not None

    def fixed_at(self, used: Used) -> list[Place]:
        """What the images need to be mended, group by group."""
        repositories: dict[Group, set[str]] = defaultdict(set)
        for name, group in self.places:
            repositories[group].add(name)
        return [
            Place(
                components=self._held[members],
                bases={layer: self._bases[layer] for layer in layers},
                repositories=repositories[members, layers],
                images=count,
                running=used.groups[members, layers],
            )
            for (members, layers), count in self.groups.items()
        ]

    def of_component(self) -> Counter[int]:
        """How many images have each component."""
        found: Counter[int] = Counter()
        for (members, _), count in self.groups.items():
            for component in self._held[members]:
                found[component] += count
        return found


def _layers_of(layer: int | None) -> frozenset[int]:
    return frozenset() if layer is None else frozenset({layer})
