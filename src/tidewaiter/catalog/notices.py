"""People who are told what happened in words. They stand in the settings; here is how far each was told.

A notice travels as a webhook's delivery does (`catalog.webhooks`): a channel is a subscription without a secret, named
`notice:NAME`. What differs: several events may be one notice, and what was said is not said again for a week.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from tidewaiter.catalog import events, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.events import Place
from tidewaiter.catalog.outbox import Behind, name_of
from tidewaiter.catalog.records import RuleResult, VerdictDocument
from tidewaiter.catalog.rows import add_missing
from tidewaiter.catalog.webhooks import CHANNEL
from tidewaiter.core import limits


class Channel(msgspec.Struct, frozen=True):
    """Whom to tell, and what they want to hear of."""

    name: str
    types: tuple[str, ...]
    """Of events."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that is to be sent."""

    key: str
    """The same for what is the same news."""
    event: str
    """The event that it tells of; of several the first."""
    type: str
    body: bytes


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How far a channel was told."""

    name: str
    state: str
    reason: str
    waiting: int
    delivered: int
    """Within the last month."""
    dead: int
    last_error: str
    """Of a notice that waits; empty when none was refused."""


def settle(connection: Connection, wanted: Sequence[Channel], at: dt.datetime) -> None:
    """Let the channels be those `wanted`: a new one is told what happens from now on, others are forgotten.

    One to which nothing could be said any more is tried again.
    """
    of = schema.webhook.c
    there = {row.name: row.id for row in connection.execute(select(schema.webhook).where(of.name.startswith(CHANNEL)))}
    names = {CHANNEL + one.name for one in wanted}
    for one in wanted:
        known = there.get(CHANNEL + one.name)
        if known is None:
            row = {
                "name": CHANNEL + one.name,
                "url": "",
                "types": sorted(one.types),
                "projects": [],
                "state": "active",
                "reason": "",
                "created_by": "settings",
                "created_at": at,
                "key": "",
                "generation": 0,
                "earlier_until": None,
                **events.latest(connection)._asdict(),
                "failures": 0,
                "resume_at": None,
            }
            connection.execute(insert(schema.webhook), row)
        else:
            values = {"types": sorted(one.types), "state": "active", "reason": ""}
            connection.execute(update(schema.webhook).where(of.id == known).values(values))
    for name, number in there.items():
        if name not in names:
            connection.execute(delete(schema.webhook_delivery).where(schema.webhook_delivery.c.webhook_id == number))
            connection.execute(delete(schema.webhook).where(of.id == number))


def is_settled(connection: Connection, wanted: Sequence[Channel]) -> bool:
    """Whether `settle` has nothing to do."""
    of = schema.webhook.c
    active = select(of.name, of.types).where(of.name.startswith(CHANNEL))
    there = connection.execute(active.where(of.state == "active")).all()
    return {row.name: row.types for row in there} == {CHANNEL + one.name: sorted(one.types) for one in wanted}


def advance(connection: Connection, given: Behind, said: Sequence[Said], to: Place, at: dt.datetime) -> bool:
    """Let a channel be told this, which is all up to `to` that it wants; False when somebody else did that.

    What it was told within `limits.NOTICE_AGAIN_SECONDS` is left out.
    """
    of = schema.webhook.c
    moved = connection.execute(
        update(schema.webhook)
        .where(of.name == given.id, of.position == given.place.position, of.number == given.place.number)
        .values(to._asdict())
    )
    if moved.rowcount != 1:
        return False
    number = connection.scalar(select(of.id).where(of.name == given.id))
    before = _said(connection, number or 0, {one.key for one in said}, at)
    rows: dict[str, dict[str, Any]] = {
        one.key: {
            "webhook_id": number,
            "name": name_of(given.id, one.event),
            "event": one.event,
            "type": one.type,
            "same": one.key,
            "body": one.body,
            "state": "waiting",
            "attempts": [],
            "created_at": at,
            "next_at": at,
            "ended_at": None,
        }
        for one in reversed(said)  # of the same news the first
        if one.key not in before
    }
    add_missing(connection, schema.webhook_delivery, list(reversed(rows.values())))
    return True


def _said(connection: Connection, channel: int, keys: Collection[str], at: dt.datetime) -> set[str]:
    of = schema.webhook_delivery.c
    since = at - dt.timedelta(seconds=limits.NOTICE_AGAIN_SECONDS)
    # What was given up never arrived: it is said again.
    kept = (of.webhook_id == channel, of.created_at > since, of.state != "dead")
    query = select(of.same).where(*kept, of.same.in_(sorted(keys)))
    return {str(key) for key in connection.scalars(query)}


def told(connection: Connection, wanted: Sequence[Channel]) -> tuple[Told, ...]:
    """How far each was told, in the order given; of one that no server served yet nothing."""
    return tuple(_told(connection, one.name) for one in wanted)


def _told(connection: Connection, name: str) -> Told:
    of, one = schema.webhook.c, schema.webhook_delivery.c
    row = connection.execute(select(of.id, of.state, of.reason).where(of.name == CHANNEL + name)).one_or_none()
    if row is None:
        return Told(name=name, state="new", reason="", waiting=0, delivered=0, dead=0, last_error="")
    counted = select(one.state, func.count().label("rows")).where(one.webhook_id == row.id).group_by(one.state)
    counts = {found.state: int(found.rows) for found in connection.execute(counted)}
    waiting = select(one.attempts).where(one.webhook_id == row.id, one.state == "waiting").order_by(one.id).limit(1)
    attempts = connection.scalar(waiting) or []
    return Told(
        name=name,
        state=row.state,
        reason=row.reason,
        waiting=counts.get("waiting", 0),
        delivered=counts.get("delivered", 0),
        dead=counts.get("dead", 0),
        last_error=str(attempts[-1]["error"]) if attempts else "",
    )


def denied_at(connection: Connection, position: int, environment: str) -> tuple[str, ...]:
    """Images that the entry of the log at that position says are denied for an environment, in its order."""
    data = connection.scalar(select(schema.audit_entry.c.entry).where(schema.audit_entry.c.position == position))
    if data is None:
        return ()
    entry = audit.parse(bytes(data))
    if entry.document:
        of = schema.audit_document.c
        entry = audit.fulfilled(entry, connection.scalar(select(of.document).where(of.digest == entry.document)))
    return tuple(
        str(one["artifact"])
        for one in entry.detail.get("verdicts", ())
        if one.get("environment") == environment and one.get("verdict") == "deny"
    )


class Denial(msgspec.Struct, frozen=True):
    """Why an image is denied, and where it runs all the same."""

    violations: tuple[RuleResult, ...]
    workloads: tuple[str, ...]
    """`CLUSTER/NAMESPACE/NAME`."""


def denial(connection: Connection, digest: str, environment: str) -> Denial | None:
    """What the newest verdict for an environment denies an image for; None when it does not, by now."""
    of, artifact, period = schema.verdict.c, schema.artifact.c, schema.workload_period.c
    newest = connection.execute(
        select(of.document, of.verdict)
        .join(schema.artifact, artifact.id == of.artifact_id)
        .where(artifact.digest == digest, of.environment == environment)
        .order_by(of.decided_at.desc(), of.verdict.desc(), of.id.desc())
        .limit(1)
    ).one_or_none()
    if newest is None or newest.verdict != "deny":
        return None
    document = msgspec.convert(newest.document, VerdictDocument)
    workload = schema.workload.c
    runs = connection.execute(
        select(workload.cluster, workload.namespace, workload.name)
        .distinct()
        .join(schema.workload_period, period.workload_id == workload.id)
        .where(period.digest == digest, period.gone_at.is_(None))
        .order_by(workload.cluster, workload.namespace, workload.name)
        .limit(limits.NOTICE_LINES)
    )
    return Denial(document.violations, tuple("/".join(row) for row in runs))
