"""What is installed with pip, how, and whether it belongs into the image."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain

from packaging.utils import canonicalize_name

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction, Stage
from tidewaiter.lint.dockerfile.rules.base import for_people, named
from tidewaiter.lint.finding import Edit, Found
from tidewaiter.lint.requirement import (
    NOT_AT_RUN_TIME,
    TOOLS,
    PipInstall,
    is_pinned,
    lost_to,
    newest,
    pip_install,
    redirected,
    source_build,
)
from tidewaiter.lint.rule import rule
from tidewaiter.lint.shell import Command

_GIT = re.compile(r"git\+\w+://(?:[^/@$]+@)?[^/@$]+/[^@$]+")
"""A repository without a commit, branch or tag."""
_TENSORFLOW_GPU = frozenset({"tensorflow-gpu"})


def installs(stages: Iterable[Stage]) -> Iterator[tuple[Instruction, Command, PipInstall]]:
    """Every `pip install` in these stages, in order."""
    return chain.from_iterable(_installs(stage) for stage in stages)


@lru_cache(maxsize=64)  # the stages of the file that is looked at: each rule asks again
def _installs(stage: Stage) -> tuple[tuple[Instruction, Command, PipInstall], ...]:
    return tuple(
        (one, command, found)
        for one in stage.all_of("RUN")
        for command in one.commands
        if (found := pip_install(command)) is not None
    )


@rule("dockerfile/pip-cache", "warning", hadolint=("DL3042",), mends=True)
def pip_cache(file: Dockerfile) -> Iterator[Found]:
    """Pip's cache stays in the layer.

    pip keeps every wheel that it downloads below the home folder: with TensorFlow that is over half a gigabyte which
    nothing reads again. `--no-cache-dir` or a cache mount keeps it out.
    """
    for stage in file.runtime:
        here = _installs(stage)
        if not here or _keeps_no_cache(stage):
            continue
        for one, command, found in here:
            mounted = any("type=cache" in mount for mount in one.flags.get("mount", ()))
            removed = any(
                (later.program == "rm" and any("cache" in word for word in later.arguments))
                or (later.program.startswith("pip") and later.arguments[1:3] == ("cache", "purge"))
                for later in one.commands
            )
            own = any(word.value.startswith("PIP_NO_CACHE_DIR=") for word in command.assignments)
            if found.has("--no-cache-dir", "--no-cache", "-n") or mounted or removed or own or found.tool == "uv":
                continue
            editable = found.has("-e", "--editable") and not found.has("--no-deps")
            if not (found.wanted or found.files or found.local or editable):
                continue
            span = one.span_of(command.start, command.end)
            word = next(word for word in command.words if word.value == "install")
            yield Found(
                span=span,
                message="What pip downloads stays in this layer beside what it installs.",
                remedy="Add --no-cache-dir, or mount a cache on pip's folder: `RUN --mount=type=cache,target=…`.",
                edits=one.option(word, "--no-cache-dir"),
            )


def _keeps_no_cache(stage: Stage) -> bool:
    """Whether a variable of the stage tells pip so."""
    said = "0"
    for one in stage.inherited("ENV", "ARG"):
        if one.name == "ENV":
            pairs = list(zip(one.args[::3], one.args[1::3], strict=False))
        else:
            pairs = [(name, value) for name, _, value in (arg.partition("=") for arg in one.args)]
        said = next((value for name, value in reversed(pairs) if name.strip() == "PIP_NO_CACHE_DIR"), said)
    return said.strip("\"'").lower() not in {"0", "no", "false", "off", ""}


@rule("dockerfile/pip-unpinned", "warning", hadolint=("DL3013",))
def pip_unpinned(file: Dockerfile) -> Iterator[Found]:
    """A package is installed without its version.

    Each build takes the newest, so that two builds of one commit differ, and a release of somebody else breaks yours.
    Best is a lock with hashes: `tidewaiter lock`, `uv pip compile --generate-hashes`.
    """
    for one, _, found in installs(file.stages):
        if found.has("-c", "--constraint"):
            continue
        for word in found.local:
            if _GIT.fullmatch(word.value):
                yield Found(
                    span=one.span_of(word.start, word.end),
                    message="This installs whatever the repository holds on the day of the build.",
                    remedy=f"Write the commit: `{word.value.partition('#')[0]}@COMMIT`.",
                )
        for word, requirement in found.wanted:
            name = canonicalize_name(requirement.name)
            if is_pinned(requirement) or name in TOOLS or "$" in word.value:
                continue
            yield Found(
                span=one.span_of(word.start, word.end),
                message=newest(requirement),
                remedy=f"Write `{requirement.name}==VERSION`, or install from a lock with hashes.",
            )


@rule("dockerfile/version-redirected", "error", mends=True)
def version_redirected(file: Dockerfile) -> Iterator[Found]:
    """The shell takes a version for the name of a file.

    Without quotes `pip install numba>=0.57` installs whatever version is newest and writes what pip prints into a file
    called `=0.57`. The condition that was meant is lost, and nothing says so.
    """
    for one, _, found in installs(file.stages):
        for word, requirement in () if one.json else found.wanted:
            if lost := redirected(file.text.content, word):
                yield Found(
                    span=one.span_of(word.start, word.end + len(lost)),
                    message=lost_to(requirement, lost),
                    remedy=f'Write `"{word.value}{lost}"`, in quotes.',
                    edits=(Edit(one.span_of(word.start, word.end + len(lost)), f'"{word.value}{lost}"'),),
                )


@rule("dockerfile/test-packages", "warning")
def test_packages(file: Dockerfile) -> Iterator[Found]:
    """Packages for testing, formatting or notebooks are in the image that runs.

    They bring their own dependencies, advisories and attack surface, and nothing calls them there.
    """
    for one, _, found in () if for_people(file) else installs(file.runtime):
        for word, requirement in found.wanted:
            if canonicalize_name(requirement.name) in NOT_AT_RUN_TIME and not _starts(file, requirement.name):
                yield Found(
                    span=one.span_of(word.start, word.end),
                    message=f"{requirement.name} is not needed where the image runs.",
                    remedy=f"Install {requirement.name} in a stage for tests, or in the developer's environment.",
                )


def _starts(file: Dockerfile, name: str) -> bool:
    """Whether the container starts that very program, or a notebook that needs it."""
    text = " ".join(arg for one in file.last.inherited("CMD", "ENTRYPOINT") for arg in one.args).lower()
    return name.lower() in text or "jupyter" in text or "notebook" in text or not text


@rule("dockerfile/gpu-in-cpu-image", "warning")
def gpu_in_cpu_image(file: Dockerfile) -> Iterator[Found]:
    """A GPU build of TensorFlow goes into an image without CUDA.

    `tensorflow-gpu` was dropped in 2022 and ends at 2.12; `tensorflow[and-cuda]` adds three gigabytes of CUDA wheels.
    In a service that runs on CPUs `tensorflow-cpu` does the same at a third of the size.
    """
    for one, _, found in installs(file.runtime):
        for word, requirement in found.wanted:
            if canonicalize_name(requirement.name) not in _TENSORFLOW_GPU:
                continue
            if _has_cuda(file):
                continue
            yield Found(
                span=one.span_of(word.start, word.end),
                message=f"{word.value} cannot use a GPU here: {file.last.image} has no CUDA.",
                remedy="For CPUs write `tensorflow-cpu==VERSION`; for GPUs stand on an image with CUDA.",
            )


def _has_cuda(file: Dockerfile) -> bool:
    return "$" in file.last.image or bool(re.search(r"cuda|gpu|nvidia|nvcr", file.last.image, re.IGNORECASE))


@rule("dockerfile/cuda-twice", "warning")
def cuda_twice(file: Dockerfile) -> Iterator[Found]:
    """CUDA comes with the base and with the wheels.

    `tensorflow[and-cuda]` brings CUDA and cuDNN as wheels, `nvidia/cuda` and `tensorflow/tensorflow:*-gpu` have them as
    files. Two sets are gigabytes more, and which one is loaded depends on the search path.
    """
    bottom = list(file.last.lineage())[-1]
    base = named(bottom)
    if base is None:
        return
    has = base[0].endswith("nvidia/cuda") or (base[0].endswith("tensorflow/tensorflow") and "gpu" in base[1])
    for one, _, found in installs(file.runtime) if has else ():
        for word, requirement in found.wanted:
            if "and-cuda" in requirement.extras or canonicalize_name(requirement.name).startswith("nvidia-cud"):
                yield Found(
                    span=one.span_of(word.start, word.end),
                    message=f"{word.value} brings CUDA a second time; {bottom.base} has it.",
                    remedy="Install `tensorflow` without the extra here, or stand on an image without CUDA.",
                )


@rule("dockerfile/needs-source-build", "error")
def needs_source_build(file: Dockerfile) -> Iterator[Found]:
    """A pinned version cannot be installed from wheels.

    Some versions ask for packages that have no wheel: `tensorflow[and-cuda]==2.15.0` for parts of tensorrt,
    `wandb==0.15.0` for pathtools. The build then compiles, downloads from elsewhere, or fails.
    """
    for one, _, found in installs(file.stages):
        for word, requirement in found.wanted:
            if known := source_build(requirement):
                yield Found(span=one.span_of(word.start, word.end), message=known[0], remedy=f"Write {known[1]}.")


@rule("dockerfile/copy-before-install", "warning")
def copy_before_install(file: Dockerfile) -> Iterator[Found]:
    """All sources are copied before the packages are installed.

    Every changed line then invalidates the layer with the packages, and a build that could take a second downloads
    TensorFlow again. Copy the requirements alone, install, then copy the rest.
    """
    for stage in file.stages:
        whole: Instruction | None = None
        for one in stage.instructions:
            if one.name in {"COPY", "ADD"} and not one.flags.get("from") and _whole(one):
                whole = whole or one
            elif one.name == "RUN" and whole is not None:
                every = [pip for command in one.commands if (pip := pip_install(command))]
                if any(pip.local or pip.has("-e", "--editable") for pip in every):
                    break  # it installs the sources, too
                found = next((pip for pip in every if pip.files), None)
                source = _in_context(found.files[0], whole) if found is not None else ""
                if found is not None and source:
                    wanted = found.files[0]
                    target = f"{wanted.rpartition('/')[0]}/" if "/" in wanted else "."
                    yield Found(
                        span=whole.span,
                        message=f"Any change of the sources installs {wanted} again (line {one.lines[0]}).",
                        remedy=f"Write `COPY {source} {target}` and the RUN first, "
                        f"`{whole.name} {' '.join(whole.args)}` behind them.",
                    )
                    break


def _in_context(path: str, copied: Instruction) -> str:
    """Which file of the context a path in the image is, once the context is copied; empty when it is another's."""
    if not path.startswith("/"):
        return path
    folder = copied.expand(copied.args[-1]).rstrip("/") + "/"
    return path.removeprefix(folder) if path.startswith(folder) else ""


def _whole(one: Instruction) -> bool:
    sources = one.args[:-1]
    return any(source in {".", "./", "*"} for source in sources)


_INSTALLERS = frozenset(
    {"make", "poetry", "pdm", "tox", "nox", "conda", "mamba", "micromamba", "pipenv", "uv", "source"}
)


def _could_install(command: Command) -> bool:
    """Whether it is a script or a tool that may read a requirements file by itself."""
    found = pip_install(command)
    if found is not None:
        return bool(found.local) or found.has("-e", "--editable")
    arguments = command.arguments
    return (
        command.program in _INSTALLERS
        or any(word.endswith((".sh", ".py")) for word in arguments)
        or (len(arguments) > 0 and arguments[0].startswith((".", "/")) and "/bin/" not in arguments[0])
    )


@rule("dockerfile/requirements-unused", "warning")
def requirements_unused(file: Dockerfile) -> Iterator[Found]:
    """A requirements file is copied, and nothing installs it.

    What it pins is then not what is in the image.
    """
    for stage in file.stages:
        for one in () if stage.outside else stage.all_of("COPY", "ADD"):
            if one.flags.get("from"):
                continue
            names = [arg for arg in one.args[:-1] if re.fullmatch(r"(?:.*/)?requirements[^/*]*\.txt", arg)]
            if not names or len(one.args) != 2:
                continue
            after = file.stages[stage.index :]
            following = [other for each in after for other in (*each.instructions, *each.later)]
            if any(_could_install(command) for run in following if run.name == "RUN" for command in run.commands):
                continue
            said = "\n".join(
                " ".join(later.args) + "\n".join(later.heredocs) for later in following if later is not one
            )
            if names[0].rpartition("/")[2] not in said and "requirements" not in said and "*" not in said:
                yield Found(
                    span=one.span,
                    message=f"{names[0]} is copied and never installed.",
                    remedy=f"Install it: `RUN pip install --no-cache-dir -r {names[0]}`; or do not copy it.",
                )
