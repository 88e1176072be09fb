"""Recording what was seen in registries, layouts and archives: each batch is one transaction and one entry of the log.

What many images share is recorded by `recording`, as for an image that was built here.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

import tidewaiter
from tidewaiter.catalog import findings, recording, schema
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.rows import add_missing, add_new, chunks, ensure, number_of, numbers, put
from tidewaiter.catalog.storable import storable
from tidewaiter.catalog.synced import Batch, MovedTag, TakenManifest, Written, check_name, check_place
from tidewaiter.oci.digest import Digest


def write(connection: Connection, place: str, batch: Batch, at: dt.datetime) -> Written:
    """Record a batch, all or nothing; what is recorded already changes nothing and is not logged.

    A tag that somebody else saw later than this batch did stays as it is.

    Raises:
        InputError: `place` can be no name of a repository.
    """
    repository = number_of(connection, schema.repository, {"name": check_place(place)})
    # Where writers do not take turns by themselves, those of one repository do: each sees what its tags meant before.
    connection.execute(select(schema.repository.c.id).where(schema.repository.c.id == repository).with_for_update())
    known = _artifacts(connection, batch, at)
    _facts(connection, batch.manifests, at)
    new = _place(connection, repository, {known[one] for one in batch.images}, at)
    changes = _set_tags(connection, repository, batch, known, at)
    _touch(connection, repository, {known[one.digest] for one, _ in changes if one.digest} - set(new), at)
    moved = [change for change, _ in changes]
    first = [one for one in moved if not one.before]
    changed = tuple(one for one in moved if one.before)
    fresh = [one.digest for one in batch.manifests]
    if new or moved or fresh or batch.referring:
        detail: dict[str, Any] = {
            "manifests": sorted(fresh),
            "images": len(new),
            **({"referring": sorted({one for _, one in _referring(batch)})} if batch.referring else {}),
            "tags": {storable(one.name): one.digest for one in moved},
            "before": {storable(one.name): one.before for one in changed},
        }
        states = _states(connection, place, batch, changes)
        audit.append(connection, "catalog.sync", place, detail, at=at, states=states)
    return Written(images=len(new), tags=len(first), moved=changed)


def _states(
    connection: Connection, place: str, batch: Batch, changes: Sequence[tuple[MovedTag, dt.datetime]]
) -> tuple[audit_states.State, ...]:
    """How the rows read that the batch changed."""
    read = batch.manifests
    named = {one.digest for one in read} | {child.digest for one in read for child in one.children}
    named |= {one for pair in _referring(batch) for one in pair}
    keys: tuple[tuple[audit_states.Kind, Iterable[tuple[object, ...]]], ...] = (
        ("synced_manifest", ((one,) for one in sorted(named))),
        ("synced_child", ((one,) for one in sorted({one.digest for one in read if one.children}))),
        ("synced_referrer", ((one,) for one in sorted({subject for subject, _ in _referring(batch)}))),
        ("synced_tag", ((place, change.name) for change, _ in changes)),
        ("synced_change", ((place, change.name, when) for change, when in changes)),
    )
    return tuple(state for kind, some in keys for state in audit_states.now(connection, kind, *some))


def _artifacts(connection: Connection, batch: Batch, at: dt.datetime) -> dict[str, int]:
    """Row numbers, by digest, of everything that the batch speaks of; what is missing is made."""
    listed = [child for one in batch.manifests for child in (*one.children, *one.referrers)]
    listed += [child for _, some in batch.referring for child in some]
    rows: dict[str, dict[str, Any]] = {}
    kinds: dict[str, tuple[str, str]] = {}
    for subject in sorted({one.subject for one in batch.manifests if one.subject}):
        # It may come later: what refers to it is then known to.
        rows[subject] = {"media_type": "", "size": 0, "created": None}
        kinds[subject] = ("artifact", "")
    for child in listed:
        rows[child.digest] = {"media_type": child.media_type, "size": 0, "created": None}
        kinds[child.digest] = (child.kind, child.artifact_type)
    for one in batch.manifests:
        rows[one.digest] = {"media_type": one.media_type, "size": one.size, "created": one.created}
        kinds.pop(one.digest, None)
    named = {*rows, *(tag.digest for tag in batch.tags), *batch.images, *(subject for subject, _ in batch.referring)}
    there = numbers(connection, schema.artifact.c.digest, named)
    missing = {
        digest: {"digest": digest, "recorded_at": at, **row, "media_type": storable(row["media_type"])}
        for digest, row in rows.items()
        if digest not in there
    }
    known = there | ensure(connection, schema.artifact.c.digest, missing)
    claims = [
        {"artifact_id": known[digest], "kind": kind, "artifact_type": storable(artifact_type)}
        for digest, (kind, artifact_type) in kinds.items()
    ]
    _claimed(connection, claims, {number for digest, number in known.items() if digest not in there})
    _manifests(connection, batch, known, there)
    return known


def _claimed(connection: Connection, claims: Sequence[dict[str, Any]], new: Collection[int]) -> None:
    """What lists say of manifests that nobody read: nothing, of one that was recorded by whoever has it."""
    seen = {"problem": "", "reader": ""}
    add_missing(connection, schema.synced_manifest, [{**one, **seen} for one in claims if one["artifact_id"] in new])
    of = schema.synced_manifest.c
    # Who says that it is an image is believed until it was looked at.
    more = [{"key": one["artifact_id"], "said": one["kind"]} for one in claims if one["kind"] != "artifact"]
    if more:
        unread = (of.artifact_id == bindparam("key")) & (of.kind == "artifact") & (of.reader == "")
        connection.execute(update(schema.synced_manifest).where(unread).values(kind=bindparam("said")), more)


def _manifests(connection: Connection, batch: Batch, known: Mapping[str, int], there: Collection[str]) -> None:
    manifests = batch.manifests
    read = {
        one.digest: {
            "artifact_id": known[one.digest],
            "kind": one.kind,
            "artifact_type": storable(one.artifact_type),
            "problem": storable(one.problem),
            "reader": tidewaiter.__version__,
        }
        for one in manifests
    }
    put(connection, schema.synced_manifest, ("artifact_id",), list(read.values()))
    below = [
        {"parent_id": known[one.digest], "child_id": known[child.digest], "platform": storable(child.platform)}
        for one in manifests
        for child in one.children
    ]
    add_missing(connection, schema.synced_child, below)
    referring = [
        {"subject_id": known[subject], "referrer_id": known[referrer]} for subject, referrer in _referring(batch)
    ]
    add_missing(connection, schema.synced_referrer, referring)
    # Of what was only listed, nobody knew more than the list claimed.
    found = [
        {"key": known[one.digest], "type": storable(one.media_type), "bytes": one.size, "time": one.created}
        for one in manifests
        if one.digest in there
    ]
    if found:
        of = schema.artifact.c
        unset = update(schema.artifact).where(of.id == bindparam("key"), of.component_set_id.is_(None))
        connection.execute(
            unset.values(
                media_type=bindparam("type"),
                size=bindparam("bytes"),
                created=func.coalesce(of.created, bindparam("time", type_=of.created.type)),
            ),
            found,
        )


def _referring(batch: Batch) -> Iterator[tuple[Digest, Digest]]:
    """Subject and referrer."""
    for one in batch.manifests:
        for child in one.referrers:
            yield one.subject or one.digest, child.digest
        if one.subject is not None and not one.referrers:
            yield one.subject, one.digest
    for subject, some in batch.referring:
        for child in some:
            yield subject, child.digest


def _facts(connection: Connection, manifests: Iterable[TakenManifest], at: dt.datetime) -> None:
    inspected = [(one.facts, None) for one in manifests if one.facts is not None]
    if inspected:
        recording.facts(connection, inspected, at)


def _place(connection: Connection, repository: int, images: Collection[int], at: dt.datetime) -> list[int]:
    """Put images into the repository; those that were not there."""
    of = schema.repository_artifact.c
    there: set[int] = set()
    for some in chunks(sorted(images)):
        query = select(of.artifact_id).where(of.repository_id == repository, of.artifact_id.in_(some))
        there.update(connection.scalars(query))
    new = sorted(set(images) - there)
    rows = [{"repository_id": repository, "artifact_id": artifact, "changed_at": at, "since": at} for artifact in new]
    add_new(connection, schema.repository_artifact, rows)
    return new


def _set_tags(
    connection: Connection, repository: int, batch: Batch, known: Mapping[str, int], at: dt.datetime
) -> list[tuple[MovedTag, dt.datetime]]:
    """Let tags mean what they were seen to mean; those that meant nothing, or something else, and since when."""
    of = schema.synced_tag.c
    seen = {check_name(tag.name): tag for tag in batch.tags}
    before: dict[str, tuple[int, str, dt.datetime]] = {}
    for some in chunks(sorted({*seen, *batch.gone})):
        rows = connection.execute(
            select(of.name, of.artifact_id, of.set_at, schema.artifact.c.digest)
            .join(schema.artifact, schema.artifact.c.id == of.artifact_id)
            .where(of.repository_id == repository, of.name.in_(some))
        )
        before.update((row.name, (row.artifact_id, row.digest, row.set_at)) for row in rows)
    changes: list[dict[str, Any]] = []
    moved: list[tuple[MovedTag, dt.datetime]] = []
    last = _last_changes(connection, repository, {*seen, *batch.gone})
    for name, tag in seen.items():
        previous, digest, since = before.get(name, (None, "", None))
        if previous == known[tag.digest] or (since is not None and tag.at < since <= at):
            continue
        when = max(tag.at, last.get(name, tag.at))
        row = {"repository_id": repository, "name": name, "artifact_id": known[tag.digest], "set_at": when}
        changes.append({**row, "previous_id": previous})
        moved.append((MovedTag(name, digest, tag.digest), when))
    gone = sorted(set(batch.gone) & before.keys())
    for name in gone:
        when = max(at, last.get(name, at))
        row = {"repository_id": repository, "name": name, "artifact_id": None, "set_at": when}
        changes.append({**row, "previous_id": before[name][0]})
        moved.append((MovedTag(name, before[name][1], ""), when))
    for some in chunks(gone):
        connection.execute(delete(schema.synced_tag).where(of.repository_id == repository, of.name.in_(some)))
    current = [{key: row[key] for key in row if key != "previous_id"} for row in changes if row["artifact_id"]]
    put(connection, schema.synced_tag, ("repository_id", "name"), current)
    if changes:
        add_missing(connection, schema.synced_tag_history, changes)
    return moved


def _last_changes(connection: Connection, repository: int, names: Collection[str]) -> dict[str, dt.datetime]:
    """When each of these tags changed last: whatever the clock says now, what it means next comes after that."""
    of = schema.synced_tag_history.c
    found: dict[str, dt.datetime] = {}
    for some in chunks(sorted(names)):
        query = select(of.name, func.max(of.set_at)).where(of.repository_id == repository, of.name.in_(some))
        found.update((name, at) for name, at in connection.execute(query.group_by(of.name)))
    return found


def _touch(connection: Connection, repository: int, artifacts: Collection[int], at: dt.datetime) -> None:
    """An image that a tag came to mean is the repository's latest change."""
    of, below = schema.repository_artifact.c, schema.synced_child.c
    for some in chunks(sorted(artifacts)):
        meant = select(below.child_id).where(below.parent_id.in_(some))
        same = update(schema.repository_artifact).where(of.repository_id == repository)
        connection.execute(same.where(of.artifact_id.in_(some) | of.artifact_id.in_(meant)).values(changed_at=at))


def matched(connection: Connection) -> int:
    """Say of component sets that were never scanned that their components are matched; how many there were.

    To be called after every component was matched (`findings.finish`), in whose name it is said.
    """
    known = findings.matching(connection)
    if known is None:
        return 0
    of = schema.component_set.c
    member, done = schema.component_set_member.c, schema.component_package.c
    never = ~select(schema.scan.c.id).where(schema.scan.c.component_set_id == of.id).exists()
    # Another process may have recorded a set since then.
    unmatched = (
        select(member.component_id)
        .join(schema.component_package, done.component_id == member.component_id, isouter=True)
        .where(member.component_set_id == of.id, done.component_id.is_(None))
        .exists()
    )
    sets = connection.scalars(select(of.id).where(never, ~unmatched)).all()
    rows = [
        {
            "component_set_id": one,
            "advisories_revision": known.revision,
            "advisories_as_of": None,
            "not_checked": [],
            "scanned_at": known.matched_at,
        }
        for one in sets
    ]
    add_missing(connection, schema.scan, rows)
    return len(rows)
