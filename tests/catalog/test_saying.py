"""What was done outside of the catalog is said by sqlite3 alone, in the words of the catalog."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from catalog_sample import home

from tidewaiter.catalog import glance
from tidewaiter.catalog.audit import saying
from tidewaiter.catalog.catalog import Catalog

SAID = {"to": "registry.example/a:1", "name": "a", "tag": "1"}


def waiting(folder: Path) -> list[Any]:
    """The entries that wait for the sequencer, but for their times."""
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        found = connection.execute("SELECT entry FROM audit_pending ORDER BY id").fetchall()
    return [{name: value for name, value in json.loads(entry).items() if name != "time"} for (entry,) in found]


def test_it_says_what_the_catalog_says(tmp_path: Path) -> None:
    """The same entry, by the same actor, whichever way it is written."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        catalog.log("push", "sha256:x", SAID, actor="Ann")
    saying.say(settings.catalog, "push", "sha256:x", SAID, actor="Ann")
    by_catalog, plainly = waiting(tmp_path)[-2:]
    assert plainly == by_catalog
    assert (plainly["actor"], plainly["detail"]) == ("Ann", SAID)


def test_a_catalog_of_another_release_is_left_alone(tmp_path: Path) -> None:
    """Nothing is written into tables that are not this program's, nor where there is no catalog."""
    settings = home(tmp_path)
    with pytest.raises(glance.UnansweredError):
        saying.say(settings.catalog, "push", "sha256:x", SAID)
    assert not (tmp_path / "catalog.db").exists()
    with Catalog.open(settings):
        pass
    before = waiting(tmp_path)
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    with pytest.raises(glance.UnansweredError):
        saying.say(settings.catalog, "push", "sha256:x", SAID)
    assert waiting(tmp_path) == before


def test_it_loads_no_sqlalchemy() -> None:
    """A push that a person waits for says it without the libraries of the catalog."""
    code = "import sys; from tidewaiter.catalog.audit import saying; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sqlalchemy", "cryptography", "tidewaiter.catalog.catalog"} & set(loaded)
