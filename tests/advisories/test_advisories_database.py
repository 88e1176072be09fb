import random
import sqlite3
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest
from osv_feed import Entry, affected, entry, parsed, simple

from tidewaiter.advisories import snapshot
from tidewaiter.advisories.database import SHIPPED, Database
from tidewaiter.advisories.rows import Changes, Exploited, Row, rows_of
from tidewaiter.core.errors import RefusedError, StorageError

AS_OF = "2024-06-01T00:00:00Z"


def rows(count: int, **more: str) -> list[Row]:
    return [rows_of(parsed(simple(number, **more)))["PyPI"] for number in range(count)]


def test_an_empty_home_has_the_shipped_snapshot_at_once(tmp_path: Path) -> None:
    """The first opening fills the database within a second, the next one finds it there."""
    start = time.process_time()
    with Database(tmp_path / "home" / "advisories.db") as database:
        took = time.process_time() - start
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
    newer = snapshot.encode(islice(advisories, 5), ecosystem="PyPI", source="newer", license_id=header.license)
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


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that ships thirty entries."""
    header, advisories = snapshot.shipped()
    small = snapshot.encode(islice(advisories, 30), ecosystem="PyPI", source="few", license_id=header.license)
    monkeypatch.setattr(snapshot, "shipped", lambda: snapshot.decode(small))
    monkeypatch.setattr(snapshot, "shipped_header", lambda: snapshot.decode(small)[0])


def everything(path: Path, names: Iterable[tuple[str, str]]) -> object:
    with Database(path) as database:
        return (
            database.coverage(),
            database.revision(),
            database.exploited(),
            database.exploited_part("KEV", ""),
            [database.advisories(*name) for name in names],
        )


@pytest.mark.usefixtures("few")
def test_a_flipped_bit_is_noticed_or_means_nothing(tmp_path: Path) -> None:
    """Whatever bit of the file the disk changes, the answers are the same, or there is an error and no answer."""
    path = tmp_path / "advisories.db"
    with Database(path) as database:
        database.replace("npm", [rows_of(parsed(npm(number)))["npm"] for number in range(30)], source="a", as_of=AS_OF)
        database.put_exploited(Exploited("KEV", 1, AS_OF, "b"), {"": b'["CVE-2024-0001"]'})
        names = [*database.packages(), ("PyPI", "nothing")]
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    sound = path.read_bytes()
    right = everything(path, names)
    chance = random.Random(4)
    noticed = 0
    for _ in range(300):
        damaged = bytearray(sound)
        damaged[chance.randrange(len(sound))] ^= 1 << chance.randrange(8)
        for left in tmp_path.glob("advisories.db-*"):
            left.unlink()
        path.write_bytes(damaged)
        try:
            found = everything(path, names)
        except StorageError:
            noticed += 1
        else:
            assert found == right
    assert noticed > 50


def npm(number: int) -> Entry:
    """An entry of another ecosystem."""
    return entry(f"GHSA-{number}", affected(f"package-{number}", ("introduced", "0"), ecosystem="npm"))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM affected WHERE name = 'package-1'",
        "UPDATE affected SET name = 'package-x' WHERE name = 'package-1'",
        "UPDATE affected SET facts = replace(facts, '2.0', '1.0') WHERE name = 'package-1'",
        "UPDATE advisory SET facts = replace(facts, '2024', '2023') WHERE id = 'PYSEC-2024-1'",
        "DELETE FROM package WHERE name = 'package-1'",
    ],
)
@pytest.mark.usefixtures("few")
def test_entries_that_are_not_those_imported_are_an_error(tmp_path: Path, statement: str) -> None:
    """Rows lost or altered behind the program's back are no clean answer, and are not written over as if right."""
    with Database(tmp_path / "advisories.db") as database:
        database.replace("PyPI", rows(3), source="one", as_of=AS_OF, force=True)
        database._connection.execute("PRAGMA foreign_keys = OFF")
        database._connection.execute(statement)
        with pytest.raises(StorageError, match="damaged"):
            database.advisories("PyPI", "package-1")
        with pytest.raises(StorageError, match="damaged"):
            database.put_single(rows_of(parsed(entry("ACME-1", affected("package-1", ("introduced", "0"))))))
        assert len(database.advisories("PyPI", "package-2")) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE feed SET as_of = '2999-01-01T00:00:00Z'",
        "UPDATE coverage SET ecosystem = 'npm'",
        "DELETE FROM coverage",
        "UPDATE content SET digest = x'00'",
        "DELETE FROM seal",
    ],
)
@pytest.mark.usefixtures("few")
def test_what_is_said_of_the_feeds_is_sealed(tmp_path: Path, statement: str) -> None:
    """A date or a coverage that changed on the disk is neither believed nor sealed again."""
    with Database(tmp_path / "advisories.db") as database:
        database._connection.execute(statement)
        for ask in (database.coverage, database.revision, database.exploited):
            with pytest.raises(StorageError, match="damaged"):
                ask()
        with pytest.raises(StorageError, match="damaged"):
            database.replace("PyPI", rows(3), source="one", as_of=AS_OF, force=True)


@pytest.mark.usefixtures("few")
def test_a_database_of_the_first_release_goes_on(tmp_path: Path) -> None:
    """A file without digests and lists gets them when it is opened; what it holds stays."""
    path = tmp_path / "advisories.db"
    with Database(path) as database:
        database.replace("PyPI", rows(3), source="one", as_of=AS_OF, force=True)
        before = database.coverage(), database.revision(), database.packages()
        for table in ("package", "mirrored", "exploited", "exploited_part", "seal"):
            database._connection.execute(f"DROP TABLE {table}")
        database._connection.execute("UPDATE content SET digest = x'00'")
        database._connection.execute("PRAGMA user_version = 1")
    with Database(path) as database:
        assert (database.coverage(), database.revision(), database.packages()) == before
        assert len(database.advisories("PyPI", "package-1")) == 1


def test_the_digest_of_a_package_changes_with_its_entries_only(tmp_path: Path) -> None:
    """Packages whose entries are the same keep theirs, whatever else is imported."""
    with Database(tmp_path / "advisories.db") as database:
        database.replace("PyPI", rows(3), source="one", as_of=AS_OF, force=True)
        first = database.packages()
        database.change("PyPI", [*rows(1, fixed="9")], ["PYSEC-2024-2"], source="two", as_of=AS_OF)
        second = database.packages()
    assert first.keys() - second.keys() == {("PyPI", "package-2")}
    assert {name for name in second if first[name] != second[name]} == {("PyPI", "package-0")}
