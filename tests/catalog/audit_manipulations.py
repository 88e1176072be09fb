"""A home with an audit log that speaks of everything, and ways to change its database behind the log's back."""

import datetime as dt
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from catalog_sample import build, digest, home, verdict

from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.audit import verify as audit_verify
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.records import AttestationRecord, SignatureRecord
from tidewaiter.core import clock
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.policy import waivers
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.scope import Scope
from tidewaiter.signing.tlog import checkpoint, merkle, tiles
from tidewaiter.signing.tlog.checkpoint import Checkpoint
from tidewaiter.signing.tlog.note import LogKey

IMAGES = ("one", "two", "three")
LATER = dt.timedelta(days=30)
_AUDITED = ("audit_entry", "audit_tile", "audit_state", "audit_document", "audit_pending")
Rows = sqlite3.Connection


def entries(settings: Settings, count: int) -> None:
    """Log that many small things, and give them positions."""
    with Catalog.open(settings) as catalog, catalog.database.plainly(writing=True) as connection:
        for number in range(count):
            audit.append(connection, "test.entry", f"thing {number}", {"number": number}, at=clock.now())
    assert audit_sequencer.settle(settings) == ""


def furnish(path: Path, count: int = 300) -> Settings:
    """A home with verdicts, waivers, tags, a base, signatures, an attestation, a batch, and `count` small entries."""
    settings = home(path)
    now = clock.now()
    with Catalog.open(settings) as catalog:
        for image in IMAGES:
            catalog.record_build(build(image))
            catalog.record_verdict({**verdict(image, "allow", now), "violations": []})
            catalog.set_tag("team/model", image, digest(image), cleared_for="staging")
            catalog.record_signature(
                SignatureRecord(
                    digest=digest(image),
                    key_fingerprint="k",
                    builder="local",
                    manifest_digest=digest(f"sig {image}"),
                    created=now,
                    format="tag",
                )
            )
        catalog.record_verdicts(
            [verdict(image, "deny", now + dt.timedelta(hours=1)) for image in IMAGES[:2]], "nightly"
        )
        asked = waivers.request(
            Scope(
                environments=("production",), image="team/model", advisory="CVE-2024-34069", package="pkg:pypi/numpy"
            ),
            default_pack(),
            owner="Anna",
            reason="Not reachable.",
            requested_by="Anna",
            at=now,
            expires_at=now + LATER,
            longest=LATER,
        )
        catalog.request_waiver(asked)
        catalog.approve_waiver(asked.id, "Bert")
        catalog.approve_base("debian12", digest("base"), owner="platform", expires=now + LATER)
        catalog.record_attestations(
            [
                AttestationRecord(
                    digest=digest("one"),
                    format="bundle",
                    predicate_type="https://example.com/x",
                    manifest_digest=digest("m"),
                    blob_digest=digest("b"),
                    size=3,
                    key_fingerprint="k",
                    builder="local",
                    created=now,
                )
            ]
        )
    entries(settings, count)
    return settings


def verified(settings: Settings, *given: bytes) -> audit_verify.Verification:
    """What is found in the home's log, compared with its file and the checkpoints `given`."""
    files = audit_log.places(settings)
    checkpoints = [
        ("the file", audit_log.written_checkpoint(files)),
        *((f"given {number}", data) for number, data in enumerate(given)),
    ]
    with audit_log.reading(settings.catalog) as log:
        return audit_verify.verify(log, audit_log.public_key(files), checkpoints)


def flatten(path: Path) -> None:
    """Put everything into the one file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")


@contextmanager
def editing(path: Path) -> Iterator[Rows]:
    """Change rows as somebody with the file and no key would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")


def found_after(settings: Settings, folder: Path, statement: str) -> set[str]:
    """Which kinds of problems are found after the statement changed some rows; the database is then as before."""
    path, kept = settings.home.catalog, folder / "kept.db"
    shutil.copyfile(path, kept)
    try:
        with editing(path) as rows:
            rows.execute("PRAGMA foreign_keys = OFF")
            assert rows.execute(statement).rowcount
        return {one.kind for one in verified(settings).problems}
    finally:
        shutil.copyfile(kept, path)


OF_ROWS = frozenset({"row_edited", "row_inserted", "row_removed"})
"""Kinds of problems that rows have which do not read as the log said last."""


class Before(NamedTuple):
    """The home as it was, and an older copy of its database."""

    settings: Settings
    older: Path


def _size(rows: Rows) -> int:
    return int(rows.execute("SELECT size FROM audit_state").fetchone()[0])


def _flipped(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def edit_entry(rows: Rows, chance: random.Random) -> None:
    at = chance.randrange(_size(rows))
    (data,) = rows.execute("SELECT entry FROM audit_entry WHERE position = ?", (at,)).fetchone()
    rows.execute("UPDATE audit_entry SET entry = ? WHERE position = ?", (_flipped(data, chance), at))


def edit_searched_column(rows: Rows, chance: random.Random) -> None:
    column = chance.choice(("at", "action", "subject"))
    at = chance.randrange(_size(rows))
    rows.execute(f"UPDATE audit_entry SET {column} = {column} || 'x' WHERE position = ?", (at,))


def remove_entry(rows: Rows, chance: random.Random) -> None:
    rows.execute("DELETE FROM audit_entry WHERE position = ?", (chance.randrange(_size(rows)),))


def remove_entry_and_close_the_gap(rows: Rows, chance: random.Random) -> None:
    at = chance.randrange(_size(rows))
    rows.execute("DELETE FROM audit_entry WHERE position = ?", (at,))
    rows.execute("UPDATE audit_entry SET position = -position WHERE position > ?", (at,))
    rows.execute("UPDATE audit_entry SET position = -position - 1 WHERE position < 0")


def swap_entries(rows: Rows, chance: random.Random) -> None:
    one, other = chance.sample(range(_size(rows)), 2)
    for old, new in ((one, -1), (other, one), (-1, other)):
        rows.execute("UPDATE audit_entry SET position = ? WHERE position = ?", (new, old))


def insert_entry(rows: Rows, chance: random.Random) -> None:
    at = chance.choice((_size(rows), -1, _size(rows) + chance.randrange(1, 999)))
    rows.execute("INSERT INTO audit_entry SELECT ?, at, action, subject, entry FROM audit_entry LIMIT 1", (at,))


def insert_entry_between(rows: Rows, chance: random.Random) -> None:
    at = chance.randrange(_size(rows))
    rows.execute("UPDATE audit_entry SET position = -position - 1 WHERE position >= ?", (at,))
    rows.execute("UPDATE audit_entry SET position = -position WHERE position < 0")
    rows.execute("INSERT INTO audit_entry SELECT ?, at, action, subject, entry FROM audit_entry LIMIT 1", (at,))


def _tile(rows: Rows, chance: random.Random) -> tuple[int, int, bytes]:
    found: tuple[int, int, bytes] = chance.choice(
        rows.execute("SELECT level, number, hashes FROM audit_tile").fetchall()
    )
    return found


def edit_tile(rows: Rows, chance: random.Random) -> None:
    level, number, data = _tile(rows, chance)
    changed = chance.choice((_flipped(data, chance), data[:-32], data + bytes(32), b""))
    rows.execute("UPDATE audit_tile SET hashes = ? WHERE level = ? AND number = ?", (changed, level, number))


def remove_tile(rows: Rows, chance: random.Random) -> None:
    level, number, _ = _tile(rows, chance)
    rows.execute("DELETE FROM audit_tile WHERE level = ? AND number = ?", (level, number))


def insert_tile(rows: Rows, chance: random.Random) -> None:
    place = chance.choice(((0, 99), (5, 0), (1, 7), (-1, 0)))
    rows.execute("INSERT INTO audit_tile VALUES (?, ?, ?)", (*place, bytes(32)))


def edit_size(rows: Rows, chance: random.Random) -> None:
    rows.execute("UPDATE audit_state SET size = size + ?", (chance.choice((-1, 1, -20, 1000)),))


def edit_checkpoint(rows: Rows, chance: random.Random) -> None:
    (data,) = rows.execute("SELECT checkpoint FROM audit_state").fetchone()
    rows.execute("UPDATE audit_state SET checkpoint = ?", (_flipped(data, chance),))


def remove_state(rows: Rows, chance: random.Random) -> None:
    rows.execute(chance.choice(("DELETE FROM audit_state", "UPDATE audit_state SET checkpoint = x'', size = 'x'")))


def rewrite_with_another_key(rows: Rows, chance: random.Random) -> None:
    """Every entry, every tile and the checkpoint fit together; only the key is another one."""
    _rewrite(rows, chance, resign=True)


def rewrite_without_signing(rows: Rows, chance: random.Random) -> None:
    _rewrite(rows, chance, resign=False)


def _rewrite(rows: Rows, chance: random.Random, *, resign: bool) -> None:
    at = chance.randrange(_size(rows))
    (data,) = rows.execute("SELECT entry FROM audit_entry WHERE position = ?", (at,)).fetchone()
    changed = data.replace(b'"actor":"', b'"actor":"x')
    rows.execute("UPDATE audit_entry SET entry = ? WHERE position = ?", (changed, at))
    found = [one for (one,) in rows.execute("SELECT entry FROM audit_entry ORDER BY position")]
    tree, made = tiles.extend(tiles.EMPTY, [merkle.leaf_hash(one) for one in found])
    rows.executemany(
        "UPDATE audit_tile SET hashes = ? WHERE level = ? AND number = ?",
        [(tile.data, tile.level, tile.index) for tile in made],
    )
    if resign:
        name = rows.execute("SELECT subject FROM audit_entry WHERE position = 0").fetchone()[0]
        signed = checkpoint.sign(Checkpoint(name, tree.size, tiles.root(tree)), LogKey.generate(name))
        rows.execute("UPDATE audit_state SET checkpoint = ?", (signed,))


def cut_off_the_end(rows: Rows, chance: random.Random) -> None:
    """The last entries are gone, and the tiles are those of what is left."""
    keep = _size(rows) - chance.randrange(1, 30)
    rows.execute("DELETE FROM audit_entry WHERE position >= ?", (keep,))
    found = [one for (one,) in rows.execute("SELECT entry FROM audit_entry ORDER BY position")]
    _, made = tiles.extend(tiles.EMPTY, [merkle.leaf_hash(one) for one in found])
    rows.execute("DELETE FROM audit_tile")
    rows.executemany("INSERT INTO audit_tile VALUES (?, ?, ?)", [(one.level, one.index, one.data) for one in made])
    rows.execute("UPDATE audit_state SET size = ?", (keep,))


def change_document(rows: Rows, chance: random.Random) -> None:
    found = rows.execute("SELECT digest, document FROM audit_document").fetchall()
    name, data = chance.choice(found)
    way = chance.randrange(3)
    if way == 0:
        rows.execute("UPDATE audit_document SET document = ? WHERE digest = ?", (_flipped(data, chance), name))
    elif way == 1:
        rows.execute("DELETE FROM audit_document WHERE digest = ?", (name,))
    else:
        rows.execute("INSERT INTO audit_document VALUES (?, ?)", (digest(str(chance.random())), data))


_EDITS = (
    "UPDATE verdict SET verdict = 'allow' WHERE id = (SELECT max(id) FROM verdict)",
    "UPDATE verdict SET document = replace(document, 'staging', 'Staging') WHERE id = 1",
    "UPDATE verdict SET valid_until = '2099-01-01 00:00:00.000000' WHERE id = 2",
    "UPDATE verdict SET document = 'x' WHERE id = 3",
    "UPDATE verdict SET environment = 'production' WHERE id = 3",
    "UPDATE waiver SET expires_at = '2099-01-01 00:00:00.000000'",
    "UPDATE waiver SET reviewer = 'Cleo'",
    "UPDATE waiver SET scope = replace(scope, 'team/model', '**')",
    "DELETE FROM waiver",
    "UPDATE waiver SET name = 'W-forged'",
    "UPDATE tag SET artifact_id = 1 WHERE name = 'three'",
    "UPDATE tag SET visibility = 'built', verdict_id = NULL WHERE name = 'three'",
    "UPDATE tag SET visibility = 'cleared', verdict_id = 1 WHERE name = 'one'",
    "UPDATE tag SET name = 'four' WHERE name = 'two'",
    "DELETE FROM tag WHERE name = 'one'",
    "UPDATE base_approval SET expires_at = NULL",
    "UPDATE base_approval SET digest = 'sha256:' || substr(digest, 9) || '0'",
    "UPDATE signature SET builder = 'ci' WHERE id = 1",
    "DELETE FROM signature WHERE id = 2",
    "INSERT INTO signature SELECT 99, 1, 'other', builder, format, manifest_digest, created FROM signature LIMIT 1",
    "UPDATE attestation SET predicate_type = 'https://example.com/y'",
    "DELETE FROM attestation",
)


def edit_a_row(rows: Rows, chance: random.Random) -> None:
    """A verdict, waiver, tag, base, signature or attestation, as the gate would read it."""
    rows.execute("PRAGMA foreign_keys = OFF")
    rows.execute(chance.choice(_EDITS))


WAYS: tuple[Callable[[Rows, random.Random], None], ...] = (
    edit_entry,
    edit_searched_column,
    remove_entry,
    remove_entry_and_close_the_gap,
    swap_entries,
    insert_entry,
    insert_entry_between,
    edit_tile,
    remove_tile,
    insert_tile,
    edit_size,
    edit_checkpoint,
    remove_state,
    rewrite_with_another_key,
    rewrite_without_signing,
    cut_off_the_end,
    change_document,
    edit_a_row,
)


def _everything(path: Path) -> object:
    """What the log's tables and the rows that it speaks of hold; the error where they cannot be read."""
    try:
        with audit_log.reading(path) as log:
            tables = [log.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in _AUDITED]
            return tables, list(audit_states.all_of(log))
    except UndeterminedError as error:
        return error.message


def flip_a_byte(path: Path, chance: random.Random) -> None:
    """Change a byte somewhere in the file until something that matters reads differently."""
    before, data = _everything(path), path.read_bytes()
    while True:
        path.write_bytes(_flipped(data, chance))
        if _everything(path) != before:
            return


def put_back(path: Path, older: Path) -> None:
    """Put an older copy in the place of the database."""
    shutil.copyfile(older, path)


def manipulate(before: Before, chance: random.Random) -> str:
    """Change something in the home's database; what it was. The database is one file (`flatten`)."""
    path = before.settings.home.catalog
    number = chance.randrange(len(WAYS) + 3)
    if number < len(WAYS):
        with editing(path) as rows:
            WAYS[number](rows, chance)
        return WAYS[number].__name__
    if number == len(WAYS):
        put_back(path, before.older)
        return "put_back"
    flip_a_byte(path, chance)
    return "flip_a_byte"
