"""What verdicts were asked about, and which of them rest on findings that are no longer those of now.

What an image was asked about is kept in two parts: what it has for itself, and what all images of its class share. So
it can be decided anew without its bytes. What stands in the parts is the matter of whoever asks.
"""

import datetime as dt
import zlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select, union

from tidewaiter.catalog import components as components_of
from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among, among_texts, lots
from tidewaiter.catalog.rows import AnyRow, add_missing, numbers, put
from tidewaiter.core import limits
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.sbom.component import Component


class Asked(NamedTuple):
    """What a verdict was asked about."""

    own: bytes
    """Of this image."""
    shared: bytes
    """Of all images of its class."""


class Outdated(NamedTuple):
    """A component set whose verdicts may have to be decided anew."""

    number: int
    since: dt.datetime


class Question(NamedTuple):
    """The newest verdict of an image for an environment, and what it was asked about."""

    artifact: int
    digest: Digest
    members: int
    """Row number of its component set."""
    environment: str
    own: bytes
    shared: int
    """Names the class."""
    policy_revision: str
    answer: str
    evidence: Mapping[str, str]


class Attached(NamedTuple):
    """What is attached to an image, and since when."""

    attestations: Sequence[tuple[str, str, dt.datetime]]
    """Predicate type, fingerprint of the key."""
    signatures: Sequence[tuple[str, dt.datetime]]
    """Fingerprint of the key."""


def remember(connection: Connection, asked: Mapping[tuple[int, str], Asked]) -> None:
    """Keep what was asked, by row number of the image and environment, in the place of what was asked before."""
    classes = {digests.of(one.shared): one.shared for one in asked.values()}
    rows = [{"digest": name, "document": zlib.compress(shared)} for name, shared in sorted(classes.items())]
    known = numbers(connection, schema.question_class.c.digest, classes)
    add_missing(connection, schema.question_class, [row for row in rows if row["digest"] not in known])
    known = numbers(connection, schema.question_class.c.digest, classes)
    put(
        connection,
        schema.question,
        ("artifact_id", "environment"),
        [
            {
                "artifact_id": artifact,
                "environment": environment,
                "question_class_id": known[digests.of(one.shared)],
                "own": one.own,
            }
            for (artifact, environment), one in sorted(asked.items())
        ],
    )


def outdate(connection: Connection, components: Collection[int], at: dt.datetime) -> None:
    """The findings of these components changed: verdicts about the sets that hold them are to be decided anew."""
    member = schema.component_set_member.c
    sets: set[int] = set()
    for some in lots(sorted(components)):
        sets.update(
            connection.scalars(select(member.component_set_id).distinct().where(among(member.component_id, some)))
        )
    rows = [{"component_set_id": one, "since": at} for one in sorted(sets)]
    put(connection, schema.outdated_set, ("component_set_id",), rows)


def outdate_all(connection: Connection, at: dt.datetime) -> None:
    """As `outdate`, for every component with a finding."""
    outdate(connection, connection.scalars(select(schema.finding.c.component_id).distinct()).all(), at)


def outdated(connection: Connection) -> tuple[Outdated, ...]:
    """The sets whose findings changed, and when."""
    of = schema.outdated_set.c
    rows = connection.execute(select(of.component_set_id, of.since).order_by(of.component_set_id))
    return tuple(Outdated(*row) for row in rows)


def settled(connection: Connection, sets: Sequence[Outdated]) -> None:
    """Their verdicts are those of now, unless their findings changed again since."""
    of = schema.outdated_set.c
    same = delete(schema.outdated_set).where(
        of.component_set_id == bindparam("number"), of.since == bindparam("moment", type_=of.since.type)
    )
    if sets:
        connection.execute(same, [{"number": one.number, "moment": one.since} for one in sets])


def of_sets(connection: Connection, sets: Collection[int]) -> tuple[list[Question], int]:
    """Questions about images with these sets, by set and class; how many verdicts there are without a question."""
    of, asked, artifact = schema.verdict.c, schema.question.c, schema.artifact.c
    newest: dict[tuple[int, str], int] = {}
    rows: list[AnyRow] = []
    for some in lots(sorted(sets)):
        decided = (
            select(of.artifact_id, of.environment, of.id)
            .join(schema.artifact, artifact.id == of.artifact_id)
            .where(among(artifact.component_set_id, some))
            # The last of them stays: a denial before what allowed in the same second.
            .order_by(of.decided_at, of.verdict, of.id)
        )
        # Many rows are read at once: one by one they take twice as long.
        newest.update({(row[0], row[1]): row[2] for row in connection.execute(decided).all()})
        query = (
            select(
                asked.artifact_id,
                artifact.digest,
                artifact.component_set_id,
                asked.environment,
                asked.own,
                asked.question_class_id,
            )
            .join(schema.artifact, artifact.id == asked.artifact_id)
            .where(among(artifact.component_set_id, some))
        )
        rows += connection.execute(query).all()
    standing = _verdicts(connection, [newest[row[0], row[3]] for row in rows if (row[0], row[3]) in newest])
    found = []
    for number, digest, members, environment, own, shared in rows:
        verdict = newest.get((number, environment))
        if verdict is not None:
            revision, answer, evidence = standing[verdict]
            found.append(
                Question(number, Digest(digest), members, environment, own, shared, revision, answer, evidence)
            )
    found.sort(key=lambda one: (one.members, one.shared, one.environment, one.artifact))
    return found, len(newest) - len(found)


def _verdicts(connection: Connection, wanted: Sequence[int]) -> dict[int, tuple[str, str, Mapping[str, str]]]:
    """Policy revision, answer and evidence of verdicts, by row number."""
    of = schema.verdict.c
    return {
        row.id: (row.policy_revision, row.verdict, row.evidence or {})
        for some in lots(sorted(wanted))
        for row in connection.execute(
            # Not the whole document, most of which is what rules said.
            select(of.id, of.policy_revision, of.verdict, of.document["evidence"].label("evidence")).where(
                among(of.id, some)
            )
        ).all()
    }


def kept(connection: Connection, digest: Digest) -> tuple[bytes, ...]:
    """What images of the classes share in which an image was asked about, once for each environment."""
    asked, of, artifact = schema.question.c, schema.question_class.c, schema.artifact.c
    query = (
        select(of.document)
        .join(schema.question, asked.question_class_id == of.id)
        .join(schema.artifact, artifact.id == asked.artifact_id)
        .where(artifact.digest == digest)
        .order_by(asked.environment)
    )
    return tuple(_inflated(document) for document in connection.scalars(query))


def shared(connection: Connection, classes: Collection[int]) -> dict[int, bytes]:
    """What the classes share."""
    of = schema.question_class.c
    return {
        row.id: _inflated(row.document)
        for some in lots(sorted(classes))
        for row in connection.execute(select(of.id, of.document).where(among(of.id, some)))
    }


def _inflated(data: bytes) -> bytes:
    opened = zlib.decompressobj()
    return opened.decompress(data, limits.QUESTION_BYTES)


def components(connection: Connection, sets: Collection[int], revision: str = "") -> dict[int, list[Component]]:
    """The components of each set, as they are matched.

    With the `revision` that all of the catalog was matched with, only those that there is something to say of, and
    one of each ecosystem: matching them anew with the same advisories says the same of the set.
    """
    member, of = schema.component_set_member.c, schema.component.c
    held: dict[int, set[int]] = defaultdict(set)
    queries = [select(member.component_set_id, member.component_id)]
    if revision and connection.scalar(select(schema.matching.c.advisories_revision)) == revision:
        done = schema.component_package.c.component_id
        unmatched = select(of.id).join(schema.component_package, done == of.id, isouter=True).where(done.is_(None))
        said = union(select(schema.finding.c.component_id), select(schema.component_gap.c.component_id), unmatched)
        first = select(member.component_set_id, func.min(member.component_id))
        queries = [
            queries[0].where(member.component_id.in_(said)),
            first.join(schema.component, of.id == member.component_id).group_by(
                member.component_set_id, of.ecosystem, of.kind
            ),
        ]
    for some in lots(sorted(sets)):
        for query in queries:
            for number, component in connection.execute(query.where(among(member.component_set_id, some))).all():
                held[number].add(component)
    known = components_of.read(connection, sorted({one for several in held.values() for one in several}))
    return {
        number: sorted((known[one] for one in several), key=lambda one: one.purl) for number, several in held.items()
    }


def attached(connection: Connection, artifacts: Collection[int]) -> dict[int, Attached]:
    """What is attached to each of these images."""
    said, signed = schema.attestation.c, schema.signature.c
    attestations: dict[int, list[tuple[str, str, dt.datetime]]] = defaultdict(list)
    signatures: dict[int, list[tuple[str, dt.datetime]]] = defaultdict(list)
    for some in lots(sorted(artifacts)):
        query = select(said.artifact_id, said.predicate_type, said.key_fingerprint, said.created)
        for row in connection.execute(query.where(among(said.artifact_id, some))).all():
            attestations[row[0]].append((row[1], row[2], row[3]))
        other = select(signed.artifact_id, signed.key_fingerprint, signed.created)
        for number, key, created in connection.execute(other.where(among(signed.artifact_id, some))).all():
            signatures[number].append((key, created))
    return {one: Attached(attestations.get(one, ()), signatures.get(one, ())) for one in artifacts}


class Gathered(NamedTuple):
    """What verdicts about some component sets are decided from, beside their components, advisories and policy."""

    questions: Sequence[Question]
    without: int
    """Verdicts of which nobody kept what they were asked about."""
    shared: Mapping[int, bytes]
    attached: Mapping[int, Attached]


def gather(connection: Connection, sets: Collection[int]) -> Gathered:
    """All of it, in one view of the database."""
    found, without = of_sets(connection, sets)
    return Gathered(
        found,
        without,
        shared(connection, {one.shared for one in found}),
        attached(connection, {one.artifact for one in found}),
    )


def taken_back(connection: Connection, images: Collection[Digest]) -> tuple[tuple[str, str, Digest], ...]:
    """Repository, tag and digest of every tag of the store that means one of the images and is not cleared."""
    tag = schema.tag.c
    found = []
    for some in lots(sorted(images)):
        query = (
            select(schema.repository.c.name, tag.name, schema.artifact.c.digest)
            .select_from(schema.tag)
            .join(schema.repository, schema.repository.c.id == tag.repository_id)
            .join(schema.artifact, schema.artifact.c.id == tag.artifact_id)
            .where(among_texts(schema.artifact.c.digest, some), tag.visibility != "cleared")
        )
        found += [(row[0], row[1], Digest(row[2])) for row in connection.execute(query)]
    return tuple(found)
