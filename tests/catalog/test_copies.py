"""Copies of a database that others write to, and whether a file is whole."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tidewaiter.catalog import copies
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.glance import REVISION
from tidewaiter.core import settings
from tidewaiter.core.errors import IntegrityError, StorageError


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in WAL mode with two tables that always have as many rows as each other."""
    path = tmp_path / "a database?#.db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("CREATE TABLE one (data BLOB)")
        made.execute("CREATE TABLE two (data BLOB)")
        for _ in range(300):
            made.execute("INSERT INTO one VALUES (randomblob(8000))")
            made.execute("INSERT INTO two VALUES (randomblob(8000))")
        made.commit()
    return path


def rows(path: Path) -> tuple[int, int]:
    """Rows of both tables."""
    with closing(sqlite3.connect(path)) as found:
        one, two = (found.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("one", "two"))
    return one, two


def test_a_copy_is_of_one_moment(database: Path, tmp_path: Path) -> None:
    """Beside a writer that never pauses the copy ends, and has what one transaction left, not half of the next."""
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with closing(sqlite3.connect(database, timeout=30)) as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO one VALUES (randomblob(8000))")
                connection.execute("INSERT INTO two VALUES (randomblob(8000))")
                connection.commit()
                written += 1

    writer = threading.Thread(target=write)
    writer.start()
    told: list[float] = []
    try:
        for number in range(5):
            copies.snapshot(database, tmp_path / f"{number}.db", tick=told.append)
    finally:
        stop.set()
        writer.join()
    assert written > 0
    for number in range(5):
        copies.require_whole(tmp_path / f"{number}.db")
        one, two = rows(tmp_path / f"{number}.db")
        assert one == two >= 300
    assert told[-1] == 1
    assert all(0 <= part <= 1 for part in told)


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    """A file that is missing is an error of the storage, one that is no database is damaged."""
    with pytest.raises(StorageError):
        copies.snapshot(tmp_path / "none", tmp_path / "copy")
    (tmp_path / "text").write_bytes(b"nonsense" * 1000)
    for ask in (copies.require_whole, copies.revision, copies.journal_mode):
        with pytest.raises(IntegrityError):
            ask(tmp_path / "text")


def test_pages_that_do_not_hang_together(database: Path) -> None:
    """A page of an index or table that was overwritten is found."""
    copies.require_whole(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(database.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    data[5 * page : 5 * page + 16] = b"\xff" * 16
    database.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        copies.require_whole(database)
    assert caught.value.code == "database_damaged"
    assert "tidewaiter backup restore" in caught.value.next_step


def test_what_a_file_is(database: Path, tmp_path: Path) -> None:
    """A catalog says its revision and its journal; another database has no revision."""
    Catalog.open(settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")})).close()
    assert copies.revision(tmp_path / "home/catalog.db") == REVISION
    assert copies.revision(database) is None
    assert copies.journal_mode(tmp_path / "home/catalog.db") == copies.journal_mode(database) == "wal"
