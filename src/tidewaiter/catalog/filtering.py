"""What each field of a filter means: its condition, and which images alone can fit it."""

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, and_, false, func, or_, select, tuple_, union_all

from tidewaiter.catalog import narrowing, owners, schema
from tidewaiter.catalog.among import unindexed
from tidewaiter.catalog.narrowing import PLACE, Narrowed
from tidewaiter.catalog.reach.affected import spellings
from tidewaiter.catalog.records import SEVERITIES
from tidewaiter.core import limits

if TYPE_CHECKING:
    from tidewaiter.catalog.browsing import Filter

_REPOSITORY = schema.repository.c


def narrowed(connection: Connection, wanted: "Filter") -> Narrowed:
    """What fits every field of the filter. First what leaves few images, which the others need not be asked for."""
    found = narrowing.ALL
    if wanted.repository:
        found = found.also(narrowing.of_repositories(connection, inside(wanted.repository)))
    if wanted.owner:
        found = found.also(narrowing.of_repositories(connection, _owned(connection, wanted.owner)))
    if wanted.tag:
        pattern = wanted.tag
        stored, seen = (narrowing.like(of.c.name, pattern) for of in (schema.tag, schema.synced_tag))
        found = found.also(narrowing.tagged(connection, stored, seen))
    if wanted.search.strip():
        found = found.also(searched(connection, wanted.search))
    if wanted.base:
        found = found.also(_built_on(connection, wanted.base))
    if wanted.since is not None:
        found = found.also(Narrowed((PLACE.changed_at >= wanted.since,)))
    if wanted.unbuilt:
        build = schema.build.c
        built = select(build.id).where(build.artifact_id == PLACE.artifact_id)
        found = found.also(Narrowed((~narrowing.there(built),)))
    return found if found.images == frozenset() else _more(connection, wanted, found)


def _more(connection: Connection, wanted: "Filter", found: Narrowed) -> Narrowed:
    if wanted.package:
        found = found.also(_with_package(connection, wanted.package, found))
    if wanted.finding:
        found = found.also(_with_finding(connection, wanted.finding, found))
    if wanted.snowflakes:
        found = found.also(_alone(connection, found))
    if wanted.environment:
        found = found.also(_meant_for(connection, wanted.environment, found))
    if wanted.verdict:
        found = found.also(_decided(connection, wanted.verdict, wanted.environment, found))
    if wanted.running:
        found = found.also(_running(connection, found))
    return found


def inside(repository: str) -> ColumnElement[bool]:
    """Whether the repository is one of that name, or below it, or fits the pattern."""
    if not {"*", "?"}.isdisjoint(repository):
        return narrowing.like(_REPOSITORY.name, repository)
    name = repository.removesuffix("/")
    return or_(_REPOSITORY.name == name, _REPOSITORY.name.startswith(f"{name}/", autoescape=True))


def _with_finding(connection: Connection, finding: str, found: Narrowed) -> Narrowed:
    """Images with an advisory, or with one of a severity or a worse one."""
    member, of = schema.component_set_member.c, schema.finding.c
    if finding in SEVERITIES:
        wanted = of.severity.in_(SEVERITIES[: SEVERITIES.index(finding) + 1])
    else:
        alias = schema.advisory_alias.c
        wanted = of.advisory_id.in_(select(alias.advisory_id).where(alias.alias.in_(spellings(finding))))
    concerned = select(of.component_id).where(wanted)
    sets = select(member.component_set_id).distinct().where(member.component_id.in_(concerned))
    return narrowing.with_sets(connection, connection.scalars(sets).all(), found)


def _meant_for(connection: Connection, environment: str, found: Narrowed) -> Narrowed:
    """Images that were built or decided for the environment."""
    build, verdict = schema.build.c, schema.verdict.c
    built = select(build.artifact_id).where(build.environment == environment)
    # Both answers, which is all: so the index on answer and environment has it.
    said = select(verdict.artifact_id).where(verdict.verdict.in_(("allow", "deny")), verdict.environment == environment)
    condition = or_(
        narrowing.there(built.where(build.artifact_id == PLACE.artifact_id)),
        narrowing.there(
            select(verdict.id).where(verdict.artifact_id == PLACE.artifact_id, verdict.environment == environment)
        ),
    )
    every = union_all(built, said).subquery()
    return Narrowed((condition,), found.fewer(connection, select(every.c[0])))


def _alone(connection: Connection, found: Narrowed) -> Narrowed:
    """Images whose component set no other has."""
    of = schema.artifact.c
    sets = select(of.component_set_id).where(of.component_set_id.is_not(None)).group_by(of.component_set_id)
    return narrowing.with_sets(connection, connection.scalars(sets.having(func.count() == 1)).all(), found)


def _decided(connection: Connection, answer: str, environment: str, found: Narrowed) -> Narrowed:
    """Images of which the newest verdict, for an environment or for any, says so."""
    of, newer = schema.verdict.c, schema.verdict.alias().c
    same = (newer.artifact_id == of.artifact_id, newer.environment == of.environment)
    # The order in which `listing` takes the newest.
    behind = tuple_(newer.decided_at, newer.verdict, newer.id) > tuple_(of.decided_at, of.verdict, of.id)
    overruled = select(newer.id).where(*same, behind).exists()
    there = (of.verdict == answer, *((of.environment == environment,) if environment else ()))
    # Else SQLite goes through all verdicts with that answer, for each image.
    here = (unindexed(of.verdict) == answer, *there[1:])
    said = select(of.id).where(of.artifact_id == PLACE.artifact_id, *here, ~overruled)
    return Narrowed((narrowing.there(said),), found.fewer(connection, select(of.artifact_id).where(*there)))


def _with_package(connection: Connection, purl: str, found: Narrowed) -> Narrowed:
    """Images with the package; a purl without a version means every version, whatever its qualifiers."""
    of, member = schema.component.c, schema.component_set_member.c
    # As in `reach.affected`: ranges, so that the index on the purl answers.
    end = purl + ("@" if "@" in purl.rpartition("/")[2] else "A")
    numbers = union_all(
        select(of.id).where(of.purl == purl), select(of.id).where(and_(of.purl >= purl + "?", of.purl < end))
    )
    sets = select(member.component_set_id).distinct().where(member.component_id.in_(numbers))
    return narrowing.with_sets(connection, connection.scalars(sets).all(), found)


def _built_on(connection: Connection, base: str) -> Narrowed:
    build, of, made = schema.build.c, schema.base.c, schema.base_image.c
    if base.startswith(("sha256:", "sha512:")):
        named = select(made.base_id).where(made.digest == base)
    else:
        named = select(of.id).where(of.name == base)
    return narrowing.of_images(connection, select(build.artifact_id).where(build.base_id.in_(named)))


def _owned(connection: Connection, owner: str) -> ColumnElement[bool]:
    """Whether the owner of the repository, or of the nearest folder around it, is that one."""
    known = owners.load(connection, None).known
    said = {subject: name for (kind, subject), name in sorted(known.items()) if kind == "repository"}

    def below(subject: str) -> ColumnElement[bool]:
        return or_(_REPOSITORY.name == subject, _REPOSITORY.name.startswith(f"{subject}/", autoescape=True))

    parts: list[ColumnElement[bool]] = [
        and_(below(subject), *(~below(nearer) for nearer in said if nearer.startswith(f"{subject}/")))
        for subject, name in said.items()
        if name == owner
    ]
    return or_(false(), *parts)


def _running(connection: Connection, found: Narrowed) -> Narrowed:
    """Images that a workload runs, by their own digest or by that of an index that lists them."""
    period, child = schema.workload_period.c, schema.synced_child.c
    artifact, index = schema.artifact.c, schema.artifact.alias().c
    now = select(period.id).where(period.gone_at.is_(None))
    listed = select(child.child_id).join(index.id.table, index.id == child.parent_id)
    condition = or_(
        narrowing.there(now.where(period.digest == artifact.digest)),
        narrowing.there(
            listed.join(schema.workload_period, period.digest == index.digest).where(
                child.child_id == artifact.id, period.gone_at.is_(None)
            )
        ),
    )
    if found.is_narrow or connection.scalar(now.offset(narrowing.FEW).limit(1)) is not None:
        return Narrowed((condition,))
    every = union_all(
        select(artifact.id)
        .join(schema.workload_period, period.digest == artifact.digest)
        .where(period.gone_at.is_(None)),
        listed.join(schema.workload_period, period.digest == index.digest).where(period.gone_at.is_(None)),
    ).subquery()
    return Narrowed((condition,), narrowing.few(connection, select(every.c[0])))


def searched(connection: Connection, search: str) -> Narrowed:
    """Images whose name or tag contains the text, whose `NAME:TAG` it begins, or whose digest or commit it begins."""
    text = search.strip().lower()[: limits.SEARCH_CHARACTERS]
    artifact, build = schema.artifact.c, schema.build.c
    stored, seen = schema.tag.c.name, schema.synced_tag.c.name
    found = [
        narrowing.of_repositories(connection, narrowing.contains(_REPOSITORY.name, text)),
        narrowing.tagged(connection, narrowing.tag_contains(stored, text), narrowing.tag_contains(seen, text)),
        narrowing.of_images(connection, select(build.artifact_id).where(narrowing.begins(build.commit, text))),
    ]
    name, colon, rest = text.rpartition(":")
    if text.startswith(("sha256:", "sha512:")):
        named = select(artifact.id).where(narrowing.begins(artifact.digest, text))
        found.append(narrowing.of_images(connection, named))
    elif colon:
        here, there = (func.lower(of).startswith(rest, autoescape=True) for of in (stored, seen))
        called = func.lower(_REPOSITORY.name) == name
        places = narrowing.repositories(connection, called)
        place = Narrowed((called,)) if places is None else narrowing.in_repositories(connection, places)
        if place.images != frozenset():
            found.append(place.also(narrowing.tagged(connection, here, there, places)))
    else:
        named = select(artifact.id).where(narrowing.begins(artifact.digest, f"sha256:{text}"))
        found.append(narrowing.of_images(connection, named))
    return narrowing.any_of(found)
