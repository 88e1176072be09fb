"""What lies in registries, layouts and archives: manifests, what an index lists, what refers to an image, tags.

These tags stand in tables of their own: whatever a registry says, no tag of the store moves, and none is cleared.
"""

import datetime as dt
import os
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    func,
    select,
    union_all,
)

import tidewaiter
from tidewaiter.catalog import schema
from tidewaiter.catalog.among import among
from tidewaiter.catalog.answers import SyncedTag
from tidewaiter.catalog.rows import chunks
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import ArchiveReference, LayoutReference, RegistryReference

Kind = Literal["image", "index", "artifact"]
_PLACE_CHARACTERS = 255
_TAG_CHARACTERS = 512
_FILES = ("oci:", "oci-archive:", "docker-archive:")


class Child(msgspec.Struct, frozen=True):
    """A manifest as an index, or a list of referrers, describes it."""

    digest: Digest
    media_type: str
    size: int
    """Bytes of the manifest."""
    kind: Kind
    platform: str = ""
    """`OS/ARCHITECTURE[/VARIANT]`; empty when the index does not say."""
    artifact_type: str = ""


class TakenManifest(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that was read, with what was found out about it."""

    digest: Digest
    media_type: str
    kind: Kind
    size: int = 0
    """Compressed bytes of all layers."""
    artifact_type: str = ""
    created: dt.datetime | None = None
    """`created` of the image config."""
    facts: ImageFacts | None = None
    """Of an image that was inspected."""
    problem: str = ""
    """Why it cannot be inspected, whoever tries; empty otherwise."""
    children: tuple[Child, ...] = ()
    referrers: tuple[Child, ...] = ()
    """What is said to refer to it; of a list of referrers, to its subject."""
    subject: Digest | None = None
    """What it refers to, or lists the referrers of."""


class SeenTag(msgspec.Struct, frozen=True):
    """What a tag named, and when that was seen."""

    name: str
    digest: Digest
    at: dt.datetime


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction records of one repository."""

    manifests: Sequence[TakenManifest] = ()
    tags: Sequence[SeenTag] = ()
    """Their manifests are recorded, or among `manifests`."""
    images: Collection[Digest] = ()
    """Images that lie in the repository, tagged or not."""
    gone: Collection[str] = ()
    """Tags that the repository no longer has."""
    referring: Sequence[tuple[Digest, tuple[Child, ...]]] = ()
    """Of manifests that were recorded before: what came to refer to them since."""


class MovedTag(msgspec.Struct, frozen=True):
    """A tag that names something else than before."""

    name: str
    before: str
    digest: str
    """Empty when it is gone."""


class Written(msgspec.Struct, frozen=True):
    """What a batch changed."""

    images: int
    """Images that the repository did not have before."""
    tags: int
    """Tags that were not known."""
    moved: tuple[MovedTag, ...]


class Status(NamedTuple):
    """What is known of a manifest."""

    kind: Kind
    read: bool
    """Whether it was read itself; else `kind` is what a list says of it."""
    inspected: bool
    problem: str
    """Why it cannot be inspected, as this release found out."""
    created: dt.datetime | None


# Names of places


def check_place(name: str) -> str:
    """`name` as that of a repository that lies elsewhere: HOST/REPO, oci:PATH, oci-archive:FILE or docker-archive:FILE.

    Raises `InputError` when it is too long, or holds what no such name has.
    """
    if len(name) > _PLACE_CHARACTERS or not name.isprintable():
        raise InputError(
            f"{name[:100]!r} cannot name a place: it has more than {_PLACE_CHARACTERS} characters, or odd ones",
            next_step="Take in the other repositories; rename this one, or copy it to where its name is shorter.",
        )
    return name


def check_name(tag: str) -> str:
    """`tag` when it can be recorded as one; layouts and archives call images what they like. Raises `InputError`."""
    if len(tag) > _TAG_CHARACTERS or not tag.isprintable():
        raise InputError(
            f"{tag[:100]!r} cannot name an image: it has more than {_TAG_CHARACTERS} characters, or odd ones",
            next_step="Give the image another name there.",
        )
    return tag


def file_name(given: LayoutReference | ArchiveReference) -> str:
    """The name of a layout or an archive as that of a repository."""
    kind = given.kind if isinstance(given, ArchiveReference) else "oci"
    return f"{kind}:{os.path.abspath(given.path)}"  # noqa: PTH100  # without `..`, and wherever links lead


def named(text: str) -> tuple[str, str, Digest | None] | None:
    """Repository, tag and digest of an image elsewhere, as `text` names it; None when it names one of the store."""
    place, at, digest = text.rpartition("@")
    if at and place.startswith(_FILES) and digest.startswith(("sha256:", "sha512:")):
        return place, "", digests.parse(digest)
    given = references.parse(text)
    if isinstance(given, RegistryReference):
        return f"{given.host}/{given.repository}", given.tag or ("" if given.digest else "latest"), given.digest
    if isinstance(given, LayoutReference):
        return file_name(given), given.tag or "", None
    if isinstance(given, ArchiveReference):
        return file_name(given), given.name or "", None
    return None


# What is known


def statuses(connection: Connection, wanted: Collection[Digest]) -> dict[Digest, Status]:
    """What is known of those of `wanted` that were seen before. One that only a list named is there, not inspected."""
    artifact, seen = schema.artifact.c, schema.synced_manifest.c
    found = {}
    for some in chunks(sorted(wanted)):
        rows = connection.execute(
            select(artifact.digest, artifact.component_set_id, artifact.created, seen.kind, seen.problem, seen.reader)
            .join(schema.synced_manifest, seen.artifact_id == artifact.id, isouter=True)
            .where(artifact.digest.in_(some))
        )
        for row in rows:
            found[Digest(row.digest)] = Status(
                kind=row.kind or "image",
                read=bool(row.reader) or row.component_set_id is not None,
                inspected=row.component_set_id is not None,
                problem=row.problem if row.problem and row.reader == tidewaiter.__version__ else "",
                created=row.created,
            )
    return found


def children(connection: Connection, parent: Digest) -> tuple[Child, ...]:
    """The manifests that a recorded index lists."""
    of, artifact, seen = schema.synced_child.c, schema.artifact.c, schema.synced_manifest.c
    above = schema.artifact.alias()
    rows = connection.execute(
        select(artifact.digest, artifact.media_type, of.platform, seen.kind, seen.artifact_type)
        .select_from(schema.synced_child)
        .join(above, above.c.id == of.parent_id)
        .join(schema.artifact, artifact.id == of.child_id)
        .join(schema.synced_manifest, seen.artifact_id == artifact.id, isouter=True)
        .where(above.c.digest == parent)
        .order_by(artifact.digest)
    )
    return tuple(
        Child(Digest(row.digest), row.media_type, 0, row.kind or "image", row.platform, row.artifact_type or "")
        for row in rows
    )


def referrers(connection: Connection, subject: Digest) -> frozenset[Digest]:
    """What is known to refer to a recorded manifest."""
    of, artifact = schema.synced_referrer.c, schema.artifact.c
    above = schema.artifact.alias()
    query = (
        select(artifact.digest)
        .join(schema.synced_referrer, of.referrer_id == artifact.id)
        .join(above, above.c.id == of.subject_id)
        .where(above.c.digest == subject)
    )
    return frozenset(map(Digest, connection.scalars(query)))


def created(connection: Connection, wanted: Collection[Digest]) -> dict[Digest, dt.datetime]:
    """When these images were made, as they say; an index is as new as the newest image that it lists."""
    of, below, artifact = schema.synced_child.c, schema.artifact.alias().c, schema.artifact.c
    found: dict[Digest, dt.datetime] = {}
    for some in chunks(sorted(wanted)):
        listed = (
            select(artifact.digest, func.max(below.created).label("made"))
            .select_from(schema.synced_child)
            .join(schema.artifact, artifact.id == of.parent_id)
            .join(below.id.table, below.id == of.child_id)
            .where(artifact.digest.in_(some))
            .group_by(artifact.digest)
        )
        own = select(artifact.digest, artifact.created.label("made")).where(artifact.digest.in_(some))
        for query in (own, listed):
            found.update((Digest(row.digest), row.made) for row in connection.execute(query) if row.made is not None)
    return found


def tags(connection: Connection, place: str) -> dict[str, str]:
    """What each tag of the repository named when it was looked at last."""
    of = schema.synced_tag.c
    rows = connection.execute(
        select(of.name, schema.artifact.c.digest)
        .join(schema.repository, schema.repository.c.id == of.repository_id)
        .join(schema.artifact, schema.artifact.c.id == of.artifact_id)
        .where(schema.repository.c.name == place)
    )
    return {row.name: row.digest for row in rows}


def resolve(connection: Connection, place: str, name: str) -> Digest | None:
    """What the tag named when it was looked at last: an image, an index or an artifact."""
    of = schema.synced_tag.c
    found = connection.scalar(
        select(schema.artifact.c.digest)
        .join(schema.synced_tag, of.artifact_id == schema.artifact.c.id)
        .join(schema.repository, schema.repository.c.id == of.repository_id)
        .where(schema.repository.c.name == place, of.name == name)
    )
    return None if found is None else digests.parse(found)


def resolve_image(connection: Connection, place: str, name: str) -> Digest | None:
    """The image that the tag means; of an index that for linux/amd64, else the first that lies in the repository."""
    found = resolve(connection, place, name)
    for _ in range(limits.INDEX_DEPTH):
        below = [] if found is None else children(connection, found)
        if not below:
            return found
        images = [one for one in below if one.kind != "artifact"] or below
        found = next((one for one in images if one.platform == "linux/amd64"), images[0]).digest
    return found


def meant_by(tag: ColumnElement[bool]) -> CompoundSelect[tuple[int, int]]:
    """Query for repository and image of every tag of which the condition holds, by itself or through an index."""
    of, below = schema.synced_tag.c, schema.synced_child.c
    direct = select(of.repository_id, of.artifact_id).where(tag)
    through = select(of.repository_id, below.child_id).join(schema.synced_child, below.parent_id == of.artifact_id)
    return union_all(direct, through.where(tag))


def tags_of(connection: Connection, artifacts: Collection[int]) -> dict[tuple[int, int], list[SyncedTag]]:
    """Tags that mean these images, by themselves or through an index, by repository and image."""
    of, below = schema.synced_tag.c, schema.synced_child.c
    said = (of.repository_id, of.name, of.set_at)
    queries = (
        select(*said, of.artifact_id).where(among(of.artifact_id, artifacts)),
        select(*said, below.child_id)
        .join(schema.synced_child, below.parent_id == of.artifact_id)
        .where(among(below.child_id, artifacts)),
    )
    found: dict[tuple[int, int], list[SyncedTag]] = {}
    for query in queries:
        for repository, name, set_at, artifact in connection.execute(query.order_by(of.name)).all():
            found.setdefault((repository, artifact), []).append(SyncedTag(name, set_at))
    return found
