"""A server of PostgreSQL as it is: what `doctor` says of it. Nothing is changed."""

import msgspec

from tidewaiter.catalog import postgres
from tidewaiter.catalog.glance import UnansweredError
from tidewaiter.core.errors import StorageError
from tidewaiter.core.settings import DatabaseUrl

_QUERY = (
    "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
    " current_setting('server_encoding'), pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,"
    " has_schema_privilege(current_schema(), 'CREATE'), has_schema_privilege(current_schema(), 'USAGE'),"
    " current_setting('synchronous_commit') = 'off' OR NOT current_setting('fsync')::bool,"
    " current_setting('max_connections')::int,"
    " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
    " to_regclass('alembic_version') IS NOT NULL, EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'amcheck')"
)


class ServerState(msgspec.Struct, frozen=True, kw_only=True):
    """Of a server, and of the database in it."""

    number: int
    """Its version as PostgreSQL counts: 150004."""
    version: str
    encoding: str
    read_only: bool
    may_create: bool
    may_lose: bool
    """Whether a power cut may take back what was committed."""
    connections: int
    """At most."""
    used: int
    revision: str | None
    """Of the schema; None when there is no catalog yet."""
    amcheck: bool
    """Whether indexes can be checked."""


def look(url: DatabaseUrl) -> ServerState:
    """What the server says. Raises `StorageError` when it does not answer."""
    try:
        with postgres.connected(url) as connection:
            row = connection.execute(_QUERY).fetchone()
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if row[9] else None
    except UnansweredError as error:
        if isinstance(error.__cause__, postgres.REFUSALS):
            raise postgres.explain(url, error.__cause__) from error
        raise StorageError(str(error), next_step="Run the command again.") from error
    return ServerState(
        number=row[0],
        version=row[1],
        encoding=row[2],
        read_only=row[3],
        may_create=bool(row[4] and row[5]),
        may_lose=row[6],
        connections=row[7],
        used=row[8],
        revision=None if found is None else found[0],
        amcheck=row[10],
    )
