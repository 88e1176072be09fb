"""From a thing to the images that contain it: one indexed query, whether it is a package or an advisory."""

from sqlalchemy import Connection, Select, and_, select, union_all

from tidewaiter.catalog import schema, synced
from tidewaiter.catalog.answers import Use
from tidewaiter.catalog.reach.affected import spellings
from tidewaiter.catalog.rows import CHUNK


def _uses() -> Select[tuple[int, int, str, str, str]]:
    place, member = schema.repository_artifact.c, schema.component_set_member.c
    return (
        select(
            place.repository_id,
            place.artifact_id,
            schema.repository.c.name,
            schema.artifact.c.digest,
            schema.component.c.purl,
        )
        .select_from(schema.component)
        .join(schema.component_set_member, member.component_id == schema.component.c.id)
        .join(schema.artifact, schema.artifact.c.component_set_id == member.component_set_id)
        .join(schema.repository_artifact, place.artifact_id == schema.artifact.c.id)
        .join(schema.repository, schema.repository.c.id == place.repository_id)
        .order_by(schema.repository.c.name, schema.artifact.c.digest, schema.component.c.purl)
    )


def _of_purl(purl: str) -> Select[tuple[int, int, str, str, str]]:
    """Images with this purl; one without a version means every version (and, with it, every qualifier)."""
    of = schema.component.c
    # Ranges instead of LIKE, so that the index on the purl answers. `?` is followed by `@`, and `@` by `A`.
    end = purl + ("@" if "@" in purl else "A")
    found = union_all(
        select(of.id).where(of.purl == purl), select(of.id).where(and_(of.purl >= purl + "?", of.purl < end))
    )
    return _uses().where(schema.component_set_member.c.component_id.in_(found))


def images_with(connection: Connection, thing: str) -> tuple[Use, ...]:
    """Images that contain the package `thing` (a purl), or a package that the advisory `thing` (or alias) touches."""
    query: Select[tuple[object, ...]]
    if thing.startswith("pkg:"):
        query = _of_purl(thing)
    else:
        finding, alias = schema.finding.c, schema.advisory_alias.c
        query = (
            _uses()
            .join(schema.finding, finding.component_id == schema.component.c.id)
            .join(schema.advisory, schema.advisory.c.id == finding.advisory_id)
            .join(schema.advisory_alias, alias.advisory_id == finding.advisory_id)
            .where(alias.alias.in_(spellings(thing)))
            .add_columns(schema.advisory.c.name.label("advisory"), finding.severity, finding.fixed_in)
        )
    rows = connection.execute(query).all()
    tags: dict[tuple[int, int], list[str]] = {}
    numbers = sorted({row.artifact_id for row in rows})
    of = schema.tag.c
    for start in range(0, len(numbers), CHUNK):
        named = select(of.repository_id, of.artifact_id, of.name).where(
            of.artifact_id.in_(numbers[start : start + CHUNK])
        )
        for tag in connection.execute(named.order_by(of.name)):
            tags.setdefault((tag.repository_id, tag.artifact_id), []).append(tag.name)
    for image, seen in synced.tags_of(connection, numbers).items():
        tags.setdefault(image, []).extend(one.name for one in seen)
    return tuple(
        Use(
            name=row.name,
            digest=row.digest,
            tags=tuple(tags.get((row.repository_id, row.artifact_id), ())),
            purl=row.purl,
            advisory=getattr(row, "advisory", ""),
            severity=getattr(row, "severity", ""),
            fixed_in=tuple(getattr(row, "fixed_in", ())),
        )
        for row in rows
    )
