"""Verdicts and tags: the only code that makes a tag `cleared`, and that takes it back."""

import datetime as dt
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import Connection, insert, select

from tidewaiter.catalog import schema
from tidewaiter.catalog.recording import artifact_number, audit, place
from tidewaiter.catalog.records import VerdictDocument, Visibility
from tidewaiter.catalog.rows import AnyRow, put
from tidewaiter.catalog.storable import storable, storable_tree
from tidewaiter.core import clock
from tidewaiter.core.errors import DeniedError, InputError, UndeterminedError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import check_tag

if TYPE_CHECKING:
    # The policy room loads its engine; a reader of the catalog has no need of it.
    from tidewaiter.policy.verdict import Verdict


def verdict(connection: Connection, given: "Verdict | dict[str, Any]", at: dt.datetime) -> tuple[str, ...]:
    """Record a verdict (or its JSON, decoded) and return the tags, as `NAME:TAG`, that it takes back.

    A denial takes back every tag that an earlier verdict for the same image and environment cleared.

    Raises:
        InputError: the document is malformed.
        NotFoundError: its image is not recorded.
    """
    document = msgspec.to_builtins(given)
    try:
        parsed = msgspec.convert(document, VerdictDocument)
    except msgspec.ValidationError as error:
        raise InputError(
            f"the verdict is malformed: {error}", next_step="Decide again with `tidewaiter check`."
        ) from error
    artifact = artifact_number(connection, digests.parse(parsed.artifact))
    row = {
        "artifact_id": artifact,
        "environment": parsed.environment,
        "name": parsed.id,
        "verdict": parsed.verdict,
        "policy_revision": storable(parsed.policy_revision),
        "advisories_revision": storable(parsed.advisories_revision),
        "document": storable_tree(document),
        "decided_at": parsed.decided_at,
        "valid_until": parsed.valid_until,
    }
    same = (schema.verdict.c[name] == row[name] for name in ("artifact_id", "environment", "name"))
    known = connection.scalar(select(schema.verdict.c.decided_at).where(*same))
    if known is None or known < parsed.decided_at:
        # The same inputs, decided again later, are the same verdict with new times.
        put(connection, schema.verdict, ("artifact_id", "environment", "name"), [row])
        audit(
            connection,
            at,
            "verdict",
            parsed.artifact,
            {"environment": parsed.environment, "verdict": parsed.verdict, "id": parsed.id},
        )
    newest = current(connection, artifact, parsed.environment)
    if newest is None or newest.verdict != "deny":
        return ()
    return _take_back(connection, artifact, parsed.environment, at)


def current(connection: Connection, artifact: int, environment: str) -> AnyRow | None:
    """The newest verdict for an image in an environment; of two in the same second, a denial."""
    of = schema.verdict.c
    query = (
        select(of.id, of.verdict, of.decided_at, of.valid_until)
        .where(of.artifact_id == artifact, of.environment == environment)
        .order_by(of.decided_at.desc(), of.verdict.desc(), of.id.desc())
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _take_back(connection: Connection, artifact: int, environment: str, at: dt.datetime) -> tuple[str, ...]:
    tags = connection.execute(
        select(schema.tag.c.repository_id, schema.tag.c.name, schema.repository.c.name.label("repository"))
        .join(schema.repository, schema.repository.c.id == schema.tag.c.repository_id)
        .join(schema.verdict, schema.verdict.c.id == schema.tag.c.verdict_id)
        .where(schema.tag.c.artifact_id == artifact, schema.verdict.c.environment == environment)
    ).all()
    for tag in tags:
        _write(connection, (tag.repository_id, tag.name), artifact, None, at)
        audit(connection, at, "tag.withdraw", f"{tag.repository}:{tag.name}", {"environment": environment})
    return tuple(f"{tag.repository}:{tag.name}" for tag in tags)


def _write(
    connection: Connection, tag: tuple[int, str], artifact: int, verdict_id: int | None, at: dt.datetime
) -> None:
    row = {
        "repository_id": tag[0],
        "name": tag[1],
        "artifact_id": artifact,
        "visibility": "cleared" if verdict_id is not None else _origin(connection, tag[0], artifact),
        "verdict_id": verdict_id,
        "set_at": at,
    }
    put(connection, schema.tag, ("repository_id", "name"), [row])
    connection.execute(insert(schema.tag_history), row)


def _origin(connection: Connection, repository: int, artifact: int) -> Visibility:
    """What a tag says that is not cleared: whether the image was built here or came from elsewhere."""
    of = schema.build.c
    built = select(of.id).where(of.repository_id == repository, of.artifact_id == artifact).limit(1)
    return "built" if connection.scalar(built) is not None else "pulled"


def set_tag(
    connection: Connection,
    *,
    repository: str,
    name: str,
    digest: Digest,
    clear_for: str | None,
    at: dt.datetime,
) -> None:
    """Let `repository:name` mean the image; with `clear_for` (an environment) it becomes `cleared`.

    Without `clear_for` a tag that is cleared for this very image stays so.

    Raises:
        NotFoundError: the image is not recorded.
        DeniedError: it is to be cleared, and the newest verdict for that environment denies it.
        UndeterminedError: it is to be cleared, and there is no verdict for that environment, or it is too old.
    """
    artifact = artifact_number(connection, digest)
    verdict_id = None if clear_for is None else _allowing(connection, artifact, digest, clear_for, at)
    known = connection.execute(
        select(schema.tag.c.artifact_id, schema.tag.c.verdict_id)
        .join(schema.repository)
        .where(schema.repository.c.name == repository, schema.tag.c.name == name)
    ).one_or_none()
    if known is not None and known.artifact_id == artifact and verdict_id in {None, known.verdict_id}:
        return
    number = place(connection, repository, artifact, at)
    _write(connection, (number, check_tag(name)), artifact, verdict_id, at)
    detail = {"digest": digest, "cleared_for": clear_for}
    audit(connection, at, "tag.clear" if clear_for else "tag.set", f"{repository}:{name}", detail)


def _allowing(connection: Connection, artifact: int, digest: Digest, environment: str, at: dt.datetime) -> int:
    newest = current(connection, artifact, environment)
    if newest is None:
        raise UndeterminedError(
            f"there is no {environment} verdict for {digest}",
            next_step=f"Decide with `tidewaiter check --environment {environment}`, then tag it.",
            code="no_verdict",
        )
    if newest.verdict != "allow":
        raise DeniedError(
            f"the newest {environment} verdict for {digest} denies it, so it cannot be tagged as cleared",
            next_step="Correct what the verdict names and build again.",
        )
    if newest.valid_until <= at:
        raise UndeterminedError(
            f"the newest {environment} verdict for {digest} was valid until {clock.rfc3339(newest.valid_until)}",
            next_step=f"Decide again with `tidewaiter check --environment {environment}`.",
            code="verdict_expired",
        )
    return int(newest.id)


def require_cleared(
    connection: Connection, *, repository: str, digest: Digest, name: str | None, at: dt.datetime
) -> None:
    """Raise unless the image is cleared in `repository` (as the tag `name` when one is given) by a valid verdict.

    Raises:
        NotFoundError: the image is not recorded.
        DeniedError: no tag says that it is cleared.
        UndeterminedError: the newest verdict behind the tag is too old.
    """
    artifact = artifact_number(connection, digest)
    query = (
        select(schema.verdict.c.environment)
        .join(schema.tag, schema.tag.c.verdict_id == schema.verdict.c.id)
        .join(schema.repository, schema.repository.c.id == schema.tag.c.repository_id)
        .where(schema.repository.c.name == repository, schema.tag.c.artifact_id == artifact)
    )
    environments = set(connection.scalars(query if name is None else query.where(schema.tag.c.name == name)))
    if not environments:
        raise DeniedError(
            f"{repository}{f':{name}' if name else f'@{digest}'} is not cleared: no verdict allows it",
            next_step="Run `tidewaiter ci PROJECT`, which builds, checks, signs and clears; for an image that exists, "
            "`tidewaiter check NAME:TAG --environment ENVIRONMENT --clear`. Then push.",
            code="not_cleared",
        )
    for number, environment in enumerate(sorted(environments), 1):
        try:
            _allowing(connection, artifact, digest, environment, at)
        except UndeterminedError:
            if number == len(environments):
                raise
        else:
            return


def withdraw(connection: Connection, *, repository: str, name: str, at: dt.datetime) -> bool:
    """Make a cleared tag `built`, or `pulled`, again; False when it was not cleared."""
    tag = connection.execute(
        select(schema.tag)
        .join(schema.repository)
        .where(schema.repository.c.name == repository, schema.tag.c.name == name)
    ).one_or_none()
    if tag is None or tag.verdict_id is None:
        return False
    _write(connection, (tag.repository_id, name), tag.artifact_id, None, at)
    audit(connection, at, "tag.withdraw", f"{repository}:{name}", {})
    return True
