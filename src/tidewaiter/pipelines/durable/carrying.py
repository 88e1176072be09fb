"""What a worker does for a run that it has: step by step, with everything said of it in the catalog.

1. A step that the catalog knows to be done is not done again.
2. It is done by a process of its own, which is asked for one step after the other. What may go better later (a host
   that is out of reach, a lock, a full disk) is tried again, longer apart each time.
3. A process that dies is replaced, and the step begun again; after `pipeline_poison` deaths the run is poisoned.
4. A denial is an answer, and an end of its own: it is neither tried again nor a failure. Could not find out is a
   failure, never done.
5. Whatever is written names the claim. Whoever lost the run writes nothing, and is thrown out (`AbandonedError`).
"""

import contextlib
import datetime as dt
import logging
import threading
import time
from typing import Any, Literal, TypedDict

import msgspec

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import claims, ending, steps
from tidewaiter.catalog.runs.claims import Claim, LostClaimError
from tidewaiter.catalog.runs.records import Progress, RunState, StepState
from tidewaiter.catalog.runs.steps import Said
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import StorageError, UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable import workplaces
from tidewaiter.pipelines.durable.crew import Crew
from tidewaiter.pipelines.durable.frames import Failure, Frame, Held, Request
from tidewaiter.pipelines.durable.redacting import Redactor
from tidewaiter.pipelines.durable.step_process import DiedError, InterruptedStepError, LateError, StepProcess

_LOG = logging.getLogger("tidewaiter.pipelines")
_RESULT = ("reference", "name", "digest", "verdict", "environment", "pushed", "commit")
"""What of the answers of steps is the result of the run; later steps count more."""
_LINES_AT_ONCE = 500


class AbandonedError(BaseException):
    """This worker does nothing more for the run, and says nothing of it: another one goes on.

    It is no `Exception`, so that the engine keeps no answer and the run can be resumed.
    """


class EngineLostError(StorageError):
    """What the engine kept is damaged, or gone, under it: it is to be opened anew."""


class Outcome(TypedDict):
    """What came of a step; the engine keeps it."""

    state: RunState
    answer: dict[str, Any]
    error: dict[str, Any] | None


Why = Literal["", "cancel", "lost", "stop"]


class Carrier:
    """Carries out one run."""

    def __init__(self, settings: Settings, catalog: Catalog, claim: Claim, crew: Crew, redact: Redactor) -> None:
        self.claim = claim
        self._settings = settings
        self._catalog = catalog
        self._crew = crew
        self._redact = redact
        self._process: StepProcess | None = None
        self._interrupted = threading.Event()
        self._why: Why = ""
        self._guard = threading.Lock()
        self._lines: list[Said] = []
        self._progress: Progress | None = None
        self._shown: Progress | None = None
        self._writing = threading.Lock()
        self._full = False
        self._waits_since = time.monotonic()
        self._begun = False
        self.trouble: Exception | None = None
        """Why the run was abandoned, when it was not lost: the catalog could not be written, mostly."""

    def interrupt(self, why: Why) -> None:
        """End the step that is under way: the run is to be cancelled, was lost, or the worker stops."""
        with self._guard:
            self._why = self._why or why
        self._interrupted.set()

    def has_not_begun_after(self, seconds: float) -> bool:
        """Whether so much time has gone by since it was made, and nothing was asked of it."""
        return not self._begun and time.monotonic() - self._waits_since > seconds

    def abandon(self, error: Exception) -> None:
        """Nobody goes on with the run here: it is to be given back. A step that is under way ends."""
        if self.trouble is None:
            _LOG.warning("%s: %s", self.claim.run, error)
            self.trouble = error
        self.interrupt("lost")

    # The steps

    def do(self, number: int, name: str, answers: dict[str, dict[str, Any]]) -> Outcome:
        """Do a step; what came of it. Raises `AbandonedError`."""
        self._begun = True
        try:
            return self._done(number, name, answers)
        except Exception as error:  # whatever it is, the run is not to be held without being carried out
            raise self._abandoned(error) from error

    def end(self, outcome: Outcome, answers: dict[str, dict[str, Any]]) -> None:
        """Say what came of the run. Raises `AbandonedError`."""
        self._begun = True
        result = {key: value for answer in answers.values() for key, value in answer.items() if key in _RESULT}
        try:
            self.flush()
            with self._catalog.database.writing() as connection:
                claims.end(
                    connection, self.claim, outcome["state"], at=clock.now(), result=result, error=outcome["error"]
                )
        except Exception as error:  # as above
            raise self._abandoned(error) from error
        self.close()
        workplaces.clean(self._settings, self.claim.run)

    def close(self) -> None:
        """Let go its process."""
        process, self._process = self._process, None
        if process is not None:
            self._crew.back(process)

    def _abandoned(self, error: Exception) -> AbandonedError:
        if not isinstance(error, LostClaimError):
            self.abandon(error)
        self.close()
        return AbandonedError(str(error))

    def _done(self, number: int, name: str, answers: dict[str, dict[str, Any]]) -> Outcome:
        failures = 0
        while not self._is_cancelled():
            with self._catalog.database.writing() as connection:
                begun = steps.begin(connection, self.claim, number, name, at=clock.now())
            if begun.answer is not None:  # 1.
                return Outcome(state="done", answer=begun.answer, error=None)
            found = self._attempted(number, name, answers)
            if isinstance(found, Failure):
                failures += 1
                found = self._weighed(number, name, failures, found)
            if found is not None:
                return found
        return Outcome(state="cancelled", answer={}, error=None)

    def _attempted(self, number: int, name: str, answers: dict[str, dict[str, Any]]) -> Outcome | Failure | None:
        """What came of one attempt; None when the step is to be begun again."""
        held = Held(row=self.claim.row, worker=self.claim.worker, attempt=self.claim.attempt)
        request = Request(run=self.claim.run, step=name, asked=self.claim.asked, held=held, answers=answers)
        try:
            found = self._performed(request)
        except InterruptedStepError:
            self._process = None
            return None
        except LateError as error:
            self._process = None
            told = ending.why(code=error.code, message=error.message, next_step=error.next_step)
            return self._said(number, "failed", told, state="failed")
        except DiedError as error:  # 3.
            self._process = None
            deaths = self._died(number, error)
            return self._poisoned(number, name, deaths, error) if deaths >= self._settings.pipelines.poison else None
        if isinstance(found, Failure):
            return found
        return self._said(number, "done", None, state="done", answer=found)

    def _weighed(self, number: int, name: str, failures: int, found: Failure) -> Outcome | None:
        """What a failure means; None when the step is to be begun again, after a wait."""
        if found.refused:  # 4.
            return self._said(number, "denied", self._told(found), state="denied")
        if not found.again or failures >= limits.STEP_TRIES:
            return self._said(number, "failed", self._told(found), state="failed")
        self._wait(number, name, failures, found)  # 2.
        return None

    def _performed(self, request: Request) -> dict[str, Any] | Failure:
        if self._process is None:
            self._process = self._crew.take()
        seconds = float(self._settings.pipelines.step_seconds)
        return self._process.perform(
            request,
            heard=lambda frame: self._heard(request.step, frame),
            seconds=seconds,
            interrupted=self._interrupted,
        )

    def _is_cancelled(self) -> bool:
        """Whether the run is to end here. Raises `AbandonedError` when this worker is not to go on with it."""
        if not self._interrupted.is_set() or self._why == "cancel":
            return self._interrupted.is_set()
        if self._why == "stop":
            self._given_back()
        self.close()
        raise AbandonedError(f"{self.claim.run}: {self._why}")

    def _given_back(self) -> None:
        """Let another worker have the run at once; one that cannot be told finds out by itself."""
        with contextlib.suppress(UndeterminedError):
            self.flush()
            with self._catalog.database.writing() as connection:
                claims.give_back(connection, self.claim, at=clock.now())

    def _said(
        self,
        number: int,
        step: StepState,
        error: dict[str, Any] | None,
        *,
        state: RunState,
        answer: dict[str, Any] | None = None,
    ) -> Outcome:
        self._progress = None
        self.flush()
        with self._catalog.database.writing() as connection:
            steps.end(connection, self.claim, number, step, at=clock.now(), answer=answer, error=error)
        return Outcome(state=state, answer=answer or {}, error=error)

    def _told(self, failure: Failure) -> dict[str, Any]:
        message, next_step = self._redact(failure.message), self._redact(failure.next)
        return ending.why(code=failure.code, message=message, next_step=next_step)

    def _died(self, number: int, error: DiedError) -> int:
        told = ending.why(code=error.code, message=error.message, next_step=error.next_step)
        self.flush()
        with self._catalog.database.writing() as connection:
            return steps.end(connection, self.claim, number, "waiting", at=clock.now(), error=told, died=True)

    def _poisoned(self, number: int, name: str, deaths: int, error: DiedError) -> Outcome:
        told = ending.why(
            code="poison_run",
            message=f"{name} was begun {deaths} times, and each time {error.message}",
            next_step="Find out what ends it, for example by `tidewaiter ci` with the same commit; then"
            f" `tidewaiter pipeline retry {self.claim.run}`.",
        )
        return self._said(number, "failed", told, state="poisoned")

    def _wait(self, number: int, name: str, failures: int, failure: Failure) -> None:
        """Until it may go better; less long when the run is not to go on."""
        told = self._told(failure)
        seconds = min(limits.STEP_WAIT_SECONDS * 2 ** (failures - 1), limits.STEP_WAIT_MOST_SECONDS)
        self.note(name, f"{told['message']}; tried again in {seconds:.0f} s")
        self.flush()
        with self._catalog.database.writing() as connection:
            steps.end(connection, self.claim, number, "waiting", at=clock.now(), error=told)
        self._interrupted.wait(seconds)

    # What it says

    def _heard(self, step: str, frame: Frame) -> None:
        if frame.note is not None:
            self.note(step, frame.note)
        if frame.task is not None:
            with self._guard:
                self._progress = msgspec.structs.replace(frame.task, title=self._redact(frame.task.title))

    def note(self, step: str, text: str) -> None:
        """Add to the log of the run; it is written soon."""
        at: dt.datetime = clock.now()
        if self._full:
            return
        lines = [Said(at, step, line) for line in self._redact(text).splitlines() if line.strip()]
        with self._guard:
            if len(self._lines) < limits.RUN_LINES:
                self._lines += lines

    def flush(self) -> None:
        """Write what was said since the last time, and not what is said meanwhile: a step may say without an end.

        Raises `LostClaimError`, `StorageError`.
        """
        with self._writing:  # the worker does it now and then, and each step at its end: one after the other
            with self._guard:
                lines, self._lines = self._lines, []
                progress = self._progress
            while lines or progress != self._shown:
                try:
                    self._write(lines[:_LINES_AT_ONCE], progress)
                except StorageError:
                    with self._guard:
                        self._lines = lines + self._lines
                    raise
                lines = lines[_LINES_AT_ONCE:]

    def _write(self, lines: list[Said], progress: Progress | None) -> None:
        with self._catalog.database.writing() as connection:
            if lines:
                self._full = not steps.say(connection, self.claim, lines)
            if progress != self._shown:
                steps.show(connection, self.claim, progress)
        self._shown = progress
