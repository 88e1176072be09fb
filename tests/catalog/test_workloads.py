"""What runs where, which image serves which model, who answers for what: recorded with its history."""

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from catalog_sample import digest, facts, home
from sqlalchemy import Connection, select

from tidewaiter.catalog import model_versions, owners, schema, workloads
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core.errors import InputError, NotFoundError

DAY = dt.timedelta(days=1)
T0 = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """Of one transaction in a catalog that knows the images `one` and `two`."""
    with Catalog.open(home(tmp_path)) as catalog:
        for name in ("one", "two"):
            catalog.record_facts(facts(name), repository="team/model")
        with catalog.database.writing() as found:
            yield found


def _look(connection: Connection, image: str, at: dt.datetime, *, now: dt.datetime | None = None, **more: Any) -> None:
    values = {"cluster": "eu1", "namespace": "vision", "name": "web", "seen_at": at, **more}
    sighting = Sighting(digest=digest(image) if image else "", **values)
    workloads.record(connection, [sighting], now or at)


def _runs(connection: Connection, at: dt.datetime | None = None) -> list[str]:
    return [one.digest for one in workloads.listed(connection, at)]


def _entries(connection: Connection) -> list[audit.Entry]:
    rows = connection.scalars(select(schema.audit_pending.c.entry).order_by(schema.audit_pending.c.id))
    return [audit.parse(row) for row in rows]


def test_another_image_ends_the_one_before_and_both_are_told_of_their_days(connection: Connection) -> None:
    """Now the new one, on a day of the first the first, before that nothing; at the moment of change the new one."""
    _look(connection, "one", T0)
    _look(connection, "one", T0 + DAY)
    _look(connection, "two", T0 + 2 * DAY)
    assert _runs(connection) == [digest("two")]
    assert _runs(connection, T0 - DAY) == []
    assert _runs(connection, T0) == _runs(connection, T0 + 2 * DAY - dt.timedelta(seconds=1)) == [digest("one")]
    assert _runs(connection, T0 + 2 * DAY) == [digest("two")]
    first, second = workloads.listed(connection, everything=True)
    assert (first.first_seen, first.last_seen, first.gone_at) == (T0, T0 + DAY, T0 + 2 * DAY)
    assert (second.digest, second.gone_at) == (digest("two"), None)


def test_what_is_gone_runs_no_longer_and_may_come_back(connection: Connection) -> None:
    """Gone with or without naming the image; another image that is named as gone ends nothing."""
    _look(connection, "one", T0)
    _look(connection, "two", T0 + DAY, gone=True)
    assert _runs(connection) == [digest("one")]
    _look(connection, "", T0 + DAY, gone=True)
    assert _runs(connection) == []
    _look(connection, "one", T0 + 3 * DAY)
    assert [_runs(connection, T0 + days * DAY) for days in (0, 2, 3)] == [[digest("one")], [], [digest("one")]]


def test_containers_and_kinds_are_told_apart(connection: Connection) -> None:
    """A second container, or a job of the same name, does not end what the first one runs."""
    _look(connection, "one", T0, container="main")
    _look(connection, "two", T0, container="sidecar")
    _look(connection, "two", T0, container="main", kind="Job")
    assert [(one.kind, one.container, one.digest) for one in workloads.listed(connection)] == [
        ("Deployment", "main", digest("one")),
        ("Deployment", "sidecar", digest("two")),
        ("Job", "main", digest("two")),
    ]


def test_looks_out_of_order_and_of_the_future_are_refused(connection: Connection) -> None:
    """What is late cannot rewrite what was seen, and a clock that is ahead cannot block what comes."""
    _look(connection, "one", T0)
    with pytest.raises(InputError, match="looked at on 2026-03-01T12:00:00Z"):
        _look(connection, "two", T0 - DAY, now=T0)
    ahead = Sighting(cluster="c", namespace="n", name="w", digest=digest("one"), seen_at=T0 + DAY)
    with pytest.raises(InputError, match="in the future"):
        workloads.record(connection, [ahead], T0)
    assert _runs(connection) == [digest("one")]


def test_after_a_clock_that_was_ahead_periods_follow_one_another(connection: Connection) -> None:
    """What is seen then counts at once, has its place in the order of what was seen, and no period is negative."""
    _look(connection, "one", T0)
    _look(connection, "two", T0 + 400 * DAY)
    _look(connection, "one", T0 + DAY)
    assert _runs(connection) == [digest("one")]
    assert [_runs(connection, T0 + days * DAY) for days in (0, 399, 400)] == [[digest("one")]] * 3
    owners.put(connection, "model", "m", "early", T0 + 400 * DAY)
    owners.put(connection, "model", "m", "late", T0)
    owners.put(connection, "model", "m", "", T0)
    owners.put(connection, "model", "m", "last", T0)
    assert [one.owner for one in owners.listed(connection, None)] == ["last"]
    assert owners.listed(connection, T0 + 399 * DAY) == ()
    for table, begin, end in ((schema.workload_period, "first_seen", "gone_at"), (schema.ownership, "since", "until")):
        rows = connection.execute(select(table.c[begin], table.c[end]).order_by(table.c.id)).all()
        assert all(until is None or since <= until for since, until in rows)
        assert all(before[1] <= after[0] for before, after in pairwise(rows))


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"cluster": ""}, InputError),
        ({"name": "a/b"}, InputError),
        ({"namespace": "n" * 256}, InputError),
        ({"name": "web\u202egnp"}, InputError),
        ({"name": "<script>\n"}, NotFoundError),
        ({"kind": "k" * 65}, InputError),
        ({"digest": "sha256:xyz", "gone": False}, InputError),
        ({"digest": "", "gone": False}, InputError),
        ({}, NotFoundError),
    ],
)
def test_odd_looks_are_refused(connection: Connection, more: dict[str, Any], error: type[Exception]) -> None:
    """Empty, long, steering or nested names, no digest; and that something is gone which was never seen."""
    values = {"cluster": "c", "namespace": "n", "name": "w", "digest": "", "gone": True, "seen_at": T0, **more}
    with pytest.raises(error):
        workloads.record(connection, [Sighting(**values)], T0)
    assert workloads.listed(connection, everything=True) == ()


def test_each_record_is_one_entry_of_the_log(connection: Connection) -> None:
    """In the transaction of the change: what began and ended; many looks are one entry with a document."""
    before = len(_entries(connection))
    _look(connection, "one", T0)
    _look(connection, "two", T0 + DAY)
    many = [
        Sighting(cluster="c", namespace="n", name=f"w{n}", digest=digest("one"), seen_at=T0 + DAY) for n in range(3)
    ]
    workloads.record(connection, many, T0 + DAY)
    model_versions.record(connection, ("mnist", "7"), Seen(digest("one"), T0), T0, owner="vision")
    first, second, batch, owner, model = _entries(connection)[before:]
    assert (first.action, first.subject) == ("workload.record", "eu1/vision/web")
    assert second.detail["workloads"][0]["begun"] == digest("two")
    assert second.detail["workloads"][0]["ended"] == [digest("one")]
    assert (batch.subject, bool(batch.document)) == ("3 workloads", True)
    assert (owner.action, owner.subject, owner.detail["owner"]) == ("owner.set", "mnist", "vision")
    assert (model.action, model.subject, model.detail["served_by"]) == ("model.record", "mnist:7", digest("one"))


def test_model_versions_have_a_history_too(connection: Connection) -> None:
    """Another image, another stage, and the end of it, each on its day."""
    model = ("mnist", "7")
    model_versions.record(connection, model, Seen(digest("one"), T0, "staging"), T0)
    model_versions.record(connection, model, Seen(digest("one"), T0 + DAY, "production"), T0 + DAY)
    model_versions.record(connection, model, Seen("", T0 + 2 * DAY, gone=True), T0 + 2 * DAY)
    told = [
        [(one.stage, one.digest) for one in model_versions.listed(connection, T0 + days * DAY)] for days in range(3)
    ]
    assert told == [[("staging", digest("one"))], [("production", digest("one"))], []]
    with pytest.raises(NotFoundError):
        model_versions.record(connection, ("mnist", "8"), Seen("", T0, gone=True), T0)


def test_the_nearest_owner_counts_and_a_day_before_has_its_own(connection: Connection) -> None:
    """A repository before its folder, a workload before its namespace before its cluster; a change leaves the past."""
    for kind, subject, owner in (
        ("repository", "team", "lead"),
        ("repository", "team/model", "vision"),
        ("namespace", "eu1", "platform"),
        ("namespace", "eu1/vision", "guild"),
        ("workload", "eu1/vision/web", "web"),
    ):
        assert owners.put(connection, kind, subject, owner, T0)  # type: ignore[arg-type]  # the literal is in the tuple
    found = owners.load(connection, None)
    assert [found.of_repository(name) for name in ("team/model", "team/model/x", "team/other", "teamwork", "")] == [
        "vision",
        "vision",
        "lead",
        "",
        "",
    ]
    assert [found.of_workload("eu1", *rest) for rest in (("vision", "web"), ("vision", "x"), ("y", "x"))] == [
        "web",
        "guild",
        "platform",
    ]
    assert not owners.put(connection, "repository", "team", "lead", T0 + DAY)
    assert owners.put(connection, "repository", "team", "boss", T0 + DAY)
    assert owners.put(connection, "workload", "eu1/vision/web", "", T0 + DAY)
    assert owners.load(connection, T0).of_repository("team/x") == "lead"
    assert owners.load(connection, None).of_repository("team/x") == "boss"
    assert owners.load(connection, T0 + DAY).of_workload("eu1", "vision", "web") == "guild"


@pytest.mark.parametrize(("kind", "subject"), [("repository", "/"), ("namespace", "a/b/c"), ("workload", "a/b/c/d")])
def test_what_no_such_thing_is_called_has_no_owner(connection: Connection, kind: Any, subject: str) -> None:
    """A name that could never be met would be an owner whom nobody ever asks."""
    with pytest.raises(InputError):
        owners.put(connection, kind, subject, "ops", T0)
