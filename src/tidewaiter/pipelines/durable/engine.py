"""DBOS, as this house uses it: the one module that knows it.

1. A run is one workflow. Its input are the run and its steps; each step is one of DBOS's, whose answer it keeps, so
   that a workflow that is resumed goes on where it was.
2. Whoever has the run (`catalog.runs.claims`) starts its workflow, or resumes it, on its own queue: DBOS takes the work
   from whoever had it before, who can keep no answer any more.
3. A workflow that came to an end, or was lost, while its run did not is followed by another one of the same run, the
   next round. Steps that the catalog knows to be done are not done again.
4. Nothing leaves this machine: no console, no telemetry, no port. What is kept is JSON, never pickled.
5. The application's version is that of this protocol, not the release's: workflows of any release go on in the next.
"""

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from dbos import error as refusals

from tidewaiter.catalog import workflows
from tidewaiter.catalog.runs.claims import Claim
from tidewaiter.core.errors import StorageError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable.carrying import AbandonedError, EngineLostError, Outcome

_LOG = logging.getLogger("tidewaiter.pipelines")
VERSION = "1"
"""Of what workflows are given and what they do with it."""
_NAME = "tidewaiter"
_WORKFLOW = "carry_out"
_POLL_SECONDS = 0.25
_ENDED = frozenset({"SUCCESS", "ERROR"})

Do = Callable[[str, int, str, dict[str, dict[str, Any]]], Outcome]
"""Run, number and name of a step, answers of those before: what came of it."""
GiveUp = Callable[[str, Exception], None]
"""The run, and why no workflow here goes on with it."""
End = Callable[[str, Outcome, dict[str, dict[str, Any]]], None]


def workflow_name(run: str, round_: int) -> str:
    """The workflow that carries out a run in that round."""
    return run if round_ == 0 else f"{run}.{round_}"


class Engine:
    """DBOS in this process, of which there can be one.

    Args:
        settings: of the home.
        worker: name of the worker, which nobody else has.
        do: does a step.
        end: says what came of a run.
        give_up: told when the engine itself cannot go on with a run, or must not.
    """

    def __init__(self, settings: Settings, worker: str, do: Do, end: End, give_up: GiveUp) -> None:
        self._do = do
        self._end = end
        self._give_up = give_up
        self._queue = f"worker {worker}"
        _quiet()
        self._connections = workflows.engine(settings)
        config = DBOSConfig(
            name=_NAME,
            system_database_engine=self._connections,
            application_version=VERSION,
            executor_id=worker,
            serializer=DBOSPortableJSONSerializer(),
            enable_otlp=False,
            use_listen_notify=False,
            log_level="ERROR",
            # Nothing of ours is scheduled or sent by it.
            scheduler_polling_interval_sec=3600.0,
            notification_listener_polling_interval_sec=_POLL_SECONDS,
        )
        try:
            DBOS(config=config)
            DBOS.listen_queues([self._queue])
            self._workflow = DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=None)(self._function())
            DBOS.launch()
            self._register()
        except Exception as error:
            self._let_go()
            if workflows.set_aside(settings, error):
                raise EngineLostError(
                    f"the state of pipelines is damaged: {workflows.explain(error)}",
                    next_step=f"It lies in {workflows.DAMAGED} beside it now. Start again: runs go on without it.",
                ) from error
            raise StorageError(
                f"the state of pipelines cannot be opened: {workflows.explain(error)}",
                next_step="Mend what the message names; without the file or schema it is made anew, and runs go on.",
            ) from error

    def _register(self) -> None:
        DBOS.register_queue(self._queue, polling_interval_sec=_POLL_SECONDS, on_conflict="always_update")

    def _function(self) -> Callable[[str, list[str]], str]:
        """The workflow as a function: to a method DBOS would hand the object that it belongs to."""

        def carry_out(run: str, names: list[str]) -> str:
            return self._carried(run, names)

        return carry_out

    def _carried(self, run: str, names: list[str]) -> str:
        """The workflow: one step after the other, until one does not come to a good end."""
        answers: dict[str, dict[str, Any]] = {}
        outcome = Outcome(state="done", answer={}, error=None)
        try:
            for number, name in enumerate(names, 1):
                outcome = DBOS.run_step({"name": name}, self._do, run, number, name, answers)
                if outcome["state"] != "done":
                    break
                answers[name] = outcome["answer"]
            DBOS.run_step({"name": "end"}, self._ended, run, outcome, answers)
        except (refusals.DBOSWorkflowConflictIDError, refusals.DBOSWorkflowCancelledError) as error:
            # Somebody else has it; waiting for what comes of it there is of no use here.
            self._give_up(run, _storage_error(error))
            raise AbandonedError(str(error)) from error
        except Exception as error:
            # Its state cannot be kept (a full disk, a damaged file): the catalog knows which steps are done.
            self._give_up(run, _storage_error(error))
            raise AbandonedError(str(error)) from error
        return outcome["state"]

    def _ended(self, run: str, outcome: Outcome, answers: dict[str, dict[str, Any]]) -> bool:
        self._end(run, outcome, answers)
        return True

    def begin(self, claim: Claim, steps: Sequence[str], told: int) -> int:
        """Start the workflow of the run, or resume it; its round.

        One that knows of more steps than the catalog, where `told` of them have ended, is not resumed: the catalog is
        of before, from a backup, and does not have what they did.

        Raises `StorageError`.
        """
        try:
            for round_ in itertools.count(claim.round):
                name = workflow_name(claim.run, round_)
                known = DBOS.get_workflow_status(name)
                if known is None:
                    with SetWorkflowID(name):
                        DBOS.start_workflow(self._workflow, claim.run, list(steps))
                    return round_
                if known.status not in _ENDED and len(DBOS.list_workflow_steps(name, load_output=False)) <= told:
                    self._register()  # whoever took this worker for dead has forgotten its queue
                    DBOS.resume_workflow(name, queue_name=self._queue)
                    return round_
        except Exception as error:
            if workflows.is_damage(error):
                raise EngineLostError(
                    f"the state of pipelines is lost: {workflows.explain(error)}",
                    next_step="Start the worker again: it is made anew, and runs go on without it.",
                ) from error
            raise _storage_error(error) from error
        raise AssertionError  # the numbers of rounds have no end

    def forget(self, runs: Sequence[tuple[str, int]]) -> None:
        """Forget the workflows of these runs, each of which had so many rounds after the first."""
        names = [workflow_name(run, round_) for run, last in runs for round_ in range(last + 1)]
        if names:
            _forgotten(lambda: DBOS.delete_workflows(names))

    def forget_worker(self, session: str) -> None:
        """Forget the queue of a worker that is no more."""
        _forgotten(lambda: DBOS.delete_queue(f"worker {session}"))

    def close(self) -> None:
        """End it; workflows that are under way here can be resumed elsewhere."""
        _forgotten(lambda: DBOS.delete_queue(self._queue))
        self._let_go()

    def _let_go(self) -> None:
        DBOS.destroy(destroy_registry=True)
        self._connections.dispose()


def _quiet() -> None:
    """Let DBOS log as everything else does here, and only what goes wrong."""
    log = logging.getLogger("dbos")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    log.propagate = True


def _forgotten(forget: Callable[[], None]) -> None:
    """Forget what is of no use any more; what stays behind harms nobody."""
    try:
        forget()
    except Exception as error:  # noqa: BLE001  # whatever keeps it from being forgotten
        _LOG.debug("%s", error)


def _storage_error(error: BaseException) -> StorageError:
    return StorageError(
        f"the state of pipelines cannot be written: {workflows.explain(error)}",
        next_step="The run waits, and is begun again.",
    )
