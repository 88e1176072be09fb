"""Deliveries of webhooks that were taken."""

import datetime as dt
from pathlib import Path

from catalog_sample import NOW, home

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.runs import deliveries
from tidewaiter.core import limits


def test_a_delivery_is_taken_once(tmp_path: Path) -> None:
    """The second time it was seen, of the same sender; what it made is known under each of its names."""
    with Catalog.open(home(tmp_path)) as catalog:
        with catalog.database.writing() as connection:
            assert not deliveries.seen(connection, "hub", "1", NOW)
            assert deliveries.seen(connection, "hub", "1", NOW)
            assert not deliveries.seen(connection, "other", "1", NOW)
            deliveries.take(connection, "hub", ("2", "sha256:x"), NOW, runs=("run-1", "run-2"), event="push")
        with catalog.database.reading() as connection:
            assert deliveries.runs_of(connection, "hub", ("sha256:x",), NOW) == ("run-1", "run-2")
            assert deliveries.runs_of(connection, "hub", ("1",), NOW) == ()
            assert deliveries.runs_of(connection, "hub", ("3",), NOW) is None


def test_it_is_forgotten_after_its_time(tmp_path: Path) -> None:
    """Until then it is known, and afterwards it is new."""
    kept = dt.timedelta(seconds=limits.HOOK_KEPT_SECONDS)
    with Catalog.open(home(tmp_path)) as catalog, catalog.database.writing() as connection:
        deliveries.seen(connection, "hub", "1", NOW)
        assert deliveries.seen(connection, "hub", "1", NOW + kept - dt.timedelta(seconds=1))
        assert not deliveries.seen(connection, "hub", "1", NOW + kept)
