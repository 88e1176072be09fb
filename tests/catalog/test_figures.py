"""Numbers of a whole catalog."""

from pathlib import Path

import catalog_sample
import pytest

from tidewaiter.catalog import figures
from tidewaiter.catalog.audit import log as audit_log
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.database import Database
from tidewaiter.core import settings
from tidewaiter.core.errors import StorageError


def test_an_empty_catalog_has_zeros(tmp_path: Path) -> None:
    """Every noun is named with 0; no environment and no visibility is made up."""
    opened = Catalog.open(settings.load({"TIDEWAITER_HOME": str(tmp_path)}))
    with opened as catalog, catalog.database.reading() as connection:
        found = figures.read(connection)
        figures.answers(connection)
    assert set(found.rows.values()) == {0}
    assert (found.tags, found.cleared, found.verdicts) == ({}, {}, {})
    assert (found.audit_entries, found.audit_pending) == (0, 0)


def test_a_catalog_that_lost_its_tables_does_not_answer(tmp_path: Path) -> None:
    """A file without tables is an error, not an empty catalog."""
    with pytest.raises(StorageError), Database(tmp_path / "catalog.db").reading() as connection:
        figures.answers(connection)


def test_changes_that_wait_are_counted(tmp_path: Path) -> None:
    """Both ways of asking see the entries that have no position yet."""
    chosen = settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    with Catalog.open(chosen) as catalog:
        catalog.log("push", catalog_sample.digest("image"), {})
        catalog.log("push", catalog_sample.digest("other"), {})
        with catalog.database.reading() as connection:
            assert figures.read(connection).audit_pending == 2
    with audit_log.reading(chosen.catalog) as log:
        assert figures.pending(log) == 2
