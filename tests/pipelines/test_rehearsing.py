"""The gate's first answer was rehearsed: what it says to the catalog is compiled, and nothing of it is there."""

from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.engine import Engine

from tidewaiter.catalog import schema
from tidewaiter.catalog.database import Database
from tidewaiter.core import settings
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines import rehearsing
from tidewaiter.pipelines.standing_engine import StandingEngine
from tidewaiter.pipelines.workshop import opened


def rows(database: Database) -> dict[str, int]:
    """Numbers of rows, but for what rules answered."""
    with database.reading() as connection:
        tables = (table for table in schema.metadata.sorted_tables if table is not schema.decision)
        return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def compiled(engine: Engine) -> int:
    """How many statements are."""
    cache = engine._compiled_cache
    assert cache is not None
    return len(cache)


def test_all_is_said_once_and_nothing_kept(tmp_path: Path) -> None:
    """Both answers are gone through to their end; the second time there is nothing left to compile."""
    home = settings.load({"TIDEWAITER_HOME": str(tmp_path)})
    rules = StandingEngine(home)
    try:
        with opened(home, SILENT) as shop, rules.held() as engine:
            before, none = rows(shop.catalog.database), compiled(shop.catalog.database.engine)
            rehearsing.rehearse(shop, engine)
            once = compiled(shop.catalog.database.engine)
            assert once > none + 40
            rehearsing.rehearse(shop, engine)
            assert compiled(shop.catalog.database.engine) == once
            assert rows(shop.catalog.database) == before
    finally:
        rules.close()
