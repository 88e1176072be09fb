"""What ends soon: verdicts that clear a tag, and waivers."""

import datetime as dt
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select

from tidewaiter.catalog import events, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.core import clock, limits


class Expiring(NamedTuple):
    """A tag whose image has to be judged again."""

    repository: str
    tag: str
    environment: str
    until: dt.datetime
    """How long the newest verdict for that environment counts."""


def tags(connection: Connection, before: dt.datetime) -> tuple[Expiring, ...]:
    """Cleared tags whose newest verdict counts until `before` at most, the first to end first."""
    tag, verdict = schema.tag.c, schema.verdict.c
    clearing = schema.verdict.alias("clearing").c
    until = func.max(verdict.valid_until)
    query = (
        select(schema.repository.c.name, tag.name.label("tag"), clearing.environment, until.label("until"))
        .join(schema.repository, schema.repository.c.id == tag.repository_id)
        .join(clearing.id.table, clearing.id == tag.verdict_id)
        .join(
            schema.verdict,
            (verdict.artifact_id == tag.artifact_id) & (verdict.environment == clearing.environment),
        )
        .where(tag.visibility == "cleared")
        .group_by(schema.repository.c.name, tag.name, clearing.environment)
        .having(until <= before)
        .order_by(until, schema.repository.c.name, tag.name)
    )
    return tuple(Expiring(*row) for row in connection.execute(query))


def announce_waivers(connection: Connection, at: dt.datetime) -> int:
    """Say once of each waiver in force that it ends within `limits.WAIVER_EXPIRING_DAYS`; how many there were."""
    waiver, said = schema.waiver.c, schema.announced.c
    known = select(said.name).where(said.kind == events.EXPIRING, said.name == waiver.name).exists()
    query = select(waiver.name, waiver.scope, waiver.owner, waiver.expires_at).where(
        waiver.approved_at.is_not(None),
        waiver.revoked_at.is_(None),
        waiver.expires_at > at,
        waiver.expires_at <= at + dt.timedelta(days=limits.WAIVER_EXPIRING_DAYS),
        ~known,
    )
    found = connection.execute(query.order_by(waiver.expires_at)).all()
    for row in found:
        connection.execute(insert(schema.announced), {"kind": events.EXPIRING, "name": row.name, "at": at})
        detail = {"scope": row.scope, "owner": row.owner, "expires_at": clock.rfc3339(row.expires_at)}
        audit.append(connection, events.EXPIRING, row.name, detail, at=at, actor="server")
    return len(found)
