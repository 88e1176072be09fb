"""The advisories of a home: one SQLite file of facts, by ecosystem and package name.

An import is one transaction: readers see the old data or the new, and a process that is killed leaves the old.
A whole export replaces what an ecosystem's earlier export brought; a single entry is added and stays.

What is read is checked: of every package a digest of all its entries is kept apart from them, and one seal is over
everything that is read without a package. Rows that were lost or altered on the disk are an error, never "no advisory".
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from tidewaiter.advisories import snapshot, tables
from tidewaiter.advisories.advisory import Advisory, Affected, family
from tidewaiter.advisories.damage import Storage, damaged, digest_of, refuse_shrinking
from tidewaiter.advisories.finding import Coverage
from tidewaiter.advisories.rows import Changes, Exploited, Mirrored, Row, rows_of
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import StorageError
from tidewaiter.oci import digest

SHIPPED = "shipped with tidewaiter"
"""How the `source` of the built-in snapshot starts."""

_ENCODER = msgspec.json.Encoder()
_ADVISORY = msgspec.json.Decoder(Advisory)
_AFFECTED = msgspec.json.Decoder(Affected)
_parts = lru_cache(4)(msgspec.json.Decoder(dict[str, str]).decode)


class Database:
    """Advisories in the file at `path`, made when missing and filled with the shipped snapshot where it has none.

    One thread at a time; any number of processes.

    Raises:
        StorageError: the file cannot be opened, is damaged, or was written by a newer release.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._storage = Storage(path)
        with self._storage:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=limits.FEED_WAIT_SECONDS, isolation_level=None)
        try:
            with self._storage:
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
        with self.reading(), self._storage:
            self._check_seal()
            return {row[0]: Coverage(*row) for row in self._connection.execute(query)}

    def revision(self) -> digest.Digest:
        """Names the advisory data by content: equal data has an equal revision, wherever it was imported."""
        with self.reading(), self._storage:
            self._check_seal()
            content = self._connection.execute("SELECT family, hex(digest) FROM content ORDER BY family").fetchall()
            lists = self._connection.execute("SELECT kind, as_of, hex(parts) FROM exploited ORDER BY kind").fetchall()
            return digest.of(_ENCODER.encode([content, lists] if lists else content))

    def packages(self) -> dict[tuple[str, str], bytes]:
        """Digest of all entries about each package, by ecosystem and name; it changes when one of them does."""
        with self._storage:
            rows = self._connection.execute("SELECT ecosystem, name, digest FROM package")
            return {(ecosystem, name): digest for ecosystem, name, digest in rows}

    def named(self, name: str) -> tuple[str, ...]:
        """Ids of the entries that have `name` as their id or alias, in the order of their ids."""
        query = "SELECT DISTINCT id, facts FROM advisory WHERE id = ? OR instr(facts, ?) ORDER BY id"
        with self._storage:
            rows = self._connection.execute(query, (name, _ENCODER.encode(name))).fetchall()
            found = [(id_, _ADVISORY.decode(facts)) for id_, facts in rows]
        return tuple(dict.fromkeys(id_ for id_, advisory in found if name in {id_, *advisory.aliases}))

    def advisories(self, ecosystem: str, name: str) -> list[tuple[Advisory, Affected]]:
        """Entries about the package `name`, as the ecosystem normalises it, in the order of their ids.

        Entries for a distribution without a release hold for all of its releases.

        Raises:
            StorageError: entries are damaged or missing.
        """
        if not self._connection.in_transaction:
            with self.reading():
                return self.advisories(ecosystem, name)
        whole = family(ecosystem)
        with self._storage:
            rows = self._checked_entries(ecosystem, name)
            if whole != ecosystem:
                rows = sorted((*rows, *self._checked_entries(whole, name)), key=itemgetter(0))
            return [(_ADVISORY.decode(row[2]), _AFFECTED.decode(row[3])) for row in rows]

    def mirrored(self, name: str) -> Mirrored | None:
        """How far the ecosystem family `name` follows a mirror; None when its data came another way."""
        query = "SELECT url, tag, listed FROM mirrored WHERE family = ?"
        with self.reading(), self._storage:
            self._check_seal()
            row = self._connection.execute(query, (name,)).fetchone()
            return Mirrored(*row) if row else None

    def held(self, name: str) -> dict[str, bool]:
        """Ids of the entries of the ecosystem family `name`, and whether each was added singly."""
        query = "SELECT id, single FROM advisory WHERE family = ?"
        with self.reading(), self._storage:
            noted = self._connection.execute("SELECT digest FROM content WHERE family = ?", (name,)).fetchone()
            if noted is not None and noted[0] != self._content(name):
                raise damaged(self._path, f"the entries of {name} are not those imported")
            return {id_: bool(single) for id_, single in self._connection.execute(query, (name,))}

    def exploited(self) -> dict[str, Exploited]:
        """The lists of exploited vulnerabilities that were imported, by kind."""
        query = "SELECT kind, entries, as_of, source FROM exploited ORDER BY kind"
        with self.reading(), self._storage:
            self._check_seal()
            return {row[0]: Exploited(*row) for row in self._connection.execute(query)}

    def exploited_part(self, kind: str, part: str) -> bytes | None:
        """One part of a list; None when the list has no such part, or is not there.

        Raises:
            StorageError: the part is damaged or missing.
        """
        with self.reading(), self._storage:
            row = self._connection.execute("SELECT parts FROM exploited WHERE kind = ?", (kind,)).fetchone()
            parts = _parts(row[0]) if row else {}
            query = "SELECT facts FROM exploited_part WHERE kind = ? AND part = ?"
            facts = self._connection.execute(query, (kind, part)).fetchone()
            noted = parts.get(part)
            if noted != (digest_of(facts).hex() if facts else None):
                raise damaged(self._path, f"the list {kind!r} is not as it was imported")
            return facts[0] if facts else None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside the block is of one moment, whatever other processes import meanwhile."""
        if self._connection.in_transaction:
            yield
            return
        with self._storage:
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with self._storage:
                self._connection.execute("COMMIT")

    def replace(
        self,
        name: str,
        rows: Iterable[Row],
        *,
        source: str,
        as_of: str,
        force: bool = False,
        mirrored: Mirrored | None = None,
    ) -> Changes:
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
            changed = [row for row in new.values() if old.get(row.id) != row.digest]
            gone = old.keys() - new.keys()
            self._exchange(name, changed, gone, single=False)
            self._connection.executemany(
                "UPDATE advisory SET single = 0 WHERE family = ? AND id = ?",
                [(name, id_) for id_, _, single in held if single and id_ in new],
            )
            self._note_feed(name, source, as_of, mirrored, force=force)
        added = len(new.keys() - old.keys())
        return Changes(added, len(changed) - added, len(gone))

    def change(
        self,
        name: str,
        rows: Iterable[Row],
        gone: Iterable[str],
        *,
        source: str,
        as_of: str,
        force: bool = False,
        mirrored: Mirrored | None = None,
    ) -> Changes:
        """Add or replace `rows` in the data of the ecosystem family `name`, and remove the entries `gone`.

        Raises as `replace`.
        """
        with self._writing():
            query = "SELECT id, digest FROM advisory WHERE family = ?"
            old = dict(self._connection.execute(query, (name,)).fetchall())
            new = {row.id: row for row in rows}
            changed = [row for row in new.values() if old.get(row.id) != row.digest]
            removed = old.keys() & (set(gone) - new.keys())
            self._exchange(name, changed, removed, single=False)
            self._note_feed(name, source, as_of, mirrored, force=force)
        added = len(new.keys() - old.keys())
        return Changes(added, len(changed) - added, len(removed))

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
                self._exchange(name, [row], (), single=True)
        return Changes(*changes)

    def withdraw(self, id_: str) -> Changes:
        """Remove the entry `id_` from every family."""
        with self._writing():
            query = "SELECT family FROM advisory WHERE id = ?"
            families = [row[0] for row in self._connection.execute(query, (id_,)).fetchall()]
            for name in families:
                self._exchange(name, (), [id_], single=False)
        return Changes(0, 0, len(families))

    def put_exploited(self, new: Exploited, parts: Mapping[str, bytes], *, force: bool = False) -> None:
        """Make `parts` the whole list of its kind.

        Raises as `replace`.
        """
        with self._writing():
            query = "SELECT entries FROM exploited WHERE kind = ?"
            old = self._connection.execute(query, (new.kind,)).fetchone()
            if old and not force:
                refuse_shrinking(new.kind, old[0], new.entries)
            self._connection.execute("DELETE FROM exploited_part WHERE kind = ?", (new.kind,))
            self._connection.executemany(
                "INSERT INTO exploited_part VALUES (?, ?, ?)",
                [(new.kind, part, facts) for part, facts in sorted(parts.items())],
            )
            index = {part: digest_of((facts,)).hex() for part, facts in sorted(parts.items())}
            self._connection.execute(
                "INSERT OR REPLACE INTO exploited VALUES (?, ?, ?, ?, ?)",
                (new.kind, new.source, new.as_of, new.entries, _ENCODER.encode(index)),
            )

    def _prepare(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        if version not in range(tables.VERSION + 1) or application not in (0, tables.APPLICATION):
            raise StorageError(
                f"{self._path} was written by another release of tidewaiter, or by another program",
                next_step="Update tidewaiter, or move the file away and run `tidewaiter advisories update`.",
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if version == tables.VERSION:
            return
        with self._writing(fresh=True):
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version == tables.VERSION:
                return  # another process was faster
            schema = tables.SCHEMA_2 if version else tables.SCHEMA + tables.SCHEMA_2
            for statement in filter(str.strip, schema.split(";")):
                self._connection.execute(statement)
            self._note_packages(set(self._connection.execute("SELECT ecosystem, name FROM affected")))
            for (name,) in self._connection.execute("SELECT family FROM content").fetchall():
                self._note_content(name)
            self._connection.execute(f"PRAGMA application_id = {tables.APPLICATION}")
            self._connection.execute(f"PRAGMA user_version = {tables.VERSION}")

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

    def _entries(self, ecosystem: str, name: str) -> list[tuple[str, int, bytes, bytes]]:
        """Id, place, facts of the advisory and of the package, of every entry about one package."""
        # A left join: an advisory that is lost must not take its package's row with it.
        query = (
            "SELECT affected.id, place, coalesce(advisory.facts, x''), affected.facts FROM affected "
            "LEFT JOIN advisory USING (family, id) "
            "WHERE affected.ecosystem = ? AND name = ? ORDER BY affected.id, place"
        )
        return self._connection.execute(query, (ecosystem, name)).fetchall()

    def _checked_entries(self, ecosystem: str, name: str) -> list[tuple[str, int, bytes, bytes]]:
        rows = self._entries(ecosystem, name)
        query = "SELECT digest FROM package WHERE ecosystem = ? AND name = ?"
        noted = self._connection.execute(query, (ecosystem, name)).fetchone()
        if (digest_of(rows) if rows else None) != (noted[0] if noted else None):
            raise damaged(self._path, f"the entries about {name[:100]!r} ({ecosystem[:60]}) are not those imported")
        return rows

    def _exchange(self, name: str, rows: Collection[Row], gone: Collection[str], *, single: bool) -> None:
        """Put `rows`, in place of what they had, and remove the entries `gone`."""
        touched = {item[:2] for row in rows for item in row.affected}
        for id_ in (*gone, *(row.id for row in rows)):
            query = "SELECT ecosystem, name FROM affected WHERE family = ? AND id = ?"
            touched.update(self._connection.execute(query, (name, id_)))
        for package in touched:
            self._checked_entries(*package)  # else what is damaged would be noted as right
        ids = [(name, id_) for id_ in (*gone, *(row.id for row in rows))]
        self._connection.executemany("DELETE FROM advisory WHERE family = ? AND id = ?", ids)
        self._connection.executemany(
            "INSERT INTO advisory VALUES (?, ?, ?, ?, ?)",
            [(name, row.id, single, row.digest, row.facts) for row in rows],
        )
        self._connection.executemany(
            "INSERT INTO affected VALUES (?, ?, ?, ?, ?, ?)",
            [
                (item[0], item[1], name, row.id, place, item[2])
                for row in rows
                for place, item in enumerate(row.affected)
            ],
        )
        self._note_packages(touched)
        self._note_content(name)

    def _note_feed(self, name: str, source: str, as_of: str, mirrored: Mirrored | None, *, force: bool) -> None:
        """Date, source and coverage of a family whose data was just put; refuses what has shrunk."""
        query = (
            "SELECT ecosystem, count(DISTINCT id) FROM affected JOIN advisory USING (family, id) "
            "WHERE family = ? AND NOT single GROUP BY ecosystem ORDER BY ecosystem"
        )
        counted = dict(self._connection.execute(query, (name,)).fetchall())
        if not force:
            held = self._connection.execute("SELECT ecosystem, entries FROM coverage WHERE family = ?", (name,))
            for ecosystem, entries in held.fetchall():
                refuse_shrinking(ecosystem, entries, counted.get(ecosystem, 0))
        self._connection.execute("DELETE FROM coverage WHERE family = ?", (name,))
        self._connection.executemany(
            "INSERT INTO coverage VALUES (?, ?, ?)", [(item, name, entries) for item, entries in counted.items()]
        )
        self._connection.execute(
            "INSERT OR REPLACE INTO feed VALUES (?, ?, ?, ?)", (name, source, as_of, clock.rfc3339(clock.now()))
        )
        self._connection.execute("DELETE FROM mirrored WHERE family = ?", (name,))
        if mirrored is not None:
            self._connection.execute("INSERT INTO mirrored VALUES (?, ?, ?, ?)", (name, *mirrored))

    def _note_packages(self, touched: Iterable[tuple[str, str]]) -> None:
        for ecosystem, name in sorted(touched):
            rows = self._entries(ecosystem, name)
            if rows:
                self._connection.execute(
                    "INSERT OR REPLACE INTO package VALUES (?, ?, ?)", (ecosystem, name, digest_of(rows))
                )
            else:
                self._connection.execute("DELETE FROM package WHERE ecosystem = ? AND name = ?", (ecosystem, name))

    def _content(self, name: str) -> bytes:
        query = "SELECT id, digest FROM advisory WHERE family = ? ORDER BY id"
        return digest_of(self._connection.execute(query, (name,)).fetchall())

    def _note_content(self, name: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO content VALUES (?, ?)", (name, self._content(name)))

    def _sealed(self) -> bytes:
        """Digest over everything that is read without a package."""
        return digest_of([self._connection.execute(query).fetchall() for query in tables.SEALED])

    def _check_seal(self) -> None:
        if self._connection.execute("SELECT digest FROM seal").fetchall() != [(self._sealed(),)]:
            raise damaged(self._path, "what it says of its feeds is not what was imported")

    @contextmanager
    def _writing(self, *, fresh: bool = False) -> Iterator[None]:
        with self._storage:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if not fresh:
                    self._check_seal()
                yield
                self._connection.execute("DELETE FROM seal")
                self._connection.execute("INSERT INTO seal VALUES (?)", (self._sealed(),))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
