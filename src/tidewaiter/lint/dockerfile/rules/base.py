"""What an image stands on."""

import re
from collections.abc import Iterator
from difflib import get_close_matches

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction, Stage
from tidewaiter.lint.finding import Found, Span
from tidewaiter.lint.purpose import for_tests
from tidewaiter.lint.rule import rule

_MOVING = frozenset({"latest", "nightly", "devel", "edge", "main", "master", "stable"})
_NOTEBOOK = re.compile(r"(?:^|[-_.])jupyter(?:[-_.]|$)|notebook")
_PEOPLE = re.compile(
    r"(?:^|[-_./])(?:dev|develop|development|devcontainers?|devel[-_.]?\w*(?=/)|builders?|ci|tests?|testing|eval"
    r"|notebooks?|jupyter(?:hub|lab)?)(?:[-_./:]|$)"
)
_TOOLS = re.compile(
    r"(?:^|[-_./])(?:devel|manylinux\w*|pre-?commit|lint\w*|sanity\w*|build|wheels?|toolchain|\w+_tests?)(?:[-_.]|$)"
)
"""What a Dockerfile is called that makes an image for building or checking."""
_FOR_PEOPLE = re.compile(r"[\w./-]*(?:dev|jupyter|notebooks?|tests?)[\w.-]*\.(?:txt|in)", re.IGNORECASE)
"""Requirements files of developers."""
_BUILDS = re.compile(r"build|compil|dev")
_STAGE = re.compile(
    r"build|compil|base|deps|depend|stage|dist|assets|front|back|test|run|prod|final|install|download|fetch"
)
"""What stages are called."""
_SHELL = re.compile(r"(?:/(?:usr/)?bin/)?(?:ba|z|da)?sh")
_DEVEL = re.compile(r"(?:^|[-_.])devel(?:[-_.]|$)")


def named(stage: Stage) -> tuple[str, str, str] | None:
    """Repository, tag and digest of the image that a stage begins with; None for stages, `scratch` and variables."""
    if stage.parent is not None or stage.base == "scratch" or "$" in stage.base or not stage.base:
        return None
    name, _, digest = stage.base.partition("@")
    slash = name.rfind("/")
    repository, tag = name, ""
    if ":" in name[slash + 1 :]:
        repository, _, tag = name.rpartition(":")
    return repository, tag, digest


def _tagged(stage: Stage) -> tuple[str, str, str] | None:
    """The same of an image whose name holds a variable, and whose tag does not."""
    name, sign, tag = stage.base.rpartition(":")
    plain = sign and "$" in name and not any(letter in tag for letter in "$/@}") and stage.parent is None
    return (name, tag, "") if plain else None


def for_people(file: Dockerfile) -> bool:
    """Whether it is, by its place and what it stands on, installs and starts, for developers, tests or notebooks.

    Compilers and test tools are what such an image is for.
    """
    folder, _, name = file.text.path.lower().rpartition("/")
    names = f"{folder.rpartition('/')[2]}/{name}/{file.last.name}/{file.last.image.lower()}"
    if _PEOPLE.search(names) or _TOOLS.search(name) or for_tests(file.text.path):
        return True
    if any(_installs_for_people(one) for stage in file.runtime for one in stage.all_of("RUN")):
        return True
    starts = [one for one in file.last.inherited("CMD", "ENTRYPOINT") if one.args]
    return bool(starts) and all(_SHELL.fullmatch(" ".join(one.args)) is not None for one in starts)


def _installs_for_people(run: Instruction) -> bool:
    if "-r" not in (said := " ".join(run.args)):
        return False
    files = re.findall(r"(?:-r|--requirement)[ =]?(\S+)", said)
    return any(_FOR_PEOPLE.fullmatch(one.strip("\"'")) for one in files)


def place(stage: Stage) -> Span:
    """Where `FROM` names its image."""
    return stage.start.find(stage.start.args[0]) if stage.start.args else stage.start.span


@rule("dockerfile/base-without-tag", "warning", hadolint=("DL3006",))
def without_tag(file: Dockerfile) -> Iterator[Found]:
    """A base image is named without a tag.

    Without a tag it means `latest`, which is another image next month: what was tested is not what is built.
    """
    for stage in file.stages:
        found = named(stage)
        if found is not None and not found[1] and not found[2]:
            yield Found(
                span=place(stage),
                message=f"{stage.base} says no version, so it is whatever `latest` means on the day of the build.",
                remedy=f"Name a version and the digest it stands for: `FROM {found[0]}:VERSION@sha256:…`.",
            )


@rule("dockerfile/moving-tag", "warning", hadolint=("DL3007",))
def moving_tag(file: Dockerfile) -> Iterator[Found]:
    """A base image is named by a tag that moves.

    `latest`, `nightly`, `latest-gpu` and their like are set anew with each release, TensorFlow's `nightly` every night.
    Two builds of one commit then differ, and nobody can say which one was evaluated.
    """
    for stage in file.stages:
        found = named(stage) or _tagged(stage)
        if found is None or found[2] or not found[1]:
            continue
        if _MOVING.intersection(re.split(r"[-_.]", found[1])[:1]):
            yield Found(
                span=place(stage),
                message=f"The tag {found[1]} of {found[0]} is moved to other images.",
                remedy=f"Name a version, best with its digest: `FROM {found[0]}:VERSION@sha256:…`.",
            )


@rule("dockerfile/base-without-digest", "info")
def without_digest(file: Dockerfile) -> Iterator[Found]:
    """A base image is named by a tag alone.

    Even a version's tag may be pushed again; only a digest names bytes. `tidewaiter build` records the digest that a
    tag meant, a plain `docker build` does not.
    """
    for stage in file.stages:
        found = named(stage)
        if found is None or found[2] or not found[1] or _MOVING.intersection(re.split(r"[-_.]", found[1])[:1]):
            continue
        yield Found(
            span=place(stage),
            message=f"{stage.base} can be pushed again under the same tag.",
            remedy=f"Add the digest: `FROM {stage.base}@sha256:…`; "
            f"`tidewaiter inspect docker://{stage.base}` shows it.",
        )


@rule("dockerfile/notebook-base", "warning")
def notebook_base(file: Dockerfile) -> Iterator[Found]:
    """The image stands on one that is made for notebooks.

    The `-jupyter` images add Jupyter, its many dependencies and a server that runs whatever code it is sent: right on a
    researcher's machine, wrong below a training job or a service.
    """
    bottom = list(file.last.lineage())[-1]
    found = named(bottom)
    starts = " ".join(arg for one in file.last.inherited("CMD", "ENTRYPOINT") for arg in one.args)
    if found is None or not _NOTEBOOK.search(f"{found[0].rpartition('/')[2]}:{found[1]}") or "jupyter" in starts:
        return
    if not list(file.last.inherited("CMD", "ENTRYPOINT")):
        return  # it starts the notebook server itself, and says so
    plain = f"{found[0]}:{re.sub(r'-?jupyter', '', found[1]) or 'VERSION'}"
    yield Found(
        span=place(bottom),
        message=f"{bottom.base} brings a notebook server, and this image runs something else.",
        remedy=f"Use {plain}.",
    )


@rule("dockerfile/devel-base", "warning")
def devel_base(file: Dockerfile) -> Iterator[Found]:
    """The image that runs stands on one that is made for building.

    `-devel` images hold compilers, headers and static libraries: gigabytes that nothing needs at run time, and tools
    that help whoever breaks in. Build in a stage of its own and copy what was built.
    """
    bottom = list(file.last.lineage())[-1]
    found = named(bottom)
    if found is None or not _DEVEL.search(found[1]) or for_people(file):
        return
    if not list(file.last.inherited("CMD", "ENTRYPOINT")):
        return  # nothing is started: it may be what others build in
    if any("deepspeed" in arg.lower() for stage in file.runtime for one in stage.all_of("RUN") for arg in one.args):
        return  # it compiles its kernels when training starts
    own = found[0].endswith(("tensorflow/tensorflow", "tensorflow/serving"))  # which have no `-runtime`
    yield Found(
        span=place(bottom),
        message=f"{bottom.base} holds what compiles, in the image that runs.",
        remedy=f"Build in a stage `FROM {bottom.base} AS build`, and run from "
        f"{found[0]}:{_DEVEL.sub('-' if own else '-runtime-', found[1]).strip('-')} with `COPY --from=build`.",
    )


@rule("dockerfile/copies-whole-stage", "info")
def copies_whole_stage(file: Dockerfile) -> Iterator[Found]:
    """A stage for running stands on the stage that builds.

    `FROM build AS production` copies everything of `build`: compilers, caches, sources. It removes nothing. A stage
    that is to be smaller starts from a smaller image and takes files with `COPY --from=build`.
    """
    last = file.last
    if last.parent is None or not last.name or ("prod" not in last.name and "run" not in last.name):
        return
    if any(one.flags.get("from") for one in last.all_of("COPY")):
        return
    if list(last.all_of("RUN")) and not _BUILDS.search(last.parent.name):
        return  # it adds what it runs to a base of its own
    yield Found(
        span=last.start.span,
        message=f"The stage {last.name} holds all of {last.parent.name}, and is no smaller than it.",
        remedy=f"Start it from a runtime image and take what is needed: `COPY --from={last.parent.name} PATH PATH`.",
    )


@rule("dockerfile/unknown-stage", "error", hadolint=("DL3022", "DL3023"))
def unknown_stage(file: Dockerfile) -> Iterator[Found]:
    """`COPY --from` names a stage that is not there.

    BuildKit then looks for an image of that name in a registry: the build fails, or takes files of somebody else's
    image that happens to be called so. A name that nobody would give a stage is taken for a context of
    `--build-context`.
    """
    for index, stage in enumerate(file.stages):
        if stage.outside:
            continue  # whose stages are in another file
        known = {other.name for other in file.stages[:index] if other.name} | {str(n) for n in range(index)}
        for one in stage.all_of("COPY"):
            for source in one.flags.get("from", ()):
                name = one.expand(source)
                if name.lower() in known or "$" in name or any(letter in name for letter in "/:@.") or not name:
                    continue
                later = any(other.name == name.lower() for other in file.stages[index:])
                near = get_close_matches(name.lower(), [one for one in known if not one.isdigit()], cutoff=0.8)
                if not (later or near or name.isdigit() or _STAGE.search(name.lower())):
                    continue
                yield Found(
                    span=one.find(f"--from={source}"),
                    message=f"The stage {name} {'comes later' if later else 'does not exist'}.",
                    remedy=f"Name an earlier stage with `FROM IMAGE AS {name}`, or an image with its tag."
                    if not name.isdigit()
                    else "Number earlier stages from 0, or name them.",
                )
