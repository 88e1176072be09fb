"""The keep predicate: which digests of the store somebody still wants. Garbage collection asks it, and nobody else.

A noun that comes to want blobs (an archive record, a model) adds its query to `_MANIFESTS` or
`_BLOBS`; what no query names, and `index.json` does not list, may be removed from the store.

The queries are plain: on a disk that is full the catalog can be read only in a way that SQLAlchemy's
connections do not take, and then space is needed most.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from tidewaiter.catalog.glance import REVISION, Place, UnansweredError
from tidewaiter.catalog.plain import Plain
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.signing.predicates import SIGNATURE


class Kept(NamedTuple):
    """Digests that the catalog wants to stay."""

    manifests: frozenset[Digest]
    """With everything that they name."""
    blobs: frozenset[Digest]
    """By themselves."""


# Images that a tag of any visibility means, or that somebody vouched for: those run by their digest.
_WANTED = "(SELECT artifact_id FROM tag UNION SELECT artifact_id FROM signature)"
_NEWEST = f"(SELECT MAX(id) FROM attestation WHERE format = 'tag' GROUP BY artifact_id, predicate_type = '{SIGNATURE}')"  # noqa: S608 - a constant
_MANIFESTS = (
    f"SELECT digest FROM artifact WHERE id IN {_WANTED}",  # noqa: S608 - the text above
    "SELECT manifest_digest FROM signature",
    # What is attached to those images. Of the tag format the newest manifest holds all of its kind, `.sig` or `.att`.
    f"SELECT manifest_digest FROM attestation WHERE artifact_id IN {_WANTED} AND (format <> 'tag' OR id IN {_NEWEST})",  # noqa: S608 - as above
    # Bases that somebody approved and nobody retired.
    "SELECT digest FROM base_approval WHERE approved_at IS NOT NULL AND retired_at IS NULL",
    # What was pushed, visible or waiting to be.
    "SELECT digest FROM gate_manifest",
)
_BLOBS = (
    f"SELECT blob_digest FROM attachment WHERE artifact_id IN {_WANTED}",  # noqa: S608 - as above
    # What repositories have, whether a manifest names it yet or not.
    "SELECT digest FROM gate_blob",
)


def kept(connection: Plain) -> Kept:
    """What every query names."""

    def all_of(queries: tuple[str, ...]) -> frozenset[Digest]:
        return frozenset(digests.parse(found) for query in queries for (found,) in connection.execute(query))

    return Kept(all_of(_MANIFESTS), all_of(_BLOBS))


def kept_alone(path: Place) -> Kept:
    """What every query names, read without writing anything beside the catalog at `path`, as on a full disk.

    SQLite then keeps in memory what it otherwise shares through a file, and nobody else may use the catalog.

    Raises:
        UnansweredError: it is in use, missing, damaged, of another schema, or on PostgreSQL.
    """
    if not isinstance(path, Path):
        raise UnansweredError(f"{path} is not a file")
    try:
        address = f"file:{quote(str(path))}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=0)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            if found != [(REVISION,)]:
                raise UnansweredError(f"{path} has the schema {found}")
            return kept(connection)
    except sqlite3.Error as error:
        raise UnansweredError(f"{path}: {error}") from error
