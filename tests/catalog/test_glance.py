"""What sqlite3 alone says of the catalog is what the catalog says, and it says nothing when anything is odd."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from catalog_sample import build, digest, home

from tidewaiter.catalog import glance
from tidewaiter.catalog.catalog import Catalog

FILE = "catalog.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A home below a folder whose name an address would misread, with two builds of one repository."""
    found = tmp_path / "50% of #1?"
    with Catalog.open(home(found)) as catalog:
        for image in ("one", "two"):
            catalog.record_build(build(image))
        catalog.set_tag("team/model", "first", digest("one"))
        catalog.set_tag("team/model", "second", digest("two"))
    return found


def test_tags_are_those_of_the_catalog(folder: Path) -> None:
    """A tag's digest and what it says agree with the catalog's answers; what is not there is None in both."""
    with Catalog.open(home(folder)) as catalog:
        for repository, name in (
            ("team/model", "first"),
            ("team/model", "second"),
            ("team/model", "x"),
            ("x", "first"),
        ):
            found = glance.tag(folder / FILE, repository, name)
            assert (found.digest if found else None) == catalog.resolve_tag(repository, name)
        shown = {tag.name: tag.visibility for tag in catalog.image(f"team/model@{digest('one')}").summary.tags}
    found = glance.tag(folder / FILE, "team/model", "first")
    assert found == (digest("one"), "built")
    assert shown == {"first": "built"}


def test_what_another_connection_has_just_written_is_seen(folder: Path) -> None:
    """Also what still stands in the write-ahead log only, and while a writer is in its transaction."""
    with Catalog.open(home(folder)) as catalog:
        catalog.set_tag("team/model", "first", digest("two"))
        with catalog.database.writing():
            found = glance.tag(folder / FILE, "team/model", "first")
    assert found is not None
    assert found.digest == digest("two")


def test_a_recorded_build_is_known(folder: Path) -> None:
    """The same clean commit, locks and image, whenever it was built, under the tag that it has."""
    again = build("one", started=build("one").finished)
    assert glance.knows_build(folder / FILE, again, "first")
    assert not glance.knows_build(folder / FILE, again, "second")
    assert not glance.knows_build(folder / FILE, again, "third")


@pytest.mark.parametrize(
    "more",
    [
        {"dirty": True},
        {"commit": "f" * 40},
        {"environment": "production"},
        {"purpose": "notebook"},
        {"source": "elsewhere"},
        {"branch": "other"},
        {"builder": "ci"},
        {"pipeline_run": "7"},
        {"base_lock": digest("other lock")},
        {"base_lock": None},
        {"python_lock": digest("other lock")},
        {"repository": "team/other"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_a_build_that_differs_is_new(folder: Path, more: dict[str, Any]) -> None:
    """Anything that the record would say otherwise makes it a build of its own."""
    assert not glance.knows_build(folder / FILE, build("one", **more), "first")


def test_a_missing_foreign_or_damaged_file_is_left_to_the_catalog(tmp_path: Path, folder: Path) -> None:
    """Nothing is made, and nothing is said, of what is not a catalog of this program's schema."""
    missing, foreign, damaged, newer = (tmp_path / name for name in ("missing", "foreign", "damaged", "newer"))
    for path, statements in (
        (foreign, ["CREATE TABLE other (x)"]),
        (newer, ["CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('9999')"]),
    ):
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
    damaged.write_bytes(b"not a database" * 1000)
    for path in (missing, foreign, damaged, newer):
        assert not glance.is_current(path)
        with pytest.raises(glance.UnansweredError):
            glance.tag(path, "team/model", "first")
    assert not missing.exists()
    assert glance.is_current(folder / FILE)


def test_it_loads_no_library_of_databases(folder: Path) -> None:
    """That is what it is for."""
    script = (
        "import sys; from pathlib import Path; from tidewaiter.catalog import glance\n"
        "print(glance.tag(Path(sys.argv[1]), 'team/model', 'first').visibility)\n"
        "print({'sqlalchemy', 'alembic'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / FILE)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["built", "set()"]
