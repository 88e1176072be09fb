"""The catalog on PostgreSQL under hard conditions: other sessions, kills, a server that is gone, refusals in words."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from audit_manipulations import entries, verified
from catalog_sample import build, component, digest, facts, home
from sqlalchemy import text

import postgres
from tidewaiter.catalog import decisions, glance, migrate, postgres_state, recording, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import reading as audit_reading
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.database import Database
from tidewaiter.core import clock, limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import DeadlineError, InputError, StorageError
from tidewaiter.core.settings import DatabaseUrl, Settings

pytestmark = pytest.mark.interop
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(autouse=True)
def _used(postgres_server: postgres.Server) -> Iterator[None]:
    with postgres.in_use(postgres_server):
        yield
        postgres.drop_homes()


def at(database: str, path: Path, **more: str) -> Settings:
    """A home whose catalog is in that database."""
    address = postgres.address(database, **more)  # type: ignore[arg-type]  # texts only
    return all_settings.load({"TIDEWAITER_HOME": str(path), "TIDEWAITER_DATABASE_URL": address})


@pytest.fixture
def empty() -> str:
    """A database without anything, in the order of a language."""
    with postgres.session() as connection:
        connection.execute("CREATE DATABASE home_empty TEMPLATE template0 ENCODING 'UTF8'")
    return "home_empty"


def _rows(settings: Settings) -> "psycopg.Connection[tuple[object, ...]]":
    assert settings.database_url is not None
    return psycopg.connect(settings.database_url.secret, autocommit=True)


# Migrations


def test_migrations_make_exactly_the_tables_of_the_program(tmp_path: Path) -> None:
    """From empty to head Alembic finds no difference, and every text is compared by its code points."""
    with Catalog.open(home(tmp_path)) as catalog, catalog.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        assert migrate.revision(connection) == glance.REVISION
        orders = connection.execute(
            text(
                "SELECT DISTINCT collation_name FROM information_schema.columns"
                " WHERE table_schema = 'public' AND data_type IN ('text', 'character varying')"
            )
        )
        assert orders.all() == [("C",)]


def _open(address: str, path: str, start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    settings = all_settings.load({"TIDEWAITER_HOME": path, "TIDEWAITER_DATABASE_URL": address})
    with Catalog.open(settings) as catalog:
        catalog.record_build(build(Path(path).name))


def test_two_processes_that_migrate_at_once_migrate_once(tmp_path: Path, empty: str) -> None:
    """Both find a whole catalog and record into it."""
    start = time.time() + 3
    workers = [
        SPAWN.Process(target=_open, args=(postgres.address(empty), str(tmp_path / name), start)) for name in ("a", "b")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    with Catalog.open(at(empty, tmp_path)) as catalog:
        assert {one.digest for one in catalog.list_images().items} == {digest("a"), digest("b")}


def test_another_program_s_database_and_a_newer_one_are_refused(tmp_path: Path, empty: str) -> None:
    """Neither is touched."""
    settings = at(empty, tmp_path)
    with _rows(settings) as rows:
        rows.execute("CREATE TABLE mine (x int)")
        with pytest.raises(StorageError, match="mine") as caught:
            Catalog.open(settings)
        assert caught.value.code == "not_a_catalog"
        rows.execute("DROP TABLE mine")
        Catalog.open(settings).close()
        rows.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(StorageError, match="9999") as caught:
            Catalog.open(settings)
        assert caught.value.code == "newer_schema"


def test_a_database_that_cannot_keep_any_text_is_refused(tmp_path: Path) -> None:
    """One in LATIN1 would lose names; nothing is made in it."""
    with postgres.session() as connection:
        connection.execute("CREATE DATABASE home_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(StorageError, match="LATIN1") as caught:
        Catalog.open(at("home_latin", tmp_path))
    assert "UTF8" in caught.value.next_step


# Refusals


def test_refusals_are_said_in_words_without_the_password(tmp_path: Path, empty: str) -> None:
    """No server, a wrong password, no such database, a full server, one that may not be written."""
    with postgres.session() as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'geheim'")
        connection.execute("CREATE ROLE nobody_else LOGIN PASSWORD 'geheim' CONNECTION LIMIT 0")
        connection.execute("ALTER ROLE reader SET default_transaction_read_only = on")
    try:
        refused = {
            "cannot be reached": all_settings.load(
                {"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/x"}
            ),
            "does not let this user in": at(empty, tmp_path, password="geheim-und-falsch"),
            "no such database": at("nowhere", tmp_path),
            "all connections": at(empty, tmp_path, user="nobody_else", password="geheim"),
            "may not": at(empty, tmp_path, user="reader", password="geheim"),
        }
        for words, settings in refused.items():
            with pytest.raises(StorageError) as caught:
                Catalog.open(settings)
            said = f"{caught.value.message} {caught.value.next_step} {settings!r}"
            assert words in said
            assert caught.value.next_step
            assert "geheim" not in said
    finally:
        with postgres.session() as connection:
            connection.execute("DROP ROLE reader")
            connection.execute("DROP ROLE nobody_else")


def test_an_address_that_is_none_is_not_repeated() -> None:
    """The message names the setting; what stands there may be a password that was not escaped."""
    for wrong in ("postgresql://u:geh@eim@h/x", "mysql://u:geheim@h/x", "postgresql://u:geh/eim@h/x", "geheim"):
        with pytest.raises(InputError) as caught:
            all_settings.load({"TIDEWAITER_HOME": "/nowhere", "TIDEWAITER_DATABASE_URL": wrong})
        assert "geh" not in f"{caught.value.message} {caught.value.next_step}"


# Transactions


def test_a_reading_sees_one_moment_and_changes_nothing(tmp_path: Path) -> None:
    """What others commit meanwhile is not in it; what it would write is refused."""
    with Catalog.open(home(tmp_path)) as catalog:
        count = text("SELECT count(*) FROM artifact")
        with catalog.database.reading() as connection:
            assert connection.scalar(count) == 0
            catalog.record_build(build("one"))
            assert connection.scalar(count) == 0
        with catalog.database.reading() as connection:
            assert connection.scalar(count) == 1
        with pytest.raises(StorageError, match="may not be written"), catalog.database.reading() as connection:
            connection.execute(text("DELETE FROM build"))


def test_one_transaction_writes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted, then written is right from many threads; who waits too long is told; readers wait for none."""
    with Catalog.open(home(tmp_path)) as catalog:
        table = schema.decision

        def add() -> None:
            for _ in range(10):
                with catalog.database.writing() as connection:
                    number = connection.scalar(text("SELECT count(*) FROM decision"))
                    connection.execute(table.insert(), {"key": f"sha256:{number}", "answer": b""})

        threads = [threading.Thread(target=add) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        with catalog.database.reading() as connection:
            assert connection.scalar(text("SELECT count(*) FROM decision")) == 80
        monkeypatch.setattr(limits, "CATALOG_WAIT_SECONDS", 0.3)
        with Catalog.open(home(tmp_path)) as other, catalog.database.writing():
            with pytest.raises(StorageError, match="locked"):
                other.record_build(build("one"))
            assert other.list_images().total == 0


def _stopped(by: Catalog, other: Catalog) -> None:
    with by.database.writing() as connection:
        connection.execute(schema.decision.insert(), {"key": "sha256:1", "answer": b""})
        other.record_build(build("one"))  # waits for the lock meanwhile


def test_a_writer_that_was_stopped_does_not_keep_the_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session ends after a while, with what it had not kept; a reader may take as long as it likes."""
    monkeypatch.setattr(limits, "CATALOG_IDLE_SECONDS", 0.5)
    with Catalog.open(home(tmp_path)) as stopped, Catalog.open(home(tmp_path)) as other:
        with pytest.raises(StorageError, match="connection was lost"):
            _stopped(stopped, other)
        with other.database.reading() as connection:
            assert connection.scalar(text("SELECT count(*) FROM decision")) == 0
            time.sleep(1)
            assert connection.scalar(text("SELECT count(*) FROM build")) == 1


def test_a_lock_is_held_by_one_session_of_the_database(tmp_path: Path) -> None:
    """From wherever another one asks for it; other names are other locks."""
    with Catalog.open(home(tmp_path)) as one, Catalog.open(home(tmp_path)) as other:
        with one.database.alone("x", file=tmp_path / "unused"):
            with pytest.raises(DeadlineError), other.database.alone("x", file=tmp_path / "unused", seconds=0.1):
                pass
            with other.database.alone("y", file=tmp_path / "unused", seconds=0.1):
                pass
        with other.database.alone("x", file=tmp_path / "unused", seconds=5):
            pass
    assert not (tmp_path / "unused").exists()


def _die_inside(address: str, ready: str) -> None:
    with Database(DatabaseUrl(address)).writing() as connection:
        recording.facts(connection, [(facts("two", *(component(f"p{n}") for n in range(200))), "x")], clock.now())
        Path(ready).write_text("inside")
        time.sleep(60)


def test_a_kill_inside_a_transaction_leaves_what_was_before(tmp_path: Path) -> None:
    """SIGKILL in the middle of a record: nothing of it is there, and its lock is free again."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        catalog.record_build(build("one"))
        ready = tmp_path / "ready"
        assert settings.database_url is not None
        worker = SPAWN.Process(target=_die_inside, args=(settings.database_url.secret, str(ready)))
        worker.start()
        deadline = time.monotonic() + 60
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        catalog.record_build(build("three"))
        assert {one.digest for one in catalog.list_images().items} == {digest("one"), digest("three")}
        assert catalog.images_with("pkg:pypi/p1@1.0") == ()


def test_a_server_that_dies_loses_no_more_than_what_was_on_its_way(
    tmp_path: Path, postgres_server: postgres.Server
) -> None:
    """In the middle of a transaction: said in words; afterwards the same catalog goes on, by new connections."""
    with Catalog.open(home(tmp_path)) as catalog:
        catalog.record_build(build("one"))
        with pytest.raises(StorageError, match=r"connection was lost|cannot be reached") as caught:  # noqa: PT012, SIM117  # it is the block that fails
            with catalog.database.writing() as connection:
                recording.facts(connection, [(facts("two"), "x")], clock.now())
                postgres_server.stop("immediate")
                connection.execute(text("SELECT 1"))
        assert "again" in caught.value.next_step
        with pytest.raises(StorageError, match="cannot be reached"):
            catalog.list_images()
        postgres_server.start()
        assert [one.digest for one in catalog.list_images().items] == [digest("one")]
        catalog.record_build(build("two"))
        assert catalog.list_images().total == 2


# The audit log


def _logged(settings: Settings) -> list[str]:
    with audit_log.reading(settings.catalog) as log:
        found = list(audit_reading.entries(log, 0, 1 << 40))
    assert [position for position, _ in found] == list(range(len(found)))
    return [audit.parse(data).subject for _, data in found][1:]


def test_transactions_that_commit_out_of_order_lose_no_entry(tmp_path: Path) -> None:
    """A lower row number that becomes visible after higher ones got positions comes after those."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        catalog.log("test", "first", {})
    made = [audit.encode("test", name, {}, at=clock.now(), actor="")[0] for name in ("slow", "quick")]
    with _rows(settings) as slow, _rows(settings) as quick:
        slow.execute("BEGIN")
        slow.execute("INSERT INTO audit_pending (entry) VALUES (%s)", (made[0],))
        quick.execute("INSERT INTO audit_pending (entry) VALUES (%s)", (made[1],))
        assert audit_sequencer.settle(settings) == ""
        assert _logged(settings) == ["first", "quick"]
        slow.execute("COMMIT")
    assert audit_sequencer.settle(settings) == ""
    assert _logged(settings) == ["first", "quick", "slow"]
    assert verified(settings).holds


def test_homes_that_share_a_catalog_share_its_log(tmp_path: Path) -> None:
    """The one that has the key numbers for all of them; what the others write waits for it and is not lost."""
    one = home(tmp_path / "one")
    assert one.database_url is not None
    other = all_settings.load(
        {"TIDEWAITER_HOME": str(tmp_path / "other"), "TIDEWAITER_DATABASE_URL": one.database_url.secret}
    )
    entries(one, 2)
    with Catalog.open(other) as catalog:
        catalog.log("test", "from elsewhere", {})
    assert audit_sequencer.settle(other) == ""
    assert not audit_log.places(other).key.exists()
    assert _logged(one)[-1] != "from elsewhere"
    assert audit_sequencer.settle(one) == ""
    assert _logged(one)[-1] == "from elsewhere"
    assert verified(one).holds


def test_what_was_changed_behind_the_log_is_found(tmp_path: Path) -> None:
    """An edited row, an entry taken out, an entry put in, an older state, a damaged index are each said."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        catalog.record_build(build("one"))
        catalog.set_tag("team/model", "1", digest("one"))
        catalog.approve_base("debian12", digest("base"), owner="platform", expires=None)
    entries(settings, 5)
    assert verified(settings).holds
    changes = {
        "row_edited": "UPDATE base_approval SET owner = 'mallory'",
        "row_removed": "DELETE FROM base_approval",
        "entry_removed": "DELETE FROM audit_entry WHERE position = 3",
        "entry_edited": "UPDATE audit_entry SET subject = 'x' WHERE position = 3",
        "tile": "UPDATE audit_tile SET hashes = overlay(hashes PLACING '\\x00'::bytea FROM 1)",
        "rolled_back": "DELETE FROM audit_state",
        "document": "INSERT INTO audit_document VALUES ('sha256:0', '')",
        "waiting": "INSERT INTO audit_pending (entry) VALUES ('x')",
    }
    for kind, change in changes.items():
        copy = f"home_{kind}"
        assert settings.database_url is not None
        original = settings.database_url.secret.rpartition("/")[2]
        with postgres.session() as connection:
            connection.execute(f"CREATE DATABASE {copy} TEMPLATE {original}".encode())
        changed = all_settings.load(
            {"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_DATABASE_URL": postgres.address(copy)}
        )
        with _rows(changed) as rows:
            rows.execute(change.encode())
        found = verified(changed)
        assert not found.holds
        assert kind in {problem.kind for problem in found.problems}, (kind, found.problems)


def test_a_damaged_index_is_found_where_the_server_can_look(tmp_path: Path) -> None:
    """With the extension amcheck: an index that does not lead to every row is said."""
    settings = home(tmp_path)
    entries(settings, 20)
    with _rows(settings) as rows:
        rows.execute("CREATE EXTENSION amcheck")
        assert verified(settings).holds
        # A row that no index leads to, as after an index was damaged.
        ready = "UPDATE pg_index SET indisready = %s WHERE indexrelid = 'uq_base_approval_name_digest'::regclass"
        rows.execute(ready, (False,))
        rows.execute("INSERT INTO base_approval (name, digest, owner, reason) VALUES ('x', 'x', 'x', '')")
        rows.execute(ready, (True,))
    found = {problem.kind: problem.message for problem in verified(settings).problems}
    assert set(found) == {"row_inserted", "damaged"}
    assert "base_approval" in found["damaged"]


# What doctor asks, and answers that are kept


def test_a_server_says_what_it_is(tmp_path: Path) -> None:
    """Version, encoding, whether it may be written, and the schema that is there."""
    settings = home(tmp_path)
    assert settings.database_url is not None
    found = postgres_state.look(settings.database_url)
    assert found.number >= 130000
    assert (found.encoding, found.read_only, found.may_create) == ("UTF8", False, True)
    assert found.may_lose  # these tests need not survive a power cut
    assert found.revision == glance.REVISION


def test_answers_are_kept(tmp_path: Path) -> None:
    """What rules answered is kept under its key, and what is there stays."""
    settings = home(tmp_path)
    with decisions.Decisions(settings.catalog) as opened:
        opened.keep({digest("a"): b"\x00\xff", digest("b"): b""})
        opened.keep({digest("a"): b"other"})
        assert opened.recall([digest("a"), digest("c")]) == {digest("a"): b"\x00\xff"}


def test_quick_ways_leave_the_answer_to_the_catalog(tmp_path: Path) -> None:
    """A file that an earlier setting left in the home is not asked."""
    home_of_file = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    Catalog.open(home_of_file).close()
    settings = home(tmp_path)
    assert not glance.is_current(settings.catalog)
    assert glance.is_current(home_of_file.catalog)
    with pytest.raises(glance.UnansweredError):
        glance.tag(settings.catalog, "team/model", "1")
