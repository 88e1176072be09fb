"""`model`: which image serves which model version, as it was recorded."""

from typing import Annotated

import msgspec

from tidewaiter.catalog import model_versions
from tidewaiter.catalog.model_versions import ModelVersion
from tidewaiter.catalog.periods import Seen
from tidewaiter.cli import console, histories, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.pipelines import tracing
from tidewaiter.pipelines.recording import ModelSeen


def record(
    model: str,
    /,
    *,
    image: str = "",
    stage: str = "",
    owner: str = "",
    seen: str = "",
    gone: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Record which image serves a model version; what did before no longer does, and stays in its history.

    Args:
        model: NAME:VERSION.
        image: that serves it: a digest, NAME@DIGEST, or NAME:TAG of the catalog.
        stage: of that version, for example production.
        owner: who answers for the model, in all versions, from now on.
        seen: when it was so (2027-06-30T12:00:00Z); default now.
        gone: that image serves it no longer, or without --image none does.
        output: text or json.
    """
    name = model_versions.split(model)
    with remote.opened() as server:
        if server is not None:
            said = {"model": model, "image": image, "stage": stage, "owner": owner, "seen": seen, "gone": gone}
            return _recorded(name, server.change("POST", "/models", said, ModelSeen).seen, owner, output)
    with workshop() as shop:
        digest = tracing.digest_of(shop.catalog, image) if image else ""
        look = Seen(digest, tracing.seen_at(seen), stage, gone)
        tracing.record_model(shop.catalog, name, look, owner=owner)
    return _recorded(name, look, owner, output)


def _recorded(name: tuple[str, str], look: Seen, owner: str, output: Format) -> int:
    if output == "json":
        emit_json({"name": name[0], "version": name[1], "owner": owner, **look._asdict()})
    else:
        words = "no longer served by" if look.gone else "served by"
        emit(f"{':'.join(name)} is {words} {look.digest or 'anything'}")
    return 0


def list_models(
    *,
    owner: str = "",
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    as_of: str = "",
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """List model versions and the images that serve them.

    Args:
        owner: only those that this owner answers for.
        everything: also those that are served no longer.
        as_of: how it was at the end of this day (2027-06-30), or at a moment.
        output: text or json.
    """
    found, unknown = _listed(owner, as_of, everything=everything)
    if output == "json":
        emit_json({"models": msgspec.to_builtins(found), "unknown": unknown})
        return 0
    console.table(
        ("model", "version", "stage", "image", "owner", *histories.COLUMNS),
        [
            (
                one.name,
                one.version,
                one.stage,
                one.digest,
                one.owner,
                *histories.cells(one),
            )
            for one in found
        ],
    )
    histories.emit_unknown(unknown)
    return 0


def _listed(owner: str, as_of: str, *, everything: bool) -> tuple[tuple[ModelVersion, ...], tuple[str, ...]]:
    with remote.opened() as server:
        if server is not None:
            listed = server.listing("/models", ModelVersion, {"owner": owner, "as_of": as_of, "all": everything})
            return listed.items, listed.unknown
    with workshop(looking=True) as shop:
        return tracing.list_models(shop.catalog, as_of_day=as_of, everything=everything, owner=owner)
