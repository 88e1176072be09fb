"""Services and their pods, as far as both stand in one file."""

import re
from collections.abc import Iterator

from tidewaiter.lint.finding import Found
from tidewaiter.lint.kubernetes.parse import Manifest, Pod, Resource
from tidewaiter.lint.kubernetes.rules.probes import handler, probes
from tidewaiter.lint.rule import rule

_GIVEN = re.compile(
    r"job-name$|controller-uid$|batch\.kubernetes\.io/|statefulset\.kubernetes\.io/|training\.kubeflow\.org/|ray\.io/|pod-template-hash$"
)
"""Labels that controllers put on pods by themselves."""


def selected(manifest: Manifest, service: Resource) -> list[Pod]:
    """The pods of the file that a service sends to."""
    selector = service.body.map("spec", "selector").strings()
    return [
        pod
        for pod in manifest.pods
        if selector and pod.resource.namespace == service.namespace and selector.items() <= pod.labels.items()
    ]


@rule("kubernetes/service-selects-nothing", "warning")
def selects_nothing(manifest: Manifest) -> Iterator[Found]:
    """A Service selects no pod.

    It is made, has an address, and nobody is behind it: clients time out, and nothing says why.
    """
    for service in manifest.services:
        wanted = service.body.map("spec", "selector")
        selector = wanted.strings()
        given = any("$" in value or _GIVEN.match(key) for key, value in selector.items())
        if not selector or given or selected(manifest, service):
            continue
        alone = len(manifest.pods) == 1 and len(manifest.services) == 1
        near = [
            pod
            for pod in manifest.pods
            if pod.resource.namespace == service.namespace
            and pod.labels
            and (pod.resource.name == service.name or (alone and pod.labels.items() & selector.items()))
        ]
        if len(near) != 1:
            continue
        labels = near[0].labels
        key = next(key for key, value in selector.items() if labels.get(key) != value)
        has = f"has {key}: {labels[key]}" if key in labels else f"has no label {key}"
        yield Found(
            span=wanted.span_of(key) if key in wanted.entries else wanted.opening,
            message=f"It wants {key}: {selector[key]}, and {near[0].resource.kind} {near[0].resource.name} {has}.",
            remedy=f"Write `{key}: {labels[key]}` here."
            if key in labels
            else f"Write `{key}: {selector[key]}` under `template.metadata.labels`.",
        )


@rule("kubernetes/service-port", "error")
def service_port(manifest: Manifest) -> Iterator[Found]:
    """A Service sends to a port that its pods do not name.

    A named `targetPort` that no container has leaves the Service without endpoints, though its pods are ready.
    """
    for service in manifest.services:
        pods = selected(manifest, service)
        if not pods or not all(pod.whole for pod in pods):
            continue
        names = {one.string("name") for pod in pods for container in pod.containers for one in container.ports}
        names |= {one.string("name") for pod in pods for container in pod.prepared_by for one in container.ports}
        for one in service.body.maps("spec", "ports"):
            target = one.scalar("targetPort")
            if (
                target is None
                or not isinstance(target.value, str)
                or not re.fullmatch(r"[a-z0-9-]*[a-z][a-z0-9-]*", target.raw)
            ):
                continue
            if target.raw not in names:
                known = ", ".join(sorted(name for name in names if name)) or "none"
                yield Found(
                    span=one.span_of("targetPort"),
                    message=f"No container has a port called {target.raw}; named are: {known}.",
                    remedy=f"Write a name from there, or `name: {target.raw}` at the container's port.",
                )


@rule("kubernetes/service-port-undeclared", "info")
def service_port_undeclared(manifest: Manifest) -> Iterator[Found]:
    """A Service sends to a port on which nothing is said to listen.

    The containers declare other ports. Either the number is wrong and connections are refused, or the declaration is,
    and whoever reads it is misled.
    """
    for service in manifest.services:
        pods = selected(manifest, service)
        if not pods or not all(pod.whole and all(one.ports for one in pod.containers) for pod in pods):
            continue
        numbers = {
            one.value("containerPort") for pod in pods for container in pod.containers for one in container.ports
        }
        words = " ".join(word for pod in pods for container in pod.containers for word in container.words)
        told = {int(number) for number in re.findall(r"[0-9]{2,5}", words)}
        for one in service.body.maps("spec", "ports"):
            key = "targetPort" if one.get("targetPort") is not None else "port"
            target = one.value(key)
            if (
                isinstance(target, int)
                and target not in numbers | told
                and service.body.string("spec", "clusterIP") != "None"
            ):
                known = ", ".join(sorted(str(number) for number in numbers))
                yield Found(
                    span=one.span_of(key),
                    message=f"It sends to port {target}; its pods declare {known}.",
                    remedy=f"Write `targetPort: {known.partition(',')[0]}`, or declare the port that is listened on.",
                )


@rule("kubernetes/metrics-port", "warning")
def metrics_port(manifest: Manifest) -> Iterator[Found]:
    """Prometheus is sent to a port that the pod does not declare.

    It scrapes nothing there, and an alert on what it would have measured never fires.
    """
    for pod in manifest.pods:
        annotations = pod.metadata.map("annotations")
        port = annotations.string("prometheus.io/port")
        if annotations.string("prometheus.io/scrape") != "true" or not port.isdigit() or not pod.whole:
            continue
        numbers = {one.string("containerPort") for container in pod.containers for one in container.ports}
        asked = {probe.string(handler(probe), "port") for each in pod.containers for _, probe in probes(each)}
        told = set(re.findall(r"[0-9]{2,5}", " ".join(word for each in pod.containers for word in each.words)))
        if port in asked | told:
            continue  # something listens there, declared or not
        if numbers and all(one.ports for one in pod.containers) and port not in numbers:
            yield Found(
                span=annotations.span_of("prometheus.io/port"),
                message=f"The pod declares {', '.join(sorted(numbers))}, and Prometheus is sent to {port}.",
                remedy="Name the port that has the metrics, or declare it in the container that does.",
            )
