"""`workload`: what runs where, as it was recorded."""

from typing import Annotated

import msgspec

from tidewaiter.catalog import workloads
from tidewaiter.catalog.workloads import Sighting, Workload
from tidewaiter.cli import console, histories, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.pipelines import tracing
from tidewaiter.policy import environments


def record(
    workload: str,
    /,
    *,
    image: str = "",
    kind: str = "Deployment",
    container: str = "",
    owner: str = "",
    seen: str = "",
    gone: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Record which image a workload runs; what it ran before is gone then, and stays in its history.

    Args:
        workload: CLUSTER/NAMESPACE/NAME.
        image: that it runs: a digest, NAME@DIGEST, or NAME:TAG of the catalog.
        kind: of the workload, as Kubernetes calls it.
        container: name of the container, when the workload has several.
        owner: who answers for the workload from now on.
        seen: when it was seen (2027-06-30T12:00:00Z); default now.
        gone: it runs that image no longer, or without --image any.
        output: text or json.
    """
    cluster, namespace, name = workloads.split(workload)
    with remote.opened() as server:
        if server is not None:
            look = {"kind": kind, "container": container, "owner": owner, "seen": seen, "gone": gone}
            said = {"workload": workload, "image": image, **look}
            return _recorded(workload, server.change("POST", "/workloads", said, Sighting), output)
    with workshop() as shop:
        sighting = Sighting(
            cluster=cluster,
            namespace=namespace,
            name=name,
            digest=tracing.digest_of(shop.catalog, image) if image else "",
            kind=kind,
            container=container,
            owner=owner,
            seen_at=tracing.seen_at(seen),
            gone=gone,
        )
        tracing.record_workload(shop.catalog, sighting)
    return _recorded(workload, sighting, output)


def _recorded(workload: str, sighting: Sighting, output: Format) -> int:
    if output == "json":
        emit_json(msgspec.to_builtins(sighting))
    else:
        emit(f"{workload} {'no longer runs' if sighting.gone else 'runs'} {sighting.digest or 'anything'}")
    return 0


def list_workloads(
    *,
    owner: str = "",
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    not_allowed: Annotated[bool, Parameter(negative="")] = False,
    as_of: str = "",
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """List what runs, by cluster, namespace and name; and whether its image is allowed in its environment.

    The environment is that of the namespace, as settings say it. The verdict is `allow`, `deny`, `expired` (it was
    allowed, and the verdict is over) or `none` (nobody decided about this image for this environment).

    Args:
        owner: only those that this owner answers for.
        everything: also what is gone.
        not_allowed: only what runs an image that no verdict allows in the environment where it runs.
        as_of: what ran at the end of this day (2027-06-30), or at a moment.
        output: text or json.
    """
    found, unknown = _listed(owner, as_of, everything=everything, not_allowed=not_allowed)
    if output == "json":
        emit_json({"workloads": msgspec.to_builtins(found), "unknown": unknown})
        return 0
    console.table(
        (
            "workload",
            "kind",
            "container",
            "image",
            "owner",
            "environment",
            "verdict",
            *histories.COLUMNS,
        ),
        [
            (
                one.path,
                one.kind,
                one.container,
                one.digest,
                one.owner,
                one.environment,
                one.verdict,
                *histories.cells(one),
            )
            for one in found
        ],
    )
    histories.emit_unknown(unknown)
    return 0


def _listed(
    owner: str, as_of: str, *, everything: bool, not_allowed: bool
) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
    with remote.opened() as server:
        if server is not None:
            query: remote.Query = {"owner": owner, "as_of": as_of, "all": everything, "not_allowed": not_allowed}
            listed = server.listing("/workloads", Workload, query)
            return listed.items, listed.unknown
    with workshop(looking=True) as shop:
        return tracing.list_workloads(
            shop.catalog,
            as_of_day=as_of,
            everything=everything,
            owner=owner,
            not_allowed=not_allowed,
            said=environments.said_by(shop.settings),
        )
