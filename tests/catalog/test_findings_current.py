"""Whether every component was matched with the advisories of now, without counting all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_sample import NOW, component, digest, facts, home, scan
from sqlalchemy import select

from tidewaiter.catalog import findings, schema
from tidewaiter.catalog.catalog import Catalog

RELEASE, REVISION = "1.0", digest("r1")


def match(catalog: Catalog) -> None:
    """Match what is not matched yet with advisories; they touch nothing."""
    with catalog.rematching() as work:
        missing = work.unmatched(10)
        packages = {number: (one.ecosystem, one.name) for number, one in missing.items()}
        work.put(missing, packages, dict.fromkeys(packages.values(), f"{RELEASE} r1"), scan("one").result, NOW)


def is_current(catalog: Catalog) -> bool:
    """Of these advisories."""
    with catalog.database.reading() as connection:
        return findings.is_current(connection, REVISION, RELEASE)


def through(catalog: Catalog) -> int | None:
    """Up to which component all are known to be matched."""
    with catalog.database.reading() as connection:
        return connection.scalar(select(schema.matching.c.through))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Two components, matched."""
    with Catalog.open(home(tmp_path)) as opened:
        opened.record_facts(facts("one", component("numpy"), component("keras")), repository="team/one")
        match(opened)
        opened.record_matching(REVISION, {}, NOW)
        yield opened


def test_a_component_that_comes_later_is_to_be_matched(catalog: Catalog) -> None:
    """It is not matched, the others still are; after it was matched, all are."""
    assert is_current(catalog)
    assert through(catalog) == 2
    catalog.record_facts(facts("two", component("numpy"), component("torch")), repository="team/two")
    assert not is_current(catalog)
    match(catalog)
    assert is_current(catalog)


def test_what_is_missing_when_the_matching_ends_stays_missing(catalog: Catalog) -> None:
    """A component that came between the matching and its end is not taken for matched."""
    catalog.record_facts(facts("two", component("torch")), repository="team/two")
    catalog.record_facts(facts("three", component("scipy")), repository="team/three")
    catalog.record_matching(REVISION, {}, NOW)
    assert through(catalog) == 2
    assert not is_current(catalog)


def test_components_scanned_with_other_data_are_to_be_matched_again(catalog: Catalog) -> None:
    """A scan with other advisories makes those of its image unmatched, however long they are known."""
    catalog.record_scan(scan("one", revision="r0"))
    assert not is_current(catalog)
    match(catalog)
    assert is_current(catalog)
    catalog.record_matching(REVISION, {}, NOW)
    assert through(catalog) == 2
