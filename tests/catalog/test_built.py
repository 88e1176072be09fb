"""A build is recorded by sqlite3 alone, and the catalog then says of it what it always said."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from catalog_sample import build, digest, home

from tidewaiter.catalog import built, glance
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError

FILE = "catalog.db"
TABLES = (
    ("artifact", "digest, media_type, size, created"),
    ("layer", "digest, diff_id, size, unpacked_size, files"),
    ("artifact_layer", "artifact_id, position, layer_id, kind, title, contents"),
    ("repository", "name"),
    ("base", "name, lock_digest"),
    ("base_image", "base_id, digest"),
    (
        "build",
        "key, environment, source, 'commit', dirty, base_id, base_lock, python_lock, materials, started, seconds",
    ),
    ("tag", "name, artifact_id, visibility, verdict_id"),
    ("tag_history", "name, artifact_id, visibility"),
    ("audit_pending", "id, json_remove(entry, '$.time', '$.states[0][2]')"),
)


def rows(folder: Path) -> dict[str, list[Any]]:
    """What the tables hold, but the times of recording."""
    with sqlite3.connect(folder / FILE) as connection:
        found = {
            table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2").fetchall()
            if "," in columns
            else connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()
            for table, columns in TABLES
        }
    connection.close()
    return found


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A home below a folder whose name an address would misread, with a catalog of nothing."""
    folder = tmp_path / "50% of #1?"
    with Catalog.open(home(folder)):
        pass
    return folder


def test_it_writes_what_the_catalog_writes(tmp_path: Path, empty: Path) -> None:
    """Row for row, with a base and without, also when it is recorded twice and when the tag moves."""
    records = [
        build("one", base_digest=digest("base"), base_layers=1),
        build("two", base_lock=None, base_digest=digest("base"), base_layers=1, source="a\0b" + "é" * 9000),
        build("one", base_digest=digest("base"), base_layers=1),
    ]
    other = tmp_path / "other"
    with Catalog.open(home(other)) as catalog:
        for record in records:
            catalog.record_build(record)
            catalog.set_tag(record.repository, "t", record.digest)
    for record in records:
        built.record(empty / FILE, record, "t")
    assert rows(empty) == rows(other)


def test_a_cleared_tag_stays_cleared(empty: Path) -> None:
    """Building the same image again does not take back what a verdict said of its tag."""
    built.record(empty / FILE, build("one"), "t")
    with sqlite3.connect(empty / FILE) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("UPDATE tag SET visibility = 'cleared', verdict_id = 1")
    connection.close()
    built.record(empty / FILE, build("one"), "t")
    assert rows(empty)["tag"][0][2] == "cleared"


def test_nothing_is_written_where_only_the_catalog_can_help(tmp_path: Path, empty: Path) -> None:
    """A missing or foreign file is left as it is, and so is a name that no tag can have."""
    with pytest.raises(glance.UnansweredError):
        built.record(tmp_path / "missing", build("one"), "t")
    assert not (tmp_path / "missing").exists()
    with sqlite3.connect(tmp_path / "foreign") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
    connection.close()
    with pytest.raises(glance.UnansweredError):
        built.record(tmp_path / "foreign", build("one"), "t")
    with pytest.raises(InputError):
        built.record(empty / FILE, build("one"), "not a tag")
    assert rows(empty)["build"] == []


def test_a_locked_catalog_is_waited_for_and_then_left(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that does not end its transaction keeps this one from writing half of its own."""
    monkeypatch.setattr(limits, "CATALOG_WAIT_SECONDS", 0.2)
    holder = sqlite3.connect(empty / FILE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(glance.UnansweredError, match="locked"):
        built.record(empty / FILE, build("one"), "t")
    holder.close()
    assert rows(empty)["artifact"] == []


def test_it_loads_no_library_of_databases(empty: Path) -> None:
    """That is what it is for."""
    script = "import sys; from tidewaiter.catalog import built; print({'sqlalchemy', 'alembic'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
