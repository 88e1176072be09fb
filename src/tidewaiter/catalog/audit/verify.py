"""Finding out whether the audit log, and what it speaks of, was changed by anybody but this program.

1. The database's checkpoint is signed by the log's key.
2. Every position has its entry, in the form in which entries are written, and the columns that are searched repeat it;
   only entries that a logged `audit.drop` names may be gone, and their hashes stay.
3. The tree is made anew from the entries: every tile in the database is a tile of it, no other tile is there, and its
   root is the one that was signed.
4. Every other checkpoint, the home's file and those that witnesses signed before all, is signed, and is of an earlier
   state of this very tree; and every witness of the setting signed one lately.
5. Every document has the digest by which an entry names it, and no other is there.
6. The rows that the log speaks of read as it said last, and no other is there.
7. The indexes of these tables lead to their rows: whoever asks by name gets what stands there. PostgreSQL says that by
   its extension `amcheck`, where the database has it.

Nothing stops at the first problem; each is found by its number and said in words. What cannot be read at all raises.
"""

import datetime as dt
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tidewaiter.catalog import plain
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.audit import witnesses as audit_witnesses
from tidewaiter.catalog.audit.log import raw
from tidewaiter.catalog.audit.sequencer import searched
from tidewaiter.catalog.audit.witnesses import Cosigned
from tidewaiter.catalog.plain import Plain
from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, RefusedError, TidewaiterError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.signing.tlog import merkle, tiles
from tidewaiter.signing.tlog.note import VerifierKey

_AT_ONCE = 16 * tiles.WIDTH
_TABLES = ("audit_document", "audit_entry", "audit_pending", "audit_state", "audit_tile", *audit_states.TABLES)


class Problem(msgspec.Struct, frozen=True):
    """Something that is not as this program leaves it."""

    kind: str
    message: str
    position: int | None = None
    """Of the entry, where it is about one."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what was found."""

    origin: str
    size: int
    root: str
    """Of the tree, as it was made anew; hexadecimal."""
    only_hashes: int
    """Entries that were dropped after they were exported."""
    waiting: int
    """Entries without a position yet: nothing vouches for them."""
    compared: int
    """Rows that read as the log said last."""
    witnesses: tuple[Cosigned, ...]
    """What each witness signed last; without those that signed nothing."""
    problems: tuple[Problem, ...]
    """The first of them."""
    problems_total: int

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.problems_total


class Watched(NamedTuple):
    """The witnesses that a log must have."""

    kept: Sequence[tuple[VerifierKey, Path, bytes | None]]
    """As `audit_witnesses.kept` gives it."""
    now: dt.datetime
    days: int
    """How long ago a signature may be."""


NOT_WATCHED = Watched((), dt.datetime.min.replace(tzinfo=dt.UTC), 0)


class _Found:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.total = 0

    def say(self, kind: str, message: str, position: int | None = None) -> None:
        self.total += 1
        if len(self.problems) < limits.AUDIT_PROBLEMS:
            self.problems.append(Problem(kind, message, position))


class _Tree:
    """The tree as the entries make it, compared tile by tile with the database's."""

    def __init__(self, connection: Plain, found: _Found) -> None:
        self._tiles = audit_log.Tiles(connection)
        self._found = found
        self._leaves: list[bytes] = []
        self.frontier = tiles.EMPTY
        self.wrong: list[int] = []
        """Positions at which the database has another hash."""

    @property
    def next(self) -> int:
        return self.frontier.size + len(self._leaves)

    def add(self, leaf: bytes) -> None:
        self._leaves.append(leaf)
        if self.next % _AT_ONCE == 0:
            self.grow()

    def add_stored(self, end: int) -> None:
        """Take the hashes up to position `end` from the database: their entries are not there."""
        while self.next < end:
            index, first = divmod(self.next, tiles.WIDTH)
            width = min(tiles.WIDTH, end - index * tiles.WIDTH)
            hashes = self._tiles.read(0, index, width)
            for at in range(first, width):
                self.add(hashes[at * merkle.HASH_BYTES : (at + 1) * merkle.HASH_BYTES])

    def grow(self) -> None:
        self.frontier, made = tiles.extend(self.frontier, self._leaves)
        self._leaves = []
        for tile in made:
            if tile.width == tiles.WIDTH:
                self._compare(tile.level, tile.index, tile.data)

    def end(self) -> None:
        """Compare the tiles at the right edge, too."""
        self.grow()
        for level, data in enumerate(self.frontier.edge):
            if data:
                self._compare(level, self.frontier.size >> tiles.HEIGHT * (level + 1), data)

    def _compare(self, level: int, index: int, data: bytes) -> None:
        width = len(data) // merkle.HASH_BYTES
        place = tiles.Place(level, index, width).path
        try:
            stored = self._tiles.read(level, index, width)
        except RefusedError as error:
            self._found.say("tile", error.message)
            return
        if self._tiles.length(level, index) != len(data):
            self._found.say("tile", f"the tile {place} goes on after its last hash")
        if stored == data:
            return
        if level:
            self._found.say("tile", f"the tile {place} does not have the hashes of what is below it")
            return
        size = merkle.HASH_BYTES
        self.wrong += [
            index * tiles.WIDTH + at
            for at in range(width)
            if stored[at * size : (at + 1) * size] != data[at * size : (at + 1) * size]
        ]


class _Said:
    """What the log says of rows and documents."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], str] = {}
        self.documents: set[str] = set()
        self.dropped = 0
        self._carried: tuple[audit_states.State, ...] = ()

    def take(self, entry: audit.Entry) -> None:
        if entry.action == "audit.malformed":
            self.documents.add(entry.subject)
        if entry.action == audit.DROP:
            self._carried = entry.states
            self.dropped = max(self.dropped, int(entry.detail.get("before", 0)))
            return
        self.states.update(((state.kind, state.key), state.digest) for state in entry.states)

    def end(self) -> None:
        """What the dropped entries said counts where no later one says anything."""
        for state in self._carried:
            self.states.setdefault((state.kind, state.key), state.digest)


def verify(
    connection: Plain,
    key: VerifierKey,
    checkpoints: Sequence[tuple[str, bytes | None]],
    *,
    watched: Watched = NOT_WATCHED,
    tick: Callable[[int], None] = lambda _: None,
) -> Verification:
    """What was found. Raises what the database raises when it cannot be read.

    Args:
        connection: in a transaction, whose texts are read whatever they are (`audit_log.reading`).
        key: of the log.
        checkpoints: what was signed, each with its name; None where one should be and is not.
        watched: by which witnesses, and what they signed.
        tick: told how many entries were looked at.
    """
    found, said = _Found(), _Said()
    # 1.
    size, root = _signed(connection, key, found)
    # 2.
    tree = _Tree(connection, found)
    complete = _entries(connection, size, (tree, said, found), tick)
    # 3.
    if complete:
        tree.end()
        _compare_root(tree, root, found)
    _other_tiles(connection, size, found)
    # 4.
    for name, data in checkpoints:
        _checkpoint(connection, key, (name, data), size, found)
    cosigned = _witnesses(connection, key, watched, size, found)
    # 5.
    waiting = _waiting(connection, said, found)
    _other_documents(connection, said, found)
    # 6.
    said.end()
    compared = _rows(connection, said, found)
    # 7.
    _indexes(connection, found)
    return Verification(
        origin=key.name,
        size=size,
        root=tiles.root(tree.frontier).hex() if complete else "",
        only_hashes=min(said.dropped, size),
        waiting=waiting,
        compared=compared,
        witnesses=cosigned,
        problems=tuple(found.problems),
        problems_total=found.total,
    )


def _signed(connection: Plain, key: VerifierKey, found: _Found) -> tuple[int, bytes | None]:
    """Size of the log, and the root that was signed; None when none was that holds."""
    try:
        state = audit_log.state(connection)
    except RefusedError as error:
        found.say("checkpoint", error.message)
        return 0, None
    others = connection.execute("SELECT count(*) FROM audit_state WHERE id <> 1").fetchone()[0]
    if others:
        found.say("checkpoint", "the database has several states of the log")
    if state is None:
        return 0, merkle.EMPTY_ROOT
    try:
        signed = audit_log.opened(state.checkpoint, key)
    except TidewaiterError as error:
        found.say("checkpoint", f"the checkpoint in the database does not hold: {error.message}")
        # Nobody vouches for the size, and there is no more to look at than there are hashes.
        there = connection.execute("SELECT count(*) FROM audit_tile WHERE level = 0").fetchone()[0]
        return max(0, min(state.size, there * tiles.WIDTH)), None
    if signed.size != state.size:
        found.say("checkpoint", f"the database says {state.size} entries, its checkpoint {signed.size}")
    return signed.size, signed.root


def _entries(connection: Plain, size: int, into: tuple[_Tree, _Said, _Found], tick: Callable[[int], None]) -> bool:
    """Read every entry; whether the tree could be made of them."""
    tree, said, found = into
    gaps: list[tuple[int, int]] = []
    complete = True
    try:
        query = "SELECT position, at, action, subject, entry FROM audit_entry ORDER BY position"
        for row in plain.streamed(connection, query):
            if not _place(row[0], size, tree, gaps, found):
                continue
            tree.add(merkle.leaf_hash(raw(row[4])))
            _entry(connection, row, said, found)
            if not row[0] % 1000:
                tick(row[0])
        if tree.next < size:
            _skip(tree, size, gaps)
    except RefusedError as error:
        found.say("tile", error.message)
        complete = False
    for start, end in gaps:
        if end > said.dropped:
            first = max(start, said.dropped)
            found.say("entry_removed", f"entries {first} to {end - 1} are missing", first)
    return complete


def _place(position: int, size: int, tree: _Tree, gaps: list[tuple[int, int]], found: _Found) -> bool:
    """Bring the tree to the entry's position; False for one that has none there."""
    if not 0 <= position < size:
        found.say("entry_inserted", f"an entry {position} is there, and the log has {size}", position)
        return False
    if position > tree.next:
        _skip(tree, position, gaps)
    elif position < tree.next:  # what no database does by itself
        found.say("entry_edited", f"an entry {position} stands in the place of {tree.next}", position)
    return True


def _skip(tree: _Tree, end: int, gaps: list[tuple[int, int]]) -> None:
    gaps.append((tree.next, end))
    tree.add_stored(end)


def _entry(connection: Plain, row: Sequence[Any], said: _Said, found: _Found) -> None:
    position, at, action, subject, data = row
    try:
        entry = audit.parse(raw(data))
        if (at, action, subject) != (searched(entry.time), entry.action, entry.subject):
            found.say("entry_edited", f"what is searched of entry {position} is not what it says", position)
        said.take(_fulfilled(connection, entry, said))
    except (IntegrityError, ValueError, TypeError) as error:
        found.say("entry_edited", f"entry {position}: {error}", position)


def _fulfilled(connection: Plain, entry: audit.Entry, said: _Said) -> audit.Entry:
    if not entry.document:
        return entry
    said.documents.add(entry.document)
    row = connection.execute("SELECT document FROM audit_document WHERE digest = ?", (entry.document,)).fetchone()
    return audit.fulfilled(entry, None if row is None else raw(row[0]))


def _compare_root(tree: _Tree, root: bytes | None, found: _Found) -> None:
    made = tiles.root(tree.frontier)
    for position in tree.wrong:
        if made == root:
            found.say("tile", f"the hash of entry {position} in its tile is not the entry's", position)
        else:
            found.say("entry_edited", f"entry {position} is not what was logged there", position)
    if root is not None and made != root:
        found.say("root", f"the entries lead to the root {made.hex()}, and {root.hex()} was signed")


def _other_tiles(connection: Plain, size: int, found: _Found) -> None:
    expected = {(place.level, place.index) for place in tiles.places(size)}
    for level, number in connection.execute("SELECT level, number FROM audit_tile"):
        if (level, number) not in expected:
            found.say("tile", f"a tile {number} of level {level} is there, and the log has none")


def _checkpoint(connection: Plain, key: VerifierKey, named: tuple[str, bytes | None], size: int, found: _Found) -> None:
    name, data = named
    if data is None:
        if size:
            found.say("checkpoint", f"{name} is missing")
        return
    try:
        signed = audit_log.opened(data, key)
    except TidewaiterError as error:
        found.say("checkpoint", f"{name} does not hold: {error.message}")
        return
    if signed.size > size:
        found.say(
            "rolled_back",
            f"by {name} {signed.size} entries were signed, and the database has {size}: it is an older copy",
        )
        return
    try:
        root = tiles.root(audit_log.frontier(connection, signed.size))
    except RefusedError as error:
        found.say("tile", error.message)
        return
    if root != signed.root:
        found.say("rewritten", f"the first {signed.size} entries are not those that {name} was signed for")


def _witnesses(connection: Plain, key: VerifierKey, watched: Watched, size: int, found: _Found) -> tuple[Cosigned, ...]:
    """What the witnesses signed; their checkpoints are compared as all others are."""
    said: list[Cosigned] = []
    for witness, path, data in watched.kept:
        one = None
        if data is not None:
            try:
                one = audit_witnesses.cosigned(data, key, witness)
                _checkpoint(connection, key, (str(path), data), size, found)
            except TidewaiterError as error:
                found.say("checkpoint", f"{path} does not hold: {error.message}")
        said += [] if one is None else [one]
        sentence = audit_witnesses.late(witness, one, now=watched.now, days=watched.days)
        if sentence:
            found.say("unwitnessed", sentence)
    return tuple(said)


def _waiting(connection: Plain, said: _Said, found: _Found) -> int:
    count = 0
    for number, data in connection.execute("SELECT id, entry FROM audit_pending ORDER BY id"):
        count += 1
        try:
            entry = audit.parse(raw(data))
            if entry.action in audit.OWN:
                found.say("waiting", f"the waiting entry {number} says {entry.action}, which only the log itself says")
                continue
            said.take(_fulfilled(connection, entry, said))
        except (IntegrityError, ValueError, TypeError) as error:
            found.say("waiting", f"the waiting entry {number}: {error}")
    return count


def _other_documents(connection: Plain, said: _Said, found: _Found) -> None:
    for digest, document in plain.streamed(connection, "SELECT digest, document FROM audit_document"):
        if digest not in said.documents:
            found.say("document", f"the document {str(digest)[:80]} is named by no entry")
        elif digests.of(raw(document)) != Digest(digest):
            found.say("document", f"the document {digest} has another digest")


def _rows(connection: Plain, said: _Said, found: _Found) -> int:
    """Compare the rows; how many read as they should."""
    compared = 0
    for state in audit_states.all_of(connection):
        logged = said.states.pop((state.kind, state.key), None)
        if logged == state.digest:
            compared += 1
        elif not logged:
            found.say("row_inserted", f"the {state.kind} {state.key} is in its table, and nothing was logged of it")
        else:
            found.say("row_edited", f"the {state.kind} {state.key} is not as it was logged last")
    for (kind, name), digest in said.states.items():
        if digest:
            found.say("row_removed", f"the {kind} {name} was logged, and is not in its table")
    return compared


def _indexes(connection: Plain, found: _Found) -> None:
    if not isinstance(connection, sqlite3.Connection):
        from tidewaiter.catalog import postgres

        for table, said in postgres.damaged(connection, _TABLES):
            found.say("damaged", f"the table {table}: {said}")
        return
    for table in _TABLES:
        for (said,) in connection.execute(f"PRAGMA integrity_check({table})"):
            if said != "ok":
                found.say("damaged", f"the table {table}: {said}")
