"""Where the engine of durable pipelines keeps what it knows: a file of its own, or a schema of the catalog's server.

Its tables are its own business; the house looks at the catalog's.
"""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event

from tidewaiter.core import durable, limits
from tidewaiter.core.settings import Settings

FILE = "workflows.db"
DAMAGED = "workflows.damaged.db"
_WAIT_MILLISECONDS = 30_000
_DAMAGE = ("malformed", "not a database", "no such table")
"""What SQLite says of a file that is damaged, or was taken away while it was open."""


def _configure(raw: Any, _record: object) -> None:  # noqa: ANN401 - the event hands over the driver's own connection
    # What the engine sets on connections that it opens itself, and the journal that lets readers go on.
    raw.isolation_level = "IMMEDIATE"
    for statement in (
        f"PRAGMA busy_timeout = {_WAIT_MILLISECONDS}",
        "PRAGMA foreign_keys = ON",
        "PRAGMA journal_mode = WAL",
        # A power cut may cost the last steps: the catalog knows of them, and they are not done again.
        "PRAGMA synchronous = NORMAL",
    ):
        raw.execute(statement)


def _bound(raw: Any, _record: object) -> None:  # noqa: ANN401 - as above
    # A worker that hangs in the middle of a change keeps nobody for long from taking its runs up.
    with raw.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {round(limits.CATALOG_IDLE_SECONDS * 1000)}")
    raw.commit()


def engine(settings: Settings) -> Engine:
    """Connections to it, opened when they are needed and shared by threads. Raises `StorageError`."""
    if isinstance(settings.catalog, Path):
        path = settings.home.path / FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise durable.storage_error(error, str(path)) from error
        made = create_engine(URL.create("sqlite", database=str(path)), pool_size=20, max_overflow=0)
        event.listen(made, "connect", _configure)
        return made
    from tidewaiter.catalog import postgres

    url = settings.catalog
    made = create_engine(
        "postgresql+psycopg://",
        creator=lambda: postgres.connect(url),
        pool_size=10,
        max_overflow=10,
        pool_pre_ping=True,
    )
    event.listen(made, "connect", _bound)
    return made


def is_damage(error: BaseException) -> bool:
    """Whether a file is no longer what was written to it."""
    said = explain(error)
    return isinstance(getattr(error, "orig", error), sqlite3.DatabaseError) and any(one in said for one in _DAMAGE)


def set_aside(settings: Settings, error: BaseException) -> bool:
    """Take a damaged file out of the way: nothing in it is needed, since the catalog knows. Whether that was done."""
    if not isinstance(settings.catalog, Path) or not is_damage(error):
        return False
    file = settings.home.path / FILE
    try:
        for left in (f"{FILE}-wal", f"{FILE}-shm"):
            file.with_name(left).unlink(missing_ok=True)
        file.replace(file.with_name(DAMAGED))
    except OSError:
        return False
    return True


def explain(error: BaseException) -> str:
    """What the database said, without the statement."""
    return str(getattr(error, "orig", None) or error)
