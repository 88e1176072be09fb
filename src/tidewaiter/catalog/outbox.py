"""What is sent to the subscriptions of `webhooks`.

1. What happens becomes deliveries in the transaction that moves the subscription's position in the audit log: each
   event once, whoever does it, and however often.
2. A delivery waits until it was taken, or is dead: refused for a day. Its name stays the same through all attempts, so
   that a receiver knows one that he got twice.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, delete, func, select, update

from tidewaiter.catalog import events, schema, webhooks
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.events import Event, Place
from tidewaiter.catalog.rows import AnyRow, add_missing
from tidewaiter.core import limits
from tidewaiter.core.errors import NotFoundError
from tidewaiter.oci import digest as digests

State = Literal["waiting", "delivered", "dead"]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to deliver."""

    at: dt.datetime
    status: int
    """Of HTTP; 0 when there was no answer."""
    error: str
    """Empty when it was taken."""
    seconds: float


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message to an endpoint."""

    id: str
    """Stays the same through all attempts."""
    webhook: str
    event: str
    type: str
    state: State
    attempts: tuple[Attempt, ...]
    created_at: dt.datetime
    next_at: dt.datetime
    """Of one that waits: not before."""
    ended_at: dt.datetime | None


class Due(msgspec.Struct, frozen=True):
    """A delivery that is to be tried now."""

    number: int
    id: str
    event: str
    body: bytes
    attempts: tuple[Attempt, ...]
    created_at: dt.datetime


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """What the sender has to know of a subscription."""

    number: int
    id: str
    url: str
    key: str
    """Digest of the key that its secrets are derived from."""
    generation: int
    earlier_until: dt.datetime | None
    """Until then the secret before this one counts, too."""
    failures: int


def _attempts(value: Any) -> tuple[Attempt, ...]:  # noqa: ANN401 - of a JSON column
    return msgspec.convert(value, tuple[Attempt, ...])


def _delivery(row: AnyRow) -> Delivery:
    return Delivery(
        id=row.name,
        webhook=row.webhook,
        event=row.event,
        type=row.type,
        state=row.state,
        attempts=_attempts(row.attempts),
        created_at=row.created_at,
        next_at=row.next_at,
        ended_at=row.ended_at,
    )


def listed(
    connection: Connection, *, webhook: str = "", state: str = "", before: int | None = None, rows: int
) -> tuple[tuple[Delivery, ...], int | None]:
    """Deliveries, the latest first, and the row number behind which the next part begins.

    Raises `NotFoundError` when there is no such webhook.
    """
    of = schema.webhook_delivery.c
    query = select(schema.webhook_delivery, schema.webhook.c.name.label("webhook")).join(schema.webhook)
    if webhook:
        query = query.where(of.webhook_id == webhooks.row(connection, webhook).id)
    if state:
        query = query.where(of.state == state)
    if before is not None:
        query = query.where(of.id < before)
    found = connection.execute(query.order_by(of.id.desc()).limit(rows + 1)).all()
    return tuple(map(_delivery, found[:rows])), found[rows - 1].id if len(found) > rows else None


def one_of(connection: Connection, name: str) -> Delivery:
    """The delivery of that id; raises `NotFoundError`."""
    of = schema.webhook_delivery.c
    query = select(schema.webhook_delivery, schema.webhook.c.name.label("webhook")).join(schema.webhook)
    row = connection.execute(query.where(of.name == name)).one_or_none()
    if row is None:
        raise NotFoundError(
            f"there is no delivery {name[:60]!r}", next_step="`tidewaiter webhook deliveries` shows the last ones."
        )
    return _delivery(row)


def redeliver(connection: Connection, name: str, *, who: str, at: dt.datetime) -> Delivery:
    """Send it again, under the same id, for a day from now. Raises `NotFoundError`."""
    before = one_of(connection, name)
    of = schema.webhook_delivery.c
    again = {"state": "waiting", "created_at": at, "next_at": at, "ended_at": None}
    connection.execute(update(schema.webhook_delivery).where(of.name == name).values(again))
    connection.execute(
        update(schema.webhook).where(schema.webhook.c.name == before.webhook).values(resume_at=None, failures=0)
    )
    audit.append(connection, "webhook.redeliver", name, {"webhook": before.webhook}, at=at, actor=who)
    return one_of(connection, name)


def name_of(webhook: str, event: str) -> str:
    """The name of the message that tells a webhook of an event, always the same."""
    return "msg_" + digests.hexadecimal(digests.of(f"{webhook} {event}".encode()))[:40]


def body_of(event: Event) -> bytes:
    """The message, as Standard Webhooks have it: `type`, `timestamp`, `data`."""
    data = {"id": event.id, "subject": event.subject, "repositories": event.repositories, **event.data}
    document = {"type": event.type, "timestamp": event.time, "data": data}
    body = msgspec.json.encode(document)
    if len(body) > limits.WEBHOOK_BODY_BYTES:
        # Whoever gets it asks for the rest.
        cut = {"id": event.id, "subject": event.subject, "repositories": event.repositories[:10], "cut": True}
        body = msgspec.json.encode({**document, "data": cut})
    return body


def put(connection: Connection, webhook: str, told: Sequence[Event], at: dt.datetime) -> None:
    """Let the webhook be told of these events; of each once."""
    number = webhooks.row(connection, webhook).id
    rows = [
        {
            "webhook_id": number,
            "name": name_of(webhook, one.id),
            "event": one.id,
            "type": one.type,
            "body": body_of(one),
            "state": "waiting",
            "attempts": [],
            "created_at": at,
            "next_at": at,
            "ended_at": None,
        }
        for one in told
    ]
    add_missing(connection, schema.webhook_delivery, rows)


class Behind(msgspec.Struct, frozen=True):
    """An active subscription that was not told of everything yet."""

    id: str
    types: tuple[str, ...]
    projects: tuple[str, ...]
    place: Place


def behind(connection: Connection) -> tuple[Behind, ...]:
    """Active subscriptions that are behind the log, less those that have more waiting than they can take."""
    of, newest = schema.webhook.c, events.latest(connection).position
    query = select(of.id, of.name, of.types, of.projects, of.position, of.number).where(
        of.state == "active", (of.position < newest) | (of.number < events.ALL)
    )
    rows = connection.execute(query).all()
    return tuple(
        Behind(row.name, tuple(row.types), tuple(row.projects), Place(row.position, row.number))
        for row in rows
        if webhooks.waiting(connection, row.id) < limits.WEBHOOK_WAITING
    )


def advance(connection: Connection, given: Behind, told: Sequence[Event], to: Place, at: dt.datetime) -> bool:
    """Let it be told of these events, which are all up to `to` that it wants; False when somebody else did that."""
    of = schema.webhook.c
    moved = connection.execute(
        update(schema.webhook)
        .where(of.name == given.id, of.position == given.place.position, of.number == given.place.number)
        .values(to._asdict())
    )
    if moved.rowcount != 1:
        return False
    put(connection, given.id, told, at)
    return True


def sendings(connection: Connection, at: dt.datetime) -> tuple[Sending, ...]:
    """Active subscriptions to which something can be sent now."""
    of, one = schema.webhook.c, schema.webhook_delivery.c
    waits = select(one.id).where(one.webhook_id == of.id, one.state == "waiting", one.next_at <= at).exists()
    query = select(schema.webhook).where(of.state == "active", (of.resume_at.is_(None)) | (of.resume_at <= at), waits)
    return tuple(
        Sending(
            number=row.id,
            id=row.name,
            url=row.url,
            key=row.key,
            generation=row.generation,
            earlier_until=row.earlier_until,
            failures=row.failures,
        )
        for row in connection.execute(query.order_by(of.id))
    )


def sending(connection: Connection, name: str) -> Sending:
    """What the sender has to know of one subscription; raises `NotFoundError`."""
    row = webhooks.row(connection, name)
    return Sending(
        number=row.id,
        id=row.name,
        url=row.url,
        key=row.key,
        generation=row.generation,
        earlier_until=row.earlier_until,
        failures=row.failures,
    )


def due(connection: Connection, number: int, at: dt.datetime, *, rows: int) -> tuple[Due, ...]:
    """The next deliveries of a subscription, in the order in which things happened."""
    of = schema.webhook_delivery.c
    query = select(of.id, of.name, of.event, of.body, of.attempts, of.created_at).where(
        of.webhook_id == number, of.state == "waiting", of.next_at <= at
    )
    found = connection.execute(query.order_by(of.id).limit(rows)).all()
    return tuple(
        Due(row.id, row.name, row.event, bytes(row.body), _attempts(row.attempts), row.created_at) for row in found
    )


def delivered(connection: Connection, one: Due, attempt: Attempt, webhook: int) -> None:
    """It was taken."""
    _ended(connection, one, attempt, "delivered")
    _endpoint(connection, webhook, 0, None)


def _ended(connection: Connection, one: Due, attempt: Attempt, state: State) -> None:
    of = schema.webhook_delivery.c
    values = {"state": state, "attempts": _with(one, attempt), "ended_at": attempt.at}
    connection.execute(update(schema.webhook_delivery).where(of.id == one.number).values(values))


def _with(one: Due, attempt: Attempt) -> list[Any]:
    kept = (*one.attempts, attempt)[-limits.WEBHOOK_ATTEMPTS_KEPT :]
    return [msgspec.to_builtins(each) for each in kept]


def _endpoint(connection: Connection, number: int, failures: int, resume_at: dt.datetime | None) -> None:
    of = schema.webhook.c
    values = {"failures": failures, "resume_at": resume_at}
    connection.execute(update(schema.webhook).where(of.id == number).values(values))


def refused(
    connection: Connection, one: Due, attempt: Attempt, webhook: Sending, *, wait: dt.timedelta, unable: bool
) -> None:
    """It was not taken; it is tried again after `wait`, and with `unable` nothing is sent to the endpoint before."""
    of = schema.webhook_delivery.c
    later = attempt.at + wait
    values = {"attempts": _with(one, attempt), "next_at": attempt.at if unable else later}
    connection.execute(update(schema.webhook_delivery).where(of.id == one.number).values(values))
    if unable:
        _endpoint(connection, webhook.number, webhook.failures + 1, later)


def gone(connection: Connection, one: Due, attempt: Attempt, webhook: Sending) -> None:
    """The endpoint says that it is gone: nothing more is sent there."""
    _ended(connection, one, attempt, "dead")
    webhooks.disable(connection, webhook.id, "it answered 410 Gone", attempt.at)


def bury(connection: Connection, at: dt.datetime) -> int:
    """Give up what was refused for a day, with an entry of the log for each webhook; how many there were."""
    of = schema.webhook_delivery.c
    old = at - dt.timedelta(seconds=limits.WEBHOOK_SECONDS)
    given_up = (of.state == "waiting", of.created_at <= old)
    query = select(schema.webhook.c.name, func.count(), func.min(of.event))
    found = connection.execute(query.join(schema.webhook).where(*given_up).group_by(schema.webhook.c.name)).all()
    if not found:
        return 0
    connection.execute(update(schema.webhook_delivery).where(*given_up).values(state="dead", ended_at=at))
    for name, count, first in found:
        audit.append(connection, "webhook.dead", name, {"deliveries": count, "first": first}, at=at, actor="server")
    return sum(int(count) for _, count, _ in found)


def forget(connection: Connection, at: dt.datetime) -> None:
    """Forget what was delivered, or given up, a month ago."""
    of = schema.webhook_delivery.c
    old = at - dt.timedelta(days=limits.WEBHOOK_DELIVERY_DAYS)
    connection.execute(delete(schema.webhook_delivery).where(of.state != "waiting", of.created_at <= old))
