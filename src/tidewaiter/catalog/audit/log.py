"""The audit log of a home as it lies there: its key, the last checkpoint as a file, its tiles in the database.

The checkpoint is in the database and, as `audit/checkpoint`, beside it: an older copy of the database, put in its
place, ends before the file does.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tidewaiter.catalog.glance import REVISION, Place, UnansweredError
from tidewaiter.catalog.plain import Plain
from tidewaiter.core import durable, limits
from tidewaiter.core.errors import RefusedError, UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.signing.tlog import checkpoint, note, tiles
from tidewaiter.signing.tlog.checkpoint import Checkpoint
from tidewaiter.signing.tlog.note import LogKey, VerifierKey
from tidewaiter.signing.tlog.tiles import Frontier


class Places(NamedTuple):
    """Files of the log in a home."""

    key: Path
    """Private key of the log, as Go's `sumdb/note` writes it."""
    vkey: Path
    """Its public key."""
    checkpoint: Path
    lock: Path
    """Held by who numbers entries or drops them."""
    witnesses: Path
    """The last checkpoint that each witness signed."""


def places(settings: Settings) -> Places:
    """Where they lie."""
    folder = settings.home.path / "audit"
    keys = settings.home.keys
    return Places(keys / "audit.key", keys / "audit.vkey", folder / "checkpoint", folder / "lock", folder / "witnesses")


@contextmanager
def alone(connection: Plain, files: Places, *, seconds: float) -> Iterator[None]:
    """Be the only one that numbers or drops entries: of the home, on PostgreSQL of the database.

    Raises `DeadlineError` when another is it for so long.
    """
    if isinstance(connection, sqlite3.Connection):
        with durable.exclusive(files.lock, seconds=seconds):
            yield
        return
    from tidewaiter.catalog import postgres

    with postgres.locked(connection, "audit", seconds=seconds):
        yield


def open_key(files: Places, origin: str) -> LogKey:
    """The log's key, made when there is none; its name is the log's, and begins with `origin`.

    Raises:
        InputError: the file is malformed.
        StorageError: it cannot be written.
    """
    if not files.key.exists():
        # Two homes with the same setting `origin` are two logs, which a witness must tell apart.
        made = LogKey.generate(f"{origin}/audit/{os.urandom(6).hex()}")
        durable.write_atomically(files.key, made.secret.encode() + b"\n", mode=0o600)
    key = LogKey.parse(_read(files.key).decode(errors="replace").strip())
    if not files.vkey.exists():
        durable.write_atomically(files.vkey, f"{key.vkey}\n".encode())
    return key


def public_key(files: Places) -> VerifierKey:
    """The log's public key. Raises `UndeterminedError` when the home has none, `InputError` when it is malformed."""
    return note.parse_vkey(_read(files.vkey).decode(errors="replace").strip())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limits.KEY_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise UndeterminedError(
            f"{path} is missing",
            next_step="Restore it from a backup, or give the log's key with --key.",
            code="audit_key_missing",
        ) from error
    except OSError as error:
        raise UndeterminedError(f"{path} cannot be read: {error.strerror}", next_step="Check who owns it.") from error


def written_checkpoint(files: Places) -> bytes | None:
    """The checkpoint that lies in the home as a file; None when there is none."""
    try:
        with files.checkpoint.open("rb") as file:
            return file.read(limits.NOTE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UndeterminedError(
            f"{files.checkpoint} cannot be read: {error.strerror}", next_step="Check who owns it."
        ) from error


def opened(data: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint in a note that the log signed; raises what `checkpoint.open_signed` raises."""
    return checkpoint.open_signed(data, key).checkpoint


@contextmanager
def reading(place: Place) -> Iterator[Plain]:
    """One consistent view of the catalog at `place`, by a connection that reads any text, however damaged.

    Raises:
        UndeterminedError: it is missing, of another schema, locked or too damaged to be read.
    """
    try:
        with _opened(place) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            if found != [(REVISION,)]:
                raise UndeterminedError(
                    f"the catalog {place} has the schema {found}, not {REVISION}",
                    next_step="Restore it, or use the tidewaiter version that wrote it.",
                    code="storage",
                )
            yield connection
    # A damaged name makes a message that is no text.
    except (sqlite3.Error, UnicodeDecodeError, UnansweredError) as error:
        raise UndeterminedError(
            f"the catalog {place} cannot be read: {error}", next_step="Restore it from a backup.", code="storage"
        ) from error


@contextmanager
def _opened(place: Place) -> Iterator[Plain]:
    if not isinstance(place, Path):
        from tidewaiter.catalog import postgres

        with postgres.connected(place) as connection:
            postgres.begin(connection, writing=False)
            yield connection
        return
    address = f"file:{quote(str(place))}?mode=ro"
    wait = limits.CATALOG_WAIT_SECONDS
    with closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=wait)) as file:
        file.text_factory = _text
        file.execute("BEGIN")
        yield file


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def raw(value: Any) -> bytes:  # noqa: ANN401 - SQLite keeps anything in any column
    """The bytes of a column, also where somebody put something else into it."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


class State(NamedTuple):
    """What the database says of the log as a whole."""

    size: int
    checkpoint: bytes


def state(connection: Plain) -> State | None:
    """None before the first entry has a position. Raises `RefusedError` when it is malformed."""
    row = connection.execute("SELECT size, checkpoint FROM audit_state WHERE id = 1").fetchone()
    if row is None:
        return None
    if not isinstance(row[0], int) or not isinstance(row[1], bytes):
        raise RefusedError(
            "what the database says of the audit log as a whole is malformed",
            next_step="`tidewaiter audit verify` says what was changed.",
            code="audit_manipulated",
        )
    return State(*row)


class Tiles:
    """The tiles in the database, for the log's proofs."""

    def __init__(self, connection: Plain) -> None:
        self._connection = connection

    def read(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a tile. Raises `RefusedError` when it is missing or shorter."""
        row = self._connection.execute(
            "SELECT hashes FROM audit_tile WHERE level = ? AND number = ?", (level, index)
        ).fetchone()
        wanted = width * tiles.TILE_BYTES // tiles.WIDTH
        if row is None or not isinstance(row[0], bytes) or len(row[0]) < wanted:
            raise RefusedError(
                f"the tile {tiles.Place(level, index, width).path} of the audit log is missing or too short",
                next_step="`tidewaiter audit verify` says what was changed.",
                code="audit_manipulated",
            )
        return row[0][:wanted]

    def length(self, level: int, index: int) -> int:
        """Bytes of a tile; 0 when it is missing."""
        query = "SELECT length(hashes) FROM audit_tile WHERE level = ? AND number = ?"
        row = self._connection.execute(query, (level, index)).fetchone()
        return 0 if row is None else int(row[0])


def frontier(connection: Plain, size: int) -> Frontier:
    """What is needed to go on with the log; raises `RefusedError` when a tile is missing."""
    return tiles.frontier(Tiles(connection), size)
