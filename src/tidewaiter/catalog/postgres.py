"""The catalog in a database of PostgreSQL: connections, the locks that writers hold, errors in words.

One transaction writes at a time, as on SQLite: it holds an advisory lock of the database from its first statement on,
and sees everything that was committed before (READ COMMITTED). So whatever is right beside `BEGIN IMMEDIATE` is right
here, and no transaction ends by a conflict with another one. A reading sees one snapshot (REPEATABLE READ, READ ONLY).
Locks belong to a transaction or to a connection: they die with their process, and with the way to it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, event

from tidewaiter.catalog.glance import UnansweredError
from tidewaiter.catalog.plain import Plain
from tidewaiter.core import limits
from tidewaiter.core.errors import DeadlineError, InputError, StorageError
from tidewaiter.core.settings import DatabaseUrl

try:
    import psycopg
    from psycopg.types.json import set_json_loads

    from tidewaiter.catalog import postgres_plain
except ImportError as missing:
    raise InputError(
        "TIDEWAITER_DATABASE_URL asks for PostgreSQL, whose driver is not installed",
        next_step="Run `pip install 'tidewaiter[postgres]'`.",
        code="driver_missing",
    ) from missing

if TYPE_CHECKING:
    from tidewaiter.catalog.postgres_plain import AnyConnection

REFUSALS = psycopg.Error
"""What plain statements raise."""
LEAST_VERSION = 130000
"""As `server_version_num` says it: PostgreSQL 13."""
_CONNECT_SECONDS = 10
# A network that swallows packets ends a session, and its locks, within a minute; what is asked is answered in UTC.
_SESSION = (
    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET client_min_messages = 'warning'; SET tcp_keepalives_idle = 30;"
    " SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; SET lock_timeout = {0};"
    # Questions take milliseconds, which compiling them does not; documents of verdicts are compressed in half the time.
    " SET jit = off; SELECT set_config(name, 'lz4', false) FROM pg_settings"
    " WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"
)
_AGAIN = "Run the command again."
_LOST = (
    "the connection was lost",
    "Whether the last change was kept is not known; run the command again, nothing is recorded twice.",
)
_STATES = {
    # SQLSTATE, or the class of some, in words a user can act on.
    "08": _LOST,
    "25P03": _LOST,
    "57P01": _LOST,
    "57P02": _LOST,
    "57P03": ("the server is starting or stopping", "Wait a moment, then run the command again."),
    "28": (
        "the server does not let this user in",
        "Check user and password in TIDEWAITER_DATABASE_URL, and pg_hba.conf.",
    ),
    "3D000": ("there is no such database", "Make it: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0."),
    "42501": ("the user may not do that", "Make the user of TIDEWAITER_DATABASE_URL the owner of the database."),
    "53100": ("the disk of the server is full", "Free space there; then run the command again."),
    "53200": ("the server is out of memory", "Give it more, or stop others who use it; then run the command again."),
    "53300": ("all connections of the server are in use", "Raise its max_connections, or stop others who use it."),
    "53400": ("a limit of the server is reached", "See the message, and raise that limit."),
    "25006": ("it may not be written", "Name the primary server: this is a standby, or a database set read-only."),
    "55P03": ("another process keeps it locked", "Wait for that process or stop it, then run the command again."),
    "57014": ("the server ended the statement after its timeout", "Raise statement_timeout for this user."),
    "22P05": ("its encoding cannot keep this text", "Make the database anew with ENCODING 'UTF8'."),
    "42P01": ("tables are missing from it", "Restore it from a backup."),
    "42703": ("columns are missing from it", "Restore it from a backup."),
    "XX001": ("it is damaged", "Restore it from a backup."),
    "XX002": ("an index of it is damaged", "Run REINDEX DATABASE there, and look after the server's disk."),
}
_SIGNS = (
    # What libpq says before there is a session, and a server in English while there is none.
    ("password authentication failed", "28"),
    ("no password supplied", "28"),
    ("no pg_hba.conf entry", "28"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
    ("too many connections", "53300"),
    ("is starting up", "57P03"),
    ("is shutting down", "57P03"),
    ("in recovery mode", "57P03"),
    ("server closed the connection", "08"),
    ("terminating connection", "08"),
    ("connection is lost", "08"),
    ("connection is closed", "08"),
    ("consuming input failed", "08"),
    ("sending query", "08"),
    ("ssl connection has been closed", "08"),
)
_UNREACHABLE = (
    "it cannot be reached",
    "Check host and port in TIDEWAITER_DATABASE_URL, that PostgreSQL runs there, and the network between.",
)


def key(name: str) -> int:
    """Number of the advisory lock of that name; locks are each database's own."""
    return int.from_bytes(hashlib.sha256(f"tidewaiter {name}".encode()).digest()[:8], "big", signed=True)


WRITING = key("writing")


def connect(url: DatabaseUrl, *, autocommit: bool = False) -> "AnyConnection":
    """A connection of our own. Raises `psycopg.Error`."""
    parameters: dict[str, Any] = {}
    if "connect_timeout=" not in url.secret:
        parameters["connect_timeout"] = _CONNECT_SECONDS
    if "application_name=" not in url.secret:
        parameters["application_name"] = "tidewaiter"
    connection = psycopg.connect(url.secret, autocommit=True, **parameters)
    try:
        connection.execute(_SESSION.format(round(limits.CATALOG_WAIT_SECONDS * 1000)).encode(), prepare=False)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


def engine(url: DatabaseUrl) -> Engine:
    """Connections that threads share; one that died while nobody used it is replaced."""

    def opened() -> "AnyConnection":
        connection = connect(url)
        # The driver reads JSON itself; SQLAlchemy would tell it how, if it were the one who connects.
        set_json_loads(msgspec.json.decode, connection)
        return connection

    made = create_engine(
        "postgresql+psycopg://",
        creator=opened,
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        use_native_hstore=False,
        pool_size=8,
        max_overflow=32,
        pool_pre_ping=True,
    )
    event.listen(made, "begin", _begin)
    return made


def options(*, writing: bool) -> dict[str, Any]:
    """How SQLAlchemy is to begin a transaction."""
    if writing:
        return {"isolation_level": "READ COMMITTED", "postgresql_readonly": False}
    return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("writing"):
        connection.exec_driver_sql(_alone_to_write())


def _alone_to_write() -> str:
    # Whoever is stopped in the middle of a change would keep everybody else from making one: his session ends.
    idle = f"set_config('idle_in_transaction_session_timeout', '{round(limits.CATALOG_IDLE_SECONDS * 1000)}', true)"
    return f"SELECT {idle}, pg_advisory_xact_lock({WRITING})"


def words(error: BaseException) -> tuple[str, str]:
    """Why the server refused, and what to do; two empty texts when that is not known."""
    state = getattr(error, "sqlstate", None) or ""
    text = str(error).lower()
    if not state:
        found = next((state for sign, state in _SIGNS if sign in text), "")
        if not found and 'database "' in text and "does not exist" in text:
            found = "3D000"
        if not found and 'role "' in text:
            found = "28"
        state = found
    cause = _STATES.get(state) or _STATES.get(state[:2])
    if cause is None and not state and isinstance(error, psycopg.OperationalError):
        cause = _UNREACHABLE
    return cause or ("", "")


def explain(url: DatabaseUrl, error: BaseException) -> StorageError:
    """`StorageError` that says in words why the server refused; without the password."""
    text = " ".join(str(error).split())
    cause, next_step = words(error)
    if cause:
        return StorageError(f"the catalog {url}: {cause} ({text})", next_step=next_step)
    return StorageError(
        f"the catalog {url} refused: {text}",
        next_step="Run the command again; if it happens again, report it with this message.",
    )


# Plain connections


@contextmanager
def connected(url: DatabaseUrl) -> Iterator[Plain]:
    """A connection that begins no transaction by itself; raises `UnansweredError`, also for what the block meets."""
    try:
        with closing(connect(url, autocommit=True)) as driver:
            yield postgres_plain.Plain(driver)
    except psycopg.Error as error:
        raise UnansweredError(explain(url, error).message) from error


def begin(connection: Plain, *, writing: bool) -> None:
    """Begin a transaction as those of `Database.writing` or `Database.reading`. Raises `psycopg.Error`."""
    connection.execute(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
        if writing
        else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    )
    if writing:
        connection.execute(_alone_to_write())


def lock(connection: Plain, name: str, *, seconds: float) -> None:
    """Take the database's lock of that name, by a connection outside of any transaction; it ends with that.

    Raises:
        DeadlineError: another session held it for so long.
        psycopg.Error: the server refused.
    """
    connection.execute(f"SET lock_timeout = {max(1, round(seconds * 1000))}")
    try:
        connection.execute(f"SELECT pg_advisory_lock({key(name)})")
    except psycopg.errors.LockNotAvailable as error:
        raise DeadlineError(
            f"another tidewaiter process has held the lock of {name} in the database for {seconds:.0f} s",
            next_step="Wait for it to finish, or stop it, then run the command again.",
        ) from error
    finally:
        with suppress(psycopg.OperationalError):
            connection.execute(f"SET lock_timeout = {round(limits.CATALOG_WAIT_SECONDS * 1000)}")


@contextmanager
def locked(connection: Plain, name: str, *, seconds: float) -> Iterator[None]:
    """Hold the lock that `lock` takes; raises as that does. With a lost connection the lock is lost."""
    lock(connection, name, seconds=seconds)
    try:
        yield
    finally:
        with suppress(psycopg.OperationalError):
            connection.execute(f"SELECT pg_advisory_unlock({key(name)})")


@contextmanager
def alone(url: DatabaseUrl, name: str, *, seconds: float) -> Iterator[None]:
    """Hold the database's lock of that name, on whichever machine another one asks for it.

    Raises:
        DeadlineError: another session held it for so long.
        StorageError: the server refused.
    """
    with ExitStack() as open_for_long:
        try:
            driver = open_for_long.enter_context(closing(connect(url, autocommit=True)))
            lock(postgres_plain.Plain(driver), name, seconds=seconds)
        except psycopg.Error as error:
            raise explain(url, error) from error
        yield  # the lock ends with its connection


def damaged(connection: Plain, tables: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Tables of these whose indexes do not lead to their rows, and what is wrong; nothing without `amcheck`."""
    if not connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'amcheck'").fetchone():
        return
    query = (
        "SELECT t.relname, i.indexrelid::bigint FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid"
        " JOIN pg_class n ON n.oid = i.indexrelid JOIN pg_am m ON m.oid = n.relam AND m.amname = 'btree'"
        " WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind = 'r' ORDER BY 1, 2"
    )
    for table, index in connection.execute(query).fetchall():
        if table not in tables:
            continue
        connection.execute("SAVEPOINT amcheck")
        try:
            connection.execute("SELECT bt_index_check(CAST(? AS oid)::regclass, true)", (index,))
        except (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted) as error:
            yield table, " ".join(str(error).split())
            connection.execute("ROLLBACK TO SAVEPOINT amcheck")
        connection.execute("RELEASE SAVEPOINT amcheck")


def prepare(url: DatabaseUrl, made: Engine) -> None:
    """Make sure that the server is new enough and that the database keeps any text.

    Raises:
        StorageError: it does not.
        SQLAlchemyError: the server refused.
    """
    with made.connect() as connection:
        version, encoding = connection.exec_driver_sql(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')"
        ).one()
    if version < LEAST_VERSION:
        raise StorageError(
            f"the catalog {url}: the server is PostgreSQL {version // 10000}",
            next_step=f"Use PostgreSQL {LEAST_VERSION // 10000} or newer.",
        )
    if encoding != "UTF8":
        raise StorageError(
            f"the catalog {url}: the database keeps text as {encoding}",
            next_step="Make it anew: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0.",
        )


def collate(connection: Connection) -> None:
    """Let every text be compared by its code points, as SQLite does.

    A language's order would sort pages in another way, and an index in it is damaged when the server's libraries
    change.
    """
    found = connection.exec_driver_sql(
        "SELECT quote_ident(t.relname), quote_ident(a.attname), format_type(a.atttypid, a.atttypmod)"
        " FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid JOIN pg_collation c ON c.oid = a.attcollation"
        " WHERE t.relkind = 'r' AND t.relnamespace = current_schema()::regnamespace AND a.attnum > 0"
        " AND NOT a.attisdropped AND c.collname <> 'C' ORDER BY 1, a.attnum"
    ).all()
    changes: dict[str, list[str]] = {}
    for table, column, kind in found:
        changes.setdefault(table, []).append(f'ALTER COLUMN {column} TYPE {kind} COLLATE "C"')
    for table, columns in changes.items():
        connection.exec_driver_sql(f"ALTER TABLE {table} {', '.join(columns)}")
