"""A worker: it takes runs up and carries them out, until it is stopped.

1. With a catalog that is a file there is one worker; a lock says so. On PostgreSQL there are as many as are wanted.
2. It looks what waits, claims what it has room for, and hands it to the engine.
3. Every few seconds it says that it lives, and looks who does not any more: their runs wait again. One that was taken
   for dead, and was not, throws away what it does and enters anew. Nothing that may take long is done in this thread.
4. What runs say is written together, twice a second.
5. Stopped, it ends the steps that are under way and gives their runs back. Killed, it leaves them to the others.
"""

import contextlib
import datetime as dt
import logging
import os
import re
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from tidewaiter import __version__
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import claims, pruning, steps
from tidewaiter.catalog.runs.claims import Claim, Limits
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, StorageError, TidewaiterError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.durable import presence
from tidewaiter.pipelines.durable.carrying import AbandonedError, Carrier, EngineLostError, Outcome
from tidewaiter.pipelines.durable.crew import Crew
from tidewaiter.pipelines.durable.redacting import Redactor
from tidewaiter.pipelines.durable.shapes import SHAPES
from tidewaiter.pipelines.durable.watching import Watch

_LOG = logging.getLogger("tidewaiter.pipelines")
_LOOK_SECONDS = 0.25
_FLUSH_SECONDS = 0.5
_SETTLE_SECONDS = 5.0
_PRUNE_SECONDS = 3600.0
_SCHEDULE_SECONDS = 5.0
_BEGIN_SECONDS = 60.0
"""A run whose workflow has not begun by then is given back."""
_TROUBLE_SECONDS = 10.0
"""How long a run waits that could not be carried out because the catalog or its disk refused."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def work(
    settings: Settings,
    progress: Progress,
    *,
    name: str = "",
    once: bool = False,
    stop: threading.Event | None = None,
    concurrency: int | None = None,
) -> None:
    """Work until `stop` is set, or, when it is `once`, until nothing waits.

    Args:
        settings: of the home.
        progress: told what is begun, and how it ended.
        name: of this worker; else that of the machine.
        once: whether to end when nothing is left to do.
        stop: ends it.
        concurrency: how many runs at the same time; else as the settings say.

    Raises:
        RefusedError: the catalog is a file, and another process works on it.
        StorageError: catalog or the engine's state cannot be opened.
        InputError: the name is malformed.
    """
    session = f"{_name(name)}-{secrets.token_hex(4)}"
    stop = stop or threading.Event()
    with presence.alone(settings), presence.shown(settings.home.path, session), Catalog.open(settings) as catalog:
        for tries_left in (1, 0):
            try:
                worker = Worker(settings, catalog, progress, session, concurrency or settings.pipelines.concurrency)
                try:
                    worker.run(stop, once=once)
                finally:
                    worker.close()
            except EngineLostError as error:
                if not tries_left:
                    raise
                _LOG.warning("pipelines: %s; it is made anew", error)
            else:
                return


def _name(text: str) -> str:
    name = text or os.uname().nodename[: limits.WORKER_NAME_CHARACTERS] or "worker"
    if text and (len(text) > limits.WORKER_NAME_CHARACTERS or not _NAME.fullmatch(text)):
        raise InputError(
            f"{text[:80]!a} is no name of a worker",
            next_step=f"Use at most {limits.WORKER_NAME_CHARACTERS} letters, digits, dots, dashes and underscores.",
        )
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)


class Worker:
    """Takes up runs. Made and run by one thread; the engine calls from others."""

    def __init__(
        self, settings: Settings, catalog: Catalog, progress: Progress, session: str, concurrency: int
    ) -> None:
        self._crew = Crew(concurrency)
        with catalog.database.reading() as connection:
            if claims.is_anything_open(connection):
                self._crew.warm()
        from tidewaiter.pipelines.durable.engine import Engine  # loads the engine's library

        self._settings = settings
        self._catalog = catalog
        self._progress = progress
        self.session = session
        self._concurrency = concurrency
        self._entered = 0
        table = settings.pipelines
        self._limits = Limits(table.limit, table.team_limit, table.teams)
        self._redact = Redactor(settings)
        self._guard = threading.Lock()
        self._carriers: dict[str, Carrier] = {}
        self._wake = threading.Event()
        self._watch = Watch(settings.home.path)
        self._due = dict.fromkeys(("beat", "flush", "settle", "prune", "schedules"), 0.0)
        self._said = ""
        self._name = session
        self._scheduler = threading.Thread()
        with contextlib.ExitStack() as opened:
            opened.callback(self._crew.close)
            self._engine = Engine(settings, session, self._do, self._end, self._give_up)
            opened.callback(self._engine.close)
            self._enter()
            opened.pop_all()

    # What the engine calls

    def _carrier(self, run: str) -> Carrier:
        with self._guard:
            carrier = self._carriers.get(run)
        if carrier is None:
            raise AbandonedError(f"{run} is not this worker's")
        return carrier

    def _do(self, run: str, number: int, name: str, answers: dict[str, dict[str, Any]]) -> Outcome:
        carrier = self._carrier(run)
        try:
            return carrier.do(number, name, answers)
        except AbandonedError:
            self._over(carrier)
            raise

    def _end(self, run: str, outcome: Outcome, answers: dict[str, dict[str, Any]]) -> None:
        carrier = self._carrier(run)
        try:
            carrier.end(outcome, answers)
            self._progress.note(f"{run}: {outcome['state']}{_why(outcome)}")
        finally:
            self._over(carrier)

    def _give_up(self, run: str, error: Exception) -> None:
        """The engine does not go on with the run, whether its catalog does or not."""
        with self._guard:
            carrier = self._carriers.get(run)
        if carrier is not None:
            carrier.abandon(error)
            self._wake.set()

    def _over(self, carrier: Carrier) -> None:
        """Nothing more is done here for the run; when the catalog could not be written, it is given back later."""
        if carrier.trouble is None:
            with self._guard:
                if self._carriers.get(carrier.claim.run) is carrier:
                    del self._carriers[carrier.claim.run]
        self._wake.set()

    # The loop

    def run(self, stop: threading.Event, *, once: bool) -> None:
        """Work until `stop` is set, or nothing is left to do `once`."""
        while not stop.is_set():
            try:
                claimed = self._turn()
                self._said = ""
                if once and not claimed and not self._carriers and self._nothing_waits():
                    return
            except EngineLostError:
                raise
            except StorageError as error:
                if str(error) != self._said:
                    _LOG.warning("pipelines: %s", error)
                self._said = str(error)
                claimed = False
                stop.wait(1.0)
            if not claimed:
                self._wake.wait(_LOOK_SECONDS)
                self._wake.clear()

    def _nothing_waits(self) -> bool:
        with self._catalog.database.reading() as connection:
            return not claims.waiting(connection)

    def _turn(self) -> bool:
        """Do what is due; whether a run was claimed."""
        if self._is_due("beat", limits.WORKER_BEAT_SECONDS):
            self._beat()
        self._cancel()
        if self._is_due("flush", _FLUSH_SECONDS):
            self._flush()
        if self._is_due("settle", _SETTLE_SECONDS):
            self._settle()
        if self._is_due("schedules", _SCHEDULE_SECONDS):
            self._begin_schedules()
        if self._is_due("prune", _PRUNE_SECONDS):
            self._prune()
        return len(self._carriers) < self._concurrency and self._claim()

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + seconds
        return True

    def _enter(self) -> None:
        with self._catalog.database.writing() as connection:
            at = clock.now()
            if isinstance(self._settings.catalog, Path):
                # The lock is held: whoever else is said to work is no more.
                for other in claims.beats(connection):
                    claims.dismiss(connection, other, at=at)
            claims.enter(connection, self._name, concurrency=self._concurrency, version=__version__, at=at)

    def _beat(self) -> None:
        with self._catalog.database.writing() as connection:
            at = clock.now()
            alive = claims.beat(connection, self._name, at)
            found = claims.beats(connection) if alive else {}
            strays = claims.recover(connection, at=at) if alive else ()
        if not alive:
            self._reenter()
            return
        for run in strays:
            self._progress.note(f"{run}: nobody had it; it waits again")
        for name, beats in self._watch.gone(found, self._name):
            self._dismiss(name, beats)

    def _dismiss(self, name: str, beats: int | None) -> None:
        with self._catalog.database.writing() as connection:
            runs = claims.dismiss(connection, name, at=clock.now(), beats=beats)
        if runs is None:
            return
        self._progress.note(f"worker {name} fell silent; {', '.join(runs) or 'no run'} goes on elsewhere")
        self._engine.forget_worker(presence.session_of(name))

    def _reenter(self) -> None:
        """Others took this worker for dead: what it does is theirs now."""
        _LOG.warning("pipelines: %s was taken for dead; its runs went to others", self._name)
        for carrier in self._all():
            carrier.interrupt("lost")
        self._entered += 1
        self._name = f"{self.session}.{self._entered}"
        self._due["beat"] = 0.0  # when this fails, it is what has to be done first
        self._enter()

    def _all(self) -> tuple[Carrier, ...]:
        with self._guard:
            return tuple(self._carriers.values())

    def _cancel(self) -> None:
        carriers = self._all()
        if not carriers:
            return
        with self._catalog.database.reading() as connection:
            rows = claims.cancelled(connection, self._name)
        for carrier in carriers:
            if carrier.claim.row in rows:
                carrier.interrupt("cancel")

    def _flush(self) -> None:
        for carrier in self._all():
            try:
                carrier.flush()
            except claims.LostClaimError:
                carrier.interrupt("lost")

    def _settle(self) -> None:
        """Give back what the catalog could not be told of, now that it can, and what it says is here but is not."""
        for carrier in self._all():
            if carrier.has_not_begun_after(_BEGIN_SECONDS):
                carrier.abandon(StorageError("the engine does not begin it", next_step="It is begun again."))
            if carrier.trouble is None:
                continue
            self._give_back(carrier.claim, lost=not isinstance(carrier.trouble, StorageError))
            with self._guard:
                self._carriers.pop(carrier.claim.run, None)
        with self._catalog.database.reading() as connection:
            held = claims.held(connection, self._name)
        with self._guard:
            mine = {(one.claim.row, one.claim.attempt) for one in self._carriers.values()}
        for claim in held:
            if (claim.row, claim.attempt) not in mine:  # the answer to its claim was lost
                self._give_back(claim)

    def _give_back(self, claim: Claim, *, lost: bool = False) -> None:
        wait = dt.timedelta(seconds=_TROUBLE_SECONDS)
        with contextlib.suppress(claims.LostClaimError), self._catalog.database.writing() as connection:
            claims.give_back(connection, claim, at=clock.now(), wait=wait, lost=lost)

    def _claim(self) -> bool:
        with self._catalog.database.reading() as connection:
            if claims.claimable(connection, self._limits, clock.now()) is None:
                return False
        try:
            with self._catalog.database.writing() as connection:
                claim = claims.claim(connection, self._name, self._limits, at=clock.now())
                if claim is not None and claim.run in self._carriers:
                    # It was lost, and came back before what it did here has ended.
                    claims.give_back(connection, claim, at=clock.now(), wait=dt.timedelta(seconds=1))
                    claim = None
        except claims.LostClaimError:
            self._reenter()
            return False
        if claim is None:
            return False
        self._begin(claim)
        return True

    def _begin(self, claim: Claim) -> None:
        shape = SHAPES[claim.asked.kind]
        carrier = Carrier(self._settings, self._catalog, claim, self._crew, self._redact)
        with self._guard:
            self._carriers[claim.run] = carrier
        again = "" if claim.attempt == 1 else f" (taken up {claim.attempt} times)"
        self._progress.note(f"{claim.run}: {claim.asked.kind} {claim.asked.subject}{again}")
        try:
            with self._catalog.database.reading() as connection:
                told = steps.told(connection, claim)
            round_ = self._engine.begin(claim, shape.steps, told)
            with self._catalog.database.writing() as connection:
                claims.begin(connection, claim, round_=round_, shape=claim.shape or shape.version)
        except StorageError as error:
            carrier.trouble = error
            raise
        except claims.LostClaimError:
            carrier.interrupt("lost")

    def _begin_schedules(self) -> None:
        """Look for them in a thread of their own: it may take as long as hosts of sources do."""
        if not self._scheduler.is_alive():
            self._scheduler = threading.Thread(target=self._schedule, name="schedules", daemon=True)
            self._scheduler.start()

    def _schedule(self) -> None:
        from tidewaiter.pipelines.triggers import scheduling

        try:
            for run in scheduling.due(self._settings, self._catalog, clock.now()):
                self._progress.note(f"{run.id}: as scheduled")
        except TidewaiterError as error:
            _LOG.warning("schedules: %s", error)

    def _prune(self) -> None:
        days = self._settings.pipelines.days
        if not days:
            return
        at = clock.now()
        with self._catalog.database.writing() as connection:
            gone = pruning.prune(connection, at - dt.timedelta(days=days), at=at)
        if gone:
            self._engine.forget(gone)
            self._due["prune"] = 0.0  # the others after whatever else is due

    def close(self) -> None:
        """End what is under way, and let others have it."""
        for carrier in self._all():
            carrier.interrupt("stop")
        deadline = time.monotonic() + 2 * limits.STEP_STOP_SECONDS
        while self._all() and time.monotonic() < deadline:
            self._wake.wait(_LOOK_SECONDS)
            self._wake.clear()
        self._crew.close()
        self._engine.close()
        with contextlib.suppress(StorageError), self._catalog.database.writing() as connection:
            claims.dismiss(connection, self._name, at=clock.now())


def _why(outcome: Outcome) -> str:
    error = outcome["error"]
    return f": {error['message']}" if error is not None else ""
