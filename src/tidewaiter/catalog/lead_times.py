"""How long it takes from a commit to its image being cleared, and to it being first seen running.

1. The commit's time is what the commit says, of clean builds only: a build with changes is not that commit.
2. Cleared is the first verdict that allowed the image in its environment: that of its project, or the one that settings
   say of its repository, whichever is stricter.
3. Running is the first time that a workload was seen with the image, or with an index that lists it.

What is not known stays unknown and is counted as such; it is never filled in. Nor is what would be negative: clocks
that differ say nothing about how long something took.
"""

import datetime as dt
import math
import statistics
from collections.abc import Collection, Iterable, Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, case, func, select, union_all

from tidewaiter.catalog import owners, schema
from tidewaiter.core import limits
from tidewaiter.core.environments import ENVIRONMENTS, strictest
from tidewaiter.policy.environments import NOTHING_SAID, Environments


class LeadTime(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the way of one image. Durations are in seconds; null is not known."""

    repository: str
    digest: str
    commit: str
    """Of its first build."""
    environment: str
    owner: str
    """Of the repository; empty when nobody is known."""
    built: dt.datetime
    """When its first build was finished."""
    committed: dt.datetime | None
    cleared: dt.datetime | None
    running: dt.datetime | None
    commit_to_cleared: float | None
    cleared_to_running: float | None
    commit_to_running: float | None


class Leg(msgspec.Struct, frozen=True):
    """Durations of one part of the way, in seconds."""

    counted: int
    median: float | None
    p90: float | None
    """As long as nine of ten at most: nearest rank."""
    unknown: int
    """Images of which it is not known; they are not counted."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The images of an owner, of a month, or all of them."""

    name: str
    """The owner (empty: nobody is known), the month of the first build (`2027-06`), or `all`."""
    images: int
    commit_to_cleared: Leg
    cleared_to_running: Leg
    commit_to_running: Leg


class LeadTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Lead times of images whose first build was finished at `since` or later."""

    since: dt.datetime | None
    total: Share
    owners: tuple[Share, ...]
    months: tuple[Share, ...]
    images: tuple[LeadTime, ...]
    """The latest first."""
    cut: bool
    """Whether there are more images than are named."""


def report(
    connection: Connection,
    said: Environments = NOTHING_SAID,
    *,
    owner: str = "",
    since: dt.datetime | None = None,
    rows: int = limits.LEAD_TIME_ROWS,
) -> LeadTimes:
    """Lead times of all images that were built, or of one owner's, or of those first built since a moment.

    Args:
        connection: of any transaction.
        said: which environment each repository belongs to, as settings say.
        owner: only of repositories that this owner answers for.
        since: only images whose first build was finished then or later.
        rows: how many images are named; all are counted.
    """
    found = [one for one in _ways(connection, said, None) if owner in {"", one.owner}]
    if since is not None:
        found = [one for one in found if one.built >= since]
    found.sort(key=lambda one: (one.built, one.repository, one.digest), reverse=True)
    return LeadTimes(
        since=since,
        total=_share("all", found),
        owners=_shares((one.owner, one) for one in found),
        months=_shares((f"{one.built:%Y-%m}", one) for one in found),
        images=tuple(found[:rows]),
        cut=len(found) > rows,
    )


def of_image(connection: Connection, digest: str, said: Environments = NOTHING_SAID) -> tuple[LeadTime, ...]:
    """The way of an image in each repository that it was built for, by name; none when it was not built here."""
    return tuple(_ways(connection, said, digest))


# What is known of each


def _ways(connection: Connection, said: Environments, digest: str | None) -> list[LeadTime]:
    """By repository and digest, of one image or of all."""
    artifact, build, repository = schema.artifact.c, schema.build.c, schema.repository.c
    one = [] if digest is None else [artifact.digest == digest]
    first = func.row_number().over(
        partition_by=(build.repository_id, build.artifact_id), order_by=(build.finished, build.id)
    )
    # 1.
    clean = func.min(case((build.dirty.is_(False), build.committed))).over(
        partition_by=(build.repository_id, build.artifact_id)
    )
    each = (
        select(
            *(build.artifact_id, artifact.digest, repository.name, build.commit, build.environment, build.finished),
            clean.label("committed"),
            first.label("place"),
        )
        .join(schema.artifact, artifact.id == build.artifact_id)
        .join(schema.repository, repository.id == build.repository_id)
        .where(*one)
        .subquery()
    )
    query = select(each).where(each.c.place == 1).order_by(each.c.name, each.c.digest)
    builds = connection.execute(query).all()
    numbers = None if digest is None else {row.artifact_id for row in builds}
    cleared, running = _cleared(connection, numbers), _running(connection, numbers)
    known = owners.load(connection, None)
    ways = []
    for row in builds:
        environment = _environment(said, row.name, row.environment)
        ways.append(
            _way(
                LeadTime(
                    repository=row.name,
                    digest=row.digest,
                    commit=row.commit,
                    environment=environment,
                    owner=known.of_repository(row.name),
                    built=row.finished,
                    committed=row.committed,
                    cleared=cleared.get((row.artifact_id, environment)),
                    running=running.get(row.artifact_id),
                    commit_to_cleared=None,
                    cleared_to_running=None,
                    commit_to_running=None,
                )
            )
        )
    return ways


def _environment(said: Environments, repository: str, asked: str) -> str:
    found = [one for one in ENVIRONMENTS if one in {asked, said.of_repository(repository)}]
    return strictest(*found) if found else asked


def _way(one: LeadTime) -> LeadTime:
    return msgspec.structs.replace(
        one,
        commit_to_cleared=_seconds(one.committed, one.cleared),
        cleared_to_running=_seconds(one.cleared, one.running),
        commit_to_running=_seconds(one.committed, one.running),
    )


def _seconds(begin: dt.datetime | None, end: dt.datetime | None) -> float | None:
    if begin is None or end is None or end < begin:
        return None
    return (end - begin).total_seconds()


def _cleared(connection: Connection, artifacts: Collection[int] | None) -> dict[tuple[int, str], dt.datetime]:
    """2. When each image was first allowed, by environment."""
    of, earlier = schema.verdict.c, schema.verdict_earlier.c
    allowed: list[ColumnElement[bool]] = [of.verdict == "allow"]
    if artifacts is not None:
        allowed.append(of.artifact_id.in_(artifacts))
    last = select(of.artifact_id, of.environment, of.decided_at).where(*allowed)
    before = (
        select(of.artifact_id, of.environment, earlier.decided_at)
        .join(schema.verdict_earlier, earlier.verdict_id == of.id)
        .where(*allowed)
    )
    every = union_all(last, before).subquery().c
    query = select(every.artifact_id, every.environment, func.min(every.decided_at)).group_by(
        every.artifact_id, every.environment
    )
    return {(number, environment): at for number, environment, at in connection.execute(query)}


def _running(connection: Connection, artifacts: Collection[int] | None) -> dict[int, dt.datetime]:
    """3. When each image was first seen running."""
    of, child, period = schema.artifact.c, schema.synced_child.c, schema.workload_period.c
    own = select(of.id, func.min(period.first_seen)).join(schema.workload_period, period.digest == of.digest)
    listed = (
        select(child.child_id, func.min(period.first_seen))
        .join(schema.artifact, of.id == child.parent_id)
        .join(schema.workload_period, period.digest == of.digest)
    )
    if artifacts is not None:
        own, listed = own.where(of.id.in_(artifacts)), listed.where(child.child_id.in_(artifacts))
    found: dict[int, dt.datetime] = {}
    for query in (own.group_by(of.id), listed.group_by(child.child_id)):
        for number, at in connection.execute(query):
            found[number] = min(at, found.get(number, at))
    return found


# Figures


def _shares(named: Iterable[tuple[str, LeadTime]]) -> tuple[Share, ...]:
    groups: dict[str, list[LeadTime]] = {}
    for name, one in named:
        groups.setdefault(name, []).append(one)
    return tuple(_share(name, groups[name]) for name in sorted(groups))


def _share(name: str, found: Sequence[LeadTime]) -> Share:
    return Share(
        name=name,
        images=len(found),
        commit_to_cleared=_leg([one.commit_to_cleared for one in found]),
        cleared_to_running=_leg([one.cleared_to_running for one in found]),
        commit_to_running=_leg([one.commit_to_running for one in found]),
    )


def _leg(durations: Sequence[float | None]) -> Leg:
    known = sorted(one for one in durations if one is not None)
    missing = len(durations) - len(known)
    if not known:
        return Leg(0, None, None, missing)
    return Leg(len(known), statistics.median(known), known[math.ceil(len(known) * 0.9) - 1], missing)
