"""Dropping old entries of the audit log, after they were exported: their hashes stay, and the log still verifies.

1. What they said last of each row is carried on, in the list that the entry `audit.drop` names.
2. That entry is logged; from then on the old ones may be gone. It never waits among others: somebody without the
   log's key, who can write to the database, cannot say it.
3. They are removed, some at a time, and with them the documents that only they name.

A kill in between leaves entries that may be gone; the next time removes them.
"""

import contextlib

import msgspec

from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import reading as audit_reading
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.audit.log import raw
from tidewaiter.catalog.audit.sequencer import Sequencer
from tidewaiter.catalog.glance import Place
from tidewaiter.catalog.plain import Plain
from tidewaiter.catalog.plain_writing import connected, transaction
from tidewaiter.core import clock
from tidewaiter.core.errors import IntegrityError
from tidewaiter.core.settings import Settings
from tidewaiter.signing.tlog import tiles

_ALL = 1 << 62
_AT_ONCE = 2000
"""Rows that one transaction removes: other writers wait for it."""


class Droppable(msgspec.Struct, frozen=True):
    """Entries from `start` up to, without, `end`: whole bundles."""

    start: int
    end: int


def droppable(connection: Plain, size: int, before: str) -> Droppable:
    """The entries, the first of the log, of which none is as young as the stored moment `before`."""
    start = connection.execute("SELECT MIN(position) FROM audit_entry").fetchone()[0]
    # The first entry may be younger than those after it, which were events before there was a log.
    query = "SELECT MIN(position) FROM audit_entry WHERE at >= ? AND position > 0"
    young = connection.execute(query, (before,)).fetchone()[0]
    end = (size if young is None else int(young)) // tiles.WIDTH * tiles.WIDTH
    start = end if start is None else int(start)
    return Droppable(start, max(start, end))


def drop(settings: Settings, given: Droppable, *, origin: str, exported: str) -> None:
    """Drop these entries, of which `exported` says where they are.

    Raises:
        UnansweredError: the catalog cannot be written.
        TidewaiterError: the log does not go on; nothing was dropped.
    """
    place, sequencer = settings.catalog, Sequencer(settings)
    sequencer.run()
    with connected(place) as connection:
        # 1.
        said = _Carried(_last_drop(connection))
        for _, data in audit_reading.entries(connection, given.start, given.end):
            said.take(connection, data)
        seen = given.end
        for seen, data in audit_reading.entries(connection, given.end, _ALL):  # noqa: B007  # the last one is asked for
            said.keep_document(data)
        # 2.
        detail = {"before": given.end, "exported": exported}
        states = said.states()
        sequencer.say(
            *audit.encode(
                audit.DROP, origin, detail, at=clock.now(), actor=settings.identity, states=states, batch=True
            )
        )
        # 3.
        _remove(connection, place, given.end)
        with transaction(connection, place):
            for _, data in audit_reading.entries(connection, seen, _ALL):
                said.keep_document(data)
            for (data,) in connection.execute("SELECT CAST(entry AS BLOB) FROM audit_pending"):
                said.keep_document(data)
            gone = [(one,) for one in sorted(said.documents)]
            connection.executemany("DELETE FROM audit_document WHERE digest = ?", gone)


def _last_drop(connection: Plain) -> tuple[audit_states.State, ...]:
    """What was carried on when entries were dropped last, wherever that entry is."""
    row = connection.execute(
        "SELECT entry FROM audit_entry WHERE action = ? ORDER BY position DESC LIMIT 1", (audit.DROP,)
    ).fetchone()
    if row is None:
        return ()
    entry = audit.parse(raw(row[0]))
    return audit.fulfilled(entry, audit_reading.document(connection, entry.document)).states


def _remove(connection: Plain, place: Place, end: int) -> None:
    query = "SELECT position FROM audit_entry WHERE position < ? ORDER BY position LIMIT ?"
    while some := connection.execute(query, (end, _AT_ONCE)).fetchall():
        with transaction(connection, place):
            connection.executemany("DELETE FROM audit_entry WHERE position = ?", some)


class _Carried:
    """What dropped entries said last of each row, and which documents only they name."""

    def __init__(self, before: tuple[audit_states.State, ...]) -> None:
        self._states = {(state.kind, state.key): state for state in before}
        self.documents: set[str] = set()

    def take(self, connection: Plain, data: bytes) -> None:
        entry = audit.parse(data)
        if entry.document:
            self.documents.add(entry.document)
            entry = audit.fulfilled(entry, audit_reading.document(connection, entry.document))
        if entry.action == "audit.malformed":
            self.documents.add(entry.subject)
        if entry.action != audit.DROP:
            self._states.update(((state.kind, state.key), state) for state in entry.states)

    def keep_document(self, data: bytes) -> None:
        with contextlib.suppress(IntegrityError):  # what waits may be no entry, and then names nothing
            entry = audit.parse(data)
            self.documents -= {entry.document, entry.subject}

    def states(self) -> tuple[audit_states.State, ...]:
        """Of the rows that are still there."""
        return tuple(self._states[name] for name in sorted(self._states) if self._states[name].digest)
