"""Verdicts and tags: the only code that makes a tag `cleared`, and that takes it back."""

import datetime as dt
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import Connection, delete, func, insert, or_, select

from tidewaiter.catalog import questions, schema, verdicts_at
from tidewaiter.catalog.among import among, among_texts, lots
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.questions import Asked
from tidewaiter.catalog.recording import artifact_number, place
from tidewaiter.catalog.records import VerdictDocument, Visibility
from tidewaiter.catalog.rows import AnyRow, add_new, numbers, put
from tidewaiter.catalog.storable import is_storable, storable, storable_tree
from tidewaiter.core import clock, limits
from tidewaiter.core.environments import ENVIRONMENTS, Environment
from tidewaiter.core.errors import DeniedError, InputError, RefusedError, UndeterminedError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import check_tag

if TYPE_CHECKING:
    # The policy room loads its engine; a reader of the catalog has no need of it.
    from tidewaiter.policy.verdict import Verdict


def verdict(
    connection: Connection, given: "Verdict | dict[str, Any]", at: dt.datetime, asked: Asked | None = None
) -> tuple[str, ...]:
    """Record a verdict (or its JSON, decoded) and return the tags, as `NAME:TAG`, that it takes back.

    `asked` is what it was asked about, when that is to be kept.

    A denial takes back every tag that an earlier verdict for the same image and environment cleared.

    Raises:
        InputError: the document is malformed.
        NotFoundError: its image is not recorded.
    """
    (decided,) = _put_many(connection, [_given(given)], at)
    if asked is not None:
        questions.remember(connection, {(decided.number, decided.environment): asked})
    if decided.changed:
        audit.append(connection, "verdict", decided.artifact, decided.detail, at=at, states=decided.states)
    return decided.take_back(connection, at)


def verdicts(
    connection: Connection,
    given: "Sequence[Verdict | dict[str, Any]]",
    why: str,
    at: dt.datetime,
    asked: Sequence[Asked] = (),
) -> tuple[str, ...]:
    """As `verdict` for many that were decided at once, which are one entry of the audit log; `why` is its subject.

    `asked` is what each was asked about, in the same order, when that is to be kept.
    """
    decided = _put_many(connection, [_given(one) for one in given], at)
    if asked:
        said = {(one.number, one.environment): what for one, what in zip(decided, asked, strict=True)}
        questions.remember(connection, said)
    changed = [one for one in decided if one.changed]
    if changed:
        detail = {"verdicts": [{"artifact": one.artifact, **one.detail} for one in changed]}
        states = [state for one in changed for state in one.states]
        audit.append(connection, "verdict.batch", why, detail, at=at, states=states, batch=True)
    clear = _with_cleared_tags(connection, [one.number for one in decided])
    return tuple(tag for one in decided if one.number in clear for tag in one.take_back(connection, at))


def _with_cleared_tags(connection: Connection, artifacts: Collection[int]) -> set[int]:
    of = schema.tag.c
    found: set[int] = set()
    for some in lots(sorted(artifacts)):
        found.update(connection.scalars(select(of.artifact_id).where(among(of.artifact_id, some), of.verdict_id > 0)))
    return found


class _Decided(NamedTuple):
    """A verdict that is recorded now."""

    number: int
    """Row number of its image."""
    artifact: str
    environment: str
    detail: dict[str, Any]
    changed: bool
    """Whether it was not known like this before."""
    states: tuple[audit_states.State, ...]
    """How the rows about it read."""

    def take_back(self, connection: Connection, at: dt.datetime) -> tuple[str, ...]:
        newest = current(connection, self.number, self.environment, at)
        # A denial that is new here counts whatever its time: the clock of who decided may be behind.
        denied_now = self.changed and self.detail["verdict"] == "deny"
        if not denied_now and (newest is None or newest.verdict != "deny"):
            return ()
        return _take_back(connection, self.number, self.environment, at)


_KEY = ("artifact_id", "environment", "name")


class _Given(NamedTuple):
    """A verdict that is to be recorded."""

    digest: str
    row: dict[str, Any]
    """Without the number of the image."""
    state: audit_states.State


def _given(verdict: "Verdict | dict[str, Any]") -> _Given:
    """What is recorded of a verdict."""
    try:
        parsed = msgspec.convert(verdict, VerdictDocument, from_attributes=True)
    except msgspec.ValidationError as error:
        raise InputError(
            f"the verdict is malformed: {error}", next_step="Decide again with `tidewaiter check`."
        ) from error
    digest = digests.parse(parsed.artifact)
    document, in_order = _storable(verdict)
    row = {
        "environment": parsed.environment,
        "name": parsed.id,
        "verdict": parsed.verdict,
        "policy_revision": storable(parsed.policy_revision),
        "advisories_revision": storable(parsed.advisories_revision),
        "document": document,
        "decided_at": parsed.decided_at,
        "valid_until": parsed.valid_until,
    }
    columns = {**_prefixed(row), "artifact.digest": digest, "verdict.document": in_order}
    return _Given(digest, row, audit_states.written("verdict", columns))


def _storable(verdict: "Verdict | dict[str, Any]") -> tuple[object, object]:
    """The document as any database takes it, and the same with sorted keys."""
    if not isinstance(verdict, dict):
        # It is written in JSON once, and so it stays where it can be stored like this: mostly.
        with suppress(ValueError):
            text = msgspec.json.encode(verdict)
            if is_storable(text):
                return msgspec.Raw(text), msgspec.Raw(msgspec.json.encode(verdict, order="sorted"))
    document = storable_tree(msgspec.to_builtins(verdict))
    return document, document


def _put_many(connection: Connection, given: Sequence[_Given], at: dt.datetime) -> list[_Decided]:
    """Record these verdicts, each where it was not decided later already; by a clock that was ahead it was not."""
    found = numbers(connection, schema.artifact.c.digest, {one.digest for one in given})
    stored = _stored(connection, {(found[one.digest], one.row["name"]) for one in given if one.digest in found})
    known = {key: row.decided_at for key, row in stored.items()}
    rows: dict[tuple[int, str, str], dict[str, Any]] = {}
    again: list[AnyRow] = []
    decided: list[_Decided] = []
    for digest, rest, state in given:
        number = found[digest] if digest in found else artifact_number(connection, digest)
        key = (number, rest["environment"], rest["name"])
        before = known.get(key)
        changed = before is None or before < rest["decided_at"] or before > max(_latest(at), rest["decided_at"])
        if changed:
            if key in stored:
                # The same inputs, decided again later, are the same verdict with new times.
                again.append(stored[key])
            rows[key] = {"artifact_id": number, **rest}
            known[key] = rest["decided_at"]
        detail = {"environment": rest["environment"], "verdict": rest["verdict"], "id": rest["name"]}
        decided.append(_Decided(number, digest, rest["environment"], detail, changed, (state,)))
    add_new(connection, schema.verdict, _written([row for key, row in rows.items() if key not in stored]))
    put(connection, schema.verdict, _KEY, _written([row for key, row in rows.items() if key in stored]))
    if not again:
        return decided
    verdicts_at.keep(connection, again)
    named = {(one.artifact, one.environment, one.detail["id"]) for one in decided if one.changed}
    times = {state.key: state for state in audit_states.now(connection, "verdict_time", *sorted(named)) if state.digest}
    return [
        one._replace(states=(*one.states, times[one.states[0].key])) if one.states[0].key in times else one
        for one in decided
    ]


def _written(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as they are written: a single one by the driver, which takes no JSON that is written already."""
    if len(rows) != 1 or not isinstance(rows[0]["document"], msgspec.Raw):
        return rows
    return [{**rows[0], "document": msgspec.json.decode(rows[0]["document"])}]


def _stored(connection: Connection, wanted: Collection[tuple[int, str]]) -> dict[tuple[int, str, str], AnyRow]:
    """Number and times of the verdicts with these images and names that are there, by `_KEY`."""
    of = schema.verdict.c
    found: dict[tuple[int, str, str], AnyRow] = {}
    for some in lots(sorted(wanted)):
        query = select(of.artifact_id, of.environment, of.name, of.id, of.decided_at, of.valid_until).where(
            among(of.artifact_id, {number for number, _ in some}),
            # No index begins with it; to look up pairs would be slower.
            among_texts(of.name + "", {name for _, name in some}),
        )
        found.update(((row[0], row[1], row[2]), row) for row in connection.execute(query))
    return found


def _prefixed(row: dict[str, Any]) -> dict[str, Any]:
    return {f"verdict.{name}": value for name, value in row.items()}


def _latest(at: dt.datetime) -> dt.datetime:
    """What is later was decided by a clock that was ahead."""
    return at + dt.timedelta(seconds=limits.CLOCK_SKEW_SECONDS)


def current(connection: Connection, artifact: int, environment: str, at: dt.datetime) -> AnyRow | None:
    """The newest verdict for an image in an environment; of two in the same second, a denial.

    What a clock decided that was ahead of `at` allows nothing; it denies until something is decided after it.
    """
    of = schema.verdict.c
    every = select(of.id, of.verdict, of.decided_at, of.valid_until)
    every = every.where(of.artifact_id == artifact, of.environment == environment)
    ordered = (of.decided_at.desc(), of.verdict.desc(), of.id.desc())
    latest = _latest(at)
    counts = or_(of.verdict == "deny", of.decided_at <= latest)
    newest = connection.execute(every.where(counts).order_by(*ordered).limit(1)).one_or_none()
    if newest is None or newest.decided_at <= latest:
        return newest
    since = every.where(of.decided_at <= latest, of.id > newest.id)
    return connection.execute(since.order_by(*ordered).limit(1)).one_or_none() or newest


def denied(connection: Connection, digest: Digest, environment: str) -> dt.datetime | None:
    """When the newest verdict for an image in an environment was given, if it is a no; None also without the image."""
    artifact = connection.scalar(select(schema.artifact.c.id).where(schema.artifact.c.digest == digest))
    newest = None if artifact is None else current(connection, artifact, environment, clock.now())
    return newest.decided_at if newest is not None and newest.verdict == "deny" else None


def _take_back(connection: Connection, artifact: int, environment: str, at: dt.datetime) -> tuple[str, ...]:
    tags = connection.execute(
        select(schema.tag.c.repository_id, schema.tag.c.name, schema.repository.c.name.label("repository"))
        .join(schema.repository, schema.repository.c.id == schema.tag.c.repository_id)
        .join(schema.verdict, schema.verdict.c.id == schema.tag.c.verdict_id)
        .where(schema.tag.c.artifact_id == artifact, schema.verdict.c.environment == environment)
    ).all()
    for tag in tags:
        since = _write(connection, (tag.repository_id, tag.name), artifact, None, at)
        _log(connection, "tag.withdraw", (tag.repository, tag.name, since), {"environment": environment}, at)
    return tuple(f"{tag.repository}:{tag.name}" for tag in tags)


def _write(
    connection: Connection, tag: tuple[int, str], artifact: int, verdict_id: int | None, at: dt.datetime
) -> dt.datetime:
    """Let the tag say so; since when it does."""
    since = _since(connection, tag, at)
    row = {
        "repository_id": tag[0],
        "name": tag[1],
        "artifact_id": artifact,
        "visibility": "cleared" if verdict_id is not None else _origin(connection, tag[0], artifact),
        "verdict_id": verdict_id,
        "set_at": since,
    }
    put(connection, schema.tag, ("repository_id", "name"), [row])
    connection.execute(insert(schema.tag_history), row)
    return since


def _since(connection: Connection, tag: tuple[int, str], at: dt.datetime) -> dt.datetime:
    """Whatever the clock says now, what a tag says follows what it said before, even that it was gone."""
    of = schema.tag_history.c
    before = connection.scalar(select(func.max(of.set_at)).where(of.repository_id == tag[0], of.name == tag[1]))
    return at if before is None else max(at, before)


def _log(
    connection: Connection, action: str, tag: tuple[str, str, dt.datetime], detail: dict[str, Any], at: dt.datetime
) -> None:
    states = (*audit_states.now(connection, "tag", tag[:2]), *audit_states.now(connection, "tag_change", tag))
    audit.append(connection, action, ":".join(tag[:2]), detail, at=at, states=states)


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
    moves: bool = True,
) -> None:
    """Let `repository:name` mean the image; with `clear_for` (an environment) it becomes `cleared`.

    Without `clear_for` a tag that is cleared for this very image stays so. Unless it `moves`, it has to mean it
    already.

    Raises:
        NotFoundError: the image is not recorded.
        RefusedError: the tag means another image, and is not to be moved.
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
    if not moves and (known is None or known.artifact_id != artifact):
        raise RefusedError(
            f"{repository}:{name} does not mean {digest} any more",
            next_step="Somebody moved the tag meanwhile; ask again.",
            code="tag_moved",
        )
    number = place(connection, repository, artifact, at)
    since = _write(connection, (number, check_tag(name)), artifact, verdict_id, at)
    detail = {"digest": digest, "cleared_for": clear_for}
    _log(connection, "tag.clear" if clear_for else "tag.set", (repository, name, since), detail, at)


def _allowing(connection: Connection, artifact: int, digest: Digest, environment: str, at: dt.datetime) -> int:
    newest = current(connection, artifact, environment, at)
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
    connection: Connection,
    *,
    repository: str,
    digest: Digest,
    name: str | None,
    at: dt.datetime,
    least: Environment | None = None,
) -> None:
    """Raise unless the image is cleared in `repository` (as the tag `name` when one is given) by a valid verdict.

    Raises:
        NotFoundError: the image is not recorded.
        DeniedError: no tag says that it is cleared, or only for environments that are milder than `least`.
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
    milder = set(ENVIRONMENTS[: ENVIRONMENTS.index(least)]) if least else set()
    if environments <= milder:
        raise DeniedError(
            f"{repository}{f':{name}' if name else f'@{digest}'} is cleared for {', '.join(sorted(environments))} only,"
            f" and belongs to {least}",
            next_step=f"Run `tidewaiter check NAME:TAG --environment {least} --clear`, then push.",
            code="milder_environment",
        )
    environments -= milder
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
    tag = _tag(connection, repository, name)
    if tag is None or tag.verdict_id is None:
        return False
    since = _write(connection, (tag.repository_id, name), tag.artifact_id, None, at)
    _log(connection, "tag.withdraw", (repository, name, since), {}, at)
    return True


def remove(connection: Connection, *, repository: str, name: str, at: dt.datetime) -> bool:
    """Let a tag mean nothing from now on, as its registry does; False when it meant nothing.

    A tag of what was built here stays, cleared no longer: it tells where the image comes from.
    """
    tag = _tag(connection, repository, name)
    if tag is None:
        return False
    if _origin(connection, tag.repository_id, tag.artifact_id) == "built":
        return withdraw(connection, repository=repository, name=name, at=at)
    of, since = schema.tag.c, _since(connection, (tag.repository_id, name), at)
    connection.execute(delete(schema.tag).where(of.repository_id == tag.repository_id, of.name == name))
    gone = {"artifact_id": tag.artifact_id, "visibility": "gone", "verdict_id": None, "set_at": since}
    connection.execute(insert(schema.tag_history), {"repository_id": tag.repository_id, "name": name, **gone})
    digest = connection.scalar(select(schema.artifact.c.digest).where(schema.artifact.c.id == tag.artifact_id))
    _log(connection, "tag.delete", (repository, name, since), {"digest": digest}, at)
    return True


def _tag(connection: Connection, repository: str, name: str) -> AnyRow | None:
    named = (schema.repository.c.name == repository, schema.tag.c.name == name)
    return connection.execute(select(schema.tag).join(schema.repository).where(*named)).one_or_none()
