"""What lay where on a day: pages of tags with their findings and verdicts of that day."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_sample import component, digest, facts, finding, home, scan, verdict

from tidewaiter.catalog import listed_at, owners, synced, synced_writing
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError
from tidewaiter.oci.manifest import MANIFEST

NOW = clock.now()
HOUR = dt.timedelta(hours=1)
PLACE = "reg.example.org/team/far"


def _seen(catalog: Catalog, name: str, image: str, at: dt.datetime, place: str = PLACE) -> None:
    taken = synced.TakenManifest(digest=digest(image), media_type=MANIFEST, kind="image")
    batch = synced.Batch(manifests=[taken], tags=[synced.SeenTag(name, digest(image), at)], images=[digest(image)])
    with catalog.database.writing() as connection:
        synced_writing.write(connection, place, batch, at)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A tag that moved five hours ago from an image with a finding, which is gone since, to one nobody inspected."""
    with Catalog.open(home(tmp_path)) as found:
        found.record_facts(facts("one", component("flask")))
        leaky = finding("pkg:pypi/flask@1.0", "CVE-1", severity="critical")
        found.record_scan(scan("one", leaky, at=NOW - 8 * HOUR))
        found.record_scan(scan("one", at=NOW - 6 * HOUR, revision="r2"))
        found.record_verdict(verdict("one", "deny", NOW - 7 * HOUR))
        _seen(found, "1", "one", NOW - 9 * HOUR)
        _seen(found, "1", "two", NOW - 5 * HOUR)
        with found.database.writing() as connection:
            owners.put(connection, "repository", "reg.example.org/team", "vision", NOW - 7 * HOUR)
        yield found


def test_a_tag_has_what_was_known_then(catalog: Catalog) -> None:
    """Its image, the findings of that day, the verdict and whether it was valid, the owner; before all that nothing."""
    told = []
    with catalog.database.reading() as connection:
        for hours in (10, 9, 7, 5.5, 5):
            for one in listed_at.listed(connection, NOW - hours * HOUR, rows=10).items:
                verdicts = [(said.verdict, said.valid) for said in one.verdicts]
                told.append((hours, one.digest == digest("one"), one.findings, verdicts, one.owner))
    assert told == [
        (9, True, {}, [], ""),
        (7, True, {"critical": 1}, [("deny", True)], "vision"),
        (5.5, True, {}, [("deny", False)], "vision"),
        (5, False, None, [], "vision"),
    ]


def test_pages_follow_one_another(catalog: Catalog) -> None:
    """Nothing is left out or comes twice, also where the store has a tag of that name; a foreign cursor is refused."""
    for number in range(7):
        _seen(catalog, f"v{number}", "two", NOW - HOUR, f"reg.example.org/{'ab'[number % 2]}")
    catalog.record_facts(facts("here"), repository="reg.example.org/a")
    catalog.set_tag("reg.example.org/a", "v2", digest("here"))
    at, names, cursor = clock.now(), [], ""
    with catalog.database.reading() as connection:
        while True:
            page = listed_at.listed(connection, at, cursor=cursor, rows=2)
            names += [(one.name.rpartition("/")[2], one.tag, one.visibility) for one in page.items]
            cursor = page.next
            if not cursor:
                break
        assert listed_at.listed(connection, at, repository="reg.example.org/a", tag="V?", rows=2).next
        assert [one.tag for one in listed_at.listed(connection, at, repository="*/far", rows=2).items] == ["1"]
        for odd in ("x", "e30", "W10", "\u202e"):
            with pytest.raises(InputError):
                listed_at.listed(connection, at, cursor=odd, rows=2)
    assert sorted(set(names)) == names
    assert len(names) == 9
    assert [name for name in names if name[1] == "v2"] == [("a", "v2", "pulled"), ("a", "v2", "synced")]
