"""State on a date: tags, verdicts and waivers as they were, and since when it is known."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_sample import build, digest, facts, home, verdict
from sqlalchemy import select, update

from tidewaiter.catalog import as_of, browsing, clearing, inventory, schema, synced, synced_writing, verdicts_at
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError

NOW = dt.datetime(2026, 5, 10, 12, 30, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog with one build."""
    with Catalog.open(home(tmp_path)) as found:
        found.record_build(build("one"))
        yield found


def test_a_day_is_its_end_and_today_is_now() -> None:
    """A moment is taken as it is; the future and what is no day are refused."""
    assert as_of.moment("", NOW) is None
    assert as_of.moment("2026-05-09", NOW) == dt.datetime(2026, 5, 9, 23, 59, 59, tzinfo=dt.UTC)
    assert as_of.moment("2026-05-10", NOW) == NOW
    assert as_of.moment("2026-05-09T10:00:00+02:00", NOW) == dt.datetime(2026, 5, 9, 8, tzinfo=dt.UTC)
    for text in ("2026-05-11", "2026-05-10T12:30:01Z", "2026-13-01", "yesterday", "2026-05-09T10:00:00", "9999-12-31"):
        with pytest.raises(InputError):
            as_of.moment(text, NOW)


def test_verdicts_stand_from_when_they_were_decided(catalog: Catalog) -> None:
    """Also one that was decided again later from the same inputs: between the two it stood, and was valid an hour."""
    for answer, hours in (("allow", 0), ("deny", 5), ("allow", 9)):
        catalog.record_verdict(verdict("one", answer, NOW + hours * HOUR))
    asked = []
    for hours in (-1, 0, 2, 5, 9, 11):
        with catalog.database.reading() as connection:
            found = verdicts_at.verdicts(connection, digest("one"), NOW + hours * HOUR, clock.now())
        asked.append([(one.verdict, one.valid, (one.decided_at - NOW) // HOUR) for one in found])
    assert asked == [
        [],
        [("allow", True, 0)],
        [("allow", False, 0)],
        [("deny", True, 5)],
        [("allow", True, 9)],
        [("allow", False, 9)],
    ]
    with catalog.database.reading() as connection:
        (one,) = verdicts_at.verdicts(connection, digest("one"), NOW, clock.now())
        assert (one.document.decided_at, one.document.valid_until) == (NOW, NOW + HOUR)
        assert verdicts_at.verdicts(connection, digest("two"), NOW, clock.now()) == ()


def test_of_two_in_one_second_the_denial_stood(catalog: Catalog) -> None:
    """As it does for what is asked of now."""
    for answer in ("deny", "allow"):
        catalog.record_verdict(verdict("one", answer, NOW))
    with catalog.database.reading() as connection:
        for at in (NOW, None):
            assert [one.verdict for one in verdicts_at.verdicts(connection, digest("one"), at, NOW)] == ["deny"]


def test_a_tag_that_its_registry_deleted_is_gone_from_then_on(catalog: Catalog) -> None:
    """Before that it means what it meant; its history says it; one that comes back has a new meaning; others stay."""
    for image in ("two", "three"):
        catalog.record_facts(facts(image), repository="team/model")
    catalog.set_tag("team/model", "1.0", digest("two"))
    catalog.set_tag("team/model", "2.0", digest("one"))
    with catalog.database.writing() as connection:
        began = connection.scalar(select(schema.tag.c.set_at).where(schema.tag.c.name == "1.0"))
        assert began is not None
        assert clearing.remove(connection, repository="team/model", name="1.0", at=began + HOUR)
        assert not clearing.remove(connection, repository="team/model", name="1.0", at=began + 2 * HOUR)
        assert not clearing.remove(connection, repository="team/model", name="2.0", at=began), "it was built here"
        then = {hours: [one.tag for one in as_of.tags(connection, began + hours * HOUR)] for hours in (0.5, 1.5, 4)}
        assert then == {0.5: ["1.0", "2.0"], 1.5: ["2.0"], 4: ["2.0"]}
        assert [one.tag for one in as_of.tags(connection, None)] == ["2.0"]
        assert as_of.tag(connection, began + 2 * HOUR, "team/model", "1.0") == []
        history = inventory.tag_changes(connection, "team/model", "1.0", rows=9).items
        assert [(one.visibility, one.digest) for one in history] == [("gone", ""), ("pulled", digest("two"))]
        (move,) = browsing.moves(connection)
        assert (move.tag, move.before, move.digest) == ("1.0", digest("two"), "")
        clearing.set_tag(
            connection, repository="team/model", name="1.0", digest=digest("three"), clear_for=None, at=began
        )
        assert as_of.tag(connection, None, "team/model", "1.0")[0].since == began + HOUR, "it follows what was before"


def test_tags_are_those_of_the_day(catalog: Catalog) -> None:
    """Of the store and of registries; one that moved, one that is gone, one that came later; bounded."""
    catalog.record_facts(facts("two"), repository="team/model")
    catalog.set_tag("team/model", "1.0", digest("one"))
    catalog.set_tag("team/model", "1.0", digest("two"))
    catalog.set_tag("team/model", "2_0", digest("two"))
    image = synced.TakenManifest(digest=digest("far"), media_type="m", kind="image")
    with catalog.database.writing() as connection:
        seen = synced.Batch(manifests=[image], tags=[synced.SeenTag("x", digest("far"), NOW)])
        synced_writing.write(connection, "reg.example/far", seen, NOW)
        synced_writing.write(connection, "reg.example/far", synced.Batch(gone=["x"]), NOW + 5 * HOUR)
        history = schema.tag_history
        for number in (1, 2, 3):
            connection.execute(update(history).where(history.c.id == number).values(set_at=NOW + number * HOUR))

    def told(hours: float, **more: object) -> list[tuple[str, str]]:
        with catalog.database.reading() as connection:
            found = as_of.tags(connection, NOW + hours * HOUR, **more)  # type: ignore[arg-type]  # of the signature
        return [(f"{one.repository}:{one.tag}", one.digest) for one in found]

    far = ("reg.example/far:x", digest("far"))
    assert told(-1) == []
    assert told(0) == [far]
    assert told(1) == [far, ("team/model:1.0", digest("one"))]
    assert told(2) == [far, ("team/model:1.0", digest("two"))]
    assert told(5) == [("team/model:1.0", digest("two")), ("team/model:2_0", digest("two"))]
    assert told(5, rows=1) == [("team/model:1.0", digest("two"))]
    with catalog.database.reading() as connection:
        present = as_of.tags(connection, None)
        assert [(one.tag, one.visibility) for one in present] == [("1.0", "pulled"), ("2_0", "pulled")]


def test_what_is_not_known_of_a_day_is_told(tmp_path: Path) -> None:
    """Before a history begins, and in an empty catalog; of the present everything is known."""
    with Catalog.open(home(tmp_path)) as catalog, catalog.database.reading() as connection:
        assert as_of.unknown(connection, None, "findings", "tags") == ()
        findings, tags = as_of.unknown(connection, NOW, "tags", "findings")
        assert findings.startswith("findings: recorded since 20")
        assert tags == "tags: nothing was recorded yet"
