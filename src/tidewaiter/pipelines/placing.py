"""Step: which environment things belong to, and whether images are allowed where they run."""

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec

from tidewaiter.catalog import allowed
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.trace.graph import Node
from tidewaiter.catalog.workloads import Workload
from tidewaiter.core import clock
from tidewaiter.policy.environments import Environments


def workloads(
    catalog: Catalog, found: Iterable[Workload], said: Environments, at: dt.datetime | None = None
) -> tuple[Workload, ...]:
    """The workloads, each with its environment and what the verdict for it said of its image, now or at `at`."""
    listed = tuple(found)
    of = {place: said.of_namespace(*place) or "" for place in {(one.cluster, one.namespace) for one in listed}}
    placed = [(one, of[one.cluster, one.namespace]) for one in listed]
    asked = {(one.digest, environment) for one, environment in placed if environment}
    answers = {}
    if asked:
        with catalog.database.reading() as connection:
            answers = allowed.answers(connection, asked, at, clock.now())
    return tuple(
        msgspec.structs.replace(one, environment=environment, verdict=answers.get((one.digest, environment), ""))
        for one, environment in placed
    )


def nodes(found: Sequence[Node], said: Environments) -> tuple[Node, ...]:
    """The nodes of a trace, those of workloads with their environment."""
    return tuple(_node(one, said) for one in found)


def _node(one: Node, said: Environments) -> Node:
    if one.kind != "workload":
        return one
    environment = said.of_namespace(*one.name.split("/")[:2])
    if environment is None:
        return one
    return msgspec.structs.replace(one, detail={**one.detail, "environment": environment})
