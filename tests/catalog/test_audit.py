"""Entries of the audit log: written with the change, canonical, never too long; and what was an event before."""

import datetime as dt
import sqlite3
from pathlib import Path

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from audit_manipulations import verified
from catalog_sample import build, digest, home, verdict

from tidewaiter.catalog import migrate
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.audit import reading as audit_reading
from tidewaiter.catalog.audit import sequencer as audit_sequencer
from tidewaiter.catalog.audit.states import State
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.database import Database
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import IntegrityError
from tidewaiter.core.settings import Settings, load
from tidewaiter.oci import digest as digests

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def logged(settings: Settings) -> list[audit.Entry]:
    """Every entry that has a position, with what its document says in its place."""
    with audit_log.reading(settings.catalog) as log:
        return [
            audit.fulfilled(audit.parse(data), audit_reading.document(log, audit.parse(data).document))
            for _, data in audit_reading.entries(log, 0, 1 << 40)
        ]


def test_an_entry_is_canonical(tmp_path: Path) -> None:
    """Sorted keys, no spaces, and only what `encode` writes is taken for an entry."""
    data, document = audit.encode("a.b", "thing", {"z": 1, "a": "é"}, at=NOW, actor="")
    assert data.decode() == (
        '{"action":"a.b","actor":"local","detail":{"a":"é","z":1},"subject":"thing",'
        '"time":"2026-01-02T03:04:05Z","version":1}'
    )
    assert document == b""
    assert audit.parse(data).detail == {"a": "é", "z": 1}
    for odd in (
        b"",
        b"{}",
        data + b" ",
        data.replace(b'"a":"', b'"a": "'),
        data.replace(b'"version":1', b'"version":2'),
    ):
        with pytest.raises(IntegrityError):
            audit.parse(odd)
    with pytest.raises(IntegrityError):
        audit.parse(data.replace(b"2026-01-02T03:04:05Z", b"today"))


def test_what_is_too_long_is_logged_by_its_digest(tmp_path: Path) -> None:
    """At 65,535 bytes an entry stands whole; one byte more and it names a document, which comes back in its place."""
    rest = len(audit.encode("a", "s", {"a": ""}, at=NOW, actor="")[0])
    whole, none = audit.encode("a", "s", {"a": "x" * 8000, "b": "y"}, at=NOW, actor="")
    assert (none, len(whole) < limits.LOG_ENTRY_BYTES) == (b"", True)
    parts = {f"{number:02}": "x" * 8000 for number in range(8)}
    fits = limits.LOG_ENTRY_BYTES - len(audit.encode("a", "s", {**parts, "z": ""}, at=NOW, actor="")[0])
    assert rest < fits
    entry, document = audit.encode("a", "s", {**parts, "z": "x" * fits}, at=NOW, actor="")
    assert (len(entry), document) == (limits.LOG_ENTRY_BYTES, b"")
    entry, document = audit.encode("a", "s", {**parts, "z": "x" * (fits + 1)}, at=NOW, actor="")
    assert len(entry) < 300
    parsed = audit.parse(entry)
    assert parsed.document == digests.of(document)
    assert audit.fulfilled(parsed, document).detail["z"] == "x" * (fits + 1)
    for other in (None, document + b" "):
        with pytest.raises(IntegrityError):
            audit.fulfilled(parsed, other)


def test_odd_text_makes_a_good_entry(tmp_path: Path) -> None:
    """NULs, lone surrogates and endless names of who did it are cut and cleaned, not refused."""
    data, _ = audit.encode("a", "s\0\ud800", {"k\ud800": "v\0"}, at=NOW, actor="n" * 1000)
    entry = audit.parse(data)
    assert (entry.subject, entry.detail, len(entry.actor)) == ("s\ufffd\\ud800", {"k\\ud800": "v\ufffd"}, 200)


def test_a_change_that_is_taken_back_leaves_no_entry(tmp_path: Path) -> None:
    """Entry and change are one transaction."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:

        def fails() -> None:
            with catalog.database.writing() as connection:
                audit.append(connection, "a", "s", {"long": ["x" * 8000] * 20}, at=NOW)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fails()
        with catalog.database.reading() as connection:
            for table in ("audit_pending", "audit_document"):
                assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0


def test_entries_say_in_whose_name_the_catalog_was_opened(tmp_path: Path) -> None:
    """The setting `identity`, with SQLAlchemy and with sqlite3 alone."""
    settings = load({"TIDEWAITER_HOME": str(tmp_path), "TIDEWAITER_IDENTITY": "Anna"})
    with Catalog.open(settings) as catalog:
        catalog.record_build(build("one"))
        catalog.set_tag("team/model", "v1", digest("one"))
        catalog.log("push", "registry.example.com/team/model:v1", {}, actor="ci")
    assert audit_sequencer.settle(settings) == ""
    assert [(one.action, one.actor) for one in logged(settings)[1:]] == [
        ("build", "Anna"),
        ("tag.set", "Anna"),
        ("push", "ci"),
    ]


def test_many_verdicts_at_once_are_one_entry(tmp_path: Path) -> None:
    """It holds the digest of their list, and the tags that denials take back follow it."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        for image in ("one", "two"):
            catalog.record_build(build(image))
            catalog.record_verdict({**verdict(image, "allow", clock.now()), "violations": []})
            catalog.set_tag("team/model", image, digest(image), cleared_for="staging")
        later = clock.now() + dt.timedelta(hours=1)
        tags = catalog.record_verdicts([verdict(image, "deny", later) for image in ("one", "two")], "nightly")
        assert tags == ("team/model:one", "team/model:two")
        assert catalog.record_verdicts([verdict("one", "deny", later)], "nightly") == ()
    assert audit_sequencer.settle(settings) == ""
    with audit_log.reading(settings.catalog) as log:
        (batch,) = audit_reading.listed(log, action="verdict.batch", rows=9)
        assert batch.entry.document
        assert not batch.entry.detail
    (full,) = [one for one in logged(settings) if one.action == "verdict.batch"]
    assert [one["artifact"] for one in full.detail["verdicts"]] == [digest("one"), digest("two")]
    assert [one.action for one in logged(settings)][-2:] == ["tag.withdraw", "tag.withdraw"]
    assert verified(settings).holds


def test_events_of_before_become_the_first_entries(tmp_path: Path) -> None:
    """Each as it was, however long, and the rows of that time are what the log holds on to."""
    settings = home(tmp_path)
    database = Database(settings.home.catalog)
    database.prepare()
    with database.writing() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, "0005")
    database.close()
    long = {"text": ["x" * 8000] * 10}
    events = [
        ("build", "one", {"commit": "abc"}),
        ("odd", "two", {}),
        *[("scan", f"{n}", {"n": n}) for n in range(1200)],
    ]
    with sqlite3.connect(settings.home.catalog) as old:
        old.executemany(
            "INSERT INTO audit_event (at, action, subject, detail) VALUES ('2026-01-02 03:04:05.000000', ?, ?, ?)",
            [(*one[:2], msgspec.json.encode(one[2]).decode()) for one in [*events, ("long", "s", long)]],
        )
        old.execute(
            "INSERT INTO base_approval (name, digest, owner, approved_at, reason)"
            " VALUES ('debian12', ?, 'platform', ?, '')",
            (digest("base"), "2026-01-02 03:04:05.000000"),
        )
    old.close()
    with Catalog.open(settings):
        pass
    assert audit_sequencer.settle(settings) == ""
    found = logged(settings)
    assert [(one.action, one.subject, one.detail) for one in found[1:]] == [*events, ("long", "s", long)]
    assert {one.time for one in found[1:]} == {"2026-01-02T03:04:05Z"}
    assert [state.key for state in found[0].states] == [f"debian12 {digest('base')}"]
    assert verified(settings).holds
    with sqlite3.connect(settings.home.catalog) as now:
        now.execute("UPDATE base_approval SET owner = 'me'")
    now.close()
    assert [one.kind for one in verified(settings).problems] == ["row_edited"]


def test_a_state_is_a_short_list() -> None:
    """In JSON `[kind, key, digest]`."""
    assert audit.canonical(State("waiver", "W-1", "sha256:0")) == b'["waiver","W-1","sha256:0"]'
