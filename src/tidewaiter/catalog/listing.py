"""The list of images: a page of them, and the summary of each in a fixed number of queries."""

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnCollection, ColumnElement, Connection, Select, and_, func, or_, select

from tidewaiter.advisories.severity import Level
from tidewaiter.catalog import filtering, findings, narrowing, schema, synced
from tidewaiter.catalog.among import among
from tidewaiter.catalog.answers import (
    AdvisoryAge,
    ImageList,
    ImageSummary,
    ScanSummary,
    TagAnswer,
    VerdictSummary,
)
from tidewaiter.catalog.narrowing import Narrowed
from tidewaiter.catalog.records import SEVERITIES, Visibility
from tidewaiter.catalog.rows import AnyRow
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import parse_store

_PLACE = schema.repository_artifact.c
_Columns = ColumnCollection[str, ColumnElement[Any]]


class Position(NamedTuple):
    """Where an image in a repository stands in a list."""

    changed_at: dt.datetime
    artifact: int
    repository: int


def images(connection: Connection, *, search: str = "", page: int = 1, rows: int = limits.PAGE_ROWS) -> ImageList:
    """Page `page` (from 1) of the images that match; a page past the end is the last one."""
    wanted = filtering.searched(connection, search) if search.strip() else narrowing.ALL
    total = 0
    if not search.strip():
        total = connection.scalar(select(func.count()).select_from(schema.repository_artifact)) or 0
    elif wanted.images != frozenset():
        fitting = places().where(*wanted.conditions)
        if wanted.images is not None:
            fitting = fitting.where(among(_PLACE.artifact_id, wanted.images))
        total = connection.scalar(select(func.count()).select_from(fitting.subquery())) or 0
    pages = max(1, -(-total // rows))
    page = min(max(1, page), pages)
    found: Sequence[AnyRow] = []
    if total:
        found = connection.execute(_newest(wanted)[0].offset((page - 1) * rows).limit(rows)).all()
    return ImageList(items=summaries(connection, found), total=total, page=page, pages=pages)


def latest(connection: Connection, wanted: Narrowed, rows: int, *, after: Position | None = None) -> Sequence[AnyRow]:
    """The first `rows` places of images that are wanted, the latest change first; those that follow `after`."""
    query, of = _newest(wanted)
    if after is not None:
        same = or_(
            of.artifact_id < after.artifact,
            and_(of.artifact_id == after.artifact, of.repository_id > after.repository),
        )
        # The first condition says nothing new, but an index can answer it.
        query = query.where(of.changed_at <= after.changed_at, or_(of.changed_at < after.changed_at, same))
    return [] if wanted.images == frozenset() else connection.execute(query.limit(rows)).all()


def _newest(wanted: Narrowed) -> tuple[Select[*tuple[Any, ...]], _Columns]:
    """Places of images that are wanted, the latest change first, and the columns that this order goes by."""
    query = places().where(*wanted.conditions).add_columns(_PLACE.changed_at)
    of: _Columns = _PLACE
    if wanted.images is not None:
        # First the few, all of them: with an offset no database goes through the latest of all images instead.
        few = query.where(among(_PLACE.artifact_id, wanted.images)).offset(0).subquery()
        query, of = select(few), few.c
    return query.order_by(of.changed_at.desc(), of.artifact_id.desc(), of.repository_id), of


def places() -> Select[*tuple[Any, ...]]:
    artifact = schema.artifact.c
    return (
        select(
            _PLACE.repository_id,
            _PLACE.artifact_id,
            schema.repository.c.name,
            artifact.digest,
            artifact.size,
            artifact.component_set_id,
        )
        .join(schema.repository, schema.repository.c.id == _PLACE.repository_id)
        .join(schema.artifact, artifact.id == _PLACE.artifact_id)
    )


def place_of(connection: Connection, digest: str, repository: str | None) -> AnyRow | None:
    """The row that `summaries` takes for one image; its latest repository when none is named."""
    query = places().where(schema.artifact.c.digest == digest)
    if repository is not None:
        query = query.where(schema.repository.c.name == repository)
    newest = query.order_by(_PLACE.changed_at.desc(), _PLACE.repository_id)
    return connection.execute(newest.limit(1)).one_or_none()


def summaries(connection: Connection, places: Sequence[AnyRow]) -> tuple[ImageSummary, ...]:
    """Summaries of images in repositories, in the order given."""
    if not places:
        return ()
    artifacts = {place.artifact_id for place in places}
    tags = _tags(connection, artifacts)
    builds = _builds(connection, artifacts)
    verdicts = _verdicts(connection, artifacts)
    scans = _scans(connection, {place.component_set_id for place in places} - {None})
    signers = _signers(connection, artifacts)
    elsewhere = synced.tags_of(connection, artifacts)
    found = []
    for place in places:
        build = builds.get((place.repository_id, place.artifact_id))
        decided = verdicts.get(place.artifact_id, [])
        environment = build.environment if build else decided[0].environment if decided else ""
        found.append(
            ImageSummary(
                name=place.name,
                digest=place.digest,
                tags=tuple(tags.get((place.repository_id, place.artifact_id), ())),
                size=place.size,
                signed_by=tuple(signers.get(place.artifact_id, ())),
                environment=environment,
                verdict=next((one for one in decided if one.environment == environment), None),
                scan=scans.get(place.component_set_id),
                built=build.finished if build else None,
                commit=build.commit if build else "",
                dirty=bool(build and build.dirty),
                synced=tuple(elsewhere.get((place.repository_id, place.artifact_id), ())),
            )
        )
    return tuple(found)


def _tags(connection: Connection, artifacts: Collection[int]) -> dict[tuple[int, int], list[TagAnswer]]:
    found: dict[tuple[int, int], list[TagAnswer]] = defaultdict(list)
    query = select(schema.tag).where(among(schema.tag.c.artifact_id, artifacts)).order_by(schema.tag.c.name)
    for row in connection.execute(query).all():
        found[row.repository_id, row.artifact_id].append(TagAnswer(row.name, row.visibility, row.set_at))
    return found


def _builds(connection: Connection, artifacts: Collection[int]) -> dict[tuple[int, int], AnyRow]:
    of = schema.build.c
    query = select(of.repository_id, of.artifact_id, of.environment, of.finished, of.commit, of.dirty)
    ordered = query.where(among(of.artifact_id, artifacts)).order_by(of.finished, of.id)
    return {(row.repository_id, row.artifact_id): row for row in connection.execute(ordered)}


def _verdicts(connection: Connection, artifacts: Collection[int]) -> dict[int, list[VerdictSummary]]:
    """The newest of each environment, newest first."""
    of = schema.verdict.c
    ranked = (
        select(
            of.artifact_id,
            of.environment,
            of.verdict,
            of.decided_at,
            of.valid_until,
            func.row_number()
            .over(
                partition_by=(of.artifact_id, of.environment),
                order_by=(of.decided_at.desc(), of.verdict.desc(), of.id.desc()),
            )
            .label("rank"),
        )
        .where(among(of.artifact_id, artifacts))
        .subquery()
    )
    found: dict[int, list[VerdictSummary]] = defaultdict(list)
    query = select(ranked).where(ranked.c.rank == 1).order_by(ranked.c.decided_at.desc())
    for row in connection.execute(query).all():
        found[row.artifact_id].append(VerdictSummary(row.environment, row.verdict, row.decided_at, row.valid_until))
    return found


def _scans(connection: Connection, sets: Collection[int]) -> dict[int, ScanSummary]:
    of = schema.scan.c
    newest = connection.execute(
        select(of.component_set_id, of.advisories_revision, of.advisories_as_of, of.scanned_at, of.not_checked)
        .where(among(of.component_set_id, sets))
        .order_by(of.scanned_at, of.id)
    ).all()
    if not newest:
        return {}
    member = schema.component_set_member.c
    counted: dict[int, dict[str, int]] = defaultdict(dict)
    for row in connection.execute(
        select(member.component_set_id, schema.finding.c.severity, func.count().label("findings"))
        .join(schema.finding, schema.finding.c.component_id == member.component_id)
        .where(among(member.component_set_id, sets))
        .group_by(member.component_set_id, schema.finding.c.severity)
    ):
        counted[row.component_set_id][row.severity] = row.findings
    scans = {
        row.component_set_id: ScanSummary(
            revision=row.advisories_revision,
            as_of=row.advisories_as_of,
            scanned_at=row.scanned_at,
            counts=_worst_first(counted[row.component_set_id]),
            not_checked=len(row.not_checked),
        )
        for row in newest
    }
    return {**scans, **_matched(connection, scans)}


def _matched(connection: Connection, scans: Mapping[int, ScanSummary]) -> dict[int, ScanSummary]:
    """Summaries of those whose packages were matched anew, with all of the catalog, after they were scanned."""
    known = findings.matching(connection)
    older = {key: scan for key, scan in scans.items() if known is not None and scan.scanned_at <= known.matched_at}
    if known is None or not older:
        return {}
    member, gap = schema.component_set_member.c, schema.component_gap.c
    ecosystems: dict[int, set[str]] = defaultdict(set)
    for row in connection.execute(
        select(member.component_set_id, schema.component.c.ecosystem)
        .distinct()
        .join(schema.component, schema.component.c.id == member.component_id)
        .where(among(member.component_set_id, older))
    ):
        ecosystems[row.component_set_id].add(row.ecosystem)
    gaps: dict[int, int] = {
        row.component_set_id: row.gaps
        for row in connection.execute(
            select(member.component_set_id, func.count().label("gaps"))
            .join(schema.component_gap, gap.component_id == member.component_id)
            .where(among(member.component_set_id, older))
            .group_by(member.component_set_id)
        )
    }
    return {
        key: ScanSummary(
            revision=known.revision,
            as_of=known.as_of(ecosystems[key]),
            scanned_at=known.matched_at,
            counts=scan.counts,
            not_checked=gaps.get(key, 0),
        )
        for key, scan in older.items()
    }


def _worst_first(counts: dict[str, int]) -> dict[Level, int]:
    return {severity: counts[severity] for severity in SEVERITIES if severity in counts}


def _signers(connection: Connection, artifacts: Collection[int]) -> dict[int, list[str]]:
    of = schema.signature.c
    query = select(of.artifact_id, of.builder).distinct().where(among(of.artifact_id, artifacts))
    found: dict[int, list[str]] = defaultdict(list)
    for row in connection.execute(query.order_by(of.builder)):
        found[row.artifact_id].append(row.builder)
    return found


class StandingTag(msgspec.Struct, frozen=True):
    """A tag, what it says of its image, and the environment that the image is meant for; empty when none is known."""

    repository: str
    name: str
    digest: str
    visibility: Visibility
    environment: str


def standing_tags(connection: Connection) -> tuple[StandingTag, ...]:
    """Every tag, by component set, so that images with the same packages follow one another.

    Its environment is that of the verdict that cleared it, else of the image's newest build, else of its last verdict.
    """
    tag, artifact, cleared, built = schema.tag.c, schema.artifact.c, schema.verdict.c, schema.build.c
    decided = {
        row.artifact_id: row.environment
        for row in connection.execute(
            select(cleared.artifact_id, cleared.environment).order_by(cleared.decided_at, cleared.id)
        )
    }
    meant = {
        (row.repository_id, row.artifact_id): row.environment
        for row in connection.execute(
            select(built.repository_id, built.artifact_id, built.environment).order_by(built.finished, built.id)
        )
    }
    query = (
        select(
            tag.repository_id,
            tag.artifact_id,
            tag.name,
            tag.visibility,
            artifact.digest,
            schema.repository.c.name.label("repository"),
            cleared.environment,
        )
        .join(schema.repository, schema.repository.c.id == tag.repository_id)
        .join(schema.artifact, artifact.id == tag.artifact_id)
        .join(schema.verdict, cleared.id == tag.verdict_id, isouter=True)
        .order_by(artifact.component_set_id, schema.repository.c.name, tag.name)
    )
    return tuple(
        StandingTag(
            repository=row.repository,
            name=row.name,
            digest=row.digest,
            visibility=row.visibility,
            environment=row.environment
            or meant.get((row.repository_id, row.artifact_id), "")
            or decided.get(row.artifact_id, ""),
        )
        for row in connection.execute(query)
    )


def advisory_age(connection: Connection) -> AdvisoryAge | None:
    """Which advisories the newest scan of any image used; None before the first scan."""
    of = schema.scan.c
    query = select(of.advisories_revision, of.advisories_as_of, of.scanned_at).order_by(of.scanned_at.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    known = findings.matching(connection)
    if known is not None and (row is None or row.scanned_at <= known.matched_at):
        used = connection.scalars(select(schema.component.c.ecosystem).distinct())
        return AdvisoryAge(known.revision, known.as_of(used), known.matched_at)
    return row and AdvisoryAge(row.advisories_revision, row.advisories_as_of, row.scanned_at)


def resolve_tag(connection: Connection, repository: str, name: str) -> str | None:
    """Digest of the image that the tag means now."""
    query = (
        select(schema.artifact.c.digest)
        .join(schema.tag, schema.tag.c.artifact_id == schema.artifact.c.id)
        .join(schema.repository, schema.repository.c.id == schema.tag.c.repository_id)
        .where(schema.repository.c.name == repository, schema.tag.c.name == name)
    )
    return connection.scalar(query)


def tagged(connection: Connection, repository: str, name: str) -> Digest:
    """Digest of the image that the tag means now; raises `NotFoundError`."""
    found = resolve_tag(connection, repository, name)
    if found is None:
        raise NotFoundError(
            f"the catalog has no image {repository}:{name}",
            next_step="Look at the list of images for its tags.",
            code="image_unknown",
        )
    return digests.parse(found)


def named(connection: Connection, name: str) -> tuple[str, Digest]:
    """Repository and digest of the image that `NAME:TAG`, `NAME@DIGEST` or `NAME` means, in the store or elsewhere.

    Raises:
        InputError: the name is malformed.
        NotFoundError: there is no such tag.
    """
    try:
        reference = parse_store(name)
    except InputError:
        # As HOST:PORT/REPO, whose name no image of the store can have.
        if synced.named(name) is None:
            raise
        return _elsewhere(connection, name)
    if reference.digest is not None:
        return reference.name, reference.digest
    found = resolve_tag(connection, reference.name, reference.tag or "latest")
    if found is None and synced.named(name) is not None:
        return _elsewhere(connection, name)
    return reference.name, tagged(connection, reference.name, reference.tag or "latest")


def _elsewhere(connection: Connection, name: str) -> tuple[str, Digest]:
    place, tag, digest = synced.named(name) or ("", "", None)
    digest = digest or synced.resolve_image(connection, place, tag)
    if digest is None:
        raise NotFoundError(
            f"the catalog has seen no image {name[:200]}",
            next_step="`tidewaiter catalog list` shows which it knows; `tidewaiter catalog sync PLACE` takes in more.",
            code="image_unknown",
        )
    return place, digest


def tag_history(connection: Connection, repository: str, name: str) -> tuple[tuple[str, str, dt.datetime], ...]:
    """What the tag said, newest first: digest, visibility, since when."""
    of = schema.tag_history.c
    query = (
        select(schema.artifact.c.digest, of.visibility, of.set_at)
        .join(schema.artifact, schema.artifact.c.id == of.artifact_id)
        .join(schema.repository, schema.repository.c.id == of.repository_id)
        .where(schema.repository.c.name == repository, of.name == name)
        .order_by(of.id.desc())
    )
    return tuple((row.digest, row.visibility, row.set_at) for row in connection.execute(query))
