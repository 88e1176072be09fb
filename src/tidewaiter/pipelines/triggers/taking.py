"""From a webhook that proved who sent it to runs.

1. Was it taken before? Then nothing is done, and the answer is the same.
2. Is it of this repository, of a branch, tag or merge request that makes runs, and of nobody's fork?
3. Runs are asked for, each under a key of this delivery: twice the same is one.
4. The delivery is remembered.

A server that dies between 3 and 4 asks again under the same keys when the host sends it again.
"""

import datetime as dt
import hashlib
import re
from collections.abc import Sequence

import msgspec

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import deliveries
from tidewaiter.catalog.runs.records import Trigger
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings import Settings, SourceTable
from tidewaiter.pipelines.durable import asking_runs
from tidewaiter.pipelines.sources import places
from tidewaiter.pipelines.triggers import asking_sources
from tidewaiter.pipelines.triggers.told import Ignored, Told
from tidewaiter.policy.scope import fits_name

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
BEFORE = "this delivery was taken before"


class Taken(msgspec.Struct, frozen=True):
    """What came of a webhook."""

    runs: tuple[str, ...]
    """Names of the runs that it made, now or when it came first."""
    reason: str = ""
    """Why nothing was done."""


def take(
    settings: Settings,
    catalog: Catalog,
    table: SourceTable,
    told: Told | Ignored,
    *,
    names: Sequence[str],
    now: dt.datetime,
) -> Taken:
    """What comes of what a host told of a source.

    Args:
        settings: of the server.
        catalog: in the webhook's name.
        table: the source.
        told: what it told.
        names: what this delivery is known by, at least one.
        now: the moment.

    Raises:
        InputError: it names no commit.
        StorageError: the catalog cannot be read or written: the host is to send it again.
    """
    with catalog.database.reading() as connection:
        before = deliveries.runs_of(connection, table.name, names, now)  # 1
    if before is not None:
        return Taken(before, BEFORE)
    reason = told.reason if isinstance(told, Ignored) else _reason(settings, table, told)  # 2
    if reason or isinstance(told, Ignored):
        return Taken((), reason)
    if not _COMMIT.fullmatch(told.commit):
        raise InputError("the event names no commit", next_step="See what the host's log of webhooks shows.")
    trigger = Trigger(
        kind="webhook",
        by=f"webhook {table.name}" + (f" ({told.by})" if told.by else ""),
        delivery=names[0],
        author=told.author,
        url=told.url,
    )
    wanted = asking_sources.of_commit(table, told.commit, told.ref, trigger, push=told.kind != "merge_request")
    runs = tuple(
        asking_runs.submit(settings, catalog, asked, key=_key(table, names[-1], number)).id  # 3
        for number, asked in enumerate(wanted)
    )
    with catalog.database.writing() as connection:
        deliveries.take(connection, table.name, names, now, runs=runs, event=told.kind)  # 4
    return Taken(runs)


def _key(table: SourceTable, name: str, number: int) -> str:
    return "hook:" + hashlib.sha256(f"{table.name}\0{name}\0{number}".encode()).hexdigest()


def _reason(settings: Settings, table: SourceTable, told: Told) -> str:
    """Why it makes no run; empty when it does."""
    path = places.place(settings, table.url).path.lower()
    theirs = told.project.strip("/").lower()
    # A host may stand below a path of its own, so that the address has more in front.
    if not theirs or not f"/{path}".endswith(f"/{theirs}"):
        return "it is about another repository than this source"
    # Not the one after the other: a branch may be called refs/tags/main, which is not main.
    name = told.ref.removeprefix("refs/tags/" if told.kind == "tag" else "refs/heads/")
    if told.kind == "merge_request":
        if told.foreign:
            return "it is a fork's: strangers' changes are not built with this server's credentials"
        return "" if table.merge_requests else "merge requests make no runs of this source"
    patterns = table.tags if told.kind == "tag" else table.branches
    if not any(fits_name(pattern, name) for pattern in patterns):
        return f"no pattern of this source fits {name[:100]!a}"
    return ""


def too_old(told: Told | Ignored, now: dt.datetime) -> bool:
    """Whether a body says that it was made before what is still remembered, or, being a push, says no time at all."""
    if isinstance(told, Ignored):
        return False
    return told.at is None or (now - told.at).total_seconds() > limits.HOOK_AGE_SECONDS
