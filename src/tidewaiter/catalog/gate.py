"""What repositories behind the gate hold: which has which blob, which manifest is visible, what each tag says.

A manifest is `quarantined` from the moment it is put until it is allowed. Then, in one transaction, it becomes visible
and so do the tags that still wait for it: of two pushes of one tag the later one says what it means.
"""

import datetime as dt
import hashlib
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, exists, func, insert, select, update

from tidewaiter.catalog import clearing, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.gate_reading import GateReading, repository_number, used_bytes
from tidewaiter.catalog.rows import add_missing, number_of
from tidewaiter.catalog.storable import storable, storable_tree
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import NotFoundError, RefusedError
from tidewaiter.oci.digest import Digest

_REPOSITORY = schema.repository.c
_BLOB = schema.gate_blob.c
_MANIFEST = schema.gate_manifest.c
_MEMBER = schema.gate_member.c
_TAG = schema.gate_tag.c


class Put(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that is pushed."""

    repository: str
    digest: Digest
    media_type: str
    size: int
    artifact_type: str
    annotations: dict[str, str]
    subject: Digest | None
    blobs: tuple[Digest, ...]
    """That the repository must have."""
    manifests: tuple[Digest, ...]
    """That it must have, too."""
    members: tuple[Digest, ...]
    """All that it names."""
    tags: tuple[str, ...]
    pushed_by: str


class GateCatalog(GateReading):
    """The part of the catalog that the gate works with. Every method raises `StorageError`; safe from any thread."""

    # Blobs

    def add_blob(self, repository: str, digest: Digest, size: int, *, at_most: int | None = None) -> None:
        """Let the repository have a blob that lies in the store.

        Raises:
            RefusedError: all of its blobs would be over `at_most` bytes.
        """
        with self._database.writing() as connection:
            number = number_of(connection, schema.repository, {"name": repository})
            if connection.scalar(select(_BLOB.size).where(_BLOB.repository_id == number, _BLOB.digest == digest)):
                return
            if at_most is not None and used_bytes(connection, number) + size > at_most:
                raise RefusedError(
                    f"{repository} may hold {at_most} bytes, and this would be more",
                    next_step="Delete what nobody needs.",
                    code="repository_full",
                )
            row = {"repository_id": number, "digest": digest, "size": size, "added_at": clock.now()}
            add_missing(connection, schema.gate_blob, [row])

    def remove_blob(self, repository: str, digest: Digest) -> bool:
        """Whether the repository had the blob; now it has it no more.

        Raises:
            RefusedError: one of its manifests names the blob.
        """
        with self._database.writing() as connection:
            number = repository_number(connection, repository)
            _refuse_named(connection, number, digest, "blob")
            gone = connection.execute(
                delete(schema.gate_blob).where(_BLOB.repository_id == number, _BLOB.digest == digest)
            )
            return gone.rowcount > 0

    # Manifests

    def put(self, pushed: Put) -> None:
        """Keep a manifest in quarantine, with its tags waiting for it; one that is visible already stays so.

        Raises:
            NotFoundError: the repository does not have what it names; nothing is kept.
            RefusedError: too many manifests of the repository refer to what it does not have.
        """
        at = clock.now()
        with self._database.writing() as connection:
            number = number_of(connection, schema.repository, {"name": pushed.repository})
            for column, of, wanted in (
                (_BLOB.digest, _BLOB.repository_id, pushed.blobs),
                (_MANIFEST.digest, _MANIFEST.repository_id, pushed.manifests),
            ):
                missing = set(wanted) - _among(connection, column, of == number, wanted)
                if missing:
                    raise NotFoundError(
                        f"{pushed.repository} does not have {', '.join(sorted(missing)[:10])}",
                        next_step="Push what the manifest names before the manifest.",
                        code="manifest_blob_unknown",
                    )
            if pushed.subject is not None:
                _bound_referrers(connection, number, pushed.subject)
            known = connection.scalar(
                select(_MANIFEST.id).where(_MANIFEST.repository_id == number, _MANIFEST.digest == pushed.digest)
            )
            if known is None:
                self._insert(connection, number, pushed, at)
            else:
                again = (_MANIFEST.id == known) & (_MANIFEST.state == "quarantined")
                connection.execute(update(schema.gate_manifest).where(again).values(pushed_at=at))
            for tag in pushed.tags:
                row = {"repository_id": number, "name": tag, "digest": None, "waiting": pushed.digest, "set_at": at}
                add_missing(connection, schema.gate_tag, [row])
                mine = (_TAG.repository_id == number) & (_TAG.name == tag)
                connection.execute(update(schema.gate_tag).where(mine).values(waiting=pushed.digest, set_at=at))
            detail = {"repository": pushed.repository, "tags": list(pushed.tags)}
            audit.append(connection, "gate.push", pushed.digest, detail, at=at, actor=pushed.pushed_by)

    @staticmethod
    def _insert(connection: Connection, number: int, pushed: Put, at: dt.datetime) -> None:
        row = {
            "repository_id": number,
            "digest": pushed.digest,
            "media_type": pushed.media_type,
            "artifact_type": storable(pushed.artifact_type),
            "size": pushed.size,
            "subject": pushed.subject,
            "annotations": storable_tree(pushed.annotations),
            "state": "quarantined",
            "environment": "",
            "answer": "",
            "pushed_by": storable(pushed.pushed_by),
            "pushed_at": at,
            "decided_at": None,
        }
        made = connection.scalar(insert(schema.gate_manifest).returning(_MANIFEST.id), row)
        members = [{"gate_manifest_id": made, "digest": digest} for digest in dict.fromkeys(pushed.members)]
        add_missing(connection, schema.gate_member, members)

    def decided(
        self,
        repository: str,
        digest: Digest,
        *,
        allowed: bool,
        environment: str,
        answer: str,
        by_verdict: bool = False,
        actor: str = "",
        only: Collection[str] | None = None,
    ) -> tuple[str, ...]:
        """Record what was decided about a manifest; when it is allowed, it and what waits for it become visible.

        With `by_verdict` it is an image whose tags are cleared by its newest verdict for that environment, which must
        allow it. Returns the tags that now mean it and did not before. A manifest that is visible stays so after a
        denial: only the tags wait. Of these only those in `only` become visible, where it is given.

        Raises:
            DeniedError: the newest verdict denies it; nothing becomes visible.
            UndeterminedError: there is no verdict, or it is too old.
        """
        at = clock.now()
        with self._database.writing() as connection:
            number = repository_number(connection, repository)
            mine = (_MANIFEST.repository_id == number) & (_MANIFEST.digest == digest)
            values = {"environment": environment, "answer": storable(answer), "decided_at": at}
            if allowed:
                values["state"] = "visible"
            if not connection.execute(update(schema.gate_manifest).where(mine).values(values)).rowcount:
                return ()  # deleted meanwhile
            waiting = (_TAG.repository_id == number) & (_TAG.waiting == digest)
            if only is not None:
                waiting &= _TAG.name.in_(only)
            tags = tuple(connection.scalars(select(_TAG.name).where(waiting).order_by(_TAG.name)))
            if allowed:
                connection.execute(
                    update(schema.gate_tag).where(waiting).values(digest=digest, waiting=None, set_at=at)
                )
                for tag in tags if by_verdict else ():
                    clearing.set_tag(
                        connection, repository=repository, name=tag, digest=digest, clear_for=environment, at=at
                    )
            detail = {"repository": repository, "environment": environment, "tags": list(tags)}
            action = "gate.allow" if allowed else "gate.hold"
            audit.append(connection, action, digest, detail, at=at, actor=actor)
            return tags if allowed else ()

    def alone(self, repository: str, folder: Path) -> AbstractContextManager[None]:
        """The only one, of all servers with this catalog, that changes what tags of the repository mean elsewhere.

        Entering it raises `DeadlineError` when another one does not come to an end. `folder` holds files for that.
        """
        name = hashlib.sha256(repository.encode()).hexdigest()
        return self._database.alone(f"tags behind the gate: {repository}", file=folder / f"gate-{name}.lock")

    def remove_tag(self, repository: str, name: str, actor: str) -> bool:
        """Whether there was such a tag, waiting or not; now there is none."""
        at = clock.now()
        with self._database.writing() as connection:
            mine = (_TAG.repository_id == repository_number(connection, repository)) & (_TAG.name == name)
            found = connection.execute(select(_TAG.digest).where(mine)).one_or_none()
            if found is None:
                return False
            connection.execute(delete(schema.gate_tag).where(mine))
            if found.digest is not None:
                _withdraw(connection, repository, (name,), found.digest, at)
            audit.append(connection, "gate.untag", f"{repository}:{name}", {}, at=at, actor=actor)
            return True

    def remove_manifest(self, repository: str, digest: Digest, actor: str) -> bool:
        """Whether the repository had that manifest; now it and its tags are gone.

        Raises:
            RefusedError: an index of the repository names it, or it is an approved base, or runs somewhere.
        """
        at = clock.now()
        with self._database.writing() as connection:
            number = repository_number(connection, repository)
            mine = (_MANIFEST.repository_id == number) & (_MANIFEST.digest == digest)
            found = connection.scalar(select(_MANIFEST.id).where(mine))
            if found is None:
                return False
            _refuse_named(connection, number, digest, "manifest")
            _refuseused(connection, digest)
            connection.execute(delete(schema.gate_member).where(_MEMBER.gate_manifest_id == found))
            connection.execute(delete(schema.gate_manifest).where(_MANIFEST.id == found))
            of = _TAG.repository_id == number
            tags = tuple(connection.scalars(select(_TAG.name).where(of, _TAG.digest == digest)))
            _withdraw(connection, repository, tags, digest, at)
            meant, awaited = _TAG.digest == digest, _TAG.waiting == digest
            nothing_else = (meant | _TAG.digest.is_(None)) & (awaited | _TAG.waiting.is_(None))
            connection.execute(delete(schema.gate_tag).where(of, nothing_else))
            connection.execute(update(schema.gate_tag).where(of, meant).values(digest=None))
            connection.execute(update(schema.gate_tag).where(of, awaited).values(waiting=None))
            audit.append(connection, "gate.delete", digest, {"repository": repository}, at=at, actor=actor)
            return True


def _withdraw(connection: Connection, repository: str, tags: Sequence[str], digest: str, at: dt.datetime) -> None:
    """Tags that the registry forgets mean nothing any more, where the catalog says that they mean this image."""
    for name in tags:
        known = connection.scalar(
            select(schema.artifact.c.digest)
            .join(schema.tag, schema.tag.c.artifact_id == schema.artifact.c.id)
            .join(schema.repository, _REPOSITORY.id == schema.tag.c.repository_id)
            .where(_REPOSITORY.name == repository, schema.tag.c.name == name)
        )
        if known == digest:
            clearing.remove(connection, repository=repository, name=name, at=at)


def _among(
    connection: Connection, column: "ColumnElement[Any]", condition: ColumnElement[bool], wanted: Sequence[Digest]
) -> set[Digest]:
    found: set[Digest] = set()
    for start in range(0, len(wanted), limits.GATE_ROWS):
        query = select(column).where(condition, column.in_(wanted[start : start + limits.GATE_ROWS]))
        found.update(connection.scalars(query))
    return found


def _refuse_named(connection: Connection, number: int, digest: Digest, what: str) -> None:
    by = connection.scalar(
        select(_MANIFEST.digest)
        .join(schema.gate_member, _MEMBER.gate_manifest_id == _MANIFEST.id)
        .where(_MANIFEST.repository_id == number, _MEMBER.digest == digest)
        .limit(1)
    )
    if by is not None:
        raise RefusedError(
            f"the {what} {digest} is named by the manifest {by}",
            next_step="Delete that manifest first.",
            code="still_named",
        )


def _refuseused(connection: Connection, digest: Digest) -> None:
    """A base that builds may stand on, and what runs, are kept whoever asks."""
    approval = schema.base_approval.c
    approved = select(approval.digest).where(
        approval.digest == digest, approval.approved_at.is_not(None), approval.retired_at.is_(None)
    )
    if connection.scalar(approved.limit(1)) is not None:
        raise RefusedError(
            f"{digest} is an approved base",
            next_step="Retire it with `tidewaiter base retire` first.",
            code="image_kept",
        )
    period = schema.workload_period.c
    runs = (
        select(schema.workload.c.cluster, schema.workload.c.namespace, schema.workload.c.name)
        .join(schema.workload_period, period.workload_id == schema.workload.c.id)
        .where(period.digest == digest, period.gone_at.is_(None))
        .limit(1)
    )
    where = connection.execute(runs).one_or_none()
    if where is not None:
        raise RefusedError(
            f"{digest} runs in {'/'.join(where)}",
            next_step="Remove or update what runs it first, or say that it is gone with `tidewaiter workload`.",
            code="image_kept",
        )


def _bound_referrers(connection: Connection, number: int, subject: Digest) -> None:
    mine = _MANIFEST.repository_id == number
    of_one = connection.scalar(select(func.count()).where(mine, _MANIFEST.subject == subject)) or 0
    known = connection.scalar(select(_MANIFEST.id).where(mine, _MANIFEST.digest == subject))
    if known is not None and of_one < limits.GATE_REFERRERS:
        return
    other = schema.gate_manifest.alias()
    there = exists().where(other.c.repository_id == number, other.c.digest == _MANIFEST.subject)
    unknown = select(func.count()).where(mine, _MANIFEST.subject.is_not(None), ~there)
    if of_one >= limits.GATE_REFERRERS or (connection.scalar(unknown) or 0) >= limits.GATE_UNKNOWN_SUBJECTS:
        raise RefusedError(
            f"too many manifests refer to {subject}, or to what the repository does not have",
            next_step="Delete referrers that nobody needs.",
            code="too_many_referrers",
        )
