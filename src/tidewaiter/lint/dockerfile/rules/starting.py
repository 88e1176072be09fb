"""What the container starts, and how its health is told."""

from collections.abc import Iterator

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction
from tidewaiter.lint.dockerfile.rules.base import for_people
from tidewaiter.lint.finding import Found
from tidewaiter.lint.rule import rule

_SHELLS = frozenset({"sh", "bash", "zsh"})


def _last(file: Dockerfile, name: str) -> Instruction | None:
    found = file.last.inherited(name)
    return found[-1] if found else None


@rule("dockerfile/shell-form", "warning", hadolint=("DL3025",))
def shell_form(file: Dockerfile) -> Iterator[Found]:
    """CMD or ENTRYPOINT is in shell form.

    The container's first process is then `/bin/sh -c`, which does not pass SIGTERM on: Kubernetes waits 30 seconds and
    kills, and a training run saves no checkpoint. In a distroless image there is no shell at all.
    """
    for name in ("ENTRYPOINT", "CMD"):
        one = _last(file, name)
        if one is None or one.json or one not in file.last.instructions or not one.args:
            continue
        commands = one.commands
        simple = len(commands) == 1 and not commands[0].assignments and not commands[0].after
        if simple and (commands[0].words[0].value == "exec" or (name == "CMD" and commands[0].program in _SHELLS)):
            continue
        plain = simple and not any(letter in " ".join(one.args) for letter in "$*?~`<>()")
        words = ", ".join(f'"{word.value}"' for word in commands[0].words) if plain and commands else ""
        yield Found(
            span=one.span,
            message=f"{name} runs through a shell, which keeps signals from the process.",
            remedy=f"Write `{name} [{words}]`."
            if words
            else f'Write `{name} ["PROGRAM", "ARGUMENT"]`, or put `exec` first.',
        )


@rule("dockerfile/two-processes", "warning")
def two_processes(file: Dockerfile) -> Iterator[Found]:
    """The container starts more than one process through a shell.

    `sh -c "python train.py & tensorboard …"` reaps nobody, loses the exit code of what runs in the background, and
    needs a shell. A failed training then looks like a success. One container runs one thing; TensorBoard is another.
    """
    for name in ("ENTRYPOINT", "CMD"):
        one = _last(file, name)
        if one is None:
            continue
        behind = [command for command in one.commands if command.after == "&"]
        cared = any(
            command.program in {"kill", "trap"} or command.arguments[:2] == ("wait", "-n") for command in one.commands
        )
        if behind and not cared:
            yield Found(
                span=one.span,
                message=f"{behind[0].program} runs in the background, and nobody asks how it ends.",
                remedy="Start one process here and the other in a container of its own (a sidecar in Kubernetes).",
            )


@rule("dockerfile/repeated-start", "error", hadolint=("DL3012", "DL4003", "DL4004"))
def repeated_start(file: Dockerfile) -> Iterator[Found]:
    """A stage has several CMD or ENTRYPOINT.

    Only the last one counts; the others are read by people and by nobody else.
    """
    for stage in file.stages:
        for name in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
            for one in list(stage.all_of(name))[:-1]:
                yield Found(
                    span=one.span,
                    message=f"This {name} does nothing: a later one of the stage takes its place.",
                    remedy="Delete it.",
                )


@rule("dockerfile/false-health-check", "error")
def false_health_check(file: Dockerfile) -> Iterator[Found]:
    """A health check cannot fail, or cannot pass.

    `… || true` and `exit 0` say healthy whatever happens. In exec form `|`, `&&` and `grep` are arguments of the first
    program: `["ps", "aux", "|", "grep", "model_server"]` never does what it says.
    """
    for one in file.last.inherited("HEALTHCHECK"):
        words = one.args
        if one.json and (odd := next((word for word in words if word in {"|", "||", "&&", ";", ">"}), None)):
            yield Found(
                span=one.span,
                message=f"Exec form starts no shell: {odd} is handed to the first program as an argument.",
                remedy='Ask the service itself: `HEALTHCHECK CMD ["curl", "-fsS", "http://localhost:8501/v1/models/NAME"]`.',
            )
            continue
        commands = one.commands
        last = commands[-1] if commands else None
        if last is not None and (last.before == "||" and last.arguments in {("true",), (":",), ("exit", "0")}):
            yield Found(
                span=one.span_of(last.start, last.end),
                message="This makes every failure a success.",
                remedy="End with `|| exit 1`, or with nothing.",
            )


@rule("dockerfile/no-health-check", "info")
def no_health_check(file: Dockerfile) -> Iterator[Found]:
    """A service has no HEALTHCHECK.

    Docker and Compose then call it healthy while it loads or hangs. Kubernetes does not read HEALTHCHECK: there it is
    the manifest's probes that count.
    """
    ports = {arg for one in file.last.inherited("EXPOSE") for arg in one.args}
    if file.last.outside:
        return  # its file says the rest
    if file.last.inherited("HEALTHCHECK") or ports <= {"22", "22/tcp"} or for_people(file):
        return
    yield Found(
        span=file.last.inherited("EXPOSE")[-1].span,
        message="A port is served, and nothing says when it answers.",
        remedy="Add a HEALTHCHECK that asks the service, or leave it to the manifest's probes and ignore this rule.",
    )


@rule("dockerfile/bad-port", "error", hadolint=("DL3011",))
def bad_port(file: Dockerfile) -> Iterator[Found]:
    """EXPOSE names no port.

    Ports go from 0 to 65535; the build fails on others, or publishes nothing.
    """
    for stage in file.stages:
        for one in stage.all_of("EXPOSE"):
            for arg in one.args:
                value = one.expand(arg)
                number = value.partition("/")[0]
                for part in number.split("-"):
                    if "$" not in value and not (part.isdecimal() and int(part) <= 65535):
                        yield Found(
                            span=one.find(arg), message=f"{value} is no port.", remedy="Name one from 1 to 65535."
                        )
                        break
