"""Nodes of a trace, with what is shown of each."""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from tidewaiter.catalog import as_of, owners, schema, verdicts_at
from tidewaiter.catalog.among import among, among_texts, lots
from tidewaiter.catalog.as_of import TagAt
from tidewaiter.catalog.model_versions import ModelVersion
from tidewaiter.catalog.owners import Owners
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.catalog.trace.graph import Direction, Kind, Node
from tidewaiter.catalog.workloads import Workload
from tidewaiter.core import clock

_T = TypeVar("_T")


class Look:
    """What every step of a trace works with."""

    def __init__(self, connection: Connection, at: dt.datetime | None, rows: int, *, packages: bool = False) -> None:
        self.connection = connection
        self.at = at
        self.rows = rows
        self.packages = packages
        self.meanings: dict[str, str] = {}
        """Digest that a tag means, by the id of its node."""
        self.digests: dict[int, str] = {}
        """Of images that were read, by row number."""
        self.stacks: dict[int, tuple[int, ...]] = {}
        """Their layers that were read, base first, by row number."""
        self.more: set[tuple[Direction, Kind]] = set()
        """Where a query was cut off."""

    @property
    def limit(self) -> int:
        """Rows that a query asks for: one more than are shown."""
        return self.rows + 1

    @cached_property
    def owners(self) -> Owners:
        """Who answered for what at that moment."""
        return owners.load(self.connection, self.at)

    def bounded(self, found: Iterable[_T], direction: Direction, kind: Kind) -> Sequence[_T]:
        """`found`; when it is as long as a query may be, there is more."""
        listed = list(found)
        if len(listed) >= self.limit:
            self.more.add((direction, kind))
        return listed


def images(look: Look, numbers: Collection[int]) -> dict[int, Node]:
    """Nodes of images and indexes by row number; without those that were not recorded yet."""
    of, seen = schema.artifact.c, schema.synced_manifest.c
    size = schema.component_set.c.size
    rows: list[AnyRow] = []
    for some in lots(sorted(numbers)):
        query = (
            select(of.id, of.digest, of.size, of.created, of.recorded_at, size.label("packages"), seen.kind)
            .join(schema.component_set, schema.component_set.c.id == of.component_set_id, isouter=True)
            .join(schema.synced_manifest, seen.artifact_id == of.id, isouter=True)
            .where(among(of.id, some))
        )
        rows += connection_rows(look, query if look.at is None else query.where(of.recorded_at <= look.at))
    look.digests.update((row.id, row.digest) for row in rows)
    places = _places(look, [row.id for row in rows])
    stood = verdicts_at.standing(look.connection, [row.id for row in rows], look.at)
    found = {}
    for row in rows:
        kind: Kind = "index" if row.kind == "index" else "image"
        names = places.get(row.id, [])
        answerable = {look.owners.of_repository(name) for name in names} - {""}
        detail: dict[str, Any] = {
            "repositories": names,
            "owners": sorted(answerable),
            "created": None if row.created is None else clock.rfc3339(row.created),
        }
        if kind == "image":
            detail |= {
                "size": row.size,
                "packages": row.packages,
                "verdicts": {
                    one.environment: {"verdict": one.answer, "valid_until": clock.rfc3339(one.valid_until)}
                    for one in stood.get(row.id, ())
                },
            }
        found[row.id] = Node(id=f"{kind}:{row.digest}", kind=kind, name=row.digest, detail=detail)
    return found


def connection_rows(look: Look, query: Any) -> list[AnyRow]:  # noqa: ANN401 - of any columns
    """All rows of a query."""
    return list(look.connection.execute(query).all())


def _places(look: Look, numbers: Sequence[int]) -> dict[int, list[str]]:
    of, repository = schema.repository_artifact.c, schema.repository.c
    found: dict[int, list[str]] = defaultdict(list)
    for some in lots(numbers):
        query = select(of.artifact_id, repository.name).join(schema.repository, repository.id == of.repository_id)
        for row in look.connection.execute(
            query.where(among(of.artifact_id, some), as_of.in_repository(look.at)).order_by(repository.name)
        ):
            found[row.artifact_id].append(row.name)
    return found


def by_digest(look: Look, digests: Collection[str]) -> dict[str, tuple[Node, int | str]]:
    """Nodes of images and their row numbers; of one that the catalog does not know the digest stands for the number."""
    of = schema.artifact.c
    numbers: dict[str, int] = {}
    for some in lots(sorted(digests)):
        rows = look.connection.execute(select(of.digest, of.id).where(among_texts(of.digest, some)))
        numbers.update((row.digest, row.id) for row in rows)
    known = images(look, numbers.values())
    found: dict[str, tuple[Node, int | str]] = {}
    for digest in digests:
        number = numbers.get(digest)
        if number is None or number not in known:
            unknown = Node(id=f"image:{digest}", kind="image", name=digest, detail={"known": False})
            found[digest] = (unknown, digest)
        else:
            found[digest] = (known[number], number)
    return found


def digests_of(look: Look, numbers: Sequence[int | str]) -> dict[str, int | str]:
    """Row numbers (of unknown images: the digest itself) by digest."""
    of = schema.artifact.c
    recorded = [one for one in numbers if isinstance(one, int)]
    for some in lots([one for one in recorded if one not in look.digests]):
        rows = look.connection.execute(select(of.id, of.digest).where(among(of.id, some)))
        look.digests.update((row.id, row.digest) for row in rows)
    found: dict[str, int | str] = {one: one for one in numbers if isinstance(one, str)}
    return found | {look.digests[one]: one for one in recorded if one in look.digests}


def tag(one: TagAt) -> Node:
    """Node of a tag."""
    name = f"{one.repository}:{one.tag}"
    detail = {"visibility": one.visibility, "since": clock.rfc3339(one.since)}
    return Node(id=f"tag:{name}", kind="tag", name=name, detail=detail)


def workload(one: Workload) -> Node:
    """Node of a container of a workload, whichever images it has."""
    name = f"{one.path} {one.kind} {one.container}".rstrip()
    detail = {
        "cluster": one.cluster,
        "namespace": one.namespace,
        "name": one.name,
        "kind": one.kind,
        "container": one.container,
        "owner": one.owner,
    }
    return Node(id=f"workload:{name}", kind="workload", name=one.path, detail=detail)


def model(one: ModelVersion) -> Node:
    """Node of a model version."""
    name = f"{one.name}:{one.version}"
    return Node(id=f"model:{name}", kind="model", name=name, detail={"stage": one.stage, "owner": one.owner})


def layers(rows: Iterable[AnyRow]) -> dict[int, Node]:
    """Nodes of layers, by row number."""
    return {
        row.id: Node(
            id=f"layer:{row.digest}",
            kind="layer",
            name=row.digest,
            detail={"diff_id": row.diff_id, "size": row.size},
        )
        for row in rows
    }


def packages(rows: Iterable[AnyRow]) -> dict[int, Node]:
    """Nodes of packages, by row number."""
    return {
        row.id: Node(
            id=f"package:{row.purl}",
            kind="package",
            name=row.purl,
            detail={"name": row.name, "version": row.version, "ecosystem": row.ecosystem},
        )
        for row in rows
    }


def builds(rows: Iterable[AnyRow]) -> dict[int, Node]:
    """Nodes of builds, by row number."""
    return {
        row.id: Node(
            id=f"build:{row.key}",
            kind="build",
            name=row.key,
            detail={
                "repository": row.repository,
                "builder": row.builder,
                "environment": row.environment,
                "source": row.source,
                "branch": row.branch,
                "base": row.base or "",
                "dirty": row.dirty,
                "finished": clock.rfc3339(row.finished),
            },
        )
        for row in rows
    }


_BUILD = ("id", "key", "artifact_id", "builder", "environment", "source", "branch", "dirty", "finished")
BUILD = (*(schema.build.c[name] for name in (*_BUILD, "commit", "pipeline_run", "materials")),)
"""Columns that a build's node and the steps from it need, beside the repository's name."""
BUILDS = (
    select(*BUILD, schema.repository.c.name.label("repository"), schema.base.c.name.label("base"))
    .join(schema.repository, schema.repository.c.id == schema.build.c.repository_id)
    .join(schema.base, schema.base.c.id == schema.build.c.base_id, isouter=True)
)
PACKAGE = tuple(schema.component.c[name] for name in ("id", "purl", "name", "version", "ecosystem"))
LAYER = tuple(schema.layer.c[name] for name in ("id", "digest", "diff_id", "size"))
