import sqlite3
import time
from pathlib import Path

import pytest
from osv_feed import affected, entry, parsed, simple

from tidewaiter.advisories import snapshot
from tidewaiter.advisories.database import SHIPPED, Changes, Database, Row, rows_of
from tidewaiter.core.errors import RefusedError, StorageError

AS_OF = "2024-06-01T00:00:00Z"


def rows(count: int, **more: str) -> list[Row]:
    return [rows_of(parsed(simple(number, **more)))["PyPI"] for number in range(count)]


def test_an_empty_home_has_the_shipped_snapshot_at_once(tmp_path: Path) -> None:
    """The first opening fills the database within a second, the next one finds it there."""
    start = time.monotonic()
    with Database(tmp_path / "home" / "advisories.db") as database:
        took = time.monotonic() - start
        coverage = database.coverage()["PyPI"]
        revision = database.revision()
        jinja = database.advisories("PyPI", "jinja2")
    assert took < 1
    assert coverage.entries == 2651  # 10 of the 2,661 are withdrawn
    assert (coverage.as_of, coverage.source) == ("2024-10-10T17:22:00Z", f"{SHIPPED}: pypa/advisory-database@3ccb612")
    assert "PYSEC-2019-217" in {advisory.id for advisory, _ in jinja}
    with Database(tmp_path / "home" / "advisories.db") as database:
        assert (database.coverage()["PyPI"], database.revision()) == (coverage, revision)


def test_an_older_shipped_snapshot_is_replaced_and_imported_data_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new release brings its snapshot to homes that have only the old one."""
    Database(tmp_path / "advisories.db").close()
    header, advisories = snapshot.shipped()
    newer = snapshot.encode(advisories[:5], ecosystem="PyPI", source="newer", license_id=header.license)
    monkeypatch.setattr(snapshot, "shipped", lambda: snapshot.decode(newer))
    monkeypatch.setattr(snapshot, "shipped_header", lambda: snapshot.decode(newer)[0])
    with Database(tmp_path / "advisories.db") as database:
        assert database.coverage()["PyPI"].source == f"{SHIPPED}: newer"
        database.replace("PyPI", rows(20), source="mine", as_of=AS_OF)
    monkeypatch.undo()
    with Database(tmp_path / "advisories.db") as database:
        assert (database.coverage()["PyPI"].entries, database.coverage()["PyPI"].source) == (20, "mine")


def test_replacing_counts_what_changed(tmp_path: Path) -> None:
    """Added, changed and removed entries are counted, and the same data again changes nothing but its source."""
    with Database(tmp_path / "advisories.db") as database:
        database.replace("PyPI", rows(10), source="one", as_of=AS_OF, force=True)
        first = database.revision()
        new = [*rows(12)[2:], *rows(1, fixed="3.0")]
        assert database.replace("PyPI", new, source="two", as_of=AS_OF) == Changes(added=2, changed=1, removed=1)
        assert database.revision() != first
        assert database.advisories("PyPI", "package-1") == []
        assert database.replace("PyPI", rows(10), source="three", as_of=AS_OF) == Changes(1, 1, 2)
        assert database.revision() == first
        assert database.replace("PyPI", rows(10), source="four", as_of=AS_OF) == Changes(0, 0, 0)
        assert database.coverage()["PyPI"].source == "four"


def test_a_feed_that_shrinks_by_half_is_refused(tmp_path: Path) -> None:
    """Half the entries are too few, one more is enough, and force takes them; each release counts by itself."""
    with Database(tmp_path / "advisories.db") as database:
        database.replace("PyPI", rows(10), source="one", as_of=AS_OF, force=True)
        before = database.revision()
        with pytest.raises(RefusedError, match="5 entries where 10 are known"):
            database.replace("PyPI", rows(5), source="two", as_of=AS_OF)
        assert (database.revision(), database.coverage()["PyPI"].source) == (before, "one")
        database.replace("PyPI", rows(6), source="two", as_of=AS_OF)
        database.replace("PyPI", rows(1), source="three", as_of=AS_OF, force=True)
        assert database.coverage()["PyPI"].entries == 1

        def debian(number: int, *releases: str) -> Row:
            items = (affected("bash", ("introduced", "0"), ecosystem=f"Debian:{release}") for release in releases)
            return rows_of(parsed(entry(f"DEBIAN-CVE-1-{number}", *items)))["Debian"]

        database.replace("Debian", [debian(1, "11", "12"), debian(2, "11")], source="one", as_of=AS_OF)
        assert {name: item.entries for name, item in database.coverage().items()} == {
            "Debian:11": 2,
            "Debian:12": 1,
            "PyPI": 1,
        }
        with pytest.raises(RefusedError, match="Debian:12"):
            database.replace("Debian", [debian(1, "11"), debian(2, "11")], source="two", as_of=AS_OF)


def test_a_single_entry_survives_the_next_export(tmp_path: Path) -> None:
    """An entry added by hand stays until an export has it or it is withdrawn, and makes no coverage."""
    own = rows_of(parsed(entry("ACME-1", affected("thing", ("introduced", "0")))))
    npm = rows_of(parsed(entry("ACME-2", affected("thing", ("introduced", "0"), ecosystem="npm"))))
    with Database(tmp_path / "advisories.db") as database:
        database.replace("PyPI", rows(3), source="one", as_of=AS_OF, force=True)
        assert database.put_single(own) == Changes(1, 0, 0)
        assert database.put_single(own) == Changes(0, 0, 0)
        assert database.put_single(npm) == Changes(1, 0, 0)
        assert database.coverage().keys() == {"PyPI"}
        database.replace("PyPI", rows(3), source="two", as_of=AS_OF)
        assert [advisory.id for advisory, _ in database.advisories("PyPI", "thing")] == ["ACME-1"]
        assert [advisory.id for advisory, _ in database.advisories("npm", "thing")] == ["ACME-2"]
        database.replace("PyPI", [*rows(3), own["PyPI"]], source="three", as_of=AS_OF)
        assert database.replace("PyPI", rows(3), source="four", as_of=AS_OF) == Changes(0, 0, 1)
        assert database.withdraw("ACME-2") == Changes(0, 0, 1)
        assert database.withdraw("ACME-2") == Changes(0, 0, 0)
        assert database.advisories("npm", "thing") == []


def test_a_reader_sees_one_moment(tmp_path: Path) -> None:
    """What another connection imports during a reading block shows up after it."""
    path = tmp_path / "advisories.db"
    with Database(path) as reader, Database(path) as writer:
        with reader.reading():
            before = reader.revision()
            writer.replace("PyPI", rows(3), source="one", as_of=AS_OF, force=True)
            assert reader.revision() == before
            assert reader.coverage()["PyPI"].entries == 2651
        assert reader.coverage()["PyPI"].entries == 3


def test_an_entry_without_a_release_holds_for_all(tmp_path: Path) -> None:
    """Entries filed under `Debian` are found for `Debian:12`, and do not make it covered."""
    row = rows_of(parsed(entry("DSA-1", affected("bash", ("introduced", "0"), ecosystem="Debian"))))["Debian"]
    with Database(tmp_path / "advisories.db") as database:
        database.replace("Debian", [row], source="one", as_of=AS_OF)
        assert [advisory.id for advisory, _ in database.advisories("Debian:12", "bash")] == ["DSA-1"]
        assert "Debian:12" not in database.coverage()


@pytest.mark.parametrize("damage", ["text", "other program", "newer release", "no tables", "folder"])
def test_a_file_that_is_no_database_of_ours_is_an_error(tmp_path: Path, damage: str) -> None:
    """A damaged or foreign file is a storage error, never an empty database."""
    path = tmp_path / "advisories.db"
    if damage == "text":
        path.write_bytes(b"This is not a database. " * 1000)
    elif damage == "folder":
        path.mkdir()
    else:
        Database(path).close()
        connection = sqlite3.connect(path)
        connection.execute(
            {
                "other program": "PRAGMA application_id = 1",
                "newer release": "PRAGMA user_version = 99",
                "no tables": "DROP TABLE feed",
            }[damage]
        )
        connection.commit()
        connection.close()
    with pytest.raises(StorageError, match=r"advisories\.db"):
        Database(path)
