"""What runs in clusters: which container of which workload ran which image from when to when.

A workload is recorded by command, or by whoever looks at a cluster. Its image is a digest, whether the catalog knows
that image or not: what runs and is not known is told, too.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, select, true, tuple_

from tidewaiter.catalog import as_of, owners, periods, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.owners import Owners
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.rows import AnyRow, number_of
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.oci import digest as digests

_NAME_CHARACTERS = 255
_KIND_CHARACTERS = 64


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a container of a workload."""

    cluster: str
    namespace: str
    name: str
    seen_at: dt.datetime
    digest: str = ""
    """Image that it runs; with `gone` it may be empty."""
    kind: str = "Deployment"
    container: str = ""
    """Empty when the workload has one."""
    owner: str = ""
    """Who answers for the workload from now on; empty: as before."""
    gone: bool = False
    """It runs no longer: that image, or without a digest any."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A container of a workload, and an image that it runs or ran."""

    cluster: str
    namespace: str
    name: str
    kind: str
    container: str
    digest: str
    owner: str
    """Its own, else that of its namespace or cluster; empty when nobody is known."""
    first_seen: dt.datetime
    last_seen: dt.datetime
    gone_at: dt.datetime | None
    environment: str = ""
    """Of its namespace, as settings say; empty when they say nothing, or nobody asked."""
    verdict: str = ""
    """What the verdict for that environment says of its image (`catalog.allowed`); empty without an environment."""

    @property
    def path(self) -> str:
        """`CLUSTER/NAMESPACE/NAME`."""
        return f"{self.cluster}/{self.namespace}/{self.name}"


def split(path: str) -> tuple[str, str, str]:
    """Cluster, namespace and name of `CLUSTER/NAMESPACE/NAME`; raises `InputError`."""
    parts = path.split("/")
    if len(parts) != 3 or not all(parts):
        raise InputError(f"{path[:100]!r} names no workload", next_step="Write it as CLUSTER/NAMESPACE/NAME.")
    cluster, namespace, name = parts
    return cluster, namespace, name


def record(connection: Connection, sightings: Sequence[Sighting], at: dt.datetime) -> None:
    """Write down looks at workloads, all or none, and one entry of the audit log about them.

    Raises:
        InputError: a name is malformed, a moment is in the future or before what is known of that container.
        NotFoundError: one is gone that was never seen.
    """
    told = []
    touched: dict[tuple[object, ...], None] = {}
    for one in sightings:
        number, path = _number(connection, one), f"{one.cluster}/{one.namespace}/{one.name}"
        digest = digests.parse(one.digest) if one.digest else ""
        if not (digest or one.gone):
            raise InputError(f"it is not said which image {path} runs", next_step="Give its digest.")
        if one.seen_at > at + dt.timedelta(seconds=limits.CLOCK_SKEW_SECONDS):
            raise InputError(f"{path} was seen in the future", next_step="Check the clock of whoever looked.")
        change = periods.see(
            connection, schema.workload_period, number, Seen(digest, min(one.seen_at, at), gone=one.gone), at
        )
        key = tuple(_key(one).values())
        touched.update(dict.fromkeys((*key, began) for began in change.touched))
        if one.owner:
            owners.put(connection, "workload", path, one.owner, at)
        told.append(
            {
                "workload": path,
                "kind": one.kind,
                "container": one.container,
                "runs": digest if not one.gone else "",
                "begun": change.begun,
                "ended": change.ended,
            }
        )
    if told:
        subject = told[0]["workload"] if len(told) == 1 else f"{len(told)} workloads"
        states = audit_states.now(connection, "workload", *touched)
        detail = {"workloads": told}
        audit.append(connection, "workload.record", str(subject), detail, at=at, states=states, batch=len(told) > 1)


def _key(one: Sighting) -> dict[str, str]:
    """Natural key of the container."""
    key = {name: owners.plain(getattr(one, name), name, _NAME_CHARACTERS) for name in ("cluster", "namespace", "name")}
    if any("/" in value for value in key.values()):
        raise InputError("names of clusters, namespaces and workloads have no slash", next_step="Correct the name.")
    key["kind"] = owners.plain(one.kind, "kind", _KIND_CHARACTERS)
    key["container"] = owners.plain(one.container, "container", _NAME_CHARACTERS) if one.container else ""
    return key


def _number(connection: Connection, one: Sighting) -> int:
    key = _key(one)
    if one.gone:
        same = (schema.workload.c[name] == value for name, value in key.items())
        if connection.scalar(select(schema.workload.c.id).where(*same)) is None:
            raise NotFoundError(
                f"no {key['kind']} {key['cluster']}/{key['namespace']}/{key['name']} was ever seen",
                next_step="`tidewaiter workload list --all` shows all that were.",
            )
    return number_of(connection, schema.workload, key)


COLUMNS = (
    *(schema.workload.c[name] for name in ("cluster", "namespace", "name", "kind", "container")),
    *(schema.workload_period.c[name] for name in ("digest", "first_seen", "last_seen", "gone_at")),
)
"""What a row begins with that `of_row` takes."""


def in_order(found: Iterable[Workload]) -> list[Workload]:
    """As they are listed."""
    return sorted(found, key=attrgetter("cluster", "namespace", "name", "kind", "container", "first_seen"))


def listed(
    connection: Connection,
    at: dt.datetime | None = None,
    *,
    everything: bool = False,
    running: Collection[str] | None = None,
    path: tuple[str, str, str] | None = None,
    known: Owners | None = None,
    rows: int | None = None,
) -> tuple[Workload, ...]:
    """Containers and the images that they run, now or at `at`, by name; with `everything` also those that ran.

    Args:
        connection: of any transaction.
        at: a moment in the past; None means the present.
        everything: also those that are gone.
        running: only those that run one of these digests.
        path: only this workload.
        known: owners at that moment, when the caller has them already.
        rows: at most so many.
    """
    of, period = schema.workload.c, schema.workload_period.c
    query = select(*COLUMNS).join(schema.workload, of.id == period.workload_id)
    then = _then(at, everything=everything)
    if path is not None:
        query = query.where(of.cluster == path[0], of.namespace == path[1], of.name == path[2])
    query = query.order_by(of.cluster, of.namespace, of.name, of.kind, of.container, period.first_seen, period.id)
    if rows is not None:
        query = query.limit(rows)
    if running is None:
        said: Iterable[AnyRow] = connection.execute(query.where(then)).all()
    else:
        said = periods.of_digests(connection, schema.workload_period, query, then, running)
    known = known or owners.load(connection, at)
    found = [of_row(row, known) for row in said]
    if running is not None:
        found = in_order(found)
    return tuple(found if rows is None else found[:rows])


def _then(at: dt.datetime | None, *, everything: bool) -> ColumnElement[bool]:
    period = schema.workload_period.c
    if everything:
        return true() if at is None else period.first_seen <= at
    return as_of.open_at(period.first_seen, period.gone_at, at)


def of_row(row: AnyRow, known: Owners) -> Workload:
    """What a row says; `known`: owners then."""
    return Workload(
        cluster=row[0],
        namespace=row[1],
        name=row[2],
        kind=row[3],
        container=row[4],
        digest=row[5],
        owner=known.of_workload(row[0], row[1], row[2]),
        first_seen=row[6],
        last_seen=row[7],
        gone_at=row[8],
    )


class Place(NamedTuple):
    """Where a container and its image stand in the list."""

    cluster: str
    namespace: str
    name: str
    kind: str
    container: str
    first_seen: dt.datetime
    row: int


def part(
    connection: Connection,
    at: dt.datetime | None,
    *,
    everything: bool,
    after: Place | None,
    known: Owners,
    rows: int,
) -> list[tuple[Place, Workload]]:
    """At most `rows` of what `listed` gives, in the same order, those behind `after`."""
    of, period = schema.workload.c, schema.workload_period.c
    place = (of.cluster, of.namespace, of.name, of.kind, of.container, period.first_seen, period.id)
    query = (
        select(*COLUMNS, period.id)
        .join(schema.workload, of.id == period.workload_id)
        .where(_then(at, everything=everything))
        .order_by(*place)
        .limit(rows)
    )
    if after is not None:
        query = query.where(tuple_(*place) > tuple_(*after))
        # What the rest implies, in a form in which every database goes by the index.
        query = query.where(of.cluster >= after.cluster)
    return [(Place(*row[:5], row[6], row[9]), of_row(row, known)) for row in connection.execute(query)]
