"""What an advisory or a package concerns, what runs of it, what to bump; now and as it was known before."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from catalog_sample import component, digest, facts, finding, home, scan
from sqlalchemy import update

from tidewaiter.catalog import model_versions, owners, schema, synced, synced_writing, workloads
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.periods import Seen
from tidewaiter.catalog.reach.affected import ALL, Concerned, Wanted
from tidewaiter.catalog.workloads import Sighting
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError

OLD, NEW = component("libssl", "1.0"), component("libssl", "2.0")
APP = component("flask", "1.0", layer="app")
SSL, FLASK = finding("pkg:pypi/libssl@1.0", "CVE-1"), finding("pkg:pypi/flask@1.0", "CVE-1", fixed_in=("1.5", "2.1"))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Three images on an affected base, of which one has a package of its own as well; and one with only that."""
    with Catalog.open(home(tmp_path)) as found:
        found.record_facts(facts("base", OLD, layers=("base",)), repository="bases/debian")
        found.approve_base("debian", digest("base"), owner="platform", expires=None)
        for name in ("a", "b"):
            found.record_facts(facts(name, OLD, layers=("base", name)), repository=f"team/{name}")
        found.record_facts(facts("c", OLD, APP, layers=("base", "app")), repository="team/c")
        own = component("flask", "1.2", layer="own")
        found.record_facts(facts("d", own, layers=("other", "own")), repository="solo/d")
        found.record_scan(scan("c", SSL, FLASK))
        found.record_scan(scan("d", finding("pkg:pypi/flask@1.2", "CVE-1", fixed_in=("1.5",))))
        now = clock.now()
        with found.database.writing() as connection:
            for name, namespace in (("a", "blue"), ("c", "blue"), ("d", "green")):
                sighting = Sighting(cluster="eu", namespace=namespace, name=name, digest=digest(name), seen_at=now)
                workloads.record(connection, [sighting], now)
            model_versions.record(connection, ("mnist", "7"), Seen(digest("a"), now), now)
            owners.put(connection, "repository", "team", "vision", now)
            owners.put(connection, "namespace", "eu/green", "ops", now)
        yield found


def _ask(catalog: Catalog, wanted: Wanted = ALL, at: dt.datetime | None = None, thing: str = "CVE-1") -> Concerned:
    return catalog.concerned_by_advisory({thing}, wanted, at)


def _names(found: Concerned) -> list[str]:
    return [one.name for one in found.images]


def test_everything_that_it_reaches_is_counted_and_named(catalog: Catalog) -> None:
    """Images with the base that they have it from, workloads, models, and owners with their shares."""
    found = _ask(catalog)
    assert _names(found) == ["bases/debian", "solo/d", "team/a", "team/b", "team/c"]
    through = f"debian@{digest('base')}"
    assert {one.name: one.bases for one in found.images} == {
        "bases/debian": (),
        "solo/d": (),
        "team/a": (through,),
        "team/b": (through,),
        "team/c": (through,),
    }
    assert {one.name: (one.owner, one.workloads) for one in found.images}["team/a"] == ("vision", 1)
    totals = found.totals
    assert (totals.images, totals.derived, totals.running, totals.workloads, totals.models) == (5, 3, 3, 3, 1)
    assert [(one.owner, one.images, one.workloads, one.models) for one in found.owners] == [
        ("vision", 3, 0, 0),
        ("", 2, 2, 1),
        ("ops", 0, 1, 0),
    ]
    assert {one.purl: one.images for one in found.versions} == {
        "pkg:pypi/flask@1.0": 1,
        "pkg:pypi/flask@1.2": 1,
        "pkg:pypi/libssl@1.0": 4,
    }


def test_the_fix_that_clears_the_most_comes_first_and_says_why(catalog: Catalog) -> None:
    """A base clears the images that need nothing else; a package the highest of its nearest fixes; shares are told."""
    fixes = {(one.kind, one.name): one for one in _ask(catalog).fixes}
    assert [one.images for one in _ask(catalog).fixes] == sorted((one.images for one in fixes.values()), reverse=True)
    debian = fixes["base", "debian"]
    assert (debian.images, debian.part, debian.running, debian.repositories) == (3, 1, 1, 4)
    assert (debian.versions, debian.to, debian.packages) == ((digest("base"),), "", ("pkg:pypi/libssl@1.0",))
    assert "build the base debian anew" in debian.why
    bump = fixes["dependency", "flask"]
    assert (bump.images, bump.part, bump.running, bump.findings, bump.to) == (1, 1, 1, 2, "1.5")
    assert bump.versions == ("1.0", "1.2")
    assert len(fixes) == 2
    assert next(iter(_ask(catalog).fixes)) == debian


def test_a_bump_leaves_no_finding_of_another_branch(catalog: Catalog) -> None:
    """A version between two branches' fixes may be affected again: what is named is a fix of every finding."""
    hits = [
        finding("pkg:pypi/flask@1.0", "CVE-1", fixed_in=("1.5", "2.1")),
        finding("pkg:pypi/flask@1.0", "CVE-2", fixed_in=("2.0.5",)),
    ]
    catalog.record_scan(scan("c", SSL, *hits, at=clock.now()))
    fixes = {(one.kind, one.name): one for one in catalog.concerned_by_purl("pkg:pypi/flask@1.0").fixes}
    assert fixes["dependency", "flask"].to == "2.1"


def test_a_base_that_is_clean_already_is_named(catalog: Catalog) -> None:
    """Of the same name, inspected, not retired: then the fix is to rebase, and it works without a fixed version."""
    catalog.record_facts(facts("clean", NEW, layers=("base2",)), repository="bases/debian")
    catalog.approve_base("debian", digest("clean"), owner="platform", expires=None)
    catalog.record_scan(scan("c", msgspec.structs.replace(SSL, fixed_in=()), FLASK, at=clock.now()))
    found = _ask(catalog)
    fix = {(one.kind, one.name): one for one in found.fixes}["base", "debian"]
    assert (fix.to, fix.images, found.unfixed) == (digest("clean"), 3, 0)
    assert f"rebase on debian@{digest('clean')}" in fix.why
    catalog.retire_base("debian", digest("clean"), reason="broken")
    found = _ask(catalog)
    assert ("base", "debian") not in {(one.kind, one.name) for one in found.fixes}
    assert found.unfixed == 4


def test_ties_are_in_the_order_of_names(catalog: Catalog) -> None:
    """Equal images and findings: the name decides, every time."""
    for name in ("zeta", "alpha"):
        catalog.record_facts(facts(name, component(name, "1.0", layer=name), layers=(name,)), repository=name)
        catalog.record_scan(scan(name, finding(f"pkg:pypi/{name}@1.0", "CVE-9")))
    found = _ask(catalog, thing="CVE-9")
    assert [(one.name, one.images) for one in found.fixes] == [("alpha", 1), ("zeta", 1)]


def test_only_what_runs_and_only_what_is_one_s_own(catalog: Catalog) -> None:
    """Owner: images of his repositories, and those that his workloads run; counts and fixes are of that part."""
    assert _names(_ask(catalog, Wanted(running=True))) == ["solo/d", "team/a", "team/c"]
    vision = _ask(catalog, Wanted(owner="vision"))
    assert _names(vision) == ["team/a", "team/b", "team/c"]
    assert ([one.name for one in vision.workloads], [one.name for one in vision.models]) == (["a", "c"], ["mnist"])
    assert vision.totals.images == 3
    ops = _ask(catalog, Wanted(owner="ops", running=True))
    assert (_names(ops), [one.name for one in ops.workloads]) == (["solo/d"], ["d"])
    assert [(one.kind, one.name, one.images) for one in ops.fixes] == [("dependency", "flask", 1)]
    nobody = _ask(catalog, Wanted(owner="nobody at all"))
    assert (nobody.images, nobody.workloads, nobody.fixes, nobody.totals.images) == ((), (), (), 0)


def test_more_than_the_rows_is_counted_and_said(catalog: Catalog) -> None:
    """Exactly as many rows as there are is not cut; one fewer is; out of bounds is refused."""
    assert _ask(catalog, Wanted(rows=5)).cut == ()
    found = _ask(catalog, Wanted(rows=2))
    assert (found.cut, len(found.images), len(found.workloads), found.totals.images) == (
        ("images", "workloads"),
        2,
        2,
        5,
    )
    for rows in (0, 1_000_001):
        with pytest.raises(InputError, match="out of bounds"):
            _ask(catalog, Wanted(rows=rows))


def test_workloads_whose_image_nobody_inspected_are_told(catalog: Catalog) -> None:
    """Unknown, or seen but not read: they may be concerned; an index of affected images is."""
    now = clock.now()
    child = synced.Child(digest("a"), "m", 10, "image", "linux/amd64")
    index = synced.TakenManifest(digest=digest("index"), media_type="m", kind="index", children=(child,))
    unread = synced.TakenManifest(digest=digest("unread"), media_type="m", kind="image")
    with catalog.database.writing() as connection:
        synced_writing.write(connection, "reg.example/x", synced.Batch(manifests=[index, unread]), now)
        for name in ("foreign", "unread", "index"):
            sighting = Sighting(cluster="us", namespace="n", name=name, digest=digest(name), seen_at=now)
            workloads.record(connection, [sighting], now)
    found = _ask(catalog)
    assert (found.running_unknown, found.not_inspected) == (2, 1)
    assert ("index", digest("index")) in {(one.name, one.digest) for one in found.workloads}
    assert {one.name: one.workloads for one in found.images}["team/a"] == 2
    catalog.record_facts(facts("foreign", OLD, layers=("f",)), repository="team/f")
    again = _ask(catalog)
    assert (again.running_unknown, "team/f" in _names(again)) == (1, True)


def test_a_day_before_has_the_findings_that_were_known_then(catalog: Catalog) -> None:
    """Found later: not yet. Withdrawn since: still there. And the answer says since when findings are kept."""
    with catalog.database.writing() as connection:
        past = clock.now() - dt.timedelta(days=365)
        connection.execute(update(schema.artifact).values(recorded_at=past))
        connection.execute(update(schema.recorded_since).values(since=past))
    found_at = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)  # of the scans
    with catalog.database.writing() as connection:
        connection.execute(update(schema.finding_period).values(since=past + dt.timedelta(days=30)))
    assert found_at < clock.now()
    assert _ask(catalog, at=past + dt.timedelta(days=29)).images == ()
    then = _ask(catalog, at=past + dt.timedelta(days=30))
    assert (then.totals.images, then.totals.workloads, then.matched_at) == (5, 0, None)
    catalog.record_scan(scan("c", SSL, at=clock.now() - dt.timedelta(days=1)))
    assert {one.purl for one in _ask(catalog).versions} == {"pkg:pypi/libssl@1.0", "pkg:pypi/flask@1.2"}
    before = _ask(catalog, at=clock.now() - dt.timedelta(days=2))
    assert "pkg:pypi/flask@1.0" in {one.purl for one in before.versions}
    assert [one.fixed_in for version in before.versions for one in version.findings if "1.0" in version.version] == [
        ("1.5", "2.1"),
        ("2.0",),
    ]
    assert "findings" not in {text.partition(":")[0] for text in before.unknown}
    older = _ask(catalog, at=past - dt.timedelta(days=1))
    assert {"findings", "images", "workloads"} <= {text.partition(":")[0] for text in older.unknown}


def test_a_scan_that_finds_the_same_again_does_not_move_the_day(catalog: Catalog) -> None:
    """First known is when it was first found; a finding that says something else now begins anew."""
    period = schema.finding_period

    def periods() -> list[Any]:
        with catalog.database.reading() as connection:
            columns = (period.c.severity, period.c.since, period.c.until)
            return [tuple(row) for row in connection.execute(period.select().with_only_columns(*columns))]

    before = periods()
    later = clock.now() - dt.timedelta(days=3)
    catalog.record_scan(scan("c", SSL, FLASK, at=later))
    assert periods() == before
    catalog.record_scan(scan("c", SSL, msgspec.structs.replace(FLASK, severity="low"), at=later + dt.timedelta(1)))
    after = periods()
    assert [until for _, _, until in after].count(later + dt.timedelta(1)) == 1
    assert [(severity, since) for severity, since, until in after if until is None][-1] == (
        "low",
        later + dt.timedelta(1),
    )
