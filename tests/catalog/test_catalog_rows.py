"""New rows go into the database as those that may be there already."""

import datetime as dt
from pathlib import Path

import msgspec
import pytest
from catalog_sample import component, digest, facts, home
from sqlalchemy import Connection, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.rows import add_missing, add_new, ensure, numbers
from tidewaiter.core.errors import StorageError

ODD = (
    "",
    "\\N",
    "\\.",
    "a\tb",
    "line\nbreak\r",
    "\\",
    "\\\\x41",
    "\b\f\v",
    "é \u202e 🚢",
    "'; DROP TABLE layer --",
    "null",
)
AT = dt.datetime(2026, 5, 1, 12, 30, 15, 123456, tzinfo=dt.timezone(dt.timedelta(hours=2)))


def _verdicts(connection: Connection, begin: int) -> list[dict[str, object]]:
    known = ensure(
        connection,
        schema.artifact.c.digest,
        {
            digest(f"{begin + place}"): {
                "digest": digest(f"{begin + place}"),
                "media_type": "m",
                "size": place,
                "recorded_at": AT,
            }
            for place in range(len(ODD))
        },
    )
    return [
        {
            "artifact_id": known[digest(f"{begin + place}")],
            "environment": "production",
            "name": odd,
            "verdict": "allow",
            "policy_revision": odd,
            "advisories_revision": odd,
            "document": {"text": odd, "list": [odd, 1, 1.5, None, True]},
            "decided_at": AT,
            "valid_until": AT,
        }
        for place, odd in enumerate(ODD)
    ]


def test_new_rows_are_stored_as_all_rows_are(tmp_path: Path) -> None:
    """Whatever stands in texts and documents, in whatever zone a time is said: both ways read the same."""
    of = schema.verdict.c
    read = select(of.name, of.policy_revision, of.document, of.decided_at, of.valid_until).order_by(of.id)
    with Catalog.open(home(tmp_path)) as catalog, catalog.database.writing() as connection:
        add_new(connection, schema.verdict, [])
        new = _verdicts(connection, 0)
        add_new(connection, schema.verdict, new)
        first = connection.execute(read).all()
        assert [row.name for row in first] == list(ODD)
        assert [row.document for row in first] == [one["document"] for one in new]
        assert {row.decided_at for row in first} == {AT}
        numbered = [one["artifact_id"] for one in new]
        add_missing(connection, schema.verdict, _verdicts(connection, 100))
        second = connection.execute(read.where(of.artifact_id.not_in(numbered))).all()
        assert [tuple(row) for row in first] == [tuple(row) for row in second]


def _write_twice(catalog: Catalog) -> None:
    with catalog.database.writing() as connection:
        rows = _verdicts(connection, 0)
        add_new(connection, schema.verdict, rows)
        add_new(connection, schema.verdict, rows)


def test_a_row_that_is_there_is_refused(tmp_path: Path) -> None:
    """Nothing is replaced by what was said to be new, and nothing of that transaction stays."""
    with Catalog.open(home(tmp_path)) as catalog:
        with pytest.raises(StorageError):
            _write_twice(catalog)
        with catalog.database.reading() as connection:
            assert connection.execute(select(schema.verdict.c.id)).all() == []


def test_row_numbers_of_odd_keys_are_found(tmp_path: Path) -> None:
    """Each key has its own row, and one that is not there has none."""
    with Catalog.open(home(tmp_path)) as catalog, catalog.database.writing() as connection:
        known = ensure(connection, schema.repository.c.name, {name: {"name": name} for name in ODD})
        assert len(set(known.values())) == len(ODD)
        assert numbers(connection, schema.repository.c.name, (*ODD, "not there")) == known


def test_odd_places_of_packages_come_back(tmp_path: Path) -> None:
    """A package's location and licences are those that the layer states, and recording them twice changes nothing."""
    packages = [
        msgspec.structs.replace(component(f"package-{place}"), location=odd, licenses=(odd, "MIT"))
        for place, odd in enumerate(ODD)
    ]
    with Catalog.open(home(tmp_path)) as catalog:
        for _ in range(2):
            catalog.record_facts(facts("one", *packages), repository="team/one")
            found = {one.name: one for one in catalog.image(f"team/one@{digest('one')}").components}
            assert [found[f"package-{place}"].location for place in range(len(ODD))] == list(ODD)
