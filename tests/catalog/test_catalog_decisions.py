"""Answers of rules outlive the process that asked; the oldest go when there are too many."""

from pathlib import Path

import pytest

from tidewaiter.catalog.database import Database
from tidewaiter.catalog.decisions import Decisions
from tidewaiter.catalog.migrate import upgrade
from tidewaiter.core import limits
from tidewaiter.core.errors import StorageError
from tidewaiter.oci.digest import Digest, of

KEYS: list[Digest] = [of(b"%d" % number) for number in range(6)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty catalog."""
    place = tmp_path / "catalog.db"
    database = Database(place)
    upgrade(database)
    database.close()
    return place


def test_answers_are_there_for_the_next_process(path: Path) -> None:
    """What was kept is recalled by key, and the first answer stays."""
    with Decisions(path) as decisions:
        assert decisions.recall(KEYS) == {}
        decisions.keep({KEYS[0]: b"a", KEYS[1]: b"b"})
        decisions.keep({KEYS[1]: b"c"})
    with Decisions(path) as decisions:
        assert decisions.recall(KEYS) == {KEYS[0]: b"a", KEYS[1]: b"b"}
        assert decisions.recall([]) == {}


def test_the_oldest_answers_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound holds, and nothing goes before it is reached."""
    monkeypatch.setattr(limits, "POLICY_DECISIONS", 4)
    with Decisions(path) as decisions:
        decisions.keep(dict.fromkeys(KEYS[:4], b"x"))
        assert decisions.recall(KEYS).keys() == set(KEYS[:4])
        decisions.keep(dict.fromkeys(KEYS[4:], b"x"))
        assert decisions.recall(KEYS).keys() == set(KEYS[2:])


def test_a_damaged_catalog_is_an_error(path: Path) -> None:
    """What cannot be read is not taken for "nothing is known"."""
    path.write_bytes(b"no database" * 1000)
    with Decisions(path) as decisions, pytest.raises(StorageError):
        decisions.recall(KEYS)
