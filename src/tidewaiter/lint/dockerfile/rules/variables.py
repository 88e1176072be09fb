"""ENV, ARG and names of stages: what they mean where they are used."""

import re
from collections.abc import Iterator

from tidewaiter.lint.dockerfile.parse import Dockerfile
from tidewaiter.lint.finding import Found
from tidewaiter.lint.rule import rule


@rule("dockerfile/env-own-variable", "error", hadolint=("DL3044",))
def env_own_variable(file: Dockerfile) -> Iterator[Found]:
    """ENV uses a variable that the same instruction sets.

    All values of one ENV are filled in before any of them is set: `ENV A=/opt B=$A/bin` takes the A from before, and
    when there is none, B is `/bin`.
    """
    for stage in file.stages:
        for one in stage.all_of("ENV"):
            keys: list[str] = []
            for key, value in zip(one.args[::3], one.args[1::3], strict=False):
                used = next(
                    (other for other in keys if _uses(value, other) and not _known(one.expand(f"${other}"))), ""
                )
                if used and used != key:
                    yield Found(
                        span=one.find(value),
                        message=f"{key} does not see the {used} of the same ENV.",
                        remedy=f"Set {used} in an ENV of its own above.",
                    )
                keys.append(key)


def _uses(value: str, name: str) -> bool:
    if name not in value or value.startswith("'"):
        return False
    return re.search(rf"(?<!\\)\$(?:{re.escape(name)}(?!\w)|\{{{re.escape(name)}\W)", value) is not None


def _known(expanded: str) -> bool:
    """Whether an earlier instruction gave it a value, so that somebody may mean that one."""
    return not expanded.startswith("$")


@rule("dockerfile/stage-twice", "error", hadolint=("DL3024",))
def stage_twice(file: Dockerfile) -> Iterator[Found]:
    """Two stages have the same name.

    `COPY --from` and `--target` then mean one of them, and readers guess which.
    """
    seen: dict[str, int] = {}
    for stage in file.stages:
        if stage.name and stage.name in seen:
            yield Found(
                span=stage.start.span,
                message=f"The stage of line {seen[stage.name]} is called {stage.name}, too.",
                remedy="Give each stage a name of its own.",
            )
        seen.setdefault(stage.name, stage.start.lines[0])
