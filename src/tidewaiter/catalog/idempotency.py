"""Answers that are given again: a change that is asked for twice under one key is made once.

1. Before the change its key is kept: one request has it, whoever comes meanwhile is told so.
2. Every transaction of the change marks the key, too: both are kept, or neither. So a server that dies after the change
   does not make it again, and one that dies before it leaves a key that is free after `limits.KEY_SECONDS`.
3. The answer is kept with the key for a day, and what who asked had to be allowed, which is asked for again before the
   answer is given again; a refusal frees the key.

A key that is marked and has no answer for so long belongs to a change that was cut off, and so does at once one whose
answer has a secret in it, which is not kept: that is said, and nothing is done.
"""

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError as DuplicateError

from tidewaiter.catalog import schema
from tidewaiter.core import limits
from tidewaiter.core.errors import RefusedError
from tidewaiter.oci import digest as digests

_UNDER_WAY = 0
_MARKED = 1
_UNKEPT = 2
_KEPT = dt.timedelta(seconds=limits.KEY_KEPT_SECONDS)


class Answer(NamedTuple):
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes
    required: Sequence[tuple[str, str | None]] = ()
    """What who asked had to be allowed, beside what the route says, and in which project; None: everywhere."""


class Key(NamedTuple):
    """A key of a client, and what it asks for under it."""

    name: str
    request: str


class UsedElsewhereError(RefusedError):
    """The key was used for another request."""


class UnderWayError(RefusedError):
    """The request with this key is not answered yet, or its answer is not known."""


def key(text: str, *, who: str, route: str, asked: bytes) -> Key:
    """The key `text` of `who` for a route, and a hash of what is asked: method, address and body."""
    return Key(digests.of(f"{who}\0{route}\0{text}".encode()), digests.of(asked))


def reserve(connection: Connection, given: Key, at: dt.datetime) -> Answer | None:
    """None when the change is to be made now; the answer when it was made before.

    Raises:
        UsedElsewhereError: the key was used for something else.
        UnderWayError: it is being made, or was made and its answer is not known.
    """
    of = schema.idempotent_answer.c
    connection.execute(delete(schema.idempotent_answer).where(of.until <= at))
    row = {
        "name": given.name,
        "request": given.request,
        "status": _UNDER_WAY,
        "headers": {},
        "body": b"",
        "required": [],
        "until": at + dt.timedelta(seconds=limits.KEY_SECONDS),
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(schema.idempotent_answer), row)
    except DuplicateError:
        known = connection.execute(select(schema.idempotent_answer).where(of.name == given.name)).one_or_none()
        if known is None:
            raise _under_way() from None
    else:
        return None
    if known.request != given.request:
        raise UsedElsewhereError(
            "this Idempotency-Key was used for another request",
            next_step="Make a new key for every change.",
            code="idempotency_key_reused",
        )
    marked_lately = known.until - _KEPT + dt.timedelta(seconds=limits.KEY_SECONDS) > at
    if known.status == _UNDER_WAY or (known.status == _MARKED and marked_lately):
        raise _under_way()
    if known.status in {_MARKED, _UNKEPT}:
        raise UnderWayError(
            "the change with this Idempotency-Key was made, or a part of it, and its answer is not kept",
            next_step="Look at what there is; when something is missing, ask for it with a new key.",
            code="idempotency_answer_lost",
        )
    return Answer(known.status, known.headers, known.body, tuple(tuple(one) for one in known.required or ()))


def _under_way() -> UnderWayError:
    return UnderWayError(
        "the request with this Idempotency-Key is not answered yet",
        next_step="Send it again in a moment.",
        code="idempotency_key_in_use",
    )


def mark(connection: Connection, given: Key, at: dt.datetime) -> None:
    """Say in the transaction of the change that it is made."""
    _set(connection, given, Answer(_MARKED, {}, b""), at)


def finish_unkept(connection: Connection, given: Key, at: dt.datetime) -> None:
    """Say that it was answered with something that is not kept."""
    _set(connection, given, Answer(_UNKEPT, {}, b""), at)


def finish(connection: Connection, given: Key, answer: Answer, at: dt.datetime) -> None:
    """Keep the answer."""
    _set(connection, given, answer, at)


def _set(connection: Connection, given: Key, answer: Answer, at: dt.datetime) -> None:
    of = schema.idempotent_answer.c
    connection.execute(
        update(schema.idempotent_answer)
        .where(of.name == given.name, of.request == given.request)
        .values(
            status=answer.status,
            headers=answer.headers,
            body=answer.body,
            required=[list(one) for one in answer.required],
            until=at + _KEPT,
        )
    )


def release(connection: Connection, given: Key) -> None:
    """Free the key: it was refused."""
    of = schema.idempotent_answer.c
    connection.execute(delete(schema.idempotent_answer).where(of.name == given.name, of.request == given.request))
