"""Asking for runs: what commands, the API, pages and triggers call. Workers find what was asked for in the catalog."""

import msgspec

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import asking, reading
from tidewaiter.catalog.runs.records import ENDED, Asked, Run, Trigger
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, RefusedError
from tidewaiter.core.settings import Settings


def submit(settings: Settings, catalog: Catalog, asked: Asked, *, key: str = "") -> Run:
    """The run that was asked for, which waits for a worker; with a `key` that was used before, that one of then.

    Raises:
        InputError: it says nothing, or too much, to work on.
        StorageError: the catalog cannot be written.
    """
    del settings  # who may ask, and for what, is looked at by whoever takes the question
    _require_whole(asked)
    with catalog.database.writing() as connection:
        return asking.ask(connection, asked, at=clock.now(), by=asked.trigger.by, key=key)


def _require_whole(asked: Asked) -> None:
    if asked.kind == "sweep":
        if asked.source is not None or asked.path or asked.push:
            raise InputError("a sweep is about everything", next_step="Ask for it without a source.")
        return
    if (asked.source is None) == (not asked.path):
        raise InputError(
            "a run of `clear` needs a source, or a folder of this machine",
            next_step="Name one of them: a folder, or ADDRESS@COMMIT.",
        )
    if asked.path and asked.trigger.kind not in {"command", "retry"}:
        raise InputError(
            "a folder of a machine can be named on that machine only",
            next_step="Name the repository and the commit.",
        )


def cancel(settings: Settings, catalog: Catalog, run_id: str, *, by: str) -> Run:
    """The run, which ends within moments when it runs, and has ended when it waited.

    Raises:
        NotFoundError: there is no such run.
        RefusedError: it has ended already.
    """
    del settings
    with catalog.database.writing() as connection:
        return asking.cancel(connection, run_id, at=clock.now(), by=by)


def retry(settings: Settings, catalog: Catalog, run_id: str, *, by: str) -> Run:
    """A new run of what an ended one was asked to do; what that one made is not made twice.

    Raises:
        NotFoundError: there is no such run.
        RefusedError: it has not ended.
    """
    del settings
    with catalog.database.writing() as connection:
        found = reading.run(connection, run_id)
        if found.state not in ENDED:
            raise RefusedError(
                f"{run_id} has not ended: it is {found.state}",
                next_step=f"Wait for it, or `tidewaiter pipeline cancel {run_id}`.",
                code="run_not_ended",
            )
        trigger = Trigger(
            kind="retry",
            by=by,
            delivery=run_id,
            author=found.asked.trigger.author,
            url=found.asked.trigger.url,
        )
        again = msgspec.structs.replace(found.asked, trigger=trigger)
        return asking.ask(connection, again, at=clock.now(), by=by)
