"""What is installed with apt, and what it leaves behind."""

import re
from collections.abc import Iterator

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction
from tidewaiter.lint.dockerfile.rules.base import for_people
from tidewaiter.lint.finding import Edit, Found
from tidewaiter.lint.rule import rule
from tidewaiter.lint.shell import Command, Word

_COMPILERS = frozenset(
    {"build-essential", "gcc", "g++", "clang", "make", "cmake", "gfortran", "bazel", "rustc", "cargo", "ninja-build"}
)
_APT = frozenset({"apt-get", "apt"})


def verb(command: Command) -> str:
    """What apt is asked to do; empty for another program."""
    if command.program not in _APT:
        return ""
    return next((word for word in command.arguments[1:] if not word.startswith("-")), "")


def packages(command: Command) -> list[Word]:
    """What `apt-get install` names."""
    words = [word for word in command.words if not word.value.startswith("-")]
    at = next((index for index, word in enumerate(words) if word.value == "install"), len(words))
    return words[at + 1 :]


def _mounted(one: Instruction, *places: str) -> bool:
    return any(
        "type=cache" in mount and any(place in mount for place in places) for mount in one.flags.get("mount", ())
    )


@rule("dockerfile/apt-recommends", "info", hadolint=("DL3015",))
def apt_recommends(file: Dockerfile) -> Iterator[Found]:
    """Apt installs recommended packages, too.

    They are often several times what was asked for, and nobody reviews them.
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            for command in one.commands:
                options = " ".join(command.arguments)
                if verb(command) != "install" or "no-install-recommends" in options or "Install-Recommends" in options:
                    continue
                # No edit: a build may rest on what is installed beside what is named. `--rewrite` names the usual ones.
                yield Found(
                    span=one.span_of(command.start, command.end),
                    message="What the named packages recommend is installed, too.",
                    remedy="Add --no-install-recommends, and name what is missing then.",
                )


@rule("dockerfile/apt-lists", "info", hadolint=("DL3009",))
def apt_lists(file: Dockerfile) -> Iterator[Found]:
    """Apt's package lists stay in the layer.

    They are 20 to 40 MB that are out of date the next day. A later RUN cannot take them out of this layer.
    """
    for stage in file.runtime:
        for one in stage.all_of("RUN"):
            commands = one.commands
            update = next((command for command in commands if verb(command) == "update"), None)
            if update is None or _mounted(one, "/var/lib/apt"):
                continue
            removed = any(
                command.program in {"rm", "find"} and any("/var/lib/apt" in word for word in command.arguments)
                for command in commands
            )
            if not removed:
                yield Found(
                    span=one.span_of(update.start, update.end),
                    message="The lists that this fetches stay in the layer.",
                    remedy="End the same RUN with `&& rm -rf /var/lib/apt/lists/*`, or mount a cache on /var/lib/apt.",
                )


@rule("dockerfile/apt-without-update", "error")
def apt_without_update(file: Dockerfile) -> Iterator[Found]:
    """`apt-get update` is a layer of its own.

    The next build takes that layer from its cache, and `apt-get install` asks for versions that the mirror has dropped:
    404, or old packages without their security updates.
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            commands = one.commands
            found = [command for command in commands if verb(command) == "update"]
            others = [command for command in commands if command.program and verb(command) != "update"]
            if found and not others and not _mounted(one, "/var/lib/apt"):
                yield Found(
                    span=one.span_of(found[0].start, found[0].end),
                    message="A cached layer keeps these lists for as long as the cache lives.",
                    remedy="Write it in one RUN with what it is for: `apt-get update && apt-get install …`.",
                )


@rule("dockerfile/apt-for-people", "info", hadolint=("DL3027",), mends=True)
def apt_for_people(file: Dockerfile) -> Iterator[Found]:
    """`apt` is used in a script.

    Its options and output are for people and change between releases; `apt-get` is the stable one.
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            for command in one.commands:
                if command.program == "apt" and verb(command):
                    word = next(word for word in command.words if word.value.rpartition("/")[2] == "apt")
                    exact = word.end - word.start == len(word.value)
                    yield Found(
                        span=one.span_of(word.start, word.end),
                        message="apt warns that scripts must not rely on it.",
                        remedy="Write apt-get.",
                        edits=(Edit(one.span_of(word.start, word.end), word.value + "-get"),) if exact else (),
                    )


@rule("dockerfile/apt-asks", "warning", hadolint=("DL3014",), mends=True)
def apt_asks(file: Dockerfile) -> Iterator[Found]:
    """`apt-get install` would ask.

    Nobody answers in a build: it ends with an error, or waits for ever.
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            for command in one.commands:
                if verb(command) not in {"install", "upgrade", "dist-upgrade"}:
                    continue
                words = command.arguments
                quiet = any(
                    re.fullmatch(r"-[a-zA-Z]*y[a-zA-Z]*|--yes|--assume-yes|-qq|-[a-zA-Z]*qq[a-zA-Z]*", word)
                    for word in words
                )
                if any(re.fullmatch(r"-s|--simulate|--dry-run|--just-print|--print-uris", word) for word in words):
                    continue
                if quiet or "--force-yes" in words or command.before == "|":  # `yes | apt-get …`
                    continue
                if any("DEBIAN" in word.value or "Assume-Yes" in word.value for word in command.words):
                    continue
                word = next(word for word in command.words if word.value == verb(command))
                yield Found(
                    span=one.span_of(command.start, command.end),
                    message="apt-get asks when it needs more than what is named, and nobody answers.",
                    remedy=f"Write `apt-get {word.value} -y …`.",
                    edits=one.option(word, "-y"),
                )


@rule("dockerfile/compilers-left", "warning")
def compilers_left(file: Dockerfile) -> Iterator[Found]:
    """Compilers stay in the image that runs.

    They are hundreds of megabytes that nothing calls there, and what an intruder would bring along. Compile in a stage
    of its own and copy the result, or install wheels that need no compiler.
    """
    for stage in () if for_people(file) else file.runtime:
        removed = {
            word
            for one in stage.all_of("RUN")
            for command in one.commands
            if verb(command) in {"remove", "purge", "autoremove"}
            for word in command.arguments
        }
        for one in stage.all_of("RUN"):
            for command in one.commands:
                if verb(command) != "install":
                    continue
                for word in packages(command):
                    name = re.split(r"[=/:]", word.value)[0]
                    plain = re.sub(r"-\d+$", "", name)
                    if plain in _COMPILERS and name not in removed:
                        yield Found(
                            span=one.span_of(word.start, word.end),
                            message=f"{name} stays in the image that runs.",
                            remedy="Install it in a stage `AS build`, and take what it made with `COPY --from=build`.",
                        )
