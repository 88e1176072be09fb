"""What RUN does, whatever it installs."""

from collections.abc import Iterator
from itertools import pairwise

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction, Stage
from tidewaiter.lint.finding import Found
from tidewaiter.lint.rule import rule

_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "python", "python3", "perl"})
_CHECKING = frozenset({"sha256sum", "sha512sum", "sha1sum", "md5sum", "shasum"})
_FETCHING = frozenset({"curl", "wget"})


@rule("dockerfile/sudo", "warning", hadolint=("DL3004",))
def uses_sudo(file: Dockerfile) -> Iterator[Found]:
    """Sudo is used.

    It needs a password where there is no terminal, and its own settings decide what it allows. USER changes the user,
    in the file, where everyone sees it.
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            for command in one.commands:
                if command.words and command.words[0].value.rpartition("/")[2] == "sudo":
                    word = command.words[0]
                    yield Found(
                        span=one.span_of(word.start, word.end),
                        message="sudo changes the user inside a step.",
                        remedy="Write `USER root` before these steps and the user without rights behind them.",
                    )


@rule("dockerfile/cd-for-workdir", "info", hadolint=("DL3003",))
def cd_for_workdir(file: Dockerfile) -> Iterator[Found]:
    """A RUN does nothing but change the folder.

    The next instruction starts in WORKDIR again: the `cd` has no effect.
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            commands = [command for command in one.commands if command.words]
            if commands and commands[-1].program == "cd" and not one.json and commands[-1].before in {"", "&&", ";"}:
                folder = commands[-1].arguments[1] if len(commands[-1].arguments) > 1 else "/PATH"
                back = len(commands) > 1 or folder.startswith((".", "-"))
                yield Found(
                    span=one.span_of(commands[-1].start, commands[-1].end),
                    message="The folder that this changes to is forgotten when the instruction ends.",
                    remedy="Delete it." if back else f"Write `WORKDIR {folder}`.",
                )


@rule("dockerfile/pipe-to-shell", "warning")
def pipe_to_shell(file: Dockerfile) -> Iterator[Found]:
    """A script is downloaded and run unseen.

    Whoever controls the address, or the network on the way, runs what they like in the build; half a download runs half
    a script. Download to a file, compare its SHA-256, then run it.
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            commands = one.commands
            for first, second in pairwise(commands):
                if first.program in _FETCHING and first.after in {"|", "|&"} and second.program in _SHELLS:
                    yield Found(
                        span=one.span_of(first.start, second.end),
                        message=f"What {first.program} fetches is run by {second.program} without being looked at.",
                        remedy="Download it, check it with `sha256sum -c`, then run it; or install a package.",
                    )


@rule("dockerfile/pipe-without-pipefail", "info", hadolint=("DL4006",))
def pipe_without_pipefail(file: Dockerfile) -> Iterator[Found]:
    """A pipe hides that its first command failed.

    `/bin/sh` takes the exit code of the last command alone: a download that breaks off in front of a pipe is a success.
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            commands = one.commands
            piped = next((each for each in commands if each.program in _FETCHING and each.after in {"|", "|&"}), None)
            if piped is None or one.json or _ends_early(stage, one):
                continue
            yield Found(
                span=one.span_of(piped.start, piped.end),
                message=f"When {piped.program} fails, the pipe goes on as if it had not.",
                remedy='Write `SHELL ["/bin/bash", "-o", "pipefail", "-c"]` above, or fetch into a file first.',
            )


def _ends_early(stage: Stage, one: Instruction) -> bool:
    """Whether a RUN ends when any part of a pipe fails, or looks at what came."""
    shells = stage.until(one, "SHELL")
    if shells and "pipefail" in " ".join(shells[-1].args):
        return True
    return any(
        (command.program == "set" and "pipefail" in command.arguments) or command.program in _CHECKING
        for command in one.commands
    )
