"""The keep predicate: which digests of the store somebody still wants. Garbage collection asks it, and nobody else.

A noun that comes to want blobs (an archive record, a model) adds its query to `_MANIFESTS` or
`_BLOBS`; what no query names, and `index.json` does not list, may be removed from the store.
"""

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, Select, or_, select

from tidewaiter.catalog import schema
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

Query = Callable[[], Select[str]]


class Kept(NamedTuple):
    """Digests that the catalog wants to stay."""

    manifests: frozenset[Digest]
    """With everything that they name."""
    blobs: frozenset[Digest]
    """By themselves."""


def _wanted() -> Select[int]:
    """Images that a tag of any visibility means, or that somebody vouched for: those run by their digest."""
    artifact = schema.artifact.c
    return select(artifact.id).where(
        or_(
            artifact.id.in_(select(schema.tag.c.artifact_id)),
            artifact.id.in_(select(schema.signature.c.artifact_id)),
        )
    )


def _images() -> Select[str]:
    return select(schema.artifact.c.digest).where(schema.artifact.c.id.in_(_wanted()))


def _signatures() -> Select[str]:
    return select(schema.signature.c.manifest_digest)


def _documents() -> Select[str]:
    return select(schema.attachment.c.blob_digest).where(schema.attachment.c.artifact_id.in_(_wanted()))


def _bases() -> Select[str]:
    """Bases that somebody approved and nobody retired."""
    said = schema.base_approval.c
    return select(said.digest).where(said.approved_at.is_not(None), said.retired_at.is_(None))


_MANIFESTS: tuple[Query, ...] = (_images, _signatures, _bases)
_BLOBS: tuple[Query, ...] = (_documents,)


def kept(connection: Connection) -> Kept:
    """What every query names."""

    def all_of(queries: tuple[Query, ...]) -> frozenset[Digest]:
        return frozenset(digests.parse(found) for query in queries for found in connection.scalars(query()))

    return Kept(all_of(_MANIFESTS), all_of(_BLOBS))
