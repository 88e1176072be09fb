"""What the runs of every pipeline have in common in the process that carries them out.

1. A step is found by its name; one of another release is bad input.
2. Later steps look up what earlier ones answered; what is open for one stays open for the next.
3. Nothing is written to the catalog for a run that its worker lost: a step that slept while another worker went on, and
   wakes up, changes nothing any more.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from tidewaiter.catalog.runs import claims
from tidewaiter.core.errors import InputError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable.frames import Request
from tidewaiter.pipelines.workshop import Workshop

Do = Callable[[], dict[str, Any]]
"""Does a step; its answer, as JSON."""


class OpenedRun:
    """A run in this process.

    Args:
        settings: of the home.
        request: the first step that is asked for, with the answers of those before.
        progress: where it reports itself.
        steps: what does each step, by its name.
    """

    def __init__(self, settings: Settings, request: Request, progress: Progress, steps: Mapping[str, Do]) -> None:
        self._settings = settings
        self._answers = dict(request.answers)
        self._progress = progress
        self._stack = ExitStack()
        self._held = request.held
        self._steps = steps

    def step(self, name: str) -> dict[str, Any]:
        """Do a step; its answer. Raises what its functions raise."""
        do = self._steps.get(name)
        if do is None:
            raise InputError(
                f"this release has no step {name!r}",
                next_step="Ask for the run anew (`tidewaiter pipeline retry`), or use the release that it began with.",
                code="unknown_step",
            )
        answer = self._answers[name] = do()
        return answer

    def close(self) -> None:
        """Let go home, catalog and connections."""
        self._stack.close()

    def _fenced(self, workshop: Workshop) -> Workshop:
        """It, in which nothing is written any more once the run is lost."""
        if self._held is not None:
            held = self._held
            workshop.catalog.database.fence = partial(claims.require_held, held.row, held.worker, held.attempt)
        return workshop
