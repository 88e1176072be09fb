"""What repositories behind the gate are seen to hold; `gate` writes it."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, bindparam, exists, func, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.database import Database
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.core import limits
from tidewaiter.oci.digest import Digest

_REPOSITORY = schema.repository.c
_BLOB = schema.gate_blob.c
_MANIFEST = schema.gate_manifest.c
_MEMBER = schema.gate_member.c
_TAG = schema.gate_tag.c

State = Literal["quarantined", "visible"]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest of a repository."""

    digest: Digest
    media_type: str
    size: int
    state: State
    artifact_type: str
    """Of its own, else the media type of its config; empty for an index without one."""
    annotations: dict[str, str]
    answer: str
    """Why it is not visible, for a person to read; empty when it is, or before it was judged."""


class Shown(NamedTuple):
    """A manifest that may be seen."""

    digest: Digest
    media_type: str
    size: int


class Cleared(NamedTuple):
    """A tag of the store that a verdict cleared."""

    repository: str
    tag: str
    digest: Digest
    environment: str


class Beside(NamedTuple):
    """What the store has attached to an image that a repository holds, and the repository does not have."""

    repository: str
    image: Digest
    digest: Digest
    format: str
    """`bundle` refers to the image; `tag` is looked for under a tag."""
    predicate_type: str


class Seen(NamedTuple):
    """How far the catalog was looked through: the newest row of what is attached, and of what repositories hold."""

    attestation: int = 0
    manifest: int = 0


class Waiting(msgspec.Struct, frozen=True):
    """A manifest in quarantine."""

    repository: str
    digest: Digest
    tags: tuple[str, ...]
    """That become visible with it."""


def _held(row: AnyRow) -> Held:
    return Held(
        digest=row.digest,
        media_type=row.media_type,
        size=row.size,
        state=row.state,
        artifact_type=row.artifact_type,
        annotations=row.annotations,
        answer=row.answer,
    )


def _manifests(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(schema.gate_manifest)
        .join(schema.repository, _REPOSITORY.id == _MANIFEST.repository_id)
        .where(_REPOSITORY.name == bindparam("repository"), *conditions)
    )


_BY_DIGEST = _manifests(_MANIFEST.digest == bindparam("reference"))
# Asked by every pull, so they are plain statements.
_SHOWN_DIGEST = (
    "SELECT m.digest, m.media_type, m.size FROM gate_manifest m JOIN repository r ON r.id = m.repository_id"
    " WHERE r.name = ? AND m.digest = ? AND m.state = 'visible'"
)
_SHOWN_TAG = (
    "SELECT m.digest, m.media_type, m.size FROM gate_tag t JOIN repository r ON r.id = t.repository_id"
    " JOIN gate_manifest m ON m.repository_id = t.repository_id AND m.digest = t.digest"
    " WHERE r.name = ? AND t.name = ? AND m.state = 'visible'"
)
_SIZE = (
    select(_BLOB.size)
    .join(schema.repository, _REPOSITORY.id == _BLOB.repository_id)
    .where(_REPOSITORY.name == bindparam("repository"), _BLOB.digest == bindparam("digest"))
)
_SHOWN = select(
    exists()
    .where(_MEMBER.digest == bindparam("digest"), _MANIFEST.id == _MEMBER.gate_manifest_id)
    .where(_MANIFEST.state == "visible", _REPOSITORY.id == _MANIFEST.repository_id)
    .where(_REPOSITORY.name == bindparam("repository"))
)


class GateReading:
    """What is read. Every method raises `StorageError`; safe from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Blobs

    def blob(self, repository: str, digest: Digest, *, shown: bool = False) -> int | None:
        """Bytes of the blob; None when the repository does not have it, or (`shown`) no visible manifest names it."""
        where = {"repository": repository, "digest": digest}
        with self._database.reading() as connection:
            size = connection.scalar(_SIZE, where)
            if size is None or (shown and not connection.scalar(_SHOWN, where)):
                return None
            return int(size)

    def holders(self, digest: Digest) -> list[str]:
        """Names of some repositories that have the blob."""
        query = (
            select(_REPOSITORY.name)
            .join(schema.gate_blob, _REPOSITORY.id == _BLOB.repository_id)
            .where(_BLOB.digest == digest)
            .limit(limits.GATE_HOLDERS)
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def used(self, repository: str) -> int:
        """Bytes of the repository's blobs."""
        with self._database.reading() as connection:
            return used_bytes(connection, repository_number(connection, repository))

    # Manifests

    def manifest(self, repository: str, reference: str) -> Shown | None:
        """The visible manifest under a tag or digest."""
        with self._database.plainly(writing=False) as connection:
            row = connection.execute(
                _SHOWN_DIGEST if ":" in reference else _SHOWN_TAG, (repository, reference)
            ).fetchone()
        return None if row is None else Shown(*row)

    def any_manifest(self, repository: str, digest: Digest) -> Held | None:
        """The manifest under a digest, in quarantine or not."""
        with self._database.reading() as connection:
            row = connection.execute(_BY_DIGEST, {"repository": repository, "reference": digest}).one_or_none()
        return None if row is None else _held(row)

    def states(self, repository: str, wanted: Sequence[Digest]) -> dict[Digest, State]:
        """States of those manifests that the repository has."""
        found: dict[Digest, State] = {}
        with self._database.reading() as connection:
            number = repository_number(connection, repository)
            for start in range(0, len(wanted), limits.GATE_ROWS):
                of = _MANIFEST.digest.in_(wanted[start : start + limits.GATE_ROWS])
                query = select(_MANIFEST.digest, _MANIFEST.state).where(_MANIFEST.repository_id == number, of)
                found.update((digest, state) for digest, state in connection.execute(query))
        return found

    def waiting_tags(self, repository: str, digest: Digest) -> tuple[str, ...]:
        """Tags that wait for the manifest."""
        with self._database.reading() as connection:
            return _waiting_tags(connection, repository_number(connection, repository), digest)

    def tag_of(self, repository: str, name: str) -> Digest | None:
        """What the tag means."""
        found = self.manifest(repository, name)
        return None if found is None else found.digest

    def waiting(self, limit: int, *, before: dt.datetime | None = None) -> tuple[Waiting, ...]:
        """Manifests in quarantine (last pushed `before`), images before the indexes that name them.

        Without `before` also visible ones for which a tag waits.
        """
        awaited = exists().where(_TAG.repository_id == _MANIFEST.repository_id, _TAG.waiting == _MANIFEST.digest)
        held = _MANIFEST.state == "quarantined"
        old = (held | awaited,) if before is None else (held, _MANIFEST.pushed_at < before)
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_MANIFEST.repository_id, _REPOSITORY.name, _MANIFEST.digest)
                .join(schema.repository, _REPOSITORY.id == _MANIFEST.repository_id)
                .where(*old)
                .order_by(_MANIFEST.id)
                .limit(limit)
            ).all()
            return tuple(
                Waiting(row.name, row.digest, _waiting_tags(connection, row.repository_id, row.digest)) for row in rows
            )

    def cleared(self, limit: int) -> tuple[Cleared, ...]:
        """Tags that are cleared, and of which the gate knows nothing."""
        tag, artifact, verdict = schema.tag.c, schema.artifact.c, schema.verdict.c
        known = exists().where(_TAG.repository_id == tag.repository_id, _TAG.name == tag.name)
        query = (
            select(_REPOSITORY.name, tag.name, artifact.digest, verdict.environment)
            .select_from(schema.tag)
            .join(schema.repository, _REPOSITORY.id == tag.repository_id)
            .join(schema.artifact, artifact.id == tag.artifact_id)
            .join(schema.verdict, verdict.id == tag.verdict_id)
            .where(~known)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return tuple(Cleared(*row) for row in connection.execute(query))

    def beside(self, seen: Seen, limit: int) -> tuple[tuple[Beside, ...], Seen]:
        """What is attached in the store to images of repositories that do not have it, the oldest first.

        Only what was attached, or came into a repository, since `seen`; and how far that was looked through now.
        """
        attestation, artifact = schema.attestation.c, schema.artifact.c
        known = schema.gate_manifest.alias()
        query = (
            select(
                _REPOSITORY.name,
                artifact.digest,
                attestation.manifest_digest,
                attestation.format,
                attestation.predicate_type,
            )
            .select_from(schema.attestation)
            .join(schema.artifact, artifact.id == attestation.artifact_id)
            .join(schema.gate_manifest, _MANIFEST.digest == artifact.digest)
            .join(schema.repository, _REPOSITORY.id == _MANIFEST.repository_id)
            .where(
                ~exists().where(
                    known.c.repository_id == _MANIFEST.repository_id, known.c.digest == attestation.manifest_digest
                )
            )
            .order_by(attestation.id)
            .limit(limit)
        )
        # Asked apart, so that each is a range of one table's rows.
        newly = (
            query.where(attestation.id <= seen.attestation, _MANIFEST.id > seen.manifest),
            query.where(attestation.id > seen.attestation),
        )
        with self._database.reading() as connection:
            found = [Beside(*row) for one in newly for row in connection.execute(one)]
            last = (select(func.max(column)) for column in (attestation.id, _MANIFEST.id))
            reached = Seen(*(connection.scalar(one) or 0 for one in last))
        return tuple(found), reached if len(found) < limit else seen

    # Lists

    def has_repository(self, repository: str) -> bool:
        """Whether it holds anything."""
        with self._database.reading() as connection:
            number = repository_number(connection, repository)
            queries = (select(table.c.repository_id).where(table.c.repository_id == number) for table in _HOLDING)
            return any(connection.scalar(query.limit(1)) is not None for query in queries)

    def repositories(self, after: str, limit: int) -> list[str]:
        """Names of repositories with a visible manifest, after that name."""
        shown = exists().where(_MANIFEST.repository_id == _REPOSITORY.id, _MANIFEST.state == "visible")
        query = select(_REPOSITORY.name).where(_REPOSITORY.name > after, shown).order_by(_REPOSITORY.name).limit(limit)
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def tags(self, repository: str, after: str, limit: int) -> list[str]:
        """Visible tags after that one, sorted."""
        query = (
            select(_TAG.name)
            .join(schema.repository, _REPOSITORY.id == _TAG.repository_id)
            .where(_REPOSITORY.name == repository, _TAG.digest.is_not(None), _TAG.name > after)
            .order_by(_TAG.name)
            .limit(limit)
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def referrers(
        self, repository: str, subject: Digest, *, artifact_type: str | None, after: str, limit: int
    ) -> list[Held]:
        """Visible manifests that refer to `subject`, by their digest, after that one."""
        query = _manifests(_MANIFEST.subject == subject, _MANIFEST.state == "visible", _MANIFEST.digest > after)
        if artifact_type is not None:
            query = query.where(_MANIFEST.artifact_type == artifact_type)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(_MANIFEST.digest).limit(limit), {"repository": repository}).all()
        return [_held(row) for row in rows]


_HOLDING = (schema.gate_manifest, schema.gate_blob)


def repository_number(connection: Connection, repository: str) -> int:
    """Row number of the repository; one that no row has when there is none."""
    return connection.scalar(select(_REPOSITORY.id).where(_REPOSITORY.name == repository)) or -1


def used_bytes(connection: Connection, number: int) -> int:
    """Bytes of the blobs of the repository with that row number."""
    return int(connection.scalar(select(func.sum(_BLOB.size)).where(_BLOB.repository_id == number)) or 0)


def _waiting_tags(connection: Connection, number: int, digest: str) -> tuple[str, ...]:
    query = select(_TAG.name).where(_TAG.repository_id == number, _TAG.waiting == digest).order_by(_TAG.name)
    return tuple(connection.scalars(query))
