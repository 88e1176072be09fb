"""Writing the audit log: what happened is said in the transaction of the change itself.

1. Whoever changes something calls `append` with the connection of that change: both are kept, or neither.
2. The entry waits in `audit_pending`. Row numbers there may become visible out of their order (PostgreSQL hands them
   out before it commits), so they number nothing.
3. The one sequencer (`audit_sequencer`) gives positions to what it sees, hashes and signs.

An entry is canonical JSON: keys sorted, no spaces. What would make it longer than a log of C2SP takes lies in a
document beside it, which the entry names by digest. `states` says, by digest, how the rows read that were changed: so
an edited row is found, too.
"""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from tidewaiter.catalog import plain
from tidewaiter.catalog.audit.states import State, execute
from tidewaiter.catalog.plain import Plain
from tidewaiter.catalog.storable import storable, storable_tree
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import IntegrityError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ACTOR_CHARACTERS = 200
DROP = "audit.drop"
"""Action of an entry that says which earlier ones were dropped after they were exported."""
OWN = frozenset({"audit.begin", DROP, "audit.malformed"})
"""Actions that only the sequencer logs: whoever can write to the database could say them among those that wait."""
NOBODY = "local"
"""Actor when nothing says who: somebody of this home."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One entry of the log."""

    version: Literal[1]
    time: str
    """RFC 3339 in UTC."""
    actor: str
    """Who did it, as declared."""
    action: str
    subject: str
    """What it was done to: mostly a digest, or `NAME:TAG`."""
    detail: dict[str, Any] = {}
    states: tuple[State, ...] = ()
    """How the rows read that were changed."""
    document: str = ""
    """Digest of a `Document`, in which `detail` and `states` stand when they are too long or a batch."""


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an entry names by its digest."""

    detail: dict[str, Any]
    states: tuple[State, ...]


def canonical(value: object) -> bytes:
    """JSON of `value` with sorted keys and no spaces; the same value always gives the same bytes."""
    return msgspec.json.encode(value, order="sorted")


def parse(data: bytes) -> Entry:
    """The entry in `data`. Raises `IntegrityError` when it is not one that `append` writes."""
    try:
        entry = msgspec.json.decode(data, type=Entry)
        if canonical(entry) == data:
            clock.parse_rfc3339(entry.time)
            return entry
    # msgspec's own errors are values; nested too deep; a time before all times.
    except (ValueError, RecursionError, OverflowError) as error:
        raise _malformed(str(error)) from error
    raise _malformed("it is not in canonical form")


def _malformed(why: str) -> IntegrityError:
    return IntegrityError(
        f"an entry of the audit log is malformed: {why}", next_step="`tidewaiter audit verify` says what was changed."
    )


def encode(
    action: str,
    subject: str,
    detail: dict[str, Any],
    *,
    at: dt.datetime,
    actor: str,
    states: Sequence[State] = (),
    batch: bool = False,
) -> tuple[bytes, bytes]:
    """An entry, and the document that it names (empty when it names none)."""
    entry = Entry(
        version=1,
        time=clock.rfc3339(at),
        actor=storable(actor)[:_ACTOR_CHARACTERS] or NOBODY,
        action=action,
        subject=storable(subject),
        detail=storable_tree(detail),
        states=tuple(states),
    )
    data = canonical(entry)
    if not batch and len(data) <= limits.LOG_ENTRY_BYTES:
        return data, b""
    document = canonical(Document(entry.detail, entry.states))
    return canonical(msgspec.structs.replace(entry, detail={}, states=(), document=digests.of(document))), document


def append(
    connection: "Plain | Connection",
    action: str,
    subject: str,
    detail: dict[str, Any],
    *,
    at: dt.datetime,
    actor: str = "",
    states: Sequence[State] = (),
    batch: bool = False,
) -> None:
    """Say in the log, inside the transaction of `connection`, what it changes.

    Args:
        connection: of the change, SQLAlchemy's or a plain one.
        action: what was done, `noun.verb`.
        subject: to what.
        detail: what else is to be known of it.
        at: when.
        actor: who did it; when empty, in whose name the catalog was opened.
        states: how the rows read now that were changed (`audit_states.now`).
        batch: whether it is many decisions in one: the entry then holds the digest of their list.
    """
    actor = actor or plain.actor(connection)
    entry, document = encode(action, subject, detail, at=at, actor=actor, states=states, batch=batch)
    if document:
        statement = "INSERT INTO audit_document (digest, document) VALUES (?, ?) ON CONFLICT DO NOTHING"
        execute(connection, statement, (digests.of(document), document))
    execute(connection, "INSERT INTO audit_pending (entry) VALUES (?)", (entry,))


def fulfilled(entry: Entry, document: bytes | None) -> Entry:
    """The entry with what its document says in its place.

    Raises:
        IntegrityError: the document is missing, is another one, or malformed.
    """
    if not entry.document:
        return entry
    if document is None or digests.of(document) != Digest(entry.document):
        raise _malformed(f"its document {entry.document} {'is missing' if document is None else 'is another one'}")
    try:
        found = msgspec.json.decode(document, type=Document)
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error)) from error
    return msgspec.structs.replace(entry, detail=found.detail, states=found.states, document="")
