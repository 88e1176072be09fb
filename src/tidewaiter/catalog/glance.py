"""What nearly every command asks of the catalog, answered by sqlite3 alone: SQLAlchemy loads longer than this takes.

Nothing here decides or explains: whatever is odd about the file is `UnansweredError`, and the caller asks `Catalog`,
which repairs, migrates, or says in words what is wrong. So it is with a catalog on PostgreSQL, whose driver loads as
long.
"""

import datetime as dt
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from tidewaiter.catalog.held import held
from tidewaiter.catalog.plain import Plain
from tidewaiter.catalog.records import BuildRecord, Visibility
from tidewaiter.core import clock
from tidewaiter.core.settings import DatabaseUrl
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

if TYPE_CHECKING:
    from tidewaiter.catalog.answers import BaseState

REVISION = "0024"
"""Revision of the migrations that makes exactly the tables of `schema`."""


class UnansweredError(Exception):
    """The file is missing, of another schema, locked, damaged: only `Catalog` can say."""


Place = Path | DatabaseUrl
"""Where a catalog lies."""


@contextmanager
def _reading(path: Place) -> Iterator[sqlite3.Connection]:
    if not isinstance(path, Path):
        raise UnansweredError(f"{path} is not a file")
    try:
        address = f"file:{quote(str(path))}?mode=ro"
        there = held(path)
        with (
            closing(sqlite3.connect(address, uri=True, timeout=0)) if there is None else nullcontext(there)
        ) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            if found != [(REVISION,)]:
                raise UnansweredError(f"{path} has the schema {found}")
            yield connection
    except sqlite3.Error as error:
        raise UnansweredError(f"{path}: {error}") from error


def is_current(path: Place) -> bool:
    """Whether the catalog at `path` has the tables of this program."""
    try:
        with _reading(path):
            return True
    except UnansweredError:
        return False


def has_unlogged(path: Place) -> bool:
    """Whether a change waits for its position in the audit log; also when that cannot be seen."""
    try:
        with _reading(path) as connection:
            return connection.execute("SELECT 1 FROM audit_pending LIMIT 1").fetchone() is not None
    except UnansweredError:
        return True


class Tagged(NamedTuple):
    """What a tag means, and what it says of that image."""

    digest: Digest
    visibility: Visibility


def tag(path: Place, repository: str, name: str) -> Tagged | None:
    """What `repository:name` means, or None when there is no such tag; raises `UnansweredError`."""
    with _reading(path) as connection:
        found = connection.execute(
            "SELECT artifact.digest, tag.visibility FROM tag"
            " JOIN repository ON repository.id = tag.repository_id JOIN artifact ON artifact.id = tag.artifact_id"
            " WHERE repository.name = ? AND tag.name = ?",
            (repository, name),
        ).fetchone()
    return None if found is None else Tagged(digests.parse(found[0]), found[1])


def knows_build(path: Place, record: BuildRecord, name: str) -> bool:
    """Whether a build of the same clean commit, from the same locks to the same image, is recorded, and tagged `name`.

    Raises `UnansweredError`.
    """
    if record.dirty:
        return False
    with _reading(path) as connection:
        found = connection.execute(
            "SELECT 1 FROM build"
            " JOIN repository ON repository.id = build.repository_id JOIN artifact ON artifact.id = build.artifact_id"
            " JOIN tag ON tag.repository_id = build.repository_id AND tag.artifact_id = build.artifact_id"
            " WHERE tag.name = ? AND repository.name = ? AND artifact.digest = ? AND NOT build.dirty"
            ' AND build.environment = ? AND build.purpose = ? AND build.source = ? AND build."commit" = ?'
            " AND build.branch = ? AND build.pipeline_run = ? AND build.builder = ?"
            " AND build.base_lock IS ? AND build.python_lock IS ?",
            (
                name,
                record.repository,
                record.digest,
                record.environment,
                record.purpose,
                record.source,
                record.commit,
                record.branch,
                record.pipeline_run,
                record.builder,
                record.base_lock,
                record.python_lock,
            ),
        ).fetchone()
    return found is not None


def was_denied(path: Place, digest: Digest, environment: str) -> bool:
    """Whether any verdict about the image for that environment was a no; raises `UnansweredError`."""
    with _reading(path) as connection:
        found = connection.execute(
            "SELECT 1 FROM verdict JOIN artifact ON artifact.id = verdict.artifact_id"
            " WHERE artifact.digest = ? AND verdict.environment = ? AND verdict.verdict = 'deny' LIMIT 1",
            (digest, environment),
        ).fetchone()
    return found is not None


# Bases


class BaseWord(NamedTuple):
    """What was said of the base with a digest, under whichever name."""

    state: "BaseState"
    owner: str
    expires_at: str
    """RFC 3339; empty without an end."""
    reason: str
    """Why it was retired."""
    newer: tuple[Digest, ...]
    """Other bases of its names that were approved later and still are, the latest first."""


def stored_moment(moment: dt.datetime) -> str:
    """A moment as the catalog stores it: UTC, without a zone; in the order of time."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def said_of_base(connection: Plain, digest: Digest, at: dt.datetime) -> BaseWord | None:
    """What was said of the base with that digest; None when nothing was. A retirement under any name counts."""
    now = stored_moment(at)
    rows = connection.execute(
        "SELECT name, owner, approved_at, expires_at, retired_at IS NOT NULL AS retired, reason FROM base_approval"
        " WHERE digest = ? ORDER BY retired DESC, (expires_at IS NOT NULL AND expires_at <= ?), approved_at IS NULL,"
        " approved_at DESC",
        (digest, now),
    ).fetchall()
    if not rows:
        return None
    _, owner, approved, expires, retired, reason = rows[0]
    state: BaseState = "approved"
    if retired:
        state = "retired"
    elif expires is not None and expires <= now:
        state = "expired"
    newer = [
        found
        for name in sorted({row[0] for row in rows})
        for found in connection.execute(
            "SELECT approved_at, digest FROM base_approval WHERE name = ? AND digest <> ? AND approved_at > ?"
            " AND retired_at IS NULL AND (expires_at IS NULL OR expires_at > ?)",
            (name, digest, approved or "", now),
        )
    ]
    until = "" if expires is None else clock.rfc3339(dt.datetime.fromisoformat(expires).replace(tzinfo=dt.UTC))
    latest = dict.fromkeys(digests.parse(found) for _, found in sorted(newer, reverse=True))
    return BaseWord(state, owner, until, reason, tuple(latest))


def base_word(path: Place, digest: Digest, at: dt.datetime) -> BaseWord | None:
    """As `said_of_base`; raises `UnansweredError`."""
    with _reading(path) as connection:
        return said_of_base(connection, digest, at)


def known_base_under(connection: Plain, diff_ids: Sequence[Digest]) -> tuple[str, Digest, int] | None:
    """The base with the most layers that are the first of `diff_ids`: its name, digest and number of layers."""
    stacks: dict[tuple[str, str], list[str]] = {}
    for name, digest, diff_id in connection.execute(
        "SELECT base.name, artifact.digest, layer.diff_id FROM base"
        " JOIN base_image ON base_image.base_id = base.id JOIN artifact ON artifact.digest = base_image.digest"
        " JOIN artifact_layer ON artifact_layer.artifact_id = artifact.id"
        " JOIN layer ON layer.id = artifact_layer.layer_id ORDER BY base.id, artifact_layer.position"
    ):
        stacks.setdefault((name, digest), []).append(diff_id)
    fitting = [(len(stack), key) for key, stack in stacks.items() if stack == list(diff_ids[: len(stack)])]
    if not fitting:
        return None
    size, (name, digest) = max(fitting, key=lambda found: found[0])
    return name, digests.parse(digest), size


def base_under(path: Place, diff_ids: Sequence[Digest]) -> tuple[str, Digest, int] | None:
    """As `known_base_under`; raises `UnansweredError`."""
    with _reading(path) as connection:
        return known_base_under(connection, diff_ids)
