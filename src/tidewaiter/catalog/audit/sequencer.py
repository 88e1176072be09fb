"""The one sequencer of the audit log: gives waiting entries their positions, hashes and signs them.

1. It is alone: it holds a lock of the home, on PostgreSQL one of the database, by the connection that writes. There
   several homes may share a catalog; the one that has the log's key numbers for all of them.
2. The log goes on from what it signed last: the database's checkpoint is its own, the tiles lead to its root, and the
   home's file knows no later one. Else it signs nothing, and the entries wait.
3. Entries get the next positions in the order of their row numbers, among those that are visible now. One that becomes
   visible later gets a later position, whatever its row number is: none is skipped, none comes twice.
4. Entries, tiles and checkpoint are kept in one transaction, which also takes the entries from those that wait. All
   was worked out before, so that writers wait for it as short as can be.
5. Then the checkpoint's file is written: after a kill in between it is merely older.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.glance import UnansweredError, stored_moment
from tidewaiter.catalog.plain import Plain
from tidewaiter.catalog.plain_writing import connected, transaction
from tidewaiter.core import clock, durable
from tidewaiter.core.errors import IntegrityError, TidewaiterError, UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.signing.tlog import checkpoint, merkle, tiles
from tidewaiter.signing.tlog.checkpoint import Checkpoint
from tidewaiter.signing.tlog.note import LogKey
from tidewaiter.signing.tlog.tiles import Frontier, Tile

_AT_ONCE = 1024
"""Entries of one transaction: other writers wait for it, some 10 ms."""
_LOOK_SECONDS = 0.2
_RETRY_SECONDS = 5.0
_OTHER_SECONDS = 30.0


def _is_waiting(connection: Plain) -> bool:
    return connection.execute("SELECT 1 FROM audit_pending LIMIT 1").fetchone() is not None


class Sequencer:
    """Sequences the log of one home, again and again or once. For one thread."""

    def __init__(self, settings: Settings) -> None:
        self._place = settings.catalog
        self._origin = settings.origin
        self._files = audit_log.places(settings)
        self._key: LogKey | None = None
        self._frontier: Frontier | None = None

    def run(self) -> int:
        """Give every waiting entry its position; how many there were.

        Raises:
            UnansweredError: the catalog is missing, of another schema, locked, damaged or full.
            IntegrityError: the log does not go on from what was signed; nothing more was.
            TidewaiterError: the key or a file cannot be read or written.
        """
        with connected(self._place) as connection:
            return self.run_on(connection)

    def run_on(self, connection: Plain) -> int:
        """As `run`, by a connection that stays open."""
        count = 0
        while _is_waiting(connection):
            # 1.
            with audit_log.alone(connection, self._files, seconds=_OTHER_SECONDS):
                if self._is_another_s(connection):
                    break
                count += self._batch(connection)
        return count

    def _is_another_s(self, connection: Plain) -> bool:
        """Whether the log is another home's, which has its key."""
        shared = not isinstance(self._place, Path)
        return shared and not self._files.key.exists() and audit_log.state(connection) is not None

    def say(self, data: bytes, document: bytes) -> None:
        """Give this entry, of an action of the log's own, the next position; raises as `run`."""
        with (
            connected(self._place) as connection,
            audit_log.alone(connection, self._files, seconds=_OTHER_SECONDS),
        ):
            self._batch(connection, _Ready(data, audit.parse(data), document))

    def _batch(self, connection: Plain, *own: "_Ready") -> int:
        # 2.
        key = self._key = self._key or self._open_key(connection)
        frontier = self._continued(connection, key)
        # 3.
        # SQLite keeps anything in any column, also what is no text to Python.
        query = "SELECT id, CAST(entry AS BLOB) FROM audit_pending ORDER BY id LIMIT ?"
        found = connection.execute(query, (_AT_ONCE,)).fetchall()
        if not found and not own:
            return 0  # another process was the sequencer meanwhile
        waiting = [*(_sound(data) for _, data in found), *own]
        if frontier.size == 0:
            waiting.insert(0, _first(connection, key, waiting))
        after, changed = tiles.extend(frontier, [merkle.leaf_hash(one.data) for one in waiting])
        signed = checkpoint.sign(Checkpoint(key.vkey.name, after.size, tiles.root(after)), key)
        # 4.
        with transaction(connection, self._place):
            if _size(connection) != frontier.size:
                raise _broken("somebody else gave positions to entries")
            _keep(connection, frontier.size, waiting, changed)
            connection.execute(
                "INSERT INTO audit_state (id, size, checkpoint) VALUES (1, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET size = excluded.size, checkpoint = excluded.checkpoint",
                (after.size, signed),
            )
            connection.executemany("DELETE FROM audit_pending WHERE id = ?", [(number,) for number, _ in found])
        self._frontier = after
        # 5.
        durable.write_atomically(self._files.checkpoint, signed)
        return len(found)

    def _open_key(self, connection: Plain) -> LogKey:
        if not self._files.key.exists() and audit_log.state(connection) is not None:
            raise UndeterminedError(
                f"the key of the audit log, {self._files.key}, is missing, so that it cannot go on",
                next_step="Restore it from a backup.",
                code="audit_key_missing",
            )
        return audit_log.open_key(self._files, self._origin)

    def _continued(self, connection: Plain, key: LogKey) -> Frontier:
        """What the log goes on from; raises when that is not what was signed last."""
        written = audit_log.written_checkpoint(self._files)
        try:
            state = audit_log.state(connection)
            last = None if written is None else audit_log.opened(written, key.vkey)
            ours = None if state is None else audit_log.opened(state.checkpoint, key.vkey)
            size = 0 if ours is None else ours.size
            if last is not None and last.size > size:
                raise _broken(f"{last.size} entries were signed, and the database has {size}")
            if self._frontier is not None and self._frontier.size == size:
                return self._frontier
            for signed in (last, ours):
                if signed is not None and signed.root != tiles.root(audit_log.frontier(connection, signed.size)):
                    raise _broken("the tiles in the database do not lead to the root that was signed")
            return audit_log.frontier(connection, size)
        except TidewaiterError as error:
            raise error if error.code == "audit_broken" else _broken(error.message) from error


def _broken(why: str) -> IntegrityError:
    return IntegrityError(
        f"the audit log cannot go on: {why}",
        next_step="Run `tidewaiter audit verify`; new entries wait until the database is restored.",
        code="audit_broken",
    )


class _Ready(msgspec.Struct, frozen=True):
    """An entry that is logged next, with a document that is to be kept for it."""

    data: bytes
    entry: audit.Entry
    document: bytes = b""


def _sound(data: bytes) -> _Ready:
    """The entry as it is logged: what is none, or says what only the log says, is kept as a document of that."""
    with contextlib.suppress(IntegrityError):
        found = audit.parse(data)
        if found.action not in audit.OWN:
            return _Ready(data, found)
    entry, _ = audit.encode("audit.malformed", digests.of(data), {}, at=clock.now(), actor="")
    return _Ready(entry, audit.parse(entry), data)


def _first(connection: Plain, key: LogKey, waiting: Sequence[_Ready]) -> _Ready:
    """The first entry of a log: its key, and how the rows read of which no waiting entry speaks."""
    said = {(state.kind, state.key) for one in waiting for state in one.entry.states}
    states = [state for state in audit_states.all_of(connection) if (state.kind, state.key) not in said]
    detail = {"key": str(key.vkey)}
    data, document = audit.encode(
        "audit.begin", key.vkey.name, detail, at=clock.now(), actor="", states=states, batch=bool(states)
    )
    return _Ready(data, audit.parse(data), document)


def _size(connection: Plain) -> int:
    state = audit_log.state(connection)
    return 0 if state is None else state.size


def _keep(connection: Plain, start: int, entries: Sequence[_Ready], changed: Sequence[Tile]) -> None:
    connection.executemany(
        "INSERT INTO audit_document (digest, document) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(digests.of(one.document), one.document) for one in entries if one.document],
    )
    connection.executemany(
        "INSERT INTO audit_entry (position, at, action, subject, entry) VALUES (?, ?, ?, ?, ?)",
        [
            (start + number, searched(one.entry.time), one.entry.action, one.entry.subject, one.data)
            for number, one in enumerate(entries)
        ],
    )
    connection.executemany(
        "INSERT INTO audit_tile (level, number, hashes) VALUES (?, ?, ?)"
        " ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes",
        [(tile.level, tile.index, tile.data) for tile in changed],
    )


def searched(time: str) -> str:
    """An entry's time as the column has it that is searched."""
    return stored_moment(clock.parse_rfc3339(time))


def settle(settings: Settings) -> str:
    """Sequence what this process wrote; why that could not be done now, else an empty text. Nothing is lost by that."""
    try:
        Sequencer(settings).run()
    except (TidewaiterError, UnansweredError) as error:
        return str(error)
    return ""


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Sequence in a thread of its own for as long as the block runs: an entry waits for less than a second."""
    stop = threading.Event()
    thread = threading.Thread(target=_run, args=(settings, stop), name="audit-sequencer")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _run(settings: Settings, stop: threading.Event) -> None:
    said = ""
    while not stop.is_set():
        try:
            for _ in _looks(settings):
                said = ""
                if stop.wait(_LOOK_SECONDS):
                    break
        except Exception as error:  # noqa: BLE001  # a thread that ends would let entries wait, and nobody would know
            if str(error) != said:
                import logging  # for whoever sequences for long; every command that records something comes by

                logging.getLogger("tidewaiter.audit").warning("audit log: %s; entries wait", error)
            said = str(error)
            stop.wait(_RETRY_SECONDS)
    settle(settings)


def _looks(settings: Settings) -> Iterator[None]:
    """Sequence again whenever the next one is asked for."""
    sequencer = Sequencer(settings)
    if isinstance(settings.catalog, Path):
        while True:
            sequencer.run()  # opens the file, which may have been replaced
            yield
    with connected(settings.catalog) as connection:  # a server takes long to open one
        while True:
            sequencer.run_on(connection)
            yield
