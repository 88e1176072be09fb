"""`advise`: which image fits a task."""

from typing import Annotated, Literal

import msgspec

from tidewaiter.assembly import recipe
from tidewaiter.cli.console import emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.frameworks import advising
from tidewaiter.frameworks.advising import Advice, Question


def advise(
    *words: str,
    task: Literal["training", "debugging", "notebook", "serving"] | None = None,
    tensorflow: str = "",
    gpu: str | None = None,
    driver: str = "",
    python: str = "",
    cuda: str = "",
    output: Annotated[Literal["text", "json"], Parameter(name="--format")] = "text",
) -> int:
    """Say which image of TensorFlow fits a task, why, and what to write; or what a tag is good for.

    Answered from the tables that tidewaiter ships, without a network. Exits with 1 when it cannot work, and names the
    nearest that can.

    Args:
        words: what is wanted, in words: `GPU training, TF 2.15, driver 525`; or a tag.
        task: training, debugging, notebook or serving.
        tensorflow: version, for example 2.15 or 2.15.1.
        gpu: `yes`, `no`, or the GPU's model, for example T4.
        driver: Linux driver of the machine, for example 525 or 535.104.05.
        python: minor version, for example 3.11.
        cuda: version that must be used, for example 12.2.
        output: text or json.
    """
    said = advising.read(" ".join(words))
    given = {
        name: value
        for name, value in (("tensorflow", tensorflow), ("driver", driver), ("python", python), ("cuda", cuda))
        if value
    }
    if driver or cuda:
        said = msgspec.structs.replace(said, gpu=True)
    if gpu is not None:
        model = "" if gpu.lower() in {"yes", "no"} else gpu
        said = msgspec.structs.replace(said, gpu=gpu.lower() != "no", model=model)
    wanted: Question = msgspec.structs.replace(said, task=task or said.task, **given)
    found = advising.advise(wanted, _recipes())
    if output == "json":
        emit_json(found)
    else:
        _print(found)
    return 0 if found.possible else 1


def _recipes() -> dict[str, str]:
    """Shipped bases for production by the minor version of their Python."""
    found = (recipe.load(name) for name in recipe.names())
    return {one.python: one.name for one in found if one.python and one.production}


def _print(found: Advice) -> None:
    if found.possible:
        emit(found.image or "wheels on a plain base")
        emit("may go to production, named by digest" if found.production else "not for production")
    else:
        emit("That does not work.")
    for one in found.why:
        emit(f"- {one}")
    if found.nearest:
        emit(f"The nearest that works: {found.nearest}")
    for name, text in found.lines.items():
        emit()
        emit(f"{name}:")
        for line in text.split("\n"):
            emit(f"    {line}".rstrip())
