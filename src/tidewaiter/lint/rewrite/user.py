"""A container that does not run as root."""

import re

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction
from tidewaiter.lint.finding import Edit
from tidewaiter.lint.rewrite.bases import runs_as_root
from tidewaiter.lint.rewrite.installing import ROOTS_CACHE
from tidewaiter.lint.rewrite.step import Around, Step, before, insertion, left

USER = "65532:65532"
_HOME = re.compile(r"/root\b|~/|\$HOME\b|\$\{HOME\}")


def numeric_user(file: Dockerfile, _around: Around) -> Step:
    """`USER 65532:65532` in front of what the container starts, and files of the context owned by it."""
    last = file.last
    if last.inherited("USER"):
        return Step()
    starts = list(last.all_of("CMD", "ENTRYPOINT"))
    if not starts:
        return left("USER is not set: the stage starts nothing, so others may build on it, as root")
    why = _needs_root(file, starts[0])
    if why:
        return left(f"USER is not set: {why}")
    edits = [before(file.text, starts[0], f"USER {USER}\n"), *_owned(file, list(last.all_of("COPY", "ADD")))]
    return Step(
        tuple(edits), (f"the container runs as {USER}, who owns the files that are copied and can write nowhere else",)
    )


def _needs_root(file: Dockerfile, start: Instruction) -> str:
    """Why root is needed, or may be; empty when it is not."""
    last = file.last
    if not runs_as_root(last.image):
        return f"nobody here knows what {last.image} needs its user for"
    if last.later:
        return f"ONBUILD in line {last.later[0].lines[0]} acts in other images as this one's user"
    for port in (one.expand(port) for one in last.inherited("EXPOSE") for port in one.args):
        number = port.partition("/")[0]
        if not number.isdecimal() or int(number) < 1024:
            return f"port {port} may need root"
    for one in last.inherited("CMD", "ENTRYPOINT", "WORKDIR", "ENV", "RUN", "COPY", "VOLUME"):
        said = " ".join([*one.args, *one.heredocs])
        if _HOME.search(said) and not (one.name == "RUN" and ROOTS_CACHE in said):
            return f"line {one.lines[0]} uses root's home folder"
    if any(one.name in {"RUN", "COPY", "ADD", "WORKDIR"} and one.lines > start.lines for one in last.instructions):
        return "steps that may need root come behind CMD or ENTRYPOINT"
    return ""


def _owned(file: Dockerfile, copies: list[Instruction]) -> list[Edit]:
    return [
        insertion(file.text, file.text.offset(one.lines[0], one.span.column + len(one.name)), f" --chown={USER}")
        for one in copies
        if not one.flags.get("chown") and not one.flags.get("from")
    ]
