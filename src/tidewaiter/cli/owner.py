"""`owner`: who answers for repositories, namespaces, workloads and models."""

from typing import Annotated, Literal

import msgspec

from tidewaiter.catalog.owners import Kind, Ownership
from tidewaiter.cli import console, histories, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import clock
from tidewaiter.pipelines import tracing


def record(
    kind: Literal["repository", "namespace", "workload", "model"],
    subject: str,
    owner: str = "",
    /,
    *,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Record who answers for something from now on; without OWNER nobody does. The nearest owner counts.

    Args:
        kind: what it is.
        subject: repository or a folder of them (team, team/model), CLUSTER or CLUSTER/NAMESPACE,
            CLUSTER/NAMESPACE/NAME, name of a model.
        owner: team or person.
        output: text or json.
    """
    changed = _set(kind, subject, owner)
    if output == "json":
        emit_json({"kind": kind, "subject": subject, "owner": owner, "changed": changed})
    else:
        emit(f"{kind} {subject}: {owner or 'nobody'}{'' if changed else ', as before'}")
    return 0


def list_owners(*, as_of: str = "", output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """List who answers for what.

    Args:
        as_of: who did at the end of this day (2027-06-30), or at a moment.
        output: text or json.
    """
    found, unknown = _listed(as_of)
    if output == "json":
        emit_json({"owners": msgspec.to_builtins(found), "unknown": unknown})
        return 0
    console.table(
        ("kind", "of", "owner", "since"),
        [(one.kind, one.subject, one.owner, clock.rfc3339(one.since)) for one in found],
    )
    histories.emit_unknown(unknown)
    return 0


class _Set(msgspec.Struct, frozen=True):
    changed: bool


def _set(kind: Kind, subject: str, owner: str) -> bool:
    with remote.opened() as server:
        if server is not None:
            said = {"kind": kind, "subject": subject, "owner": owner}
            return server.change("PUT", "/owners", said, _Set).changed
    with workshop() as shop:
        return tracing.set_owner(shop.catalog, kind, subject, owner)


def _listed(as_of: str) -> tuple[tuple[Ownership, ...], tuple[str, ...]]:
    with remote.opened() as server:
        if server is not None:
            listed = server.listing("/owners", Ownership, {"as_of": as_of})
            return listed.items, listed.unknown
    with workshop(looking=True) as shop:
        return tracing.list_owners(shop.catalog, as_of_day=as_of)
