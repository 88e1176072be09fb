"""What is said in a rehearsal is heard there, and nowhere else."""

from pathlib import Path

import pytest
from catalog_sample import home

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.gate import GateCatalog
from tidewaiter.catalog.rehearsal import rehearsal
from tidewaiter.oci import digest as digests

BLOB = digests.of(b"a blob")


def broken(catalog: Catalog) -> None:
    """A rehearsal that does not come to its end."""
    with rehearsal(catalog.database) as stage:
        GateCatalog(stage).add_blob("team/app", BLOB, 3)
        raise RuntimeError("broken")


def test_nothing_of_it_stays(tmp_path: Path) -> None:
    """Several transactions see one another's rows; after the block, or an error in it, there are none."""
    with Catalog.open(home(tmp_path)) as catalog:
        gate = GateCatalog(catalog.database)
        with rehearsal(catalog.database) as stage:
            staged = GateCatalog(stage)
            staged.add_blob("team/app", BLOB, 3)
            assert staged.blob("team/app", BLOB, shown=False) == 3
        assert gate.blob("team/app", BLOB, shown=False) is None
        with pytest.raises(RuntimeError, match="broken"):
            broken(catalog)
        assert gate.blob("team/app", BLOB, shown=False) is None
        gate.add_blob("team/app", BLOB, 3)
        assert gate.blob("team/app", BLOB, shown=False) == 3
