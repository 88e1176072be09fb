"""What pipelines consist of. A run keeps the steps that it began with, whatever later releases add or leave out."""

from typing import NamedTuple

from tidewaiter.catalog.runs.records import RunKind


class Shape(NamedTuple):
    """The steps of a pipeline, in their order."""

    version: str
    """Changes with the steps."""
    steps: tuple[str, ...]


SHAPES: dict[RunKind, Shape] = {
    "clear": Shape(
        "1", ("fetch", "analyse", "resolve", "build", "inspect", "match", "decide", "sign", "push", "record")
    ),
    "sweep": Shape("1", ("advisories", "match", "redecide", "expire", "notify")),
}
