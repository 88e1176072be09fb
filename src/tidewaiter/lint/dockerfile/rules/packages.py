"""What is installed with the package managers of Alpine and Red Hat, and what they leave behind."""

from collections.abc import Iterator

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction, Stage
from tidewaiter.lint.finding import Found
from tidewaiter.lint.rule import rule
from tidewaiter.lint.shell import Command, Word

_YUM = {"yum": "yum", "dnf": "dnf", "microdnf": "microdnf", "dnf5": "dnf"}
_UNCACHED = frozenset({"update", "add", "upgrade", "fix"})
"""What apk does as well with an index that it does not keep."""
_VERBS = _UNCACHED | {"fetch", "search", "list", "policy", "version", "dot"}
"""What needs the index; other verbs, such as `del` and `info`, look at what is installed."""
_KEEPS_NOTHING = frozenset({"--no-cache", "--no-network"})
_FETCHES = frozenset({"-U", "--update", "--update-cache"})
_FILLING = frozenset({"install", "update", "upgrade", "groupinstall", "localinstall", "reinstall"})


@rule("dockerfile/apk-cache", "info", hadolint=("DL3019",), mends=True)
def apk_cache(file: Dockerfile) -> Iterator[Found]:
    """Apk's package index stays in the layer.

    `apk update` and `apk add` write the index of all packages to /var/cache/apk. With `--no-cache`, `apk add` fetches
    it, uses it and keeps nothing, so that no `apk update` is needed.
    """
    for stage in file.runtime:
        for one in stage.all_of("RUN"):
            fetched = _keeps_index(one)
            if fetched is None:
                continue
            why = _why_kept(file, stage, one)
            edits = [
                edit
                for command, verb in _apk(one)
                if not why and not _KEEPS_NOTHING.intersection(command.arguments)
                for edit in one.option(verb, "--no-cache")
            ]
            yield Found(
                span=one.span_of(fetched.start, fetched.end),
                message="The package index stays in /var/cache/apk.",
                remedy="Write `apk add --no-cache …`, without `apk update` before it.",
                edits=tuple(edits),
                left=why,
            )


def _apk(one: Instruction) -> Iterator[tuple[Command, Word]]:
    """What a RUN asks apk for: each command with its verb."""
    for command in one.commands:
        if command.program == "apk":
            yield from ((command, word) for word in [w for w in command.words if w.value in _VERBS][:1])


def _keeps_index(one: Instruction) -> Command | None:
    """The first command of a RUN that leaves the index in the layer."""
    fetching = (
        command
        for command, verb in _apk(one)
        if verb.value in {"update", "add"} and not _KEEPS_NOTHING & set(command.arguments)
    )
    found = next(fetching, None)
    if found is None or any("type=cache" in mount for mount in one.flags.get("mount", ())):
        return None
    removed = any(
        command.program == "rm" and "/var/cache/apk" in " ".join(command.arguments) for command in one.commands
    )
    return None if removed else found


def _why_kept(file: Dockerfile, stage: Stage, one: Instruction) -> str:
    """Why the index that a RUN fetches is not surely fetched for nothing but that RUN; empty when it is."""
    if not _can_do_without(one):
        return "its words are quoted, or it asks apk for more than packages"
    if not any(verb.value == "update" for _, verb in _apk(one)):
        return ""
    for other in file.stages:
        for later in other.all_of("RUN") if stage in other.lineage() else ():
            if other is stage and later.lines <= one.lines:
                continue
            mended = other in file.runtime and _keeps_index(later) is not None and _can_do_without(later)
            if not mended and _reads_index(later):
                return f"line {later.lines[0]} reads the index that this fetches"
    if not any(verb.value == "add" for each in file.runtime for run in each.all_of("RUN") for _, verb in _apk(run)):
        return "nothing here reads the index, so it may be for images that are built FROM this one"
    return ""


def _can_do_without(one: Instruction) -> bool:
    """Whether `--no-cache` can stand behind each verb of apk in a RUN that needs the index."""
    return all(verb.value in _UNCACHED and one.option(verb, "--no-cache") for command, verb in _apk(one))


def _reads_index(one: Instruction) -> bool:
    """Whether a RUN reads an index that it has not fetched itself."""
    for command, verb in _apk(one):
        if verb.value == "update":
            return False
        if not (_KEEPS_NOTHING | _FETCHES).intersection(command.arguments):
            return True
    return False


@rule("dockerfile/yum-cache", "info", hadolint=("DL3032", "DL3040"))
def yum_cache(file: Dockerfile) -> Iterator[Found]:
    """The cache of yum or dnf stays in the layer.

    Metadata of the repositories alone are tens of megabytes; a later RUN cannot take them out of this layer.
    """
    for stage in file.runtime:
        for one in stage.all_of("RUN"):
            commands = one.commands
            filling = [
                command for command in commands if command.program in _YUM and _FILLING.intersection(command.arguments)
            ]
            if not filling or any("type=cache" in mount for mount in one.flags.get("mount", ())):
                continue
            if any(_cleans(command.program, " ".join(command.arguments[1:])) for command in commands):
                continue
            tool = _YUM[filling[-1].program]
            folder = tool.removeprefix("micro")
            yield Found(
                span=one.span_of(filling[-1].start, filling[-1].end),
                message=f"What {tool} downloads to choose packages stays in the layer.",
                remedy=f"End the same RUN with `&& {tool} clean all && rm -rf /var/cache/{folder}`.",
            )


def _cleans(program: str, arguments: str) -> bool:
    return (program in _YUM and "clean" in arguments) or (
        program == "rm"
        and ("/var/cache/yum" in arguments or "/var/cache/dnf" in arguments or "/var/cache/" in arguments)
    )


@rule("dockerfile/yum-asks", "warning", hadolint=("DL3030", "DL3038"), mends=True)
def yum_asks(file: Dockerfile) -> Iterator[Found]:
    """`yum install` would ask.

    Nobody answers in a build: yum takes no answer for a no, and the step fails. (microdnf never asks.)
    """
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            for command in one.commands:
                arguments = command.arguments
                if command.program not in {"yum", "dnf"} or not {"install", "groupinstall"}.intersection(arguments):
                    continue
                if command.before == "|" or any(_yes(word) for word in arguments):
                    continue
                word = next(word for word in command.words if word.value in {"install", "groupinstall"})
                yield Found(
                    span=one.span_of(command.start, command.end),
                    message=f"{command.program} asks before it installs, and nobody answers.",
                    remedy=f"Write `{command.program} {word.value} -y …`.",
                    edits=one.option(word, "-y"),
                )


def _yes(word: str) -> bool:
    short = word.startswith("-") and not word.startswith("--") and "y" in word
    return short or word in {"--assumeyes", "--setopt=assumeyes=1"}
