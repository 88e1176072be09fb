"""Positions: no gap, none twice, whoever writes and whoever is killed."""

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from audit_manipulations import entries, verified
from catalog_sample import home

from tidewaiter.catalog import figures
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import reading as audit_reading
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core.settings import Settings

SPAWN = multiprocessing.get_context("spawn")


def subjects(settings: Settings) -> list[str]:
    """Of every entry that has a position but the first, in order; positions are checked to have no gap."""
    with audit_log.reading(settings.catalog) as log:
        found = list(audit_reading.entries(log, 0, 1 << 40))
    assert [position for position, _ in found] == list(range(len(found)))
    return [audit.parse(data).subject for _, data in found][1:]


def write(settings: Settings, *names: str) -> None:
    """One transaction for each."""
    with Catalog.open(settings) as catalog:
        for name in names:
            catalog.log("test", name, {})


def _waits(settings: Settings) -> bool:
    with audit_log.reading(settings.catalog) as log:
        return figures.pending(log) > 0


def test_entries_get_positions_in_the_order_of_their_commits(tmp_path: Path) -> None:
    """One batch or several: the order stays, and the checkpoint of each goes on from the one before."""
    settings = home(tmp_path)
    write(settings, "a", "b")
    assert _waits(settings)
    assert audit_sequencer.Sequencer(settings).run() == 2
    assert not _waits(settings)
    first = audit_log.places(settings).checkpoint.read_bytes()
    write(settings, "c")
    assert audit_sequencer.Sequencer(settings).run() == 1
    assert audit_sequencer.Sequencer(settings).run() == 0
    assert subjects(settings) == ["a", "b", "c"]
    assert verified(settings, first).holds


def test_a_kill_before_the_checkpoints_file_is_written_costs_nothing(tmp_path: Path) -> None:
    """The file is then older than the database, which is no roll-back, and the next batch brings it up to date."""
    settings = home(tmp_path)
    entries(settings, 300)
    file = audit_log.places(settings).checkpoint
    older = file.read_bytes()
    entries(settings, 300)
    file.write_bytes(older)
    assert verified(settings).holds
    entries(settings, 1)
    assert file.read_bytes() != older
    assert verified(settings, older).holds


def test_one_that_becomes_visible_late_is_not_lost(tmp_path: Path) -> None:
    """A lower row number than those that have positions already, as PostgreSQL commits them, comes after those."""
    settings = home(tmp_path)
    write(settings, "a", "b", "c")
    with sqlite3.connect(settings.home.catalog) as rows:
        late = rows.execute("DELETE FROM audit_pending WHERE id = 2 RETURNING entry").fetchone()[0]
    assert audit_sequencer.settle(settings) == ""
    with rows:
        rows.execute("INSERT INTO audit_pending (id, entry) VALUES (2, ?)", (late,))
    rows.close()
    assert audit_sequencer.settle(settings) == ""
    assert subjects(settings) == ["a", "c", "b"]


def test_the_key_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    """Two homes have two logs; a lost public half is written anew; without the private one entries wait."""
    one, other = home(tmp_path / "one"), home(tmp_path / "other")
    for settings in (one, other):
        entries(settings, 1)
    files = audit_log.places(one)
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert audit_log.public_key(files).name != audit_log.public_key(audit_log.places(other)).name
    vkey = files.vkey.read_bytes()
    files.vkey.unlink()
    entries(one, 1)
    assert files.vkey.read_bytes() == vkey
    files.key.rename(tmp_path / "away")
    write(one, "x")
    assert "is missing" in audit_sequencer.settle(one)
    (tmp_path / "away").rename(files.key)
    assert audit_sequencer.settle(one) == ""
    assert subjects(one)[-1] == "x"


_ENTRY = '{"action":"x","actor":"a","detail":%s,"subject":"s","time":"%s","version":1}'


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("x'ff00'", b"\xff\x00"),
        ("CAST(x'ff00' AS TEXT)", b"\xff\x00"),
        ("'text'", b"text"),
        ("100000000000", b"100000000000"),
        ("-1", b"-1"),
        ("1.5", b"1.5"),
        ("'" + _ENTRY % ("{}", "0001-01-01T00:00:00+10:00") + "'", None),
        ("'" + _ENTRY % ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "2026-01-01T00:00:00Z") + "'", None),
    ],
    ids=["bytes", "no text", "text", "a number", "below zero", "a fraction", "before all times", "deep"],
)
def test_what_is_no_entry_stops_nobody(tmp_path: Path, value: str, kept: bytes | None) -> None:
    """Whatever somebody put among those that wait is logged as what it is, and what comes after it is logged, too."""
    settings = home(tmp_path)
    write(settings, "a")
    with sqlite3.connect(settings.home.catalog) as rows:
        rows.execute(f"INSERT INTO audit_pending (entry) VALUES ({value})")
    rows.close()
    write(settings, "b")
    assert audit_sequencer.settle(settings) == ""
    with audit_log.reading(settings.catalog) as log:
        odd = audit_reading.listed(log, action="audit.malformed", rows=1)[0].entry
        document = audit_reading.document(log, odd.subject)
        assert audit_reading.listed(log, subject="b", rows=1)
    assert document == (value[1:-1].encode() if kept is None else kept)
    assert verified(settings).holds


def test_a_thread_gives_positions_within_a_second(tmp_path: Path) -> None:
    """Beside writers, and what was written last before the end has one, too."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        with audit_sequencer.running(settings):
            for number in range(5):
                started = time.monotonic()
                catalog.log("test", f"{number}", {})
                while _waits(settings):
                    time.sleep(0.01)
                assert time.monotonic() - started < 1
            catalog.log("test", "last", {})
        assert not _waits(settings)
    assert subjects(settings) == ["0", "1", "2", "3", "4", "last"]
    assert not [one for one in threading.enumerate() if one.name == "audit-sequencer"]


def test_a_thread_says_once_why_entries_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And goes on when the cause is gone."""
    settings = home(tmp_path)
    entries(settings, 3)
    files = audit_log.places(settings)
    files.key.rename(tmp_path / "away")
    write(settings, "x")
    with audit_sequencer.running(settings):
        deadline = time.monotonic() + 10
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        (tmp_path / "away").rename(files.key)
    assert ["entries wait" in one for one in caplog.messages] == [True]
    assert subjects(settings)[-1] == "x"


def _write_and_settle(path: str, name: str, count: int, *, forever: bool) -> None:
    settings = home(Path(path))
    with Catalog.open(settings) as catalog:
        number = 0
        while forever or number < count:
            catalog.log("test", f"{name} {number}", {"at": clock.rfc3339(clock.now())})
            audit_sequencer.Sequencer(settings).run()
            number += 1
            Path(path, f"started {name}").touch()


@pytest.mark.thorough
def test_many_processes_make_one_log(tmp_path: Path) -> None:
    """Each writes and sequences: every entry has one position."""
    settings = home(tmp_path)
    write(settings, "first")
    workers = [
        SPAWN.Process(target=_write_and_settle, args=(str(tmp_path), str(number), 12), kwargs={"forever": False})
        for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(subjects(settings)) == sorted(["first", *(f"{one} {n}" for one in range(4) for n in range(12))])
    assert verified(settings).holds


@pytest.mark.thorough
def test_kills_at_any_moment_leave_a_log_that_holds(tmp_path: Path) -> None:
    """No gap, none twice, none lost: what was written before a kill has its position after the next run."""
    settings = home(tmp_path)
    write(settings, "first")
    for number in range(6):
        worker = SPAWN.Process(target=_write_and_settle, args=(str(tmp_path), str(number), 0), kwargs={"forever": True})
        worker.start()
        deadline = time.monotonic() + 30
        while not (tmp_path / f"started {number}").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.0037 * number)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        assert verified(settings).holds
        assert audit_sequencer.settle(settings) == ""
        assert verified(settings).holds
    found = subjects(settings)
    assert len(found) == len(set(found))
    for number in range(6):
        mine = [one for one in found if one.startswith(f"{number} ")]
        assert mine == [f"{number} {at}" for at in range(len(mine))]
        assert mine
