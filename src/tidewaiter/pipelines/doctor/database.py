"""The catalog's database: whether it can be used now, and what is to be said of a server of PostgreSQL."""

from collections.abc import Iterator

from tidewaiter.catalog import copies
from tidewaiter.catalog.glance import REVISION
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.core.settings import DatabaseUrl, Settings
from tidewaiter.pipelines.doctor.check import Check, ok, problem, warning

_FEW = 40
"""Connections that one `tidewaiter serve` may open."""


def is_usable(settings: Settings) -> bool:
    """Whether the catalog is there and has the schema of this release; raises what reading it raises."""
    if settings.database_url is None:
        path = settings.home.catalog
        return path.exists() and copies.revision(path) == REVISION
    from tidewaiter.catalog import postgres_state

    return postgres_state.look(settings.database_url).revision == REVISION


def schema(found: str | None) -> Check:
    """What the revision of a catalog means."""
    name = "catalog.schema"
    if found is None:
        return problem(name, "catalog.db is no catalog", "Move it away, or point TIDEWAITER_HOME elsewhere.")
    if found > REVISION:
        return problem(
            name, f"the catalog has schema {found}, this release knows {REVISION}", "Use the release that wrote it."
        )
    if found < REVISION:
        return warning(
            name,
            f"the catalog has schema {found}; the next command brings it to {REVISION}, for good",
            "Make a backup first: `tidewaiter backup create FILE` with the release that wrote it.",
        )
    return ok(name, f"the catalog has schema {found}, that of this release")


def server(url: DatabaseUrl) -> Iterator[Check]:
    """Whether a server of PostgreSQL can keep a catalog, and will."""
    from tidewaiter.catalog import postgres, postgres_state

    name = "catalog.server"
    try:
        found = postgres_state.look(url)
    except TidewaiterError as error:
        yield problem(name, error.message, error.next_step)
        return
    yield ok(name, f"{url} answers, PostgreSQL {found.version}")
    least = postgres.LEAST_VERSION
    if found.number < least:
        yield problem(name, f"PostgreSQL {found.version} is too old", f"Use PostgreSQL {least // 10000} or newer.")
    if found.encoding != "UTF8":
        yield problem(
            name,
            f"the database keeps text as {found.encoding}",
            "Make it anew: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0.",
        )
    if found.read_only:
        yield problem(name, "it may not be written: a standby, or set read-only", "Name the primary server.")
    if not found.may_create:
        yield problem(
            "catalog.privileges",
            "the user may not make tables, as a new release must",
            "Make the user of TIDEWAITER_DATABASE_URL the owner of the database.",
        )
    else:
        yield ok("catalog.privileges", "the user may read, write and migrate")
    yield _durability(may_lose=found.may_lose)
    yield _connections(found.used, found.connections)
    if found.revision is None:
        yield ok("catalog.schema", "nothing was recorded yet")
    else:
        yield schema(found.revision)


def _durability(*, may_lose: bool) -> Check:
    name = "catalog.durability"
    if may_lose:
        return warning(
            name,
            "a power cut may take back what was recorded: fsync or synchronous_commit is off",
            "Turn both on in postgresql.conf.",
        )
    return ok(name, "what is recorded survives a power cut")


def _connections(used: int, most: int) -> Check:
    name = "catalog.connections"
    if most - used < _FEW:
        return warning(
            name,
            f"{used} of {most} connections are in use, and one `tidewaiter serve` may open {_FEW}",
            "Raise max_connections.",
        )
    return ok(name, f"{used} of {most} connections are in use")
