"""Changes of many threads in one transaction: each is kept or not by itself, and nobody waits for ever."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from audit_manipulations import verified
from catalog_sample import home
from sqlalchemy import Connection, event

from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.group_commit import GroupCommit
from tidewaiter.core import clock
from tidewaiter.core.errors import RefusedError, StorageError


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog."""
    with Catalog.open(home(tmp_path)) as opened:
        yield opened


def said(catalog: Catalog) -> list[str]:
    """Subjects of what waits in the log."""
    with catalog.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT entry FROM audit_pending ORDER BY id").all()
    return [audit.parse(row[0]).subject for row in rows]


def say(connection: Connection, name: str) -> str:
    audit.append(connection, "test", name, {}, at=clock.now())
    return name


def test_many_threads_share_transactions(catalog: Catalog) -> None:
    """Every change is kept once and returns its own result, with far fewer commits than changes."""
    commits = []
    event.listen(catalog.database.engine, "commit", lambda _: commits.append(1))
    group = GroupCommit(catalog.database)
    with ThreadPoolExecutor(32) as pool:
        results = list(pool.map(lambda n: group.run(lambda connection: say(connection, str(n))), range(400)))
    assert results == [str(number) for number in range(400)]
    assert sorted(said(catalog)) == sorted(results)
    assert 0 < len(commits) < 200


def test_a_change_that_fails_takes_back_itself_alone(catalog: Catalog) -> None:
    """Its error is raised in its own thread, and the others of the same transaction are kept."""
    group, together = GroupCommit(catalog.database), threading.Barrier(16)

    def attempt(number: int) -> str:
        def change(connection: Connection) -> str:
            say(connection, str(number))
            if number % 3 == 0:
                raise RefusedError(f"no {number}", next_step="")
            return "kept"

        together.wait()
        try:
            return group.run(change)
        except RefusedError as error:
            return error.message

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(attempt, range(16)))
    assert results == [f"no {number}" if number % 3 == 0 else "kept" for number in range(16)]
    assert sorted(said(catalog)) == sorted(str(number) for number in range(16) if number % 3)


def test_when_the_transaction_itself_is_lost_everybody_is_told(catalog: Catalog) -> None:
    """As a full disk does it: nobody believes that its change is kept; the next ones are again."""
    group, together = GroupCommit(catalog.database), threading.Barrier(8)

    def attempt(number: int) -> bool:
        def change(connection: Connection) -> None:
            say(connection, str(number))
            if number == 5:
                connection.connection.driver_connection.execute("ROLLBACK")  # type: ignore[union-attr]
                raise StorageError("full", next_step="")

        together.wait()
        try:
            group.run(change)
        except StorageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(attempt, range(8)))
    assert not kept[5]
    assert sorted(said(catalog)) == [str(number) for number in range(8) if kept[number]]
    assert group.run(lambda connection: say(connection, "after")) == "after"


def test_beside_the_sequencer(catalog: Catalog, tmp_path: Path) -> None:
    """Every entry of every thread gets its position."""
    group, settings = GroupCommit(catalog.database), home(tmp_path)
    with audit_sequencer.running(settings), ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: group.run(lambda connection: say(connection, str(n))), range(600)))
    seen = verified(settings)
    assert (seen.size, seen.waiting, seen.holds) == (601, 0, True)


def test_each_change_is_of_who_asked_for_it(catalog: Catalog) -> None:
    """Changes of several people in the same transactions stand in the log under their own names."""
    group = GroupCommit(catalog.database)
    who = {str(number): f"user-{number % 3}" for number in range(60)}
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda one: group.run(lambda connection: say(connection, one), actor=who[one]), who))
    with catalog.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT entry FROM audit_pending").all()
    found = [audit.parse(row[0]) for row in rows]
    assert {entry.subject: entry.actor for entry in found} == who
