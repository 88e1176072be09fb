"""The database file under hard conditions: other processes, kills, damage, a full disk, other versions."""

import multiprocessing
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from catalog_sample import build, component, digest, facts, home
from sqlalchemy import create_engine, insert, text

import tidewaiter
from tidewaiter.catalog import glance, migrate, recording, schema
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.database import Database
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import StorageError

SPAWN = multiprocessing.get_context("spawn")


def _statements(path: Path) -> set[str]:
    """Every CREATE statement of a database, its parts sorted, without Alembic's own table."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()

    def normal(sql: str) -> str:
        # SQLite writes a column that was added later behind the last one, into the same line.
        parts = (part for line in sql.replace('"', "").splitlines() for part in re.split(r", (?=\w+ [A-Z])", line))
        return "\n".join(sorted(part.strip().rstrip(",") for part in parts))

    return {normal(sql) for name, sql in rows if not name.startswith("alembic")}


def test_migrations_make_exactly_the_tables_of_the_program(tmp_path: Path) -> None:
    """From empty to head: Alembic finds no difference, and columns, keys, checks and indexes are the same text."""
    with Catalog.open(home(tmp_path)) as catalog, catalog.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        assert migrate.revision(connection) == glance.REVISION
    engine = create_engine(f"sqlite:///{tmp_path / 'direct.db'}")
    schema.metadata.create_all(engine)
    engine.dispose()
    assert _statements(tmp_path / "catalog.db") == _statements(tmp_path / "direct.db")


def test_migrations_are_found_in_an_installed_copy(tmp_path: Path) -> None:
    """The package works from any folder, also one with a per cent sign, without a file beside it."""
    copy = tmp_path / "50%" / "tidewaiter"
    shutil.copytree(Path(tidewaiter.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    script = (
        "from tidewaiter.catalog.catalog import Catalog; from tidewaiter.core import settings; import tidewaiter\n"
        f"Catalog.open(settings.load({{'TIDEWAITER_HOME': {str(tmp_path / 'home')!r}}})).close()\n"
        "print(tidewaiter.__file__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(copy.parent)}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == str(copy / "__init__.py")
    assert (tmp_path / "home" / "catalog.db").exists()


def test_opening_an_up_to_date_catalog_is_quick_and_does_without_alembic(tmp_path: Path) -> None:
    """Alembic is not even imported, and the best of five openings stays below 30 ms."""
    Catalog.open(home(tmp_path)).close()
    script = f"""
import sys, time
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings
home = settings.load({{"TIDEWAITER_HOME": {str(tmp_path)!r}}})
took = []
for _ in range(5):
    start = time.perf_counter()
    Catalog.open(home).close()
    took.append(time.perf_counter() - start)
print(min(took), "alembic" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, alembic = ran.stdout.split()
    assert alembic == "False"
    assert float(seconds) < 0.03


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A catalog of a later program is not touched, and the message says which is newer."""
    with Catalog.open(home(tmp_path)) as catalog, catalog.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = (tmp_path / "catalog.db").read_bytes()
    with pytest.raises(StorageError, match="9999") as caught:
        Catalog.open(home(tmp_path))
    assert caught.value.code == "newer_schema"
    assert (tmp_path / "catalog.db").read_bytes() == before


def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    """A database with tables but no revision is left alone."""
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(StorageError, match="mine"):
        Catalog.open(home(tmp_path))


def test_damage_is_said(tmp_path: Path) -> None:
    """A file that is no database, and one whose pages were overwritten, raise StorageError that names the file."""
    path = tmp_path / "catalog.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError, match="no database"):
        Catalog.open(home(tmp_path))
    path.unlink()
    with Catalog.open(home(tmp_path)) as catalog:
        for number in range(30):
            catalog.record_build(build(f"i{number}", f"team/m{number}"))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match=r"catalog\.db"), Catalog.open(home(tmp_path)) as catalog:
        catalog.list_images()


def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    """A home below a file cannot be made: StorageError, not a traceback."""
    settings = home(tmp_path / "file" / "home")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Catalog.open(settings)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """SQLite's own "full" becomes StorageError in words; the transaction leaves no trace, and the next one works."""
    with Catalog.open(home(tmp_path)) as catalog:
        catalog.record_build(build("one"))
        with catalog.database.reading() as connection:
            pages = connection.scalar(text("PRAGMA page_count"))
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        many = facts("two", *(component(f"package-{number}") for number in range(2000)))
        with pytest.raises(StorageError, match="disk is full"):
            catalog.record_facts(many, repository="x")
        assert catalog.list_images().total == 1
        with catalog.database.reading() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        catalog.record_facts(many, repository="x")
        assert catalog.list_images().total == 2


def test_a_lock_that_is_never_released_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer waits for another process's transaction only so long, then says so; readers do not wait at all."""
    monkeypatch.setattr(limits, "CATALOG_WAIT_SECONDS", 0.3)
    with Catalog.open(home(tmp_path)) as catalog:
        holder = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(StorageError, match="locked"):
            catalog.record_build(build("one"))
        assert 0.2 < time.monotonic() - start < 10
        assert catalog.list_images().total == 0
        holder.execute("ROLLBACK")
        holder.close()
        catalog.record_build(build("one"))


def test_references_are_enforced(tmp_path: Path) -> None:
    """A row that points nowhere is refused by the database itself."""
    with Catalog.open(home(tmp_path)) as catalog:
        row = {"artifact_id": 7, "position": 0, "layer_id": 7, "kind": "", "title": "", "contents": []}
        with pytest.raises(StorageError, match="FOREIGN KEY"), catalog.database.writing() as connection:
            connection.execute(insert(schema.artifact_layer), row)


def _record_many(path: str, name: str, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    with Catalog.open(home(Path(path))) as catalog:
        for number in range(15):
            shared = (component("numpy"), component(f"p{number}"))
            image = f"{name}-{number}"
            catalog.record_build(build(image, f"team/{name}"))
            catalog.record_facts(facts(image, *shared), repository=f"team/{name}")
            catalog.record_facts(facts("shared", *shared[:1]), repository="team/shared")
            catalog.set_tag("team/shared", "latest", digest("shared"))


@pytest.mark.thorough
def test_two_processes_record_at_once(tmp_path: Path) -> None:
    """Two processes that open an empty home in the same moment and record the same and other things lose nothing."""
    start = time.time() + 3
    workers = [SPAWN.Process(target=_record_many, args=(str(tmp_path), name, start)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    with Catalog.open(home(tmp_path)) as catalog:
        assert catalog.list_images(rows=100).total == 31
        assert catalog.resolve_tag("team/shared", "latest") == digest("shared")
        assert len(catalog.images_with("pkg:pypi/numpy@1.0")) == 31
        with catalog.database.reading() as connection:
            assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []


def _die_inside(path: str, ready: str) -> None:
    database = Database(Path(path) / "catalog.db")
    with database.writing() as connection:
        recording.facts(connection, [(facts("two", *(component(f"p{n}") for n in range(500))), "x")], clock.now())
        Path(ready).write_text("inside")
        time.sleep(60)


@pytest.mark.thorough
def test_a_kill_inside_a_transaction_leaves_what_was_before(tmp_path: Path) -> None:
    """SIGKILL in the middle of a record: the catalog opens, is sound, and has all of it or nothing."""
    with Catalog.open(home(tmp_path)) as catalog:
        catalog.record_build(build("one"))
    ready = tmp_path / "ready"
    worker = SPAWN.Process(target=_die_inside, args=(str(tmp_path), str(ready)))
    worker.start()
    deadline = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ready.exists()
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join(20)
    assert worker.exitcode == -signal.SIGKILL
    with Catalog.open(home(tmp_path)) as catalog:
        assert [image.digest for image in catalog.list_images().items] == [digest("one")]
        with catalog.database.reading() as connection:
            assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
        catalog.record_facts(facts("two", component("numpy")), repository="x")
        assert catalog.list_images().total == 2


def _plan(catalog: Catalog, sql: str) -> str:
    with catalog.database.reading() as connection:
        return "\n".join(row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {sql}")))


def test_where_used_is_answered_by_indexes(tmp_path: Path) -> None:
    """Which images contain a package or advisory is looked up in indexes; no table is read from end to end."""
    statements: list[str] = []
    with Catalog.open(home(tmp_path)) as catalog:
        catalog.record_facts(facts("one", component("numpy")), repository="x")
        for thing in ("pkg:pypi/numpy", "CVE-1"):
            with catalog.database.reading() as connection:
                raw = connection.connection.driver_connection
                assert isinstance(raw, sqlite3.Connection)
                raw.set_trace_callback(statements.append)
            catalog.images_with(thing)
        plans = [_plan(catalog, sql) for sql in statements if sql.startswith("SELECT")]
    assert len(plans) >= 2
    scanned = [step for plan in plans for step in plan.splitlines() if step.startswith("SCAN")]
    assert not [step for step in scanned if not step.startswith("SCAN json_each ")]  # a list that the statement has
