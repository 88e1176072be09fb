"""Findings that are worked out by package version are those that scanning every image anew would find."""

import datetime as dt
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from inventories import advisory, digest, facts, home, python
from tidewaiter.advisories import snapshot
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.matcher import Matcher
from tidewaiter.advisories.rows import rows_of
from tidewaiter.catalog import schema
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.records import ScanRecord
from tidewaiter.core import clock
from tidewaiter.pipelines.rematching import Rematched, rematch
from tidewaiter.sbom.component import Component

NAMES = ("aa", "bb", "tensorflow", "tensorflow-cpu")
VERSIONS = ("1.0", "1.5", "2.0", "odd version")


class Place(NamedTuple):
    """A catalog, and advisories with nothing shipped."""

    catalog: Catalog
    database: Database

    def rematch(self) -> Rematched:
        return rematch(self.catalog, self.database)

    def put(self, number: int, name: str, *, fixed: str = "2.0", aliases: tuple[str, ...] = ()) -> None:
        self.database.put_single(rows_of(advisory(f"PYSEC-2024-{number}", name, fixed=fixed, aliases=aliases)))

    def image(self, name: str, *components: Component) -> None:
        self.catalog.record_facts(facts(name, *components), repository="team/model")

    def scan(self, name: str, *components: Component, at: dt.datetime | None = None) -> None:
        result = Matcher(self.database).match(components)
        self.catalog.record_scan(ScanRecord(digest=digest(name), result=result, scanned_at=at or clock.now()))

    def found(self) -> set[tuple[object, ...]]:
        """Findings and gaps of the catalog, without their times."""
        of, component, gap = schema.finding.c, schema.component.c, schema.component_gap.c
        with self.catalog.database.reading() as connection:
            rows = connection.execute(
                select(
                    component.purl, schema.advisory.c.name, of.severity, of.score, of.vector, of.fixed_in, of.found_as
                )
                .join(schema.component, component.id == of.component_id)
                .join(schema.advisory, schema.advisory.c.id == of.advisory_id)
            )
            findings = {(*row[:5], tuple(row[5]), row[6]) for row in rows}
            gaps = connection.execute(select(component.purl, gap.reason, gap.advisories).join(schema.component))
            return findings | {(row[0], row[1], tuple(row[2])) for row in gaps}

    def expected(self, components: set[Component]) -> set[tuple[object, ...]]:
        """What a matcher that knows nothing yet says of `components`."""
        result = Matcher(self.database).match(components)
        findings: set[tuple[object, ...]] = {
            (one.component_purl, one.advisory, one.severity, one.score, one.vector, one.fixed_in, one.found_as)
            for one in result.findings
        }
        return findings | {(gap.purl, gap.reason, gap.advisories) for gap in result.not_checked}


@pytest.fixture
def nothing_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advisory databases begin without entries."""
    header = snapshot.shipped_header()
    monkeypatch.setattr(snapshot, "shipped", lambda: (header, ()))


@pytest.fixture
def place(tmp_path: Path, nothing_shipped: None) -> Iterator[Place]:
    """An empty catalog and an advisory database without entries."""
    with ExitStack() as stack:
        catalog = stack.enter_context(Catalog.open(home(tmp_path)))
        yield Place(catalog, stack.enter_context(Database(tmp_path / "advisories.db")))


def test_a_new_advisory_touches_only_the_versions_of_its_package(place: Place) -> None:
    """The others are not matched; what is new, and how many images it reaches, is told."""
    place.image("one", python("aa", "1.0"), python("bb", "1.0"))
    place.image("two", python("aa", "1.0"), python("bb", "1.0"))
    place.image("three", python("aa", "2.0"))
    assert place.rematch().versions == 3
    place.put(1, "aa")
    found = place.rematch()
    assert (found.packages, found.versions) == (1, 2)
    assert [(one.change, one.purl, one.advisory) for one in found.changes] == [
        ("added", "pkg:pypi/aa@1.0", "PYSEC-2024-1")
    ]
    assert (found.component_sets, found.images) == (1, 2)
    again = place.rematch()
    assert (again.packages, again.versions, again.changes) == (0, 0, ())


def test_an_advisory_that_is_corrected_or_withdrawn_is_told(place: Place) -> None:
    """A finding that says something else is changed, one that is gone is removed."""
    place.image("one", python("aa", "1.0"))
    place.put(1, "aa")
    place.scan("one", python("aa", "1.0"))
    place.rematch()
    assert len(place.catalog.image(digest("one")).findings) == 1
    place.put(1, "aa", fixed="3.0")
    assert [one.change for one in place.rematch().changes] == ["changed"]
    place.database.withdraw("PYSEC-2024-1")
    assert [one.change for one in place.rematch().changes] == ["removed"]
    assert place.catalog.image(digest("one")).findings == ()


def test_all_names_of_tensorflow_are_matched_anew_together(place: Place) -> None:
    """An advisory about `tensorflow` reaches the versions of `tensorflow-cpu`, and the finding says so."""
    place.image("one", python("tensorflow-cpu", "1.0"))
    place.scan("one", python("tensorflow-cpu", "1.0"))
    place.rematch()
    place.put(1, "tensorflow")
    place.rematch()
    (found,) = place.catalog.image(digest("one")).findings
    assert found.found_as == "tensorflow"


def test_an_ecosystem_that_gets_data_is_no_longer_a_gap(place: Place) -> None:
    """Without data for its ecosystem a package is not checked; the first import for it matches all of its packages."""
    gem = Component(kind="gem", name="rack", version="1.0", purl="pkg:gem/rack@1.0", ecosystem="RubyGems")
    place.image("one", gem)
    place.scan("one", gem)
    place.rematch()
    assert [gap.purl for gap in place.catalog.image(digest("one")).not_checked] == [gem.purl]
    row = rows_of(advisory("GHSA-1", "other", ecosystem="RubyGems"))["RubyGems"]
    place.database.replace("RubyGems", [row], source="test", as_of="2024-05-01T00:00:00Z")
    place.rematch()
    record = place.catalog.image(digest("one"))
    assert record.not_checked == ()
    assert record.summary.scan is not None
    assert record.summary.scan.not_checked == 0
    assert record.summary.scan.as_of == dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    assert record.summary.scan.revision == place.database.revision()


def test_a_name_of_any_length_is_matched(place: Place) -> None:
    """A hostile image with endless names keeps no other from being matched."""
    one, other = python("a" * 5000, "1.0"), python("a" * 5000 + "b", "odd version")
    place.image("one", one, other, python("aa", "1.0"))
    place.put(1, "aa")
    assert place.rematch().versions == 3
    place.put(2, "aa")
    assert place.rematch().versions == 1
    assert len(place.found()) == len(place.expected({python("aa", "1.0"), one, other}))


def test_a_scan_with_other_data_is_matched_again(place: Place, tmp_path: Path) -> None:
    """A scan by somebody with older advisories does not hide what is known: the next time puts it right."""
    package = python("aa", "1.0")
    place.image("one", package)
    place.put(1, "aa")
    place.scan("one", package)
    place.rematch()
    with Database(tmp_path / "older.db") as older:
        Place(place.catalog, older).scan("one", package)
    assert place.catalog.image(digest("one")).findings == ()
    assert place.rematch().versions == 1
    assert [one.advisory for one in place.catalog.image(digest("one")).findings] == ["PYSEC-2024-1"]


def test_the_list_and_the_age_speak_of_the_matching(place: Place) -> None:
    """After it, the summary of an image and the age of the advisories are those of the matching."""
    place.image("one", python("aa", "1.0"))
    place.scan("one", python("aa", "1.0"), at=clock.now() - dt.timedelta(days=9))
    place.put(1, "aa")
    place.rematch()
    (summary,) = place.catalog.list_images().items
    age, known = place.catalog.advisory_age(), place.catalog.matching()
    assert summary.scan is not None
    assert age is not None
    assert known is not None
    assert summary.scan.counts == {"unknown": 1}
    assert summary.scan.revision == age.revision == known.revision == place.database.revision()
    assert summary.scan.scanned_at == age.scanned_at == known.matched_at


def test_an_older_state_that_somebody_puts_meanwhile_is_put_right(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is new takes along the others of its package when they are in another state than the data."""
    place.image("one", python("aa", "1.0"))
    place.rematch()
    place.put(1, "aa")
    place.image("two", python("aa", "1.5"))
    monkeypatch.setattr("tidewaiter.pipelines.rematching._stale", lambda *_: iter(()))
    place.rematch()
    assert place.found() == place.expected({python("aa", "1.0"), python("aa", "1.5")})


def test_whoever_is_stopped_half_way_leaves_the_rest_to_the_next_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing claims to be matched that is not: a matching that breaks off is no matching, and the next one ends it."""
    components = [python(name, version) for name in NAMES for version in VERSIONS]
    place.image("one", *components)
    monkeypatch.setattr("tidewaiter.pipelines.rematching._VERSIONS", 5)
    match, calls = Matcher.match, iter((True, False))

    def once(self: Matcher, given: Any) -> Any:
        if not next(calls):
            raise KeyboardInterrupt
        return match(self, given)

    with monkeypatch.context() as patched:
        patched.setattr(Matcher, "match", once)
        with pytest.raises(KeyboardInterrupt):
            place.rematch()
    assert place.catalog.matching() is None
    assert place.rematch().versions == len(components) - 5
    assert place.catalog.matching() is not None


PACKAGE = st.builds(python, st.sampled_from(NAMES), st.sampled_from(VERSIONS))
STEP = st.one_of(
    st.tuples(st.just("image"), st.lists(PACKAGE, min_size=1, max_size=4, unique=True)),
    st.tuples(st.just("scan"), st.lists(PACKAGE, min_size=1, max_size=4, unique=True)),
    st.tuples(
        st.just("put"), st.integers(1, 4), st.sampled_from(NAMES), st.sampled_from(("1.2", "1.7", "3.0")), st.booleans()
    ),
    st.tuples(st.just("withdraw"), st.integers(1, 4)),
    st.tuples(st.just("replace"), st.lists(st.integers(1, 4), min_size=1, max_size=3, unique=True)),
    st.just(("rematch",)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=1, max_size=12))
@pytest.mark.thorough
def test_any_order_of_events_gives_what_a_full_rescan_gives(
    steps: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory, nothing_shipped: None
) -> None:
    """Images, scans, imports and withdrawals in any order: after a matching nothing differs from matching all anew."""
    folder = tmp_path_factory.mktemp("place")
    known: set[Component] = set()
    with Catalog.open(home(folder)) as catalog, Database(folder / "advisories.db") as database:
        place = Place(catalog, database)
        for number, (what, *rest) in enumerate((*steps, ("rematch",))):
            if what in {"image", "scan"}:
                place.image(f"image {number}", *rest[0])
                known.update(rest[0])
                if what == "scan":
                    place.scan(f"image {number}", *rest[0])
            elif what == "put":
                place.put(rest[0], rest[1], fixed=rest[2], aliases=("CVE-2024-1000",) if rest[3] else ())
            elif what == "withdraw":
                database.withdraw(f"PYSEC-2024-{rest[0]}")
            elif what == "replace":
                rows = [
                    rows_of(advisory(f"PYSEC-2024-{one}", NAMES[one % 4], introduced="1.1"))["PyPI"] for one in rest[0]
                ]
                database.replace("PyPI", rows, source="test", as_of="2024-05-01T00:00:00Z", force=True)
            else:
                place.rematch()
                assert place.found() == place.expected(known)
                again = place.rematch()
                assert (again.versions, again.changes) == (0, ())
