"""What a worker and the process that carries out its steps say to one another: a JSON object a line.

The worker asks for one step at a time (`Request`), or says that a run is over (`run` alone). The process answers with
any number of notes and tasks, then with an answer or an error.
"""

from typing import Any

import msgspec

from tidewaiter.catalog.runs.records import Asked, Progress


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """By what the worker has the run: nothing is written for one that it lost."""

    row: int
    worker: str
    attempt: int


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker asks for."""

    run: str
    step: str = ""
    """Empty: the run is over, and what is held for it is let go."""
    asked: Asked | None = None
    held: Held | None = None
    answers: dict[str, dict[str, Any]] = {}
    """Of the steps before, by name."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a step did not do what it was to do."""

    code: str
    message: str
    next: str
    refused: bool = False
    """Whether the question was answered, with no."""
    again: bool = False
    """Whether it may go better a little later."""


class Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the process says; one of its fields is set."""

    note: str | None = None
    task: Progress | None = None
    answer: dict[str, Any] | None = None
    failure: Failure | None = None
    stopped: bool = False
    """The step was ended by a signal, and holds nothing any more."""


REQUEST = msgspec.json.Decoder(Request)
FRAME = msgspec.json.Decoder(Frame)
ENCODER = msgspec.json.Encoder()


def line(value: Request | Frame) -> bytes:
    """The line that says it."""
    return ENCODER.encode(value) + b"\n"
