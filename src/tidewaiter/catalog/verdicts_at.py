"""Verdicts that stood on a day, and the waivers that were in force then."""

import datetime as dt
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, insert, select, union_all

from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among, lots
from tidewaiter.catalog.records import VerdictDocument
from tidewaiter.catalog.rows import AnyRow


class VerdictAt(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict that stood for an image in an environment."""

    digest: str
    environment: str
    verdict: str
    valid: bool
    """Whether it was still valid at that moment; an allowing one that is not clears nothing any more."""
    decided_at: dt.datetime
    valid_until: dt.datetime
    document: VerdictDocument


class _Standing(NamedTuple):
    verdict: int
    environment: str
    answer: str
    decided_at: dt.datetime
    valid_until: dt.datetime


def keep(connection: Connection, verdicts: Sequence[AnyRow]) -> None:
    """Remember when these verdicts were decided, before they are replaced by the same, decided later."""
    rows = [{"verdict_id": one.id, "decided_at": one.decided_at, "valid_until": one.valid_until} for one in verdicts]
    if rows:
        connection.execute(insert(schema.verdict_earlier), rows)


def standing(
    connection: Connection, artifacts: Collection[int], at: dt.datetime | None
) -> dict[int, tuple[_Standing, ...]]:
    """By image: the verdict of each environment that was decided last, of two in the same second the denial."""
    of, earlier = schema.verdict.c, schema.verdict_earlier.c
    found: dict[int, dict[str, _Standing]] = {}
    for some in lots(sorted(artifacts)):
        last = select(of.artifact_id, of.id, of.environment, of.verdict, of.decided_at, of.valid_until)
        before = select(
            of.artifact_id, of.id, of.environment, of.verdict, earlier.decided_at, earlier.valid_until
        ).join(schema.verdict_earlier, earlier.verdict_id == of.id)
        parts = [one.where(among(of.artifact_id, some)) for one in ((last,) if at is None else (last, before))]
        every = union_all(*parts).subquery().c
        query = select(*every)
        if at is not None:
            query = query.where(every.decided_at <= at)
        # `deny` comes after `allow`: descending, it is met first.
        for row in connection.execute(query.order_by(every.decided_at.desc(), every.verdict.desc(), every.id.desc())):
            one = _Standing(row.id, row.environment, row.verdict, row.decided_at, row.valid_until)
            found.setdefault(row.artifact_id, {}).setdefault(row.environment, one)
    return {number: tuple(by[name] for name in sorted(by)) for number, by in found.items()}


def verdicts(connection: Connection, digest: str, at: dt.datetime | None, now: dt.datetime) -> tuple[VerdictAt, ...]:
    """The verdicts of an image that stood at `at`, or stand now, by environment; nothing of an unknown image."""
    number = connection.scalar(select(schema.artifact.c.id).where(schema.artifact.c.digest == digest))
    if number is None:
        return ()
    stood = standing(connection, [number], at).get(number, ())
    of = schema.verdict.c
    documents = {
        row.id: msgspec.convert(row.document, VerdictDocument)
        for row in connection.execute(select(of.id, of.document).where(of.id.in_([one.verdict for one in stood])))
    }
    return tuple(
        VerdictAt(
            digest=digest,
            environment=one.environment,
            verdict=one.answer,
            valid=one.valid_until > (at or now),
            decided_at=one.decided_at,
            valid_until=one.valid_until,
            document=msgspec.structs.replace(
                documents[one.verdict], decided_at=one.decided_at, valid_until=one.valid_until
            ),
        )
        for one in stood
    )
