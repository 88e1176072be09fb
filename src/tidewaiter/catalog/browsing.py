"""Images by what is known of them, page after page; tags that moved.

A page ends with a cursor that says after which image the next one begins: it costs the same however far one has come,
and what changes meanwhile is neither left out nor shown twice.
"""

import base64
import binascii
import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from sqlalchemy import ColumnElement, Connection, case, func, select

from tidewaiter.catalog import filtering, listing, schema, synced
from tidewaiter.catalog.answers import ImageSummary
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

_PLACE = schema.repository_artifact.c
_SET = schema.artifact.c.component_set_id
_RowNumber = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which images are wanted; what is empty does not matter."""

    repository: str = ""
    """A name, with everything below it; or a pattern with `*` and `?`."""
    tag: str = ""
    """A pattern with `*` and `?`."""
    since: dt.datetime | None = None
    """When the image came, or a tag came to mean it."""
    finding: str = ""
    """An advisory by any of its names; or a severity, that or a worse one."""
    environment: str = ""
    """That it was built for or decided for."""
    unbuilt: bool = False
    """Only images of which no build is recorded."""
    snowflakes: bool = False
    """Only images whose packages, as a whole, no other image has."""
    search: str = ""
    """Text in the name or a tag, or the beginning of a digest or commit."""
    verdict: str = ""
    """`allow` or `deny`: what the newest verdict says, for `environment` when that is given, else for any."""
    package: str = ""
    """A package URL, with or without version."""
    base: str = ""
    """Name of a base that it was built on, or the digest of one."""
    owner: str = ""
    """Who answers for its repository."""
    running: bool = False
    """Only images that a workload runs now."""


class ImagePage(msgspec.Struct, frozen=True):
    """Some images, the latest change first."""

    items: tuple[ImageSummary, ...]
    next: str
    """Cursor of the page that follows; empty on the last one."""


class TagMove(msgspec.Struct, frozen=True):
    """A tag that came to mean another image, or was seen to be gone."""

    name: str
    tag: str
    before: str
    digest: str
    """Empty when it was gone."""
    at: dt.datetime


class Referrer(msgspec.Struct, frozen=True):
    """Something that says that it refers to an image, as a registry lists it."""

    digest: str
    media_type: str
    artifact_type: str


class Whereabouts(msgspec.Struct, frozen=True):
    """Where an image lies, under which tags, and what refers to it there."""

    places: tuple[ImageSummary, ...]
    """The image in each repository, the latest change first."""
    referrers: tuple[Referrer, ...]
    history: tuple[TagMove, ...]
    """Of the tag that was asked for: what it came to mean, the latest first."""


def images(connection: Connection, wanted: Filter, *, cursor: str = "", rows: int = limits.PAGE_ROWS) -> ImagePage:
    """The images that are wanted, from the cursor of another page on.

    Raises:
        InputError: the cursor is none that a page ended with.
    """
    wished = filtering.narrowed(connection, wanted)
    found = listing.latest(connection, wished, rows + 1, after=_parsed(cursor) if cursor else None)
    following = _cursor(found[rows - 1]) if len(found) > rows else ""
    return ImagePage(listing.summaries(connection, found[:rows]), following)


def _cursor(row: Any) -> str:  # noqa: ANN401 - a row of the query above
    position = (row.changed_at.timestamp(), row.artifact_id, row.repository_id)
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def _parsed(cursor: str) -> listing.Position:
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        at, artifact, repository = msgspec.json.decode(data, type=tuple[float, _RowNumber, _RowNumber])
        return listing.Position(dt.datetime.fromtimestamp(at, dt.UTC), artifact, repository)
    except (ValueError, OverflowError, OSError, binascii.Error) as error:
        raise InputError(
            f"{cursor[:60]!r} is no cursor", next_step="Take `next` of the page before; leave it out for the first."
        ) from error


def not_inspected(connection: Connection) -> int:
    """How many images in any repository have packages that nobody knows."""
    here = select(_PLACE.artifact_id).where(_PLACE.artifact_id == schema.artifact.c.id).exists()
    unknown = select(func.count()).select_from(schema.artifact).where(_SET.is_(None), here)
    return connection.scalar(unknown) or 0


def moves(connection: Connection, *, repository: str = "", rows: int = limits.PAGE_ROWS) -> tuple[TagMove, ...]:
    """Tags that came to mean another image, in the store or elsewhere, the latest first; at most `rows`."""
    condition = [filtering.inside(repository)] if repository else []
    found = [*_moved_elsewhere(connection, condition, rows), *_moved_here(connection, condition, rows)]
    return tuple(sorted(found, key=lambda one: one.at, reverse=True)[:rows])


def _moved_elsewhere(connection: Connection, condition: Sequence[ColumnElement[bool]], rows: int) -> list[TagMove]:
    of, before, after = schema.synced_tag_history.c, schema.artifact.alias().c, schema.artifact.alias().c
    query = (
        select(schema.repository.c.name, of.name.label("tag"), before.digest.label("before"), after.digest, of.set_at)
        .select_from(schema.synced_tag_history)
        .join(schema.repository, schema.repository.c.id == of.repository_id)
        .join(before.id.table, before.id == of.previous_id)
        .join(after.id.table, after.id == of.artifact_id, isouter=True)
        .where(*condition)
        .order_by(of.id.desc())
        .limit(rows)
    )
    return [TagMove(row.name, row.tag, row.before, row.digest or "", row.set_at) for row in connection.execute(query)]


def _moved_here(connection: Connection, condition: Sequence[ColumnElement[bool]], rows: int) -> list[TagMove]:
    of, before, after = schema.tag_history.c, schema.artifact.alias().c, schema.artifact.alias().c
    previous = func.lag(of.artifact_id).over(partition_by=(of.repository_id, of.name), order_by=of.id)
    same = (of.id, of.repository_id, of.name, of.artifact_id, of.visibility, of.set_at)
    steps = select(*same, previous.label("previous_id")).subquery()
    gone = steps.c.visibility == "gone"
    query = (
        select(
            schema.repository.c.name,
            steps.c.name.label("tag"),
            before.digest.label("before"),
            case((gone, ""), else_=after.digest).label("digest"),
            steps.c.set_at,
        )
        .select_from(steps)
        .join(schema.repository, schema.repository.c.id == steps.c.repository_id)
        .join(before.id.table, before.id == steps.c.previous_id)
        .join(after.id.table, after.id == steps.c.artifact_id)
        .where((steps.c.previous_id != steps.c.artifact_id) | gone, *condition)
        .order_by(steps.c.id.desc())
        .limit(rows)
    )
    return [TagMove(row.name, row.tag, row.before, row.digest, row.set_at) for row in connection.execute(query)]


def whereabouts(connection: Connection, name: str) -> Whereabouts:
    """Where the image lies that a digest, `NAME:TAG` or `NAME@DIGEST` means.

    Raises:
        InputError: the name is malformed.
        NotFoundError: there is no such tag.
    """
    if name.startswith(("sha256:", "sha512:")):
        digest, past = digests.parse(name), tuple[TagMove, ...]()
    else:
        _, digest = listing.named(connection, name)
        past = _past(connection, name)
    here = listing.places().where(schema.artifact.c.digest == digest)
    rows = connection.execute(here.order_by(_PLACE.changed_at.desc(), _PLACE.repository_id).limit(limits.LISTED_ROWS))
    return Whereabouts(listing.summaries(connection, rows.all()), _referrers(connection, digest), past)


def _past(connection: Connection, name: str) -> tuple[TagMove, ...]:
    place, tag, digest = synced.named(name) or ("", "", None)
    return history(connection, place, tag) if tag and digest is None else ()


def _referrers(connection: Connection, digest: Digest) -> tuple[Referrer, ...]:
    of, subject, seen = schema.synced_referrer.c, schema.artifact.alias().c, schema.synced_manifest.c
    query = (
        select(schema.artifact.c.digest, schema.artifact.c.media_type, seen.artifact_type)
        .select_from(schema.synced_referrer)
        .join(subject.id.table, subject.id == of.subject_id)
        .join(schema.artifact, schema.artifact.c.id == of.referrer_id)
        .join(schema.synced_manifest, seen.artifact_id == of.referrer_id, isouter=True)
        .where(subject.digest == digest)
        .order_by(seen.artifact_type, schema.artifact.c.digest)
        .limit(limits.LISTED_ROWS)
    )
    return tuple(Referrer(row.digest, row.media_type, row.artifact_type or "") for row in connection.execute(query))


def history(connection: Connection, place: str, tag: str) -> tuple[TagMove, ...]:
    """What a tag elsewhere came to mean, the latest first; `before` is empty of the first."""
    of, before, after = schema.synced_tag_history.c, schema.artifact.alias().c, schema.artifact.alias().c
    query = (
        select(before.digest.label("before"), after.digest, of.set_at)
        .select_from(schema.synced_tag_history)
        .join(schema.repository, schema.repository.c.id == of.repository_id)
        .join(before.id.table, before.id == of.previous_id, isouter=True)
        .join(after.id.table, after.id == of.artifact_id, isouter=True)
        .where(schema.repository.c.name == place, of.name == tag)
        .order_by(of.id.desc())
        .limit(limits.PAGE_ROWS)
    )
    return tuple(
        TagMove(place, tag, row.before or "", row.digest or "", row.set_at) for row in connection.execute(query)
    )
