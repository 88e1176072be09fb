"""The steps of `sweep`: what time and the world change about images that are there already.

1. New advisories are fetched. What is out of reach keeps nothing of the rest from being done, and is said at the end:
   a sweep without them is not done.
2. What they touch is matched, and 3. decided anew.
4. Verdicts that end soon are renewed, by looking again, or fall; waivers that end soon are told.
5. All of it becomes a part of the audit log, from which webhooks and notices are sent.
"""

import datetime as dt
from functools import cached_property
from typing import Any

from tidewaiter.advisories.database import Database
from tidewaiter.catalog import expiring
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import NetworkError, TidewaiterError, UndeterminedError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines import checking, redeciding, refreshing, rematching
from tidewaiter.pipelines.durable.frames import Request
from tidewaiter.pipelines.durable.opened_run import OpenedRun
from tidewaiter.pipelines.workshop import Workshop, opened
from tidewaiter.policy.verdict import check_environment

_SOON = dt.timedelta(seconds=limits.VERDICT_SECONDS / 2)


class SweepRun(OpenedRun):
    """A run of `sweep` in this process."""

    def __init__(self, settings: Settings, request: Request, progress: Progress) -> None:
        steps = {
            "advisories": self._advisories,
            "match": self._match,
            "redecide": self._redecide,
            "expire": self._expire,
            "notify": self._notify,
        }
        super().__init__(settings, request, progress, steps)

    @cached_property
    def _workshop(self) -> Workshop:
        return self._fenced(self._stack.enter_context(opened(self._settings, self._progress)))

    def _advisories(self) -> dict[str, Any]:
        try:
            found = refreshing.update(self._workshop)
        except NetworkError as error:
            self._progress.note(f"{error.message}; the sweep goes on with what is known")
            self._answers["advisories"] = {"unreachable": error.message}
            return self._answers["advisories"]
        return {
            "feeds": len(found.imported) + len(found.exploited),
            "findings_added": found.matched.added,
            "findings_removed": found.matched.removed,
            "verdicts": found.redecided.verdicts,
            "denied": found.redecided.denied,
        }

    def _match(self) -> dict[str, Any]:
        with Database(self._settings.home.advisories) as database:
            found = rematching.rematch(self._workshop.catalog, database, self._progress)
        return {"versions": found.versions, "changes": len(found.changes), "images": found.images}

    def _redecide(self) -> dict[str, Any]:
        with Database(self._settings.home.advisories) as database:
            found = redeciding.redecide(self._workshop, database)
        return {"verdicts": found.verdicts, "denied": found.denied, "allowed": found.allowed}

    def _expire(self) -> dict[str, Any]:
        catalog = self._workshop.catalog
        with catalog.database.writing() as connection:
            waivers = expiring.announce_waivers(connection, clock.now())
        with catalog.database.reading() as connection:
            soon = expiring.tags(connection, clock.now() + _SOON)
        renewed = denied = undecided = 0
        with self._progress.task("Looking again at what is cleared", total=len(soon)) as task:
            for one in soon:
                name = f"{one.repository}:{one.tag}"
                task.describe(name)
                try:
                    answer = checking.check(
                        self._workshop, name, check_environment(one.environment), clear=False
                    ).verdict
                except TidewaiterError as error:
                    undecided += 1
                    self._progress.note(f"{name} could not be looked at: {error.message}")
                else:
                    renewed += answer.allowed
                    denied += not answer.allowed
                    if not answer.allowed:
                        self._progress.note(f"{name} is no longer cleared for {one.environment}")
                task.advance()
        return {"waivers": waivers, "renewed": renewed, "denied": denied, "undecided": undecided}

    def _notify(self) -> dict[str, Any]:
        self._workshop.settle()
        unreachable = self._answers.get("advisories", {}).get("unreachable")
        if unreachable:
            raise UndeterminedError(
                f"all was judged anew, but by advisories of before: {unreachable}",
                next_step="Let this machine reach their source, or bring them by `tidewaiter advisories import`.",
                code="advisories_unreachable",
            )
        return {}
