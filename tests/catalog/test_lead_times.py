"""Lead times: from a commit to its image being cleared, and to being first seen running."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalog_sample import build, digest, facts, home, verdict
from sqlalchemy import insert, select

from tidewaiter.catalog import lead_times, owners, schema, workloads
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.lead_times import LeadTime, Leg
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core.settings import EnvironmentTable
from tidewaiter.policy.environments import NOTHING_SAID, Environments

T0 = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog without images."""
    with Catalog.open(home(tmp_path)) as opened:
        yield opened


def _built(catalog: Catalog, image: str, committed: dt.datetime | None, **more: Any) -> None:
    at = committed or T0
    values: dict[str, Any] = {"committed": committed, "started": at, "finished": at + dt.timedelta(minutes=5), **more}
    catalog.record_build(build(image, **values))


def _seen(catalog: Catalog, image: str, at: dt.datetime) -> None:
    with catalog.database.writing() as connection:
        sighting = Sighting(cluster="eu", namespace="n", name=image, digest=digest(image), seen_at=at)
        workloads.record(connection, [sighting], at)


def _way(catalog: Catalog, image: str, said: Environments = NOTHING_SAID) -> LeadTime:
    with catalog.database.reading() as connection:
        (found,) = lead_times.of_image(connection, digest(image), said)
    return found


def test_the_first_allow_and_the_first_sight_count(catalog: Catalog) -> None:
    """A denial, an allow for another environment, and renewals change nothing; nor does what is seen again."""
    _built(catalog, "one", T0)
    answers = (("deny", "staging", 1), ("allow", "research", 2), ("allow", "staging", 3), ("allow", "staging", 9))
    for answer, environment, hours in answers:
        catalog.record_verdict(verdict("one", answer, T0 + hours * HOUR, environment))
    for hours in (10, 12):
        _seen(catalog, "one", T0 + hours * HOUR)
    found = _way(catalog, "one")
    assert (found.committed, found.cleared, found.running) == (T0, T0 + 3 * HOUR, T0 + 10 * HOUR)
    assert (found.commit_to_cleared, found.cleared_to_running, found.commit_to_running) == (10800, 25200, 36000)


def test_settings_say_what_cleared_means(catalog: Catalog) -> None:
    """Where settings say a stricter environment than the project, only a verdict for that one counts."""
    _built(catalog, "one", T0)
    catalog.record_verdict(verdict("one", "allow", T0 + HOUR))
    said = Environments((EnvironmentTable("production", ("team/*",)),), "production")
    assert (_way(catalog, "one").environment, _way(catalog, "one").cleared) == ("staging", T0 + HOUR)
    assert (_way(catalog, "one", said).environment, _way(catalog, "one", said).cleared) == ("production", None)
    milder = Environments((EnvironmentTable("research", ("team/*",)),), "production")
    assert _way(catalog, "one", milder).environment == "staging"


def test_what_is_not_known_is_not_filled_in(catalog: Catalog) -> None:
    """No time of the commit, or a dirty build; never cleared; never seen; and what would be negative."""
    _built(catalog, "no time", None)
    _built(catalog, "dirty", T0, dirty=True)
    _built(catalog, "early", T0)
    catalog.record_verdict(verdict("early", "allow", T0 - HOUR))
    for image in ("no time", "dirty"):
        found = _way(catalog, image)
        assert (found.committed, found.cleared, found.running, found.commit_to_running) == (None, None, None, None)
    found = _way(catalog, "early")
    assert (found.cleared, found.commit_to_cleared) == (T0 - HOUR, None)
    with catalog.database.reading() as connection:
        report = lead_times.report(connection)
    assert report.total.commit_to_cleared == Leg(0, None, None, 3)


def test_a_later_build_of_the_same_image_does_not_make_it_younger(catalog: Catalog) -> None:
    """Of several builds the first commit counts, and the image is of the month of its first build."""
    _built(catalog, "one", T0 + 40 * 24 * HOUR)
    _built(catalog, "one", T0, commit="cd" * 20)
    found = _way(catalog, "one")
    assert (found.committed, found.commit, found.built.month) == (T0, "cd" * 20, 3)


def test_what_runs_by_its_index_is_seen(catalog: Catalog) -> None:
    """A workload may name the index that lists the image."""
    _built(catalog, "one", T0)
    catalog.record_facts(facts("index"), repository="team/model")
    with catalog.database.writing() as connection:
        of = schema.artifact.c
        number = {row.digest: row.id for row in connection.execute(select(of.digest, of.id))}
        row = {"parent_id": number[digest("index")], "child_id": number[digest("one")], "platform": "linux/amd64"}
        connection.execute(insert(schema.synced_child), row)
    _seen(catalog, "index", T0 + HOUR)
    assert _way(catalog, "one").running == T0 + HOUR


def test_median_and_nearest_rank_by_owner_and_month(catalog: Catalog) -> None:
    """Ten images of two owners in two months: the figures of each, and of all; a filter leaves the rest out."""
    for number in range(10):
        name, at = f"image {number}", T0 + (40 * 24 * HOUR if number >= 6 else 0 * HOUR)
        _built(catalog, name, at, repository="a/x" if number < 6 else "b/y")
        catalog.record_verdict(verdict(name, "allow", at + (number + 1) * HOUR))
    with catalog.database.writing() as connection:
        owners.put(connection, "repository", "a", "ann", T0)
    with catalog.database.reading() as connection:
        report = lead_times.report(connection, rows=3)
        of_ann = lead_times.report(connection, owner="ann")
        later = lead_times.report(connection, since=T0 + 24 * HOUR)
    assert report.total.commit_to_cleared == Leg(10, 5.5 * 3600, 9 * 3600, 0)
    assert report.total.commit_to_running == Leg(0, None, None, 10)
    assert [(one.name, one.commit_to_cleared.median) for one in report.owners] == [
        ("", 8.5 * 3600),
        ("ann", 3.5 * 3600),
    ]
    assert [(one.name, one.images) for one in report.months] == [("2026-03", 6), ("2026-04", 4)]
    assert ([one.repository for one in report.images], report.cut) == (["b/y"] * 3, True)
    assert (of_ann.total.images, later.total.images, later.cut) == (6, 4, False)
