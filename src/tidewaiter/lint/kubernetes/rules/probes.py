"""Probes, and how a pod ends."""

import re
from collections.abc import Iterator

from tidewaiter.lint.finding import Edit, Found, Span
from tidewaiter.lint.kubernetes.parse import Container, Manifest
from tidewaiter.lint.rule import rule
from tidewaiter.lint.tree import Map, Scalar

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "busybox", "env", "timeout", "python", "python3", "perl"})
_OPERATORS = frozenset({"|", "||", "&&", ";", ">", ">>", "<", "2>&1", "&"})
_HANDLERS = ("httpGet", "tcpSocket", "grpc", "exec")
_SECONDS = re.compile(r"\bsleep[ ,\"']+([0-9]+)")


def probes(container: Container) -> Iterator[tuple[str, Map]]:
    """The probes of a container, with their names."""
    for name in PROBES:
        found = container.body.get(name)
        if isinstance(found, Map):
            yield name, found


def handler(probe: Map) -> str:
    """How a probe asks; empty when it does not say."""
    return next((one for one in _HANDLERS if one in probe.entries), "")


def command(probe: Map) -> list[Scalar]:
    return [one for one in probe.list("exec", "command") if isinstance(one, Scalar)]


def serving_probe(container: Container, name: str, probe: Map) -> tuple[Edit, ...]:
    """The edit that puts a probe that works for TensorFlow Serving in the place of an `exec`."""
    found = probe.entry("exec")
    model = container.model_name
    elsewhere = any(word.startswith(("--port", "--rest_api_port")) for word in container.words)
    if found is None or probe.flow or elsewhere or (model == "MODEL" and name != "livenessProbe"):
        return ()
    key, _ = found
    instead = (
        "tcpSocket: {port: 8500}"
        if name == "livenessProbe"
        else f"httpGet: {{path: /v1/models/{model}/metadata, port: 8501}}"
    )
    last = max((one.span.end_line, one.span.end_column) for one in command(probe))
    tail = probe.text.line(last[0])[last[1] - 1 :].strip()
    if tail.strip("]} "):
        return ()
    return (Edit(Span(*probe.text.place(key.start), last[0], len(probe.text.line(last[0])) + 1), instead),)


@rule("kubernetes/probe-without-shell", "error", mends=True)
def without_shell(manifest: Manifest) -> Iterator[Found]:
    """A probe's command is written for a shell, and there is none.

    `exec` starts the program with the words as they stand: `ps aux | grep model_server` asks `ps` about `|` and `grep`.
    The probe fails, or passes, whatever the server does.
    """
    for container in manifest.all_containers:
        places = [(name, one) for name, one in probes(container)]
        places += [(name, container.body.map("lifecycle", name)) for name in ("preStop", "postStart")]
        for name, one in places:
            words = command(one)
            if not words or words[0].raw.rpartition("/")[2] in _SHELLS:
                continue
            wrong = next((word for word in words[1:] if word.raw.strip() in _OPERATORS), None)
            if wrong is None and len(words) == 1 and re.search(r"\s(?:[|;<>-]|&&|\|\|)|[|;]\s", words[0].raw):
                wrong = words[0]
            if wrong is None:
                continue
            yield Found(
                span=wrong.span,
                message=f"{wrong.raw.strip()} is a word to {words[0].raw.split()[0]}: exec is no shell."
                if len(words) > 1
                else f"exec looks for a program called {wrong.raw!r}.",
                remedy=_instead(container, name),
                edits=serving_probe(container, name, one) if container.model_server else (),
                left="what shows that this program works is for a person to say",
            )


def _instead(container: Container, name: str) -> str:
    if container.model_server and name == "livenessProbe":
        return "Write `tcpSocket: {port: 8500}`, or `grpc: {port: 8500, service: PredictionService}`."
    if container.model_server and name in PROBES:
        return f"Write `httpGet: {{path: /v1/models/{container.model_name}/metadata, port: 8501}}`."
    return "Ask with httpGet, tcpSocket or grpc, or write `[sh, -c, '…']` where the image has a shell."


@rule("kubernetes/probe-of-processes", "warning", mends=True)
def of_processes(manifest: Manifest) -> Iterator[Found]:
    """A probe looks for a process.

    That the container's process exists is what the kubelet knows anyway; whether it answers is what a probe is for. And
    an image without a shell has no `ps` or `pgrep`, so that the probe never passes.
    """
    for container in manifest.all_containers:
        for name, one in probes(container):
            words = command(one)
            text = " ".join(word.raw for word in words)
            found = re.search(r"(?:^|[\s|;&/(])(ps|pgrep|pidof)(?:\s|$)", text)
            if found is None:
                continue
            yield Found(
                span=words[0].span,
                message=f"The {name} asks {found[1]} whether a process exists, not whether it answers.",
                remedy=_instead(container, name),
                edits=serving_probe(container, name, one) if container.model_server else (),
                left="what shows that this program works is for a person to say",
            )


@rule("kubernetes/probe-port", "error")
def probe_port(manifest: Manifest) -> Iterator[Found]:
    """A probe names a port that the container does not have.

    The kubelet cannot resolve the name, every probe fails, and the container is restarted or never ready.
    """
    for container in manifest.whole:
        names = {one.string("name") for one in container.ports}
        for name, one in probes(container):
            port = one.scalar(handler(one), "port") if handler(one) in {"httpGet", "tcpSocket"} else None
            if port is None or not isinstance(port.value, str) or port.filled_later or port.raw.isdigit():
                continue
            if port.raw not in names:
                yield Found(
                    span=one.map(handler(one)).span_of("port"),
                    message=f"No port of {container.name} is called {port.raw}, which its {name} asks.",
                    remedy=f"Write the number, or `- name: {port.raw}` under `ports`.",
                )


@rule("kubernetes/probe-threshold", "error")
def probe_threshold(manifest: Manifest) -> Iterator[Found]:
    """A liveness or startup probe wants more than one success.

    Only readiness can: the API server refuses the object (`successThreshold: Invalid value: must be 1`).
    """
    for container in manifest.all_containers:
        for name, one in probes(container):
            wanted = one.value("successThreshold")
            if name != "readinessProbe" and isinstance(wanted, int) and wanted != 1:
                yield Found(
                    span=one.span_of("successThreshold"),
                    message=f"The {name} wants {wanted} successes.",
                    remedy="Delete successThreshold.",
                )


@rule("kubernetes/same-probe", "info")
def same_probe(manifest: Manifest) -> Iterator[Found]:
    """Liveness asks the same as readiness.

    A server that is loaded or waits for something else is not ready; that is no reason to kill it. Restarted, it loads
    its model again, and its load falls on the others, which fail next.
    """
    for container in manifest.containers:
        live, ready = container.body.map("livenessProbe"), container.body.map("readinessProbe")
        way = handler(live)
        if way not in {"httpGet", "exec"} or way != handler(ready) or _asks(live) != _asks(ready):
            continue
        if _patience(live) > _patience(ready):
            continue
        yield Found(
            span=container.body.span_of("livenessProbe"),
            message="What makes the container unready kills it, and no later.",
            remedy="Let liveness ask what needs nothing else, such as `tcpSocket`, or give it more time.",
        )


def _asks(probe: Map) -> tuple[str, ...]:
    way = probe.map(handler(probe))
    return (way.string("path"), way.string("port"), *(one.raw for one in command(probe)))


def _patience(probe: Map) -> int:
    """Seconds of failing until the probe counts as failed."""
    times, seconds = probe.value("failureThreshold"), probe.value("periodSeconds")
    return (times if isinstance(times, int) else 3) * (seconds if isinstance(seconds, int) else 10)


@rule("kubernetes/probe-delay", "info")
def probe_delay(manifest: Manifest) -> Iterator[Found]:
    """A long initial delay stands for a startup probe.

    A fixed delay is too long for most starts and too short for the slowest, which is then killed while it loads, again
    and again. A startup probe waits exactly as long as it takes, up to a bound.
    """
    for container in manifest.containers:
        live = container.body.map("livenessProbe")
        delay = live.value("initialDelaySeconds")
        if isinstance(delay, int) and delay >= 60 and container.body.get("startupProbe") is None:
            yield Found(
                span=live.span_of("initialDelaySeconds"),
                message=f"For {delay} seconds nobody notices that the container hangs, and a slower start is killed.",
                remedy=f"Write a startupProbe with `periodSeconds: 5` and `failureThreshold: {max(delay // 5, 12)}`, "
                "and no initialDelaySeconds.",
            )


@rule("kubernetes/probe-timeout", "info")
def probe_timeout(manifest: Manifest) -> Iterator[Found]:
    """A probe may take longer than the time to the next one.

    The next one is late then: failing takes longer than `periodSeconds` and `failureThreshold` say.
    """
    for container in manifest.containers:
        for _, one in probes(container):
            timeout, period = one.value("timeoutSeconds"), one.value("periodSeconds")
            period = period if isinstance(period, int) else 10
            if isinstance(timeout, int) and timeout > period:
                yield Found(
                    span=one.span_of("timeoutSeconds"),
                    message=f"A probe every {period} seconds may take {timeout} seconds.",
                    remedy=f"Write `periodSeconds: {timeout}` or more, or a shorter timeoutSeconds.",
                )


@rule("kubernetes/grace-too-short", "warning")
def grace_too_short(manifest: Manifest) -> Iterator[Found]:
    """The pod is killed while its preStop hook still sleeps.

    The grace period counts from the beginning of the hook: what the process has left to end in is what the hook leaves.
    """
    for pod in manifest.pods:
        grace = pod.spec.value("terminationGracePeriodSeconds")
        grace = grace if isinstance(grace, int) and not isinstance(grace, bool) else 30
        for container in pod.containers:
            stop = container.body.map("lifecycle", "preStop")
            found = _SECONDS.search(" ".join(word.raw for word in command(stop)))
            seconds = int(found[1]) if found else stop.value("sleep", "seconds")
            if isinstance(seconds, int) and seconds >= grace:
                yield Found(
                    span=container.body.map("lifecycle").span_of("preStop"),
                    message=f"The hook sleeps {seconds} seconds, and the pod is killed {grace} seconds after it began.",
                    remedy=f"Write `terminationGracePeriodSeconds: {seconds + 30}`.",
                )
