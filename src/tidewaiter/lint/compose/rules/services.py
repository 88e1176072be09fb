"""What services run, say and open."""

import re
from collections.abc import Iterator

from tidewaiter.lint.compose.parse import Compose, Service
from tidewaiter.lint.finding import Found
from tidewaiter.lint.purpose import for_tests
from tidewaiter.lint.rule import rule
from tidewaiter.lint.secrets import secret
from tidewaiter.lint.serving import check_arguments, server_version
from tidewaiter.lint.tree import Map, Node, Scalar

_OPERATORS = frozenset({"|", "||", "&&", ";", ">", "2>&1"})
_SHELLS = frozenset({"sh", "bash", "ash", "dash"})
_PORT = re.compile(
    r"(?:(?P<address>[0-9]+(?:\.[0-9]+){3}|\[[0-9a-f:]+\]):)?(?:[0-9-]+:)?(?P<port>[0-9]+)(?:/(?:tcp|udp))?"
)
_OPEN = {
    8888: "Jupyter, which runs whatever code it is sent",
    6006: "TensorBoard, which has no password",
    2375: "the Docker daemon, which gives root on the machine",
    6379: "Redis, which has no password by itself",
    8265: "Ray's dashboard, which runs whatever job it is sent",
}


@rule("compose/duplicate-key", "error")
def duplicate_key(file: Compose) -> Iterator[Found]:
    """A key is written twice in one map.

    Compose refuses the file: `mapping key already defined`.
    """
    for one in file.tree.maps:
        for key in one.repeated:
            yield Found(
                span=key.span,
                message=f"{key.raw} stands in line {one.entries[key.raw][0].span.line} already.",
                remedy="Write both values under one key, or delete one.",
            )


@rule("compose/moving-tag", "warning")
def moving_tag(file: Compose) -> Iterator[Found]:
    """The image has no tag, or one that moves.

    `latest` is another image next month, and each machine keeps the one that it pulled first.
    """
    for service in () if for_tests(file.tree.text.path) else file.services:
        image = service.image
        if image.known and image.moves and not service.built:
            said = f"The tag {image.tag} of {image.repository} is moved" if image.tag else f"{image.text} names no tag"
            yield Found(
                span=service.body.span_of("image"),
                message=f"{said}: which image runs depends on the day and the machine.",
                remedy=f"Name a version, best with its digest: `image: {image.repository}:VERSION@sha256:…`.",
            )


@rule("compose/secret-in-environment", "error")
def secret_in_environment(file: Compose) -> Iterator[Found]:
    """A password or key stands in the file.

    It is in the repository's history for good, and `docker inspect` shows it to everyone who may talk to the daemon.
    """
    for service in () if for_tests(file.tree.text.path) else file.services:
        for name, (value, place) in service.environment.items():
            if secret(name, value):
                yield Found(
                    span=place.span,
                    message=f"The value of {name} can be read by everyone who sees this file.",
                    remedy=f"Write `{name}: ${{{name}:?}}` and set it outside, or use `secrets`.",
                )


@rule("compose/privileged", "warning")
def privileged(file: Compose) -> Iterator[Found]:
    """A service is privileged.

    It sees all devices and may do what root of the machine may do. A GPU does not need it.
    """
    for service in () if for_tests(file.tree.text.path) else file.services:
        if service.body.value("privileged") is True:
            yield Found(
                span=service.body.span_of("privileged"),
                message=f"{service.name} has root's rights on the machine.",
                remedy="Delete it; name the devices or capabilities that it needs.",
            )


@rule("compose/docker-socket", "warning")
def docker_socket(file: Compose) -> Iterator[Found]:
    """A service holds the daemon's socket.

    Who can talk to the daemon can start a container that mounts the whole machine: that is root.
    """
    for service in () if for_tests(file.tree.text.path) else file.services:
        for one in service.body.list("volumes"):
            source = _source(one)
            if re.match(r"(?:/var)?/run/docker\.sock(?::|$)", source):
                yield Found(
                    span=one.span_of("source") if isinstance(one, Map) else one.span,
                    message=f"{service.name} can do everything that the daemon can.",
                    remedy="Leave it out, or put a proxy in between that allows only what is needed.",
                )


def _source(volume: Node) -> str:
    if isinstance(volume, Map):
        return volume.string("source")
    return volume.raw if isinstance(volume, Scalar) else ""


@rule("compose/open-port", "warning")
def open_port(file: Compose) -> Iterator[Found]:
    """A port without a password is open to the whole network.

    `8888:8888` listens on all addresses of the machine, and Docker's own rules let it past the firewall.
    """
    for service in () if for_tests(file.tree.text.path) else file.services:
        for one in service.body.list("ports"):
            if not isinstance(one, Scalar) or ":" not in one.raw:
                continue
            found = _PORT.fullmatch(one.raw)
            if found is None or found["address"] or int(found["port"]) not in _OPEN:
                continue
            port = int(found["port"])
            if not _is(service, port):
                continue
            yield Found(
                span=one.span,
                message=f"Everyone in the network reaches {_OPEN[port]}.",
                remedy=f'Write `"127.0.0.1:{one.raw}"`, and put a proxy with a login before it for others.',
            )


def _is(service: Service, port: int) -> bool:
    """Whether what listens there is what usually does."""
    words = {8888: "jupyter|notebook", 6006: "tensorboard", 2375: "docker|dind", 6379: "redis", 8265: "ray"}
    pattern = words[port]
    told = " ".join(one.raw for one in service.words) + service.body.string("command")
    return re.search(pattern, f"{service.image.text} {service.name} {told}") is not None


@rule("compose/health-check-without-shell", "error")
def without_shell(file: Compose) -> Iterator[Found]:
    """A health check is written for a shell, and there is none.

    `CMD` starts the program with the words as they stand: `||` and `exit` are arguments to it.
    """
    for service in file.services:
        words = [one for one in service.body.map("healthcheck").list("test") if isinstance(one, Scalar)]
        if len(words) < 2 or words[0].raw != "CMD" or words[1].raw.rpartition("/")[2] in _SHELLS:
            continue
        wrong = next((one for one in words[1:] if one.raw.strip() in _OPERATORS), None)
        if wrong is None and len(words) == 2 and re.search(r"\s\S", words[1].raw):
            wrong = words[1]
        if wrong is not None:
            text = " ".join(one.raw for one in words[1:])
            yield Found(
                span=wrong.span,
                message=f"{wrong.raw!r} is a word, not what a shell would make of it.",
                remedy=f'Write `["CMD-SHELL", "{text}"]`, where the image has a shell.',
            )


@rule("compose/serving-flags", "error")
def serving_flags(file: Compose) -> Iterator[Found]:
    """The model server is given what it does not have.

    It prints `unknown argument` once, among its log, and goes on without what the flag was meant for; below a base path
    without numeric folders it serves nothing.
    """
    for service in file.services:
        scalars = service.words
        if not service.image.serving or service.body.get("entrypoint") is not None or not scalars:
            continue
        words = [one.raw for one in scalars]
        at = next((at for at, word in enumerate(words) if word.endswith("tensorflow_model_server")), -1)
        for one in check_arguments(words[at + 1 :], server_version(service.image.text) or None):
            if not any("$" in word for word in words):
                yield Found(span=scalars[at + 1 + one.word].span, message=one.message, remedy=one.remedy)


@rule("compose/version-ignored", "info")
def version_ignored(file: Compose) -> Iterator[Found]:
    """The file names a version of its format.

    Compose ignores it since its second release and says so each time it runs.
    """
    if file.services and "version" in file.body.entries:
        yield Found(
            span=file.body.span_of("version"),
            message="`version` is obsolete and has no effect.",
            remedy="Delete the line.",
        )
