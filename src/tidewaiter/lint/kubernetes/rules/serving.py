"""TensorFlow Serving: its probes, ports, flags, metrics and end."""

import re
from collections.abc import Iterator

from tidewaiter.lint.finding import Found, Span
from tidewaiter.lint.kubernetes.parse import Container, Manifest
from tidewaiter.lint.kubernetes.rules.probes import handler, probes
from tidewaiter.lint.rule import rule
from tidewaiter.lint.serving import About, Problem, check_arguments, server_version
from tidewaiter.lint.tree import Map, Scalar

_REST = re.compile(r"http|rest")
_GRPC = re.compile(r"grpc|predict")
_MODEL = re.compile(r"/v1/models/[^/:]+(?:/versions/[0-9]+|/labels/[^/]+)?(?:/metadata)?/?")


def servers(manifest: Manifest) -> Iterator[Container]:
    """The model servers among the containers."""
    return (one for one in manifest.containers if one.model_server)


def given(container: Container) -> tuple[list[Scalar], list[str]]:
    """The words behind the server's program, and their texts; none when a shell stands between."""
    found = [one for one in (*container.body.list("command"), *container.body.list("args")) if isinstance(one, Scalar)]
    start = next((at for at, one in enumerate(found) if one.raw.endswith("tensorflow_model_server")), None)
    if start is not None:
        found = found[start + 1 :]
    elif container.body.list("command"):
        return [], []
    return found, [one.raw for one in found]


def _flag(container: Container, name: str) -> str | None:
    """What a flag of the server says; None when it is not given."""
    found = re.search(rf"--{name}(?:=(\S+))?(?:\s|$|[\"'])", " ".join(container.words) + " ")
    return None if found is None else (found[1] or "").strip("\"'")


def _scraped(container: Container) -> bool:
    return container.pod.metadata.map("annotations").string("prometheus.io/scrape") == "true"


def _problems(manifest: Manifest, *about: About) -> Iterator[tuple[Container, Problem, Span]]:
    for container in servers(manifest):
        scalars, words = given(container)
        version = server_version(container.image.text) or None
        known = not any(word.filled_later for word in scalars)
        if not words and container.body.list("command"):
            continue  # a shell or another program starts it
        for one in check_arguments(words, version, metrics=_scraped(container) and known):
            if one.about in about:
                yield container, one, scalars[one.word].span if one.word < len(scalars) else container.span


@rule("kubernetes/serving-flags", "error")
def serving_flags(manifest: Manifest) -> Iterator[Found]:
    """The model server is given a flag that it does not have.

    It prints `unknown argument` once, among its log, and goes on without what the flag was meant for.
    """
    for _, one, span in _problems(manifest, "flag", "batching"):
        yield Found(span=span, message=one.message, remedy=one.remedy)


@rule("kubernetes/model-path", "error")
def model_path(manifest: Manifest) -> Iterator[Found]:
    """The model server looks for versions where there are none.

    Below the base path it wants folders whose names are numbers, as in `/models/resnet/1`. It finds none, logs that
    once a second, and serves nothing.
    """
    for _, one, span in _problems(manifest, "path"):
        yield Found(span=span, message=one.message, remedy=one.remedy)


@rule("kubernetes/serving-metrics", "warning")
def serving_metrics(manifest: Manifest) -> Iterator[Found]:
    """Prometheus is sent to a model server that has no metrics.

    TensorFlow Serving measures nothing for Prometheus unless a file given with `--monitoring_config_file` says so; and
    its path is not `/metrics`.
    """
    for container, one, _ in _problems(manifest, "metrics"):
        annotations = container.pod.metadata.map("annotations")
        yield Found(span=annotations.span_of("prometheus.io/scrape"), message=one.message, remedy=one.remedy)
    for container in servers(manifest):
        annotations = container.pod.metadata.map("annotations")
        path = annotations.string("prometheus.io/path")
        alone = len(container.pod.containers) == 1
        if _scraped(container) and alone and path != "/monitoring/prometheus/metrics" and "$" not in path:
            key = "prometheus.io/path" if path else "prometheus.io/scrape"
            yield Found(
                span=annotations.span_of(key),
                message=f"Its metrics are at /monitoring/prometheus/metrics, not at {path or '/metrics'}.",
                remedy='Write `prometheus.io/path: /monitoring/prometheus/metrics` and `prometheus.io/port: "8501"`, '
                "or what `prometheus_config` names.",
            )


@rule("kubernetes/serving-ports", "error")
def serving_ports(manifest: Manifest) -> Iterator[Found]:
    """The two ports of the model server are mixed up.

    TensorFlow Serving speaks gRPC on 8500 and REST on 8501. A client of one on the other's port gets nothing but broken
    connections.
    """
    for container in servers(manifest):
        if _flag(container, "port") is not None or _flag(container, "rest_api_port") is not None:
            continue
        for one in container.ports:
            yield from _mixed(one, one.value("containerPort"), "containerPort")
        for service in manifest.services:
            selector = service.body.map("spec", "selector").strings()
            if selector and selector.items() <= container.pod.labels.items():
                for one in service.body.maps("spec", "ports"):
                    key = "targetPort" if one.get("targetPort") else "port"
                    yield from _mixed(one, one.value(key), key)
        for name, probe in probes(container):
            port = probe.value(handler(probe), "port") if handler(probe) else None
            if (handler(probe), port) in {("httpGet", 8500), ("grpc", 8501)}:
                yield Found(
                    span=probe.map(handler(probe)).span_of("port"),
                    message=f"The {name} asks port {port} by {'HTTP' if port == 8500 else 'gRPC'}; it speaks "
                    f"{'gRPC' if port == 8500 else 'REST'}.",
                    remedy=f"Write `port: {8501 if port == 8500 else 8500}`.",
                )


def _mixed(one: Map, port: object, key: str) -> Iterator[Found]:
    name = one.string("name").lower()
    if (port == 8501 and _GRPC.search(name) and not _REST.search(name)) or (
        port == 8500 and _REST.search(name) and not _GRPC.search(name)
    ):
        right = 8500 if port == 8501 else 8501
        yield Found(
            span=one.span_of(key),
            message=f"The port called {one.string('name')} is {port}, where the server speaks "
            f"{'gRPC' if port == 8500 else 'REST'}.",
            remedy=f"Write `{key}: {right}`, or another name.",
        )


@rule("kubernetes/serving-readiness", "warning")
def serving_readiness(manifest: Manifest) -> Iterator[Found]:
    """A model server is sent requests before its model is loaded.

    It opens its ports, then loads the model, for minutes when that is large. Only a readiness probe that asks for the
    model keeps requests away until then.
    """
    for container in servers(manifest):
        if not container.pod.whole or container.pod.resource.kind not in {"Deployment", "StatefulSet", "ReplicaSet"}:
            continue
        probe = container.body.map("readinessProbe")
        way = handler(probe)
        asks = f"`readinessProbe: {{httpGet: {{path: /v1/models/{container.model_name}/metadata, port: 8501}}}}`"
        if not probe.entries:
            yield Found(
                span=container.span,
                message=f"{container.name} has no readinessProbe: requests fail until the model is loaded.",
                remedy=f"Write {asks}.",
            )
        elif way == "tcpSocket" or (way == "httpGet" and not _MODEL.fullmatch(probe.string("httpGet", "path"))):
            if "$" in probe.string("httpGet", "path"):
                continue
            yield Found(
                span=probe.map(way).span_of("path" if way == "httpGet" else "port"),
                message="The port is open before the model is loaded."
                if way == "tcpSocket"
                else f"The server has nothing at {probe.string('httpGet', 'path') or '/'}; a model is at /v1/models/…",
                remedy=f"Write {asks}.",
            )


@rule("kubernetes/serving-liveness", "warning")
def serving_liveness(manifest: Manifest) -> Iterator[Found]:
    """A model server is killed while it loads.

    `/v1/models/NAME` answers 404 or 503 until the model is there, and again when a new version cannot be loaded:
    liveness restarts the server, which begins to load again. Liveness is whether the server answers at all.
    """
    for container in servers(manifest):
        probe = container.body.map("livenessProbe")
        asks = handler(probe) == "httpGet" and _MODEL.fullmatch(probe.string("httpGet", "path"))
        if asks and container.body.get("startupProbe") is None:
            yield Found(
                span=probe.map("httpGet").span_of("path"),
                message="Liveness asks for the model, and no startupProbe waits until it is loaded.",
                remedy="Write `livenessProbe: {tcpSocket: {port: 8500}}`, and ask for the model in startupProbe and "
                "readinessProbe.",
            )


@rule("kubernetes/serving-grpc-probe", "error")
def serving_grpc_probe(manifest: Manifest) -> Iterator[Found]:
    """A gRPC probe asks a model server what it does not answer.

    TensorFlow Serving has gRPC's health service from 2.15 on, when it is started with
    `--enable_grpc_healthcheck_service`, and knows the services `PredictionService` and `ModelService`.
    """
    for container in servers(manifest):
        for name, probe in probes(container):
            if handler(probe) != "grpc":
                continue
            service = probe.string("grpc", "service")
            if given(container)[1] or not container.words:
                off = _flag(container, "enable_grpc_healthcheck_service")
                if off is None or off == "false":
                    yield Found(
                        span=probe.span_of("grpc"),
                        message=f"The {name} asks the health service, which is off.",
                        remedy="Add `--enable_grpc_healthcheck_service=true` to args (from 2.15 on), or use tcpSocket.",
                    )
            if service not in {"", "PredictionService", "ModelService"} and "$" not in service:
                yield Found(
                    span=probe.map("grpc").span_of("service"),
                    message=f"The server knows no service {service}.",
                    remedy="Write `service: PredictionService`.",
                )


@rule("kubernetes/serving-pre-stop", "warning")
def serving_pre_stop(manifest: Manifest) -> Iterator[Found]:
    """A model server drops requests when its pod ends.

    It does not handle SIGTERM: it ends at once, while the Service still sends it requests for a second or more. Each
    roll-out loses some. A hook that sleeps first closes the gap.
    """
    for container in servers(manifest):
        serves = container.pod.resource.kind in {"Deployment", "StatefulSet", "ReplicaSet"}
        if serves and container.pod.whole and container.body.get("lifecycle", "preStop") is None:
            yield Found(
                span=container.span,
                message=f"{container.name} ends on SIGTERM at once, with requests on their way to it.",
                remedy="Write `lifecycle: {preStop: {sleep: {seconds: 10}}}` (Kubernetes 1.30 and later), "
                'or `exec` with `[sleep, "10"]`.',
            )
