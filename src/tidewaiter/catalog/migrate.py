"""Bringing a database to the schema of this program: cheap when there is nothing to do."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from tidewaiter.catalog.database import Database
from tidewaiter.catalog.glance import REVISION, is_current
from tidewaiter.core.errors import StorageError
from tidewaiter.core.settings import DatabaseUrl


def revision(connection: Connection) -> str | None:
    """Revision of the schema in the database; None when it is empty.

    Raises:
        StorageError: there are tables, but no revision: it is not a catalog.
    """
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found
    if tables:
        raise StorageError(
            f"the database holds {', '.join(sorted(tables)[:5])} but no schema revision: it is not a catalog",
            next_step="Move the file away, or point TIDEWAITER_HOME to another folder; on PostgreSQL, make a database"
            " of its own.",
            code="not_a_catalog",
        )
    return None


def upgrade(database: Database) -> None:
    """Bring the database to `REVISION`, making it when it is missing. Alembic is loaded only when it has work.

    Raises:
        StorageError: the database is newer than this program, is something else, or cannot be written.
    """
    place = database.place
    if isinstance(place, Path):
        if is_current(place):
            return
        lock = place.with_name(place.name + ".lock")
    else:
        lock = Path()
    if not isinstance(place, Path) or place.exists():
        with database.reading() as connection:
            if revision(connection) == REVISION:
                return
    # Two processes may meet an old database at once: one migrates, the other finds it done.
    with database.alone("migrating", file=lock):
        database.prepare()
        with database.writing() as connection:
            found = revision(connection)
            if found != REVISION:
                _migrate(connection, found, place)


def _migrate(connection: Connection, found: str | None, place: Path | DatabaseUrl) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    # A per cent sign in a folder's name would be read as interpolation.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StorageError(
            f"the catalog {place} has schema {found}, which is newer than this program's {REVISION}",
            next_step="Use the tidewaiter version that wrote it, or a newer one.",
            code="newer_schema",
        )
    command.upgrade(config, "head")
    if connection.dialect.name == "postgresql":
        from tidewaiter.catalog import postgres

        postgres.collate(connection)
