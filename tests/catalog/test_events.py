"""Events as a view of the audit log."""

import datetime as dt
from pathlib import Path

import pytest
from catalog_sample import NOW, build, component, digest, facts, home
from sqlalchemy import delete

from tidewaiter.catalog import clearing, events, schema, workloads
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import sequencer
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.events import Event, Place
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.core.settings import Settings


def _read(
    settings: Settings, after: str = "", *, types: tuple[str, ...] = (), rows: int = 100
) -> tuple[tuple[Event, ...], str]:
    assert sequencer.settle(settings) == ""
    with Catalog.open(settings) as catalog, catalog.database.reading() as connection:
        found = events.read(connection, events.place(after), types=types, rows=rows)
        return found.events, str(found.place)


def _see(catalog: Catalog, *names: str, image: str = "model") -> None:
    with catalog.database.writing() as connection:
        looks = [
            Sighting(cluster="east", namespace="shop", name=name, digest=digest(image), seen_at=NOW) for name in names
        ]
        workloads.record(connection, looks, NOW)


def test_every_change_is_told_once_in_order(tmp_path: Path) -> None:
    """A build, its tag and a workload are events with rising ids and the repositories of their image."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        catalog.record_build(build("model"))
        catalog.set_tag("team/model", "1.0", digest("model"))
        _see(catalog, "web")
    found, place = _read(settings)
    assert [one.type for one in found] == ["image.recorded", "tag.moved", "workload.seen"]
    assert [one.subject for one in found] == [digest("model"), "team/model:1.0", "east/shop/web"]
    assert {one.repositories for one in found} == {("team/model",)}
    assert found[1].data == {"repository": "team/model", "tag": "1.0", "digest": digest("model")}
    assert _read(settings, place) == ((), place)
    assert _read(settings, found[0].id)[0] == found[1:]


def test_what_changed_nothing_is_no_event(tmp_path: Path) -> None:
    """A look that finds what was known, and a key that was made, are told nobody."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        _see(catalog, "web")
        _see(catalog, "web")
        catalog.log("key.generate", "sha256:00", {"name": "secret"})
        _see(catalog, "web", image="next")
    found, _ = _read(settings)
    assert [one.type for one in found] == ["workload.seen", "workload.gone", "workload.seen"]
    assert "secret" not in str(found)


def test_a_batch_is_read_in_parts(tmp_path: Path) -> None:
    """Many events of one entry come in parts that meet without gap or overlap, wherever a reader stops."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        _see(catalog, *(f"w{number:02}" for number in range(25)))
        _see(catalog, "last")
    whole, _ = _read(settings)
    assert len(whole) == 26
    parts: list[Event] = []
    after = ""
    for _ in range(10):
        some, after = _read(settings, after, rows=4)
        parts += some
        if not some:
            break
    assert tuple(parts) == whole
    assert len({one.id for one in whole}) == 26


def test_types_are_chosen(tmp_path: Path) -> None:
    """Events of other types are passed over, and the place moves on all the same."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        catalog.record_build(build("model"))
        _see(catalog, "web")
    found, place = _read(settings, types=("image.recorded",))
    assert [one.type for one in found] == ["image.recorded"]
    assert _read(settings, place)[0] == ()


def test_verdicts_of_a_batch_are_events(tmp_path: Path) -> None:
    """Each verdict of a batch is told by itself, with its image's repositories and why it was decided."""
    settings = home(tmp_path)
    names = [f"image {number}" for number in range(3)]
    with Catalog.open(settings) as catalog:
        for name in names:
            catalog.record_build(build(name, "vision/serving"))
        verdicts = [
            {
                "id": digest(f"verdict {name}"),
                "artifact": digest(name),
                "environment": "production",
                "verdict": "deny",
                "policy_revision": "p",
                "advisories_revision": "a",
                "evidence": {},
                "violations": [],
                "waived": [],
                "warnings": [],
                "not_checked": [],
                "decided_at": "2026-01-02T03:04:05Z",
                "valid_until": "2026-02-02T03:04:05Z",
            }
            for name in names
        ]
        with catalog.database.writing() as connection:
            clearing.verdicts(connection, verdicts, "advisories 2", NOW)
    found, _ = _read(settings, types=("verdict.decided",))
    assert [one.subject for one in found] == [digest(name) for name in names]
    assert {one.repositories for one in found} == {("vision/serving",)}
    assert {(one.data["verdict"], one.data["why"]) for one in found} == {("deny", "advisories 2")}


def test_what_was_dropped_is_said(tmp_path: Path) -> None:
    """Whoever goes on behind an event that is no longer kept is told of the gap; who begins anew gets the rest."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        for name in ("a", "b", "c"):
            _see(catalog, name)
        assert sequencer.settle(settings) == ""
        with catalog.database.writing() as connection:
            connection.execute(delete(schema.audit_entry).where(schema.audit_entry.c.position < 3))
    with pytest.raises(NotFoundError) as caught:
        _read(settings, "0")
    assert caught.value.code == "events_gone"
    assert [one.subject for one in _read(settings, "2")[0]] == ["east/shop/c"]
    assert [one.subject for one in _read(settings)[0]] == ["east/shop/c"]


def test_an_entry_that_is_none_is_no_event(tmp_path: Path) -> None:
    """A damaged entry of the log stops no reader."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        _see(catalog, "a")
        _see(catalog, "b")
        assert sequencer.settle(settings) == ""
        with catalog.database.writing() as connection:
            of = schema.audit_entry
            connection.execute(of.update().where(of.c.position == 1).values(entry=b"{"))
    assert [one.subject for one in _read(settings)[0]] == ["east/shop/b"]


def test_findings_are_events(tmp_path: Path) -> None:
    """What new advisory data change of known packages is told, and which repositories have the package."""
    settings = home(tmp_path)
    changes = [{"change": "added", "advisory": "CVE-1", "purl": "pkg:pypi/numpy@1.0", "severity": "high"}]
    with Catalog.open(settings) as catalog:
        catalog.record_facts(facts("model", component("numpy")), repository="team/model")
        with catalog.database.writing() as connection:
            audit.append(connection, events.FINDINGS, "1 findings", {"changes": changes}, at=NOW, batch=True)
        with catalog.database.reading() as connection:
            assert list(events.repositories_with(connection, "pkg:pypi/numpy@1.0")) == ["team/model"]
            assert list(events.repositories_with(connection, "pkg:pypi/numpy@2.0")) == []
    found, _ = _read(settings)
    assert [(one.type, one.subject) for one in found] == [("finding.new", "pkg:pypi/numpy@1.0")]


@pytest.mark.parametrize("text", ["x", "-1", "1-", "1--2", "9" * 30, "1-2-3", "\u0661", "1 "])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    """Only what an event's id or `next` may be is taken."""
    with pytest.raises(InputError):
        events.place(text)


def test_places_are_written_as_they_are_read() -> None:
    """An id names the event, a position alone all events of its entry."""
    assert events.place("17-3") == Place(17, 3)
    assert str(events.place("17-3")) == "17-3"
    assert str(events.place("17")) == "17"
    assert events.place("") == events.START


def test_times_are_those_of_the_log(tmp_path: Path) -> None:
    """An event has the moment of the change."""
    settings = home(tmp_path)
    with Catalog.open(settings) as catalog:
        _see(catalog, "a")
    assert dt.datetime.fromisoformat(_read(settings)[0][0].time) == NOW
