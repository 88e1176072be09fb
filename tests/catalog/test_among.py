"""Conditions about many values at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from catalog_sample import build, digest, home
from sqlalchemy import and_, insert, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among, among_texts, unindexed
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings

_PLACE, _OF = schema.repository_artifact.c, schema.artifact.c


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """Three images."""
    with Catalog.open(home(tmp_path)) as opened:
        for name in ("one", "two", "three"):
            opened.record_build(build(name))
        yield opened


def test_many_values_are_one_condition(catalog: Catalog) -> None:
    """It holds of the rows with one of the values, its opposite of all others, and it goes with other conditions."""
    wanted = [digest("one"), digest("two")]
    with catalog.database.reading() as connection:
        here = set(connection.scalars(select(_OF.id).where(among_texts(_OF.digest, wanted))))
        others = connection.scalars(select(_OF.digest).where(~among(_OF.id, here))).all()
        both = and_(among(_OF.id, here), among_texts(_OF.digest, wanted[:1]))
        one = connection.scalars(select(_OF.digest).where(both)).all()
        none = connection.scalars(select(_OF.id).where(among(_OF.id, []))).all()
        same = connection.scalars(select(_OF.digest).where(unindexed(_OF.digest) == wanted[0])).all()
    assert (len(here), others, one, none, same) == (2, [digest("three")], wanted[:1], [], wanted[:1])


def test_sqlite_answers_it_by_an_index(tmp_path: Path) -> None:
    """A list of values is looked up, table by table; a column that is not to be looked up is gone through."""
    listed = select(_OF.digest).join(schema.repository_artifact, _PLACE.artifact_id == _OF.id).where(among(_OF.id, [1]))
    named = select(_OF.digest).where(among_texts(_OF.digest, ["a"]))
    through = select(_OF.id, _OF.size).where(unindexed(_OF.digest) == "a")
    settings = all_settings.load({"TIDEWAITER_HOME": str(tmp_path)})  # on SQLite, whichever the others run on
    with Catalog.open(settings) as opened, opened.database.reading() as connection:
        plans = []
        for query in (listed, named, through):
            text = str(query.compile(connection, compile_kwargs={"literal_binds": True}))
            steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
            plans.append([row[3] for row in steps if "artifact" in row[3]])
    assert plans[0]
    assert all(step.startswith("SEARCH") for step in (*plans[0], *plans[1]))
    assert [step.split()[0] for step in plans[2]] == ["SCAN"]


@pytest.mark.parametrize("odd", ['"', "\\", "a,b", "{}", "NULL", "", " ", "\n\t", 'a"}\\', "\u202eé", "'; --"])
def test_texts_of_any_kind_are_found(tmp_path: Path, odd: str) -> None:
    """What a list, a text or JSON writes in another way means itself, alone and among others."""
    names = [odd, f"{odd}x", "plain"]
    with Catalog.open(home(tmp_path)) as opened, opened.database.writing() as connection:
        connection.execute(insert(schema.package), [{"ecosystem": "e", "name": one, "state": ""} for one in names])
        of = schema.package.c.name
        for wanted in ([odd], [odd, "plain"], [f"{odd}x", "plain"]):
            found = connection.scalars(select(of).where(among_texts(of, wanted))).all()
            assert sorted(found) == sorted(wanted)
