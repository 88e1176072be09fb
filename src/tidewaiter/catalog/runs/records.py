"""A run of a pipeline as the catalog keeps it: what was asked for, its steps, and what came of it."""

import datetime as dt
from typing import Any, Literal, get_args

import msgspec

RunKind = Literal["clear", "sweep"]
RunState = Literal["queued", "running", "done", "denied", "failed", "cancelled", "poisoned"]
StepState = Literal["running", "waiting", "done", "denied", "failed", "cancelled"]
"""`waiting`: it failed, and is tried again."""
TriggerKind = Literal["command", "api", "webhook", "schedule", "retry"]

KINDS: tuple[RunKind, ...] = get_args(RunKind)
STATES: tuple[RunState, ...] = get_args(RunState)
ENDED: tuple[RunState, ...] = ("done", "denied", "failed", "cancelled", "poisoned")
"""States that no run leaves."""
AT_ONCE = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""Since when a run may be taken up that does not have to wait: no clock of whoever asks counts."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The commit that a run builds."""

    repository: str
    """Address without user and password."""
    commit: str
    """Full hash."""
    ref: str = ""
    """As `refs/heads/main`; empty when nothing says so."""
    folder: str = "."
    """Where the project lies in it."""
    submodules: bool = False
    lfs: bool = False


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """Who or what asked."""

    kind: TriggerKind
    by: str = ""
    """User, token, sender of a webhook."""
    delivery: str = ""
    """Of a webhook: which of them; of a retry: the run that is tried again."""
    author: str = ""
    """Of the commit."""
    url: str = ""
    """Page of the commit or the job."""

    @property
    def told(self) -> str:
        """In words: `command anna`, `webhook example`."""
        return self.by if self.by.startswith(f"{self.kind} ") else f"{self.kind} {self.by}".rstrip()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is to do."""

    kind: RunKind
    source: Source | None = None
    """None: a sweep, or the folder at `path`."""
    team: str = "default"
    push: str = ""
    """`HOST/REPO` that the image goes to; empty: it stays in the store."""
    trigger: Trigger
    path: str = ""
    """A folder of the machine that asked, in place of a source: for commands only."""

    @property
    def subject(self) -> str:
        """What it is about, in one line."""
        if self.source is not None:
            return f"{self.source.repository}@{self.source.commit}"
        return self.path


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a run that has begun at least once."""

    number: int
    """From 1."""
    name: str
    state: StepState
    attempts: int
    """How often it was begun."""
    started_at: dt.datetime | None
    """Its first attempt."""
    ended_at: dt.datetime | None
    answer: dict[str, Any]
    error: dict[str, Any] | None
    """`code`, `message` and `next` of its last attempt that failed."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a step is."""

    title: str
    done: int
    total: int | None
    unit: Literal["items", "bytes"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a pipeline."""

    id: str
    """`run-` and 26 characters, which sort by when it was asked for."""
    kind: RunKind
    state: RunState
    asked: Asked
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    attempts: int
    """How often a worker took it up."""
    worker: str
    """Who works on it, or did last; empty before the first."""
    steps: tuple[Step, ...]
    result: dict[str, Any]
    error: dict[str, Any] | None
    """`code`, `message` and `next`."""
    application_version: str
    """Shape of the pipeline that it began with; empty before."""
    cancelling: bool = False
    """Somebody asked to cancel it, and it has not ended yet."""
    progress: Progress | None = None
    """Of the step that runs, where it says how far it is."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a run's log."""

    number: int
    """From 1, in the order in which they were said; lines that were dropped leave a gap."""
    at: dt.datetime
    step: str
    text: str
