"""CPU and memory."""

import re
from collections.abc import Iterator

from tidewaiter.lint.finding import Found
from tidewaiter.lint.kubernetes.parse import Container, Manifest
from tidewaiter.lint.rule import rule
from tidewaiter.lint.tree import Map, Scalar

_QUANTITY = re.compile(r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?P<unit>[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?")
_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{letter}i": 1024.0 ** (power + 1) for power, letter in enumerate("KMGTPE")
}


def quantity(text: str) -> float | None:
    """What Kubernetes' quantity stands for, in bytes or cores; None when it is none."""
    found = _QUANTITY.fullmatch(text.strip())
    if found is None:
        return None
    unit = found["unit"] or ""
    scale = _UNITS.get(unit) or (float(f"1{unit}") if unit else 1.0)
    return float(found["number"]) * scale


def _amounts(container: Container) -> Iterator[tuple[Map, str, Scalar]]:
    for where in ("requests", "limits"):
        amounts = container.resources.map(where)
        for name, (_, value) in amounts.entries.items():
            if isinstance(value, Scalar) and value.raw and not value.filled_later:
                yield amounts, name, value


@rule("kubernetes/quantity", "error")
def no_quantity(manifest: Manifest) -> Iterator[Found]:
    """An amount is written so that Kubernetes does not read it, or reads it as next to nothing.

    The units are `Ki`, `Mi`, `Gi` and `k`, `M`, `G`: `GB` is refused. `m` means thousandths: `512m` of memory is half a
    byte.
    """
    for container in manifest.all_containers:
        for amounts, name, value in _amounts(container):
            if quantity(value.raw) is None and value.value is not None:
                found = re.fullmatch(r"([0-9.]+)\s*([kKmMgGtT])[iI]?[bB]?", value.raw.strip())
                yield Found(
                    span=amounts.span_of(name),
                    message=f"{value.raw} is no quantity.",
                    remedy=f"Write `{name}: {found[1]}{found[2].upper()}i`." if found else f"Write `{name}: 4Gi`.",
                )
            elif name in {"memory", "ephemeral-storage"} and value.raw.strip().endswith(("m", "u", "n")):
                yield Found(
                    span=amounts.span_of(name),
                    message=f"{value.raw} of {name} are thousandths of bytes.",
                    remedy=f"Write `{name}: {value.raw.strip()[:-1]}Mi`.",
                )


@rule("kubernetes/request-over-limit", "error")
def request_over_limit(manifest: Manifest) -> Iterator[Found]:
    """More is requested than the limit allows.

    The API server refuses it: `must be less than or equal to … limit`.
    """
    for container in manifest.all_containers:
        for name in ("cpu", "memory", "ephemeral-storage"):
            request, limit = container.resources.scalar("requests", name), container.resources.scalar("limits", name)
            if request is None or limit is None:
                continue
            wanted, allowed = quantity(request.raw), quantity(limit.raw)
            if wanted is not None and allowed is not None and wanted > allowed:
                yield Found(
                    span=container.resources.map("requests").span_of(name),
                    message=f"{container.name} requests {request.raw} of {name} and is limited to {limit.raw}.",
                    remedy=f"Write `{name}: {request.raw}` or more under `limits`, or request less.",
                )


@rule("kubernetes/no-memory-limit", "warning")
def no_memory_limit(manifest: Manifest) -> Iterator[Found]:
    """The container may use all memory of its node.

    When it does, the kernel kills some process of some pod. With a limit it kills the one that grew, and the event says
    so.
    """
    for container in manifest.whole:
        if container.resources.get("limits", "memory") is None and container.pod.role not in {"predictor", "runtime"}:
            yield Found(
                span=container.body.span_of("resources") if container.body.entry("resources") else container.span,
                message=f"{container.name} has no limit of memory.",
                remedy="Write `resources: {requests: {memory: 4Gi}, limits: {memory: 4Gi}}` with what it uses.",
            )


@rule("kubernetes/no-requests", "info")
def no_requests(manifest: Manifest) -> Iterator[Found]:
    """The scheduler is not told what the container needs.

    It takes it for nothing: nodes are overfilled, and these pods are the first that are evicted.
    """
    for container in manifest.whole:
        for name in ("cpu", "memory"):
            if all(container.resources.get(where, name) is None for where in ("requests", "limits")):
                yield Found(
                    span=container.body.span_of("resources") if container.body.entry("resources") else container.span,
                    message=f"{container.name} requests no {name}.",
                    remedy=f"Write `requests: {{{name}: {'500m' if name == 'cpu' else '1Gi'}}}` with what it uses.",
                )
                break


@rule("kubernetes/cpu-limit", "info")
def cpu_limit(manifest: Manifest) -> Iterator[Found]:
    """A model server is slowed down by a limit of CPU.

    TensorFlow starts a thread for each core of the node. Under a limit of few they use up each period's share at once
    and are all stopped until the next: latency jumps by tens of milliseconds, while the node is idle.
    """
    for container in manifest.containers:
        limit = container.resources.scalar("limits", "cpu")
        threads = ("intra_op", "session_parallelism", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
        told = any(one in " ".join((*container.words, *container.env)) for one in threads)
        if limit is not None and container.model_server and not told:
            yield Found(
                span=container.resources.map("limits").span_of("cpu"),
                message=f"{container.name} is stopped whenever its threads have used {limit.raw} cores' time.",
                remedy="Set a request and no limit, or as many threads as cores: "
                "`--tensorflow_intra_op_parallelism` and `--tensorflow_inter_op_parallelism`.",
            )
