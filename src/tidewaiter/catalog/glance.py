"""What nearly every command asks of the catalog, answered by sqlite3 alone: SQLAlchemy loads longer than this takes.

Nothing here decides or explains: whatever is odd about the file is `UnansweredError`, and the caller asks `Catalog`,
which repairs, migrates, or says in words what is wrong.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tidewaiter.catalog.records import BuildRecord, Visibility
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

REVISION = "0003"
"""Revision of the migrations that makes exactly the tables of `schema`."""


class UnansweredError(Exception):
    """The file is missing, of another schema, locked, damaged: only `Catalog` can say."""


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        address = f"file:{quote(str(path))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=0)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            if found != [(REVISION,)]:
                raise UnansweredError(f"{path} has the schema {found}")
            yield connection
    except sqlite3.Error as error:
        raise UnansweredError(f"{path}: {error}") from error


def is_current(path: Path) -> bool:
    """Whether the catalog at `path` has the tables of this program."""
    try:
        with _reading(path):
            return True
    except UnansweredError:
        return False


class Tagged(NamedTuple):
    """What a tag means, and what it says of that image."""

    digest: Digest
    visibility: Visibility


def tag(path: Path, repository: str, name: str) -> Tagged | None:
    """What `repository:name` means, or None when there is no such tag; raises `UnansweredError`."""
    with _reading(path) as connection:
        found = connection.execute(
            "SELECT artifact.digest, tag.visibility FROM tag"
            " JOIN repository ON repository.id = tag.repository_id JOIN artifact ON artifact.id = tag.artifact_id"
            " WHERE repository.name = ? AND tag.name = ?",
            (repository, name),
        ).fetchone()
    return None if found is None else Tagged(digests.parse(found[0]), found[1])


def knows_build(path: Path, record: BuildRecord, name: str) -> bool:
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
