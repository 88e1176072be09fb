import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from osv_feed import affected, entry, simple, zipped

from tidewaiter.advisories.database import Database
from tidewaiter.advisories.importing import import_feed
from tidewaiter.core.errors import InputError, LimitError, RefusedError, StorageError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database with the shipped snapshot."""
    with Database(tmp_path / "advisories.db") as database:
        yield database


def test_the_real_export_is_imported_fast_and_equals_the_shipped_data(database: Database, shared_data: Path) -> None:
    """The export that the snapshot is made from has the same facts, and takes at most three seconds."""
    before = database.revision()
    start = time.process_time()
    result = import_feed(database, shared_data / "osv-pypi-2024-10-10.zip")
    assert time.process_time() - start < 3
    assert (result.ecosystems, result.as_of) == (("PyPI",), "2024-10-10T17:22:00Z")
    assert (result.entries, result.withdrawn) == (2651, 10)
    assert (result.added, result.changed, result.removed) == (0, 0, 0)
    assert database.revision() == before
    assert database.coverage()["PyPI"].source == "osv-pypi-2024-10-10.zip"


def test_withdrawn_entries_go_away(database: Database, tmp_path: Path) -> None:
    """An entry that the new export calls withdrawn is removed; one that it lacks, too."""
    import_feed(database, zipped(tmp_path / "a.zip", *(simple(number) for number in range(10))), force=True)
    gone = simple(0, withdrawn="2024-06-01T00:00:00Z")
    result = import_feed(database, zipped(tmp_path / "b.zip", gone, *(simple(number) for number in range(1, 9))))
    assert (result.entries, result.withdrawn, result.removed) == (8, 1, 2)
    assert database.advisories("PyPI", "package-0") == []


def test_the_date_is_the_newest_change_and_never_in_the_future(database: Database, tmp_path: Path) -> None:
    """The date comes from the entries, or is given; a date from the future does not make data fresh."""
    entries = [simple(1, modified="2024-03-01T00:00:00Z"), simple(2, modified="2999-01-01T00:00:00Z")]
    path = zipped(tmp_path / "all.zip", *entries)
    assert import_feed(database, path, force=True).as_of == "2024-03-01T00:00:00Z"
    assert import_feed(database, path, as_of="2024-04-01T02:00:00+02:00").as_of == "2024-04-01T00:00:00Z"
    assert database.coverage()["PyPI"].as_of == "2024-04-01T00:00:00Z"
    for wrong in ("2999-01-01T00:00:00Z", "2024-04-01", "soon"):
        with pytest.raises(InputError):
            import_feed(database, path, as_of=wrong)
    with pytest.raises(InputError, match="how old"):
        import_feed(database, zipped(tmp_path / "undated.zip", entries[1]), force=True)


def test_an_export_is_of_one_ecosystem(database: Database, tmp_path: Path) -> None:
    """Only the ecosystem that all entries share is replaced and covered; others in them are left out."""
    both = entry("GHSA-1", affected("thing", ("introduced", "0")), affected("thing", ecosystem="npm"))
    result = import_feed(database, zipped(tmp_path / "a.zip", both, simple(1)), force=True)
    assert result.ecosystems == ("PyPI",)
    assert database.coverage().keys() == {"PyPI"}
    assert database.advisories("npm", "thing") == []
    mixed = zipped(tmp_path / "b.zip", simple(1), entry("GHSA-2", affected("thing", ecosystem="npm")))
    with pytest.raises(InputError, match="ecosystem") as caught:
        import_feed(database, mixed)
    assert "--ecosystem" in caught.value.next_step
    assert import_feed(database, mixed, ecosystem="npm").entries == 1
    with pytest.raises(InputError, match="no entry about"):
        import_feed(database, mixed, ecosystem="Debian:12")


def test_releases_are_covered_one_by_one(database: Database, tmp_path: Path) -> None:
    """A distribution's export covers the releases that it has entries for."""
    items = (affected("bash", ("introduced", "0"), ecosystem=f"Debian:{release}") for release in ("11", "12"))
    result = import_feed(database, zipped(tmp_path / "all.zip", entry("DEBIAN-CVE-1-1", *items)))
    assert result.ecosystems == ("Debian",)
    assert database.coverage().keys() == {"Debian:11", "Debian:12", "PyPI"}


def test_one_entry_is_added_and_withdrawn(database: Database, tmp_path: Path) -> None:
    """A single entry does not replace the ecosystem, and its withdrawal removes it."""
    file = tmp_path / "ACME-1.json"
    file.write_text(json.dumps(entry("ACME-1", affected("thing", ("introduced", "0")))))
    result = import_feed(database, file)
    assert (result.ecosystems, result.entries, result.added) == (("PyPI",), 1, 1)
    assert database.coverage()["PyPI"].entries == 2651
    assert len(database.advisories("PyPI", "thing")) == 1
    file.write_text(json.dumps(entry("ACME-1", withdrawn="2024-06-01T00:00:00Z")))
    assert import_feed(database, file).removed == 1
    assert database.advisories("PyPI", "thing") == []
    file.write_text(json.dumps(entry("ACME-2")))
    with pytest.raises(InputError, match="names no package"):
        import_feed(database, file)


@pytest.mark.parametrize("bad", ["no id", "depth", "twice", "cut", "shrunk", "empty"])
def test_a_bad_feed_leaves_everything_as_it_was(database: Database, tmp_path: Path, bad: str) -> None:
    """One bad entry among good ones, a cut archive or a shrunk feed change nothing."""
    good = [simple(number) for number in range(2000)]
    path = tmp_path / "all.zip"
    folder = tmp_path / "folder"
    folder.mkdir()
    for item in good:
        (folder / f"{item['id']}.json").write_text(json.dumps(item))
    if bad == "no id":
        (folder / "z.json").write_text(json.dumps({"modified": "2024-05-01T00:00:00Z"}))
    elif bad == "depth":
        (folder / "z.json").write_text('{"id": "X-1", "x": ' + "[" * 100_000 + "}")
    elif bad == "twice":
        (folder / "z.json").write_text(json.dumps(simple(1, fixed="9")))
    elif bad == "cut":
        zipped(path, *good)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif bad == "shrunk":
        zipped(path, *good[:1000])
    elif bad == "empty":
        zipped(path)
    before = database.revision(), database.coverage()
    with pytest.raises((InputError, LimitError, RefusedError)):
        import_feed(database, path if path.exists() else folder)
    assert (database.revision(), database.coverage()) == before


def test_a_killed_import_leaves_the_old_data(tmp_path: Path) -> None:
    """A process killed at the end of its transaction, everything written and nothing committed, leaves no trace."""
    path = tmp_path / "advisories.db"
    with Database(path) as database:
        before = database.revision(), database.coverage()
    archive = zipped(tmp_path / "all.zip", *(simple(number) for number in range(3000)))
    program = """
import os, signal, sys
from pathlib import Path
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.importing import import_feed

database = Database(Path(sys.argv[1]))
def watch(statement):
    if statement == "COMMIT" and database._connection.total_changes > 3000:
        os.kill(os.getpid(), signal.SIGKILL)
database._connection.set_trace_callback(watch)
import_feed(database, Path(sys.argv[2]))
"""
    killed = subprocess.run([sys.executable, "-c", program, path, archive], check=False)
    assert killed.returncode == -signal.SIGKILL
    with Database(path) as database:
        assert (database.revision(), database.coverage()) == before
        result = import_feed(database, archive)
        assert result.added + result.changed == 3000


def test_two_imports_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """Several processes that import into a new home at once all succeed."""
    archive = zipped(tmp_path / "all.zip", *(simple(number) for number in range(2000)))
    program = (
        "import sys; from pathlib import Path; from tidewaiter.advisories.database import Database; "
        "from tidewaiter.advisories.importing import import_feed; "
        "import_feed(Database(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "advisories.db"), str(archive)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    with Database(tmp_path / "advisories.db") as database:
        assert database.coverage()["PyPI"].entries == 2000


def test_a_full_disk_leaves_the_old_data(database: Database, tmp_path: Path) -> None:
    """SQLite's refusal to grow is a storage error, and nothing is half written."""
    before = database.revision(), database.coverage()
    (pages,) = database._connection.execute("PRAGMA page_count").fetchone()
    database._connection.execute(f"PRAGMA max_page_count = {pages}")
    archive = zipped(tmp_path / "all.zip", *(simple(number, aliases=["A" * 900]) for number in range(6000)))
    with pytest.raises(StorageError, match="full"):
        import_feed(database, archive)
    assert (database.revision(), database.coverage()) == before
