"""State on a date: what tags meant then, and from which day on the history of each fact is kept.

What a fact was before its history begins is not guessed: the answer says that it is not known.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, or_, select, true

from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.core import clock, moments
from tidewaiter.core.errors import InputError

Meaning = Literal["built", "pulled", "cleared", "synced"]
Conditions = Callable[[ColumnElement[str], ColumnElement[str]], Sequence[ColumnElement[bool]]]
Fact = Literal["findings", "images", "models", "owners", "tags", "verdicts", "workloads"]


class TagAt(msgspec.Struct, frozen=True, kw_only=True):
    """What a tag of the store, or of a place that was synced, meant on a day."""

    repository: str
    tag: str
    digest: str
    visibility: Meaning
    since: dt.datetime


def moment(text: str, now: dt.datetime) -> dt.datetime | None:
    """The end of a day (2027-06-30), or a moment with its zone; None of an empty `text`.

    Raises:
        InputError: it is neither, or in the future.
    """
    if not text:
        return None
    found = moments.end(text)
    if len(text) == len("2026-01-01"):
        found -= dt.timedelta(seconds=1)
        # Today is not over: what is known now is its state.
        found = min(found, now) if found.date() == now.date() else found
    if found > now:
        raise InputError(
            f"{clock.rfc3339(found)} is in the future", next_step="Give a day that has been, or leave out --as-of."
        )
    return found


def unknown(connection: Connection, at: dt.datetime | None, *facts: Fact) -> tuple[str, ...]:
    """In words, which of `facts` are not known, or not wholly, for the moment `at`; nothing for the present."""
    if at is None:
        return ()
    of = schema.recorded_since.c
    since = {row.fact: row.since for row in connection.execute(select(of.fact, of.since))}
    first = select(schema.artifact.c.recorded_at).order_by(schema.artifact.c.id).limit(1)
    begun = connection.scalar(first)
    since["images"] = since["tags"] = begun
    told = []
    for fact in sorted(facts):
        start = since.get(fact)
        if start is None:
            told.append(f"{fact}: nothing was recorded yet")
        elif at < start:
            told.append(
                f"{fact}: recorded since {clock.rfc3339(start)}, so what they were on {clock.rfc3339(at)} is not known"
            )
    return tuple(told)


def open_at(since: ColumnElement[Any], until: ColumnElement[Any], at: dt.datetime | None) -> ColumnElement[bool]:
    """Condition: a period holds now, or at the moment `at`."""
    if at is None:
        return until.is_(None)
    return and_(since <= at, or_(until.is_(None), until > at))


def in_repository(at: dt.datetime | None) -> ColumnElement[bool]:
    """Condition about `repository_artifact`: the image was there at `at`, or is there now."""
    since = schema.repository_artifact.c.since
    return true() if at is None else or_(since.is_(None), since <= at)


def tags(
    connection: Connection,
    at: dt.datetime | None,
    *,
    artifacts: Collection[int] | None = None,
    rows: int | None = None,
    where: Conditions | None = None,
) -> tuple[TagAt, ...]:
    """What tags meant at `at`, by repository and tag: all, those that meant one of `artifacts`, at most `rows`.

    `where` makes conditions of the columns with the name of the repository and that of the tag.
    """
    queries = [_query(tables, at, where) for tables in (_STORE, _SYNCED)]
    found: list[TagAt] = []
    for query, meaning, synced in queries:
        part = query if artifacts is None else query.where(among(meaning, artifacts))
        if rows is not None:
            part = part.order_by(schema.repository.c.name, "tag").limit(rows)
        found += [_tag(row, synced=synced) for row in connection.execute(part)]
    found.sort(key=lambda one: (one.repository, one.tag))
    return tuple(found if rows is None else found[:rows])


def tags_by_image(
    connection: Connection, at: dt.datetime | None, artifacts: Collection[int]
) -> dict[tuple[str, int], list[tuple[str, Meaning]]]:
    """As `tags`: names and what they say, by name, by repository and row number of the image."""
    found: dict[tuple[str, int], list[tuple[str, Meaning]]] = defaultdict(list)
    for query, meaning, synced in (_query(tables, at, None) for tables in (_STORE, _SYNCED)):
        of = query.selected_columns
        said = [of["repository"], meaning, of["tag"], *([] if synced else [of["visibility"]])]
        for repository, number, name, *visibility in connection.execute(
            query.with_only_columns(*said).where(among(meaning, artifacts))
        ).all():
            found[repository, number].append((name, "synced" if synced else visibility[0]))
    for some in found.values():
        some.sort(key=lambda one: one[0])
    return found


def tag(connection: Connection, at: dt.datetime | None, repository: str, name: str) -> list[TagAt]:
    """What the tag meant at `at`, in the store or in a place that was synced: one, or nothing."""
    found = []
    for tables in (_STORE, _SYNCED):
        query, _, synced = _query(tables, at, None)
        of = query.selected_columns
        said = connection.execute(query.where(of["repository"] == repository, of["tag"] == name))
        found += [_tag(row, synced=synced) for row in said]
    return found


def _tag(row: AnyRow, *, synced: bool) -> TagAt:
    meaning: Meaning = "synced" if synced else row.visibility
    return TagAt(repository=row.repository, tag=row.tag, digest=row.digest, visibility=meaning, since=row.set_at)


_STORE = (schema.tag, schema.tag_history)
_SYNCED = (schema.synced_tag, schema.synced_tag_history)


def _query(
    tables: tuple[Any, Any], at: dt.datetime | None, where: Conditions | None
) -> tuple[Any, ColumnElement[int], bool]:
    now, history = tables
    synced = tables is _SYNCED
    of = (now if at is None else history).alias("said").c
    columns = [
        schema.repository.c.name.label("repository"),
        of.name.label("tag"),
        schema.artifact.c.digest,
        of.set_at,
        of.artifact_id,
    ]
    if not synced:
        columns.append(of.visibility)
    query = (
        select(*columns)
        .join(schema.repository, schema.repository.c.id == of.repository_id)
        .join(schema.artifact, schema.artifact.c.id == of.artifact_id)
    )
    if at is not None:
        later = history.alias("later").c
        newer = select(later.id).where(
            later.repository_id == of.repository_id,
            later.name == of.name,
            later.set_at <= at,
            or_(later.set_at > of.set_at, and_(later.set_at == of.set_at, later.id > of.id)),
        )
        query = query.where(of.set_at <= at, ~newer.exists())
        if not synced:
            query = query.where(of.visibility != "gone")
    if where is not None:
        query = query.where(*where(schema.repository.c.name, of.name))
    return query, of.artifact_id, synced
