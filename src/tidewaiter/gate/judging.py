"""Who decides what gets in, as the gate asks it; and how several who push the same thing wait for one answer.

1. A push asks; when the same manifest of the same repository is being judged already, it joins that judgement.
2. The judgement runs on whether or not somebody still waits, and records its answer.
3. Whoever waited long enough without an answer is told to come again, and then gets it, or joins once more.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

import msgspec

from tidewaiter.core import limits
from tidewaiter.gate.threads import Threads
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.policy.verdict import Violation


class Allowed(msgspec.Struct, frozen=True):
    """It may be seen."""

    environment: str


class Denied(msgspec.Struct, frozen=True):
    """The answer is no."""

    environment: str
    violations: tuple[Violation, ...]
    message: str
    """For whoever pushes: rules, evidence and remedies."""


class Undetermined(msgspec.Struct, frozen=True):
    """Nobody knows, so it stays out."""

    environment: str
    reason: str


Judgement = Allowed | Denied | Undetermined


class Judge(Protocol):
    """Decides about one manifest of the store that is an image or index: what its children need is decided with it."""

    def __call__(self, repository: str, reference: str, descriptor: Descriptor, /) -> Judgement:
        """The answer; takes as long as it takes, in a thread of its own. What it raises counts as undetermined."""


class Judgements:
    """Judgements that are under way. Safe from any thread."""

    def __init__(self) -> None:
        self._threads = Threads(limits.GATE_JUDGES, "judge")
        self._running: dict[tuple[str, Digest], Future[Judgement]] = {}
        self._lock = threading.RLock()  # a judgement may be done before its callback is added

    def ask(self, repository: str, digest: Digest, judge: Callable[[], Judgement]) -> "Future[Judgement]":
        """The answer that is to come: of `judge`, or of who asks about the same thing already."""
        key = repository, digest
        with self._lock:
            found = self._running.get(key)
            if found is None:
                found = self._running[key] = self._threads.submit(judge)
                found.add_done_callback(lambda _: self._done(key))
            return found

    def _done(self, key: tuple[str, Digest]) -> None:
        with self._lock:
            self._running.pop(key, None)

    def close(self) -> None:
        """Begin no more; what runs has a few seconds, and is judged again when a server runs."""
        self._threads.close(limits.GATE_STOP_SECONDS)
