"""The advisories of a home: one SQLite file of facts, by ecosystem and package name.

An import is one transaction: readers see the old data or the new, and a process that is killed leaves the old.
A whole export replaces what an ecosystem's earlier export brought; a single entry is added and stays.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from tidewaiter.advisories import snapshot
from tidewaiter.advisories.advisory import Advisory, Affected, family
from tidewaiter.advisories.finding import Coverage
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import RefusedError, StorageError
from tidewaiter.oci import digest

SHIPPED = "shipped with tidewaiter"
"""How the `source` of the built-in snapshot starts."""

_VERSION = 1
_APPLICATION = 0x54576164  # "TWad"

_SCHEMA = """
CREATE TABLE advisory (
    family TEXT NOT NULL, id TEXT NOT NULL, single INTEGER NOT NULL, digest BLOB NOT NULL, facts BLOB NOT NULL,
    PRIMARY KEY (family, id)
) WITHOUT ROWID;
CREATE TABLE affected (
    ecosystem TEXT NOT NULL, name TEXT NOT NULL, family TEXT NOT NULL, id TEXT NOT NULL, place INTEGER NOT NULL,
    facts BLOB NOT NULL,
    PRIMARY KEY (ecosystem, name, id, place),
    FOREIGN KEY (family, id) REFERENCES advisory ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX affected_of ON affected (family, id);
CREATE TABLE feed (
    family TEXT PRIMARY KEY, source TEXT NOT NULL, as_of TEXT NOT NULL, imported_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE coverage (ecosystem TEXT PRIMARY KEY, family TEXT NOT NULL, entries INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE content (family TEXT PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID;
"""

_ENCODER = msgspec.json.Encoder()
_ADVISORY = msgspec.json.Decoder(Advisory)
_AFFECTED = msgspec.json.Decoder(Affected)


class Row(NamedTuple):
    """One entry as it is stored for one family of ecosystems: packed, since a feed has many."""

    id: str
    digest: bytes
    facts: bytes
    affected: tuple[tuple[str, str, bytes], ...]
    """Ecosystem, package name, facts."""


class Changes(NamedTuple):
    """How many entries an import added, changed and removed."""

    added: int
    changed: int
    removed: int


def rows_of(advisory: Advisory) -> dict[str, Row]:
    """What is stored of `advisory`, by family of ecosystems."""
    facts = _ENCODER.encode(msgspec.structs.replace(advisory, affected=()))
    packages: dict[str, list[tuple[str, str, bytes]]] = {}
    for item in advisory.affected:
        package = (item.ecosystem, item.name, _ENCODER.encode(item))
        packages.setdefault(family(item.ecosystem), []).append(package)
    rows = {}
    for name, affected in packages.items():
        content = hashlib.sha256(facts)
        for _, _, packed in affected:
            content.update(b"\n" + packed)
        rows[name] = Row(advisory.id, content.digest(), facts, tuple(affected))
    return rows


class Database:
    """Advisories in the file at `path`, made when missing and filled with the shipped snapshot where it has none.

    One thread at a time; any number of processes.

    Raises:
        StorageError: the file cannot be opened, is damaged, or was written by a newer release.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._storage():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=limits.CONNECT_SECONDS, isolation_level=None)
        try:
            with self._storage():
                self._prepare()
                self._load_shipped()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the object is of no use after it."""
        self._connection.close()

    def coverage(self) -> dict[str, Coverage]:
        """The ecosystems that a whole export was imported for, releases apart (`PyPI`, `Debian:12`)."""
        query = "SELECT ecosystem, entries, as_of, source FROM coverage JOIN feed USING (family) ORDER BY ecosystem"
        with self._storage():
            return {row[0]: Coverage(*row) for row in self._connection.execute(query)}

    def revision(self) -> digest.Digest:
        """Names the advisory data by content: equal data has an equal revision, wherever it was imported."""
        query = "SELECT family, hex(digest) FROM content ORDER BY family"
        with self._storage():
            return digest.of(_ENCODER.encode(self._connection.execute(query).fetchall()))

    def advisories(self, ecosystem: str, name: str) -> list[tuple[Advisory, Affected]]:
        """Entries about the package `name`, as the ecosystem normalises it, in the order of their ids.

        Entries for a distribution without a release hold for all of its releases.
        """
        query = (
            "SELECT advisory.facts, affected.facts FROM affected JOIN advisory USING (family, id) "
            "WHERE affected.ecosystem IN (?, ?) AND affected.name = ? ORDER BY id, affected.ecosystem, place"
        )
        with self._storage():
            rows = self._connection.execute(query, (ecosystem, family(ecosystem), name)).fetchall()
            return [(_ADVISORY.decode(advisory), _AFFECTED.decode(affected)) for advisory, affected in rows]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside the block is of one moment, whatever other processes import meanwhile."""
        with self._storage():
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with self._storage():
                self._connection.execute("COMMIT")

    def replace(self, name: str, rows: Iterable[Row], *, source: str, as_of: str, force: bool = False) -> Changes:
        """Make `rows` the whole data of the ecosystem family `name`, but for entries that were added singly.

        Raises:
            RefusedError: an ecosystem would lose half of its entries or more, and `force` is off.
            StorageError: the data could not be written; the old data is untouched.
        """
        new = {row.id: row for row in rows}
        with self._writing():
            query = "SELECT id, digest, single FROM advisory WHERE family = ?"
            held = self._connection.execute(query, (name,)).fetchall()
            old = {id_: packed for id_, packed, single in held if not single or id_ in new}
            counted = _entries_by_ecosystem(new.values())
            if not force:
                self._refuse_shrinking(name, counted)
            changed = [row for row in new.values() if old.get(row.id) != row.digest]
            gone = old.keys() - new.keys()
            self._delete(name, gone)
            self._put(name, changed, single=False)
            self._connection.executemany(
                "UPDATE advisory SET single = 0 WHERE family = ? AND id = ?",
                [(name, id_) for id_, _, single in held if single and id_ in new],
            )
            self._connection.execute("DELETE FROM coverage WHERE family = ?", (name,))
            self._connection.executemany(
                "INSERT INTO coverage VALUES (?, ?, ?)", [(item, name, counted[item]) for item in sorted(counted)]
            )
            self._connection.execute(
                "INSERT OR REPLACE INTO feed VALUES (?, ?, ?, ?)", (name, source, as_of, clock.rfc3339(clock.now()))
            )
            self._note_content(name)
        added = len(new.keys() - old.keys())
        return Changes(added, len(changed) - added, len(gone))

    def put_single(self, rows: dict[str, Row]) -> Changes:
        """Add or replace one entry in each family of `rows`; coverage and its date stay as they are."""
        changes = [0, 0, 0]
        with self._writing():
            for name, row in rows.items():
                query = "SELECT digest FROM advisory WHERE family = ? AND id = ?"
                old = self._connection.execute(query, (name, row.id)).fetchone()
                if old is not None and old[0] == row.digest:
                    continue
                changes[0 if old is None else 1] += 1
                self._put(name, [row], single=True)
                self._note_content(name)
        return Changes(*changes)

    def withdraw(self, id_: str) -> Changes:
        """Remove the entry `id_` from every family."""
        with self._writing():
            query = "SELECT family FROM advisory WHERE id = ?"
            families = [row[0] for row in self._connection.execute(query, (id_,)).fetchall()]
            for name in families:
                self._delete(name, [id_])
                self._note_content(name)
        return Changes(0, 0, len(families))

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        if version not in (0, _VERSION) or application not in (0, _APPLICATION):
            raise StorageError(
                f"{self._path} was written by another release of tidewaiter, or by another program",
                next_step="Update tidewaiter, or move the file away and run `tidewaiter advisories update`.",
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if version == _VERSION:
            return
        with self._writing():
            if self._connection.execute("PRAGMA user_version").fetchone() == (_VERSION,):
                return  # another process was faster
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _load_shipped(self) -> None:
        """Take the shipped snapshot where its ecosystem has no data, or an older snapshot's."""
        header = snapshot.shipped_header()
        source = f"{SHIPPED}: {header.source}"
        row = self._connection.execute("SELECT source FROM feed WHERE family = ?", (header.ecosystem,)).fetchone()
        if row is not None and (row[0] == source or not row[0].startswith(SHIPPED)):
            return
        _, advisories = snapshot.shipped()
        rows = (rows_of(advisory) for advisory in advisories if not advisory.withdrawn)
        kept = (found[header.ecosystem] for found in rows if header.ecosystem in found)
        self.replace(header.ecosystem, kept, source=source, as_of=header.as_of, force=True)

    def _refuse_shrinking(self, name: str, counted: dict[str, int]) -> None:
        held = self._connection.execute("SELECT ecosystem, entries FROM coverage WHERE family = ?", (name,))
        for ecosystem, entries in held:
            now = counted.get(ecosystem, 0)
            if now * 2 <= entries:
                raise RefusedError(
                    f"the new data for {ecosystem} has {now} entries where {entries} are known: it is cut or wrong",
                    next_step="Fetch the feed again; if it is right, import it with --force.",
                    code="feed_shrinks",
                )

    def _put(self, name: str, rows: Iterable[Row], *, single: bool) -> None:
        for row in rows:
            self._connection.execute("DELETE FROM affected WHERE family = ? AND id = ?", (name, row.id))
            self._connection.execute(
                "INSERT OR REPLACE INTO advisory VALUES (?, ?, ?, ?, ?)", (name, row.id, single, row.digest, row.facts)
            )
            self._connection.executemany(
                "INSERT INTO affected VALUES (?, ?, ?, ?, ?, ?)",
                [(item[0], item[1], name, row.id, place, item[2]) for place, item in enumerate(row.affected)],
            )

    def _delete(self, name: str, ids: Iterable[str]) -> None:
        self._connection.executemany(
            "DELETE FROM advisory WHERE family = ? AND id = ?", [(name, id_) for id_ in sorted(ids)]
        )

    def _note_content(self, name: str) -> None:
        content = hashlib.sha256()
        query = "SELECT id, digest FROM advisory WHERE family = ? ORDER BY id"
        for id_, packed in self._connection.execute(query, (name,)):
            content.update(id_.encode() + b"\n" + packed)
        self._connection.execute("INSERT OR REPLACE INTO content VALUES (?, ?)", (name, content.digest()))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._storage():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise _storage_error(self._path, error) from error
        except (OSError, msgspec.DecodeError) as error:
            raise _storage_error(self._path, error) from error


def _storage_error(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"the advisory database {path} cannot be used: {error}",
        next_step="Free space if the disk is full; if the file is damaged, move it away and run "
        "`tidewaiter advisories update`.",
    )


def _entries_by_ecosystem(rows: Iterable[Row]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for row in rows:
        for ecosystem in {item[0] for item in row.affected}:
            counted[ecosystem] = counted.get(ecosystem, 0) + 1
    return counted
