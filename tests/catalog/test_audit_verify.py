"""Whatever somebody changes behind the log's back is found, and nothing is found where nobody did."""

import random
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from audit_manipulations import WAYS, Before, editing, entries, flatten, furnish, manipulate, verified

from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.core.settings import Settings

MANIPULATIONS = 200
"""`benchmarks/audit.py` makes 1,000."""


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Before:
    """A furnished home, and a copy of its database from before its last entries."""
    folder = tmp_path_factory.mktemp("untouched")
    settings = furnish(folder / "home")
    flatten(settings.home.catalog)
    older = folder / "older.db"
    shutil.copyfile(settings.home.catalog, older)
    entries(settings, 5)
    flatten(settings.home.catalog)
    return Before(settings, older)


@pytest.fixture
def before(untouched: Before, tmp_path: Path) -> Before:
    """A copy of it, to be spoiled."""
    home = tmp_path / "home"
    shutil.copytree(untouched.settings.home.path, home)
    moved = msgspec.structs.replace(untouched.settings.home, path=home)
    return Before(msgspec.structs.replace(untouched.settings, home=moved), untouched.older)


def found(settings: Settings) -> set[str]:
    """Kinds of the problems; or that the database cannot be read."""
    try:
        return {problem.kind for problem in verified(settings).problems}
    except UndeterminedError:
        return {"unreadable"}


def test_what_nobody_changed_holds(before: Before) -> None:
    """Every row that the log speaks of was compared, and there is no problem."""
    seen = verified(before.settings)
    assert (seen.problems, seen.waiting, seen.only_hashes) == ((), 0, 0)
    with Catalog.open(before.settings) as catalog, catalog.database.reading() as connection:
        kinds = Counter(one.kind for one in audit_states.all_of(connection))
    assert seen.compared == kinds.total()
    changes = kinds.pop("tag_change")  # tags that came to mean two things within a second have one
    assert 3 <= changes <= 5
    assert kinds == {"verdict": 5, "tag": 3, "signature": 3, "base": 1, "waiver": 1, "attestation": 1}
    assert seen.size > 300


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_to_change_rows_is_found(before: Before, way: object) -> None:
    """Each way, at two places."""
    path = before.settings.home.catalog
    original = path.read_bytes()
    for seed in range(2):
        path.write_bytes(original)
        with editing(path) as rows:
            way(rows, random.Random(seed))  # type: ignore[operator]  # one of WAYS
        assert found(before.settings), seed


@pytest.mark.thorough
def test_random_manipulations_are_all_found(before: Before) -> None:
    """Of the rows, of any byte of the file that matters, and an older copy of the database."""
    path, chance = before.settings.home.catalog, random.Random(7)
    original = path.read_bytes()
    for number in range(MANIPULATIONS):
        path.write_bytes(original)
        what = manipulate(before, chance)
        assert found(before.settings), (number, what)


def test_problems_are_called_by_their_names(before: Before) -> None:
    """An edited entry and an edited tile are told apart, and positions are named."""
    path = before.settings.home.catalog
    original = path.read_bytes()
    with editing(path) as rows:
        rows.execute("UPDATE audit_entry SET entry = replace(entry, 'thing', 'think') WHERE position = 100")
    assert {(one.kind, one.position) for one in verified(before.settings).problems} >= {("entry_edited", 100)}
    path.write_bytes(original)
    with editing(path) as rows:
        data = rows.execute("SELECT hashes FROM audit_tile WHERE level = 0 AND number = 0").fetchone()[0]
        rows.execute(
            "UPDATE audit_tile SET hashes = ? WHERE level = 0 AND number = 0", (data[:320] + bytes(32) + data[352:],)
        )
    seen = verified(before.settings)
    assert [(one.kind, one.position) for one in seen.problems if one.position is not None] == [("tile", 10)]
    path.write_bytes(original)
    with editing(path) as rows:
        rows.execute("DELETE FROM audit_entry WHERE position BETWEEN 107 AND 109")
    assert [one.message for one in verified(before.settings).problems] == ["entries 107 to 109 are missing"]


def test_no_position_is_there_twice(before: Before) -> None:
    """Also where the file was edited past what the database allows: an entry that says another number is found."""
    with editing(before.settings.home.catalog) as rows:
        rows.execute("CREATE TABLE other AS SELECT * FROM audit_entry ORDER BY position")
        rows.execute("DROP TABLE audit_entry")
        rows.execute("UPDATE other SET position = 99 WHERE position = 100")
        rows.execute("ALTER TABLE other RENAME TO audit_entry")
    assert [(one.kind, one.message) for one in verified(before.settings).problems][:1] == [
        ("entry_edited", "an entry 99 stands in the place of 100")
    ]


def test_a_size_that_nobody_signed_is_not_believed(before: Before) -> None:
    """However large it is said to be, only what is there is looked at."""
    with editing(before.settings.home.catalog) as rows:
        rows.execute("UPDATE audit_state SET size = 1 << 62, checkpoint = x'00'")
    kinds = {problem.kind for problem in verified(before.settings).problems}
    assert kinds >= {"checkpoint", "rewritten"} or kinds >= {"checkpoint", "tile"}


def test_an_older_copy_is_noticed_also_by_a_checkpoint_from_elsewhere(before: Before) -> None:
    """By the file in the home; without that, and with the older one in its place, by one that was kept elsewhere."""
    files = audit_log.places(before.settings)
    kept = files.checkpoint.read_bytes()
    shutil.copyfile(before.older, before.settings.home.catalog)
    assert found(before.settings) == {"rolled_back"}
    files.checkpoint.unlink()
    assert found(before.settings) == {"checkpoint"}
    with sqlite3.connect(before.older) as older:
        files.checkpoint.write_bytes(older.execute("SELECT checkpoint FROM audit_state").fetchone()[0])
    older.close()
    assert found(before.settings) == set()
    assert [one.kind for one in verified(before.settings, kept).problems] == ["rolled_back"]


def test_a_log_that_was_begun_anew_is_not_the_old_one(before: Before) -> None:
    """Somebody with the home's keys, too, cannot bring a rewritten log past a checkpoint that was kept elsewhere."""
    files = audit_log.places(before.settings)
    kept = files.checkpoint.read_bytes()
    with editing(before.settings.home.catalog) as rows:
        for table in ("audit_entry", "audit_tile", "audit_state", "audit_document"):
            rows.execute(f"DELETE FROM {table}")
    files.checkpoint.unlink()
    entries(before.settings, 400)
    assert found(before.settings) == set()
    assert [one.kind for one in verified(before.settings, kept).problems] == ["rewritten"]


def test_the_sequencer_signs_nothing_on_top_of_a_changed_log(before: Before) -> None:
    """After a roll-back, or with a tile that leads elsewhere, entries wait, and the reason is said."""
    path = before.settings.home.catalog
    original = path.read_bytes()
    shutil.copyfile(before.older, path)
    with Catalog.open(before.settings) as catalog:
        catalog.log("key.generate", "k", {})
    assert "cannot go on" in audit_sequencer.settle(before.settings)
    flatten(path)
    path.write_bytes(original)
    with editing(path) as rows:
        rows.execute("UPDATE audit_tile SET hashes = zeroblob(length(hashes)) WHERE level = 0 AND number = 1")
    with Catalog.open(before.settings) as catalog:
        catalog.log("key.generate", "k", {})
    assert "do not lead to the root" in audit_sequencer.settle(before.settings)
    assert verified(before.settings).waiting == 1


def test_nobody_without_the_key_drops_entries(before: Before) -> None:
    """Said among those that wait, `audit.drop` is no leave to remove entries, whether it was logged since or not."""
    saying = audit.encode(audit.DROP, "x", {"before": 256, "exported": "elsewhere"}, at=clock.now(), actor="")[0]
    with editing(before.settings.home.catalog) as rows:
        rows.execute("INSERT INTO audit_pending (entry) VALUES (?)", (saying,))
    assert [one.kind for one in verified(before.settings).problems] == ["waiting"]
    assert audit_sequencer.settle(before.settings) == ""
    assert verified(before.settings).holds
    with editing(before.settings.home.catalog) as rows:
        rows.execute("DELETE FROM audit_entry WHERE position < 256")
    found = verified(before.settings)
    assert found.only_hashes == 0
    assert "entry_removed" in {one.kind for one in found.problems}


def test_what_waits_counts_for_the_rows_it_speaks_of(before: Before) -> None:
    """A change that has no position yet is no manipulation."""
    with Catalog.open(before.settings) as catalog:
        catalog.withdraw_tag("team/model", "three")
        catalog.approve_base("debian13", "sha256:" + "0" * 64, owner="platform", expires=clock.now())  # type: ignore[arg-type]
    seen = verified(before.settings)
    assert (seen.problems, seen.waiting) == ((), 2)
