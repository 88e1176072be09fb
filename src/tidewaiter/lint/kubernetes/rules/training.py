"""Distributed training: TF_CONFIG, and the names in it."""

import ipaddress
from collections import Counter
from collections.abc import Iterator

from tidewaiter.lint.finding import Found
from tidewaiter.lint.kubernetes.parse import Manifest, Resource
from tidewaiter.lint.kubernetes.tf_config import Address, Config, configs
from tidewaiter.lint.rule import rule

_SETTING = frozenset({"TFJob"})
_REPEATING = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "Job"})
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]", "0.0.0.0"})  # noqa: S104 - looked for, not listened on


@rule("kubernetes/tf-config-json", "error")
def no_json(manifest: Manifest) -> Iterator[Found]:
    """TF_CONFIG is no JSON object.

    TensorFlow reads it with a JSON parser when the strategy is made, and the training ends there.
    """
    for one in configs(manifest):
        if isinstance(one.content, dict) and (one.cluster or "cluster" not in one.content):
            continue
        why = str(one.content) if isinstance(one.content, ValueError) else "it, or its `cluster`, is no object"
        yield Found(
            span=one.place(""),
            message=f"TensorFlow cannot read this TF_CONFIG: {why}.",
            remedy='Write `{"cluster": {"worker": ["HOST:PORT"]}, "task": {"type": "worker", "index": 0}}`.',
        )


@rule("kubernetes/tf-config-task", "error")
def no_such_task(manifest: Manifest) -> Iterator[Found]:
    """The task of TF_CONFIG is not in its cluster.

    The strategy raises an error at once, or waits for a process that nobody is.
    """
    for one in configs(manifest):
        if not one.cluster or not one.task:
            continue
        peers = one.cluster.get(one.task)
        if peers is None and one.task != "evaluator":
            yield Found(
                span=one.place(f'"{one.task}"'),
                message=f"The cluster has no {one.task}; it has {', '.join(one.cluster)}.",
                remedy=f"Add the addresses of `{one.task}` to the cluster, or write a type that is there.",
            )
        elif one.index is None or (isinstance(peers, list) and one.index >= len(peers)):
            count = len(peers) if isinstance(peers, list) else 0
            yield Found(
                span=one.place('"index"'),
                message=f"There is no {one.task} {'with that index' if one.index is None else one.index}: "
                f"the cluster has {count}, counted from 0.",
                remedy=f"Write an index from 0 to {max(count - 1, 0)}, or add the address.",
            )
        if {"chief", "master"} <= set(one.cluster):
            yield Found(
                span=one.place('"master"'),
                message="The cluster has a chief and a master, which is the older name of the same.",
                remedy="Keep `chief`.",
            )
        for name in ("chief", "master", "evaluator"):
            if isinstance(one.cluster.get(name), list) and len(one.cluster[name]) > 1:
                yield Found(
                    span=one.place(f'"{name}"'),
                    message=f"There are {len(one.cluster[name])} of {name}, and there must be one.",
                    remedy="Keep one, and make the others workers.",
                )


@rule("kubernetes/tf-config-address", "error")
def wrong_address(manifest: Manifest) -> Iterator[Found]:
    """An address in TF_CONFIG cannot be reached, or is named twice.

    Each process listens on its own address `HOST:PORT` and waits for all others. With one that is wrong everyone waits
    for ever, without an error.
    """
    for one in configs(manifest):
        counted = Counter(address.text for address in one.addresses)
        several = len(one.addresses) > 1
        for address in one.addresses:
            place = one.place(f'"{address.text}"')
            if "://" in address.text or not address.valid:
                yield Found(
                    span=place,
                    message=f"{address.text} is no HOST:PORT.",
                    remedy=f"Write `{address.text.rpartition('//')[2].partition(':')[0] or 'HOST'}:2222`.",
                )
            elif several and address.host in _LOCAL:
                yield Found(
                    span=place,
                    message=f"{address.host} is another machine in every pod.",
                    remedy="Write the pod's name below its headless Service: `worker-0.worker:2222`.",
                )
        for text, count in counted.items():
            if count > 1:
                both = " and ".join(f"{a.task} {a.number}" for a in one.addresses if a.text == text)
                yield Found(
                    span=one.place(f'"{text}"'),
                    message=f"{text} is {both} at once.",
                    remedy="Give each its own address; the chief is not in the list of workers.",
                )


@rule("kubernetes/tf-config-duplicate", "error")
def duplicate_task(manifest: Manifest) -> Iterator[Found]:
    """Two pods say that they are the same task.

    Both wait on one address, one of the others never comes, and the training hangs before its first step.
    """
    seen: dict[tuple[str, str, int | None, str], Config] = {}
    for one in configs(manifest):
        if not one.cluster or not one.task:
            continue
        key = (repr(sorted(one.cluster.items())), one.task, one.index, one.container.pod.resource.namespace)
        first = seen.setdefault(key, one)
        if first is not one and first.container.pod is not one.container.pod:
            yield Found(
                span=one.place('"index"'),
                message=f"{first.container.pod.resource.name} is {one.task} {one.index} already.",
                remedy="Count the index up from pod to pod, from 0.",
            )


@rule("kubernetes/tf-config-replicas", "error")
def same_for_replicas(manifest: Manifest) -> Iterator[Found]:
    """All replicas are given one TF_CONFIG.

    Each then is the same task with the same index. The index has to come from the pod: from a StatefulSet's ordinal, or
    from an operator that sets TF_CONFIG itself.
    """
    for one in configs(manifest):
        owner = one.container.pod.resource
        key = "parallelism" if owner.kind == "Job" else "replicas"
        count = owner.body.value("spec", key)
        if owner.kind in _REPEATING and isinstance(count, int) and count > 1 and len(one.addresses) > 1:
            yield Found(
                span=owner.body.map("spec").span_of(key),
                message=f"All {count} pods are {one.task or 'the same task'} {one.index}.",
                remedy="Make TF_CONFIG from the ordinal in the pod's name (`${HOSTNAME##*-}`), or use a TFJob.",
            )


@rule("kubernetes/tf-config-by-operator", "warning")
def set_twice(manifest: Manifest) -> Iterator[Found]:
    """A TFJob sets TF_CONFIG by hand.

    The training operator writes it into every container that is called `tensorflow`, for all replicas of the job. What
    stands here is in its way.
    """
    for container in manifest.containers:
        one = container.env.get("TF_CONFIG")
        if one is not None and container.pod.resource.kind in _SETTING:
            yield Found(
                span=one.span_of("name"),
                message=f"The operator sets TF_CONFIG for {container.pod.role or 'each replica'}, too.",
                remedy="Delete it here.",
            )


def _labels(host: str) -> list[str]:
    """The parts of a name within the cluster; none for an address, or a name of elsewhere."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        parts = host.removesuffix(".").split(".")
        if "svc" in parts[1:]:
            return parts[: parts.index("svc", 1) - 1]
        return parts if len(parts) <= 2 else []
    return []


def _behind(manifest: Manifest, labels: list[str]) -> tuple[Resource | None, bool]:
    """The Service that a name leads to, and whether its pod is named, too."""
    names = {one.name: one for one in manifest.services}
    if labels[0] in names:
        return names[labels[0]], False
    return (names.get(labels[1]), True) if len(labels) > 1 else (None, False)


@rule("kubernetes/tf-config-name", "error")
def unresolved(manifest: Manifest) -> Iterator[Found]:
    """A name in TF_CONFIG leads to no pod.

    A pod has a name of its own only below a headless Service (`clusterIP: None`) that its StatefulSet names as
    `serviceName`; any other needs a Service of exactly that name. Without it every process waits for ever.
    """
    found = [one for one in configs(manifest) if len(one.addresses) > 1]
    if not found or any(one.value.filled_later for one in found):
        return
    said: set[str] = set()
    for one in found:
        for address in one.addresses:
            labels = _labels(address.host)
            if not labels or not address.valid or address.text in said or address.host in _LOCAL:
                continue
            said.add(address.text)
            yield from _resolved(manifest, one, address, labels)


def _resolved(manifest: Manifest, one: Config, address: Address, labels: list[str]) -> Iterator[Found]:
    place = one.place(address.text)
    service, named = _behind(manifest, labels)
    if service is None:
        if manifest.services or len({id(each.container.pod) for each in configs(manifest)}) > 1:
            wanted = labels[1] if len(labels) > 1 else labels[0]
            yield Found(
                span=place,
                message=f"No Service here is called {wanted}, so {address.host} leads nowhere.",
                remedy=f"Add a headless Service: `kind: Service`, `name: {wanted}`, `clusterIP: None`, with the "
                f"selector of these pods and port {address.port}.",
            )
        return
    headless = service.body.string("spec", "clusterIP") == "None"
    if named and not headless:
        yield Found(
            span=place,
            message=f"The Service {service.name} is not headless, so {labels[0]} has no name below it.",
            remedy=f"Write `clusterIP: None` in the Service {service.name}.",
        )
    elif named and (why := _no_pod(manifest, service, labels[0])):
        yield Found(span=place, message=why[0], remedy=why[1])
    elif not headless:
        ports = {port.value("port") for port in service.body.maps("spec", "ports")}
        if ports and address.port not in ports:
            yield Found(
                span=place,
                message=f"The Service {service.name} has no port {address.port}; it has "
                f"{', '.join(sorted(str(port) for port in ports))}.",
                remedy=f"Add `port: {address.port}` to the Service, or write its port here.",
            )


def _no_pod(manifest: Manifest, service: Resource, pod: str) -> tuple[str, str] | None:
    """Why there is no such pod below a headless Service, and what to write; None when there may be."""
    owner, _, number = pod.rpartition("-")
    for one in manifest.resources:
        if one.kind != "StatefulSet" or one.name != owner or not number.isdecimal():
            continue
        wanted, count = one.body.string("spec", "serviceName"), one.body.value("spec", "replicas")
        if wanted != service.name:
            return (
                f"The StatefulSet {one.name} names the Service {wanted or 'of none'}, not {service.name}.",
                f"Write `serviceName: {service.name}` in the StatefulSet.",
            )
        count = 1 if count is None else count
        if isinstance(count, int) and int(number) >= count:
            return (
                f"The StatefulSet {one.name} has {count} replicas, so there is no {pod}.",
                f"Write `replicas: {int(number) + 1}`, or leave the address out.",
            )
    return None


@rule("kubernetes/not-headless", "warning")
def not_headless(manifest: Manifest) -> Iterator[Found]:
    """The Service of a StatefulSet is not headless.

    Its pods have no names of their own then, and `POD-0.SERVICE` leads nowhere.
    """
    for one in manifest.resources:
        if one.kind != "StatefulSet":
            continue
        for service in manifest.services:
            named = service.name == one.body.string("spec", "serviceName") and service.name
            if named and service.namespace == one.namespace and service.body.string("spec", "clusterIP") != "None":
                yield Found(
                    span=service.body.map("metadata").span_of("name"),
                    message=f"The StatefulSet {one.name} takes its pods' names from {service.name}, "
                    "which has an address of its own.",
                    remedy="Write `clusterIP: None` in the Service's spec; for clients, make another Service.",
                )
