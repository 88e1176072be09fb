"""Everything that is known of one image."""

from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from tidewaiter.advisories.finding import NotChecked
from tidewaiter.catalog import findings, schema
from tidewaiter.catalog.answers import (
    AttachmentAnswer,
    AttestationAnswer,
    BuildAnswer,
    ComponentAnswer,
    ConfigAnswer,
    FindingAnswer,
    ImageRecord,
    LayerAnswer,
    SignatureAnswer,
)
from tidewaiter.catalog.listing import place_of, summaries
from tidewaiter.catalog.records import SEVERITIES, CiRun, Material, VerdictDocument
from tidewaiter.catalog.rows import CHUNK, AnyRow
from tidewaiter.core.errors import NotFoundError
from tidewaiter.oci.digest import Digest
from tidewaiter.signing.predicates import SIGNATURE

_BUILDS = 20


def image(connection: Connection, digest: Digest, repository: str | None = None) -> ImageRecord:
    """The image in the repository, or in the one that it was last put into; raises `NotFoundError`."""
    place = place_of(connection, digest, repository)
    if place is None:
        name = f"{repository}@{digest}" if repository else digest
        raise NotFoundError(
            f"the catalog has no image {name}",
            next_step="Look at the list of images; `tidewaiter ci PROJECT` records a new one.",
            code="image_unknown",
        )
    artifact = connection.execute(select(schema.artifact).where(schema.artifact.c.id == place.artifact_id)).one()
    summary = summaries(connection, [place])[0]
    components = _components(connection, place.artifact_id, place.component_set_id)
    return ImageRecord(
        summary=summary,
        media_type=artifact.media_type,
        created=artifact.created,
        inspected=artifact.facts is not None,
        config=_config(artifact.facts or {}),
        verdicts=_verdicts(connection, place.artifact_id, summary.environment),
        findings=_findings(connection, place.component_set_id) if summary.scan else (),
        not_checked=_not_checked(connection, place.component_set_id),
        components=components,
        layers=_layers(connection, place.artifact_id),
        builds=_builds(connection, place.artifact_id, place.repository_id),
        signatures=_signatures(connection, place.artifact_id),
        attachments=_attachments(connection, place.artifact_id),
        attestations=_attestations(connection, place.artifact_id),
    )


def _config(facts: dict[str, Any]) -> ConfigAnswer:
    system = facts.get("operating_system") or {}
    programs = facts.get("programs") or []
    return msgspec.convert(
        {
            **facts,
            "operating_system": system.get("name") or " ".join(filter(None, (system.get("id"), system.get("version")))),
            "programs": [f"{program['path']} ({program['kind'].replace('_', ' ')})" for program in programs],
        },
        ConfigAnswer,
    )


def _verdicts(connection: Connection, artifact: int, environment: str) -> tuple[VerdictDocument, ...]:
    of = schema.verdict.c
    ordered = select(of.environment, of.document).where(of.artifact_id == artifact)
    newest: dict[str, VerdictDocument] = {}
    for row in connection.execute(ordered.order_by(of.decided_at.desc(), of.verdict.desc(), of.id.desc())):
        if row.environment not in newest:
            newest[row.environment] = msgspec.convert(row.document, VerdictDocument)
    return tuple(sorted(newest.values(), key=lambda document: document.environment != environment))


def _findings(connection: Connection, members: int) -> tuple[FindingAnswer, ...]:
    of, component, advisory = schema.finding.c, schema.component.c, schema.advisory.c
    inside = schema.component_set_member.c
    rows = connection.execute(
        select(
            of.advisory_id,
            advisory.name.label("advisory"),
            advisory.published,
            advisory.modified,
            component.purl,
            component.name,
            component.version,
            of.severity,
            of.score,
            of.vector,
            of.fixed_in,
            of.found_as,
        )
        .join(schema.component, component.id == of.component_id)
        .join(schema.advisory, advisory.id == of.advisory_id)
        .join(schema.component_set_member, inside.component_id == of.component_id)
        .where(inside.component_set_id == members)
    ).all()
    aliases = _aliases(connection, {row.advisory_id for row in rows})
    found = [
        FindingAnswer(
            advisory=row.advisory,
            aliases=tuple(alias for alias in aliases.get(row.advisory_id, ()) if alias != row.advisory),
            purl=row.purl,
            name=row.name,
            version=row.version,
            severity=row.severity,
            score=row.score,
            vector=row.vector,
            fixed_in=tuple(row.fixed_in),
            found_as=row.found_as,
            published=row.published,
            modified=row.modified,
        )
        for row in rows
    ]
    return tuple(
        sorted(found, key=lambda one: (SEVERITIES.index(one.severity), -(one.score or 0.0), one.name, one.advisory))
    )


def _aliases(connection: Connection, advisories: set[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    of = schema.advisory_alias.c
    wanted = sorted(advisories)
    for start in range(0, len(wanted), CHUNK):
        query = select(of.advisory_id, of.alias).where(of.advisory_id.in_(wanted[start : start + CHUNK]))
        for row in connection.execute(query.order_by(of.alias)):
            found.setdefault(row.advisory_id, []).append(row.alias)
    return found


def _not_checked(connection: Connection, members: int | None) -> tuple[NotChecked, ...]:
    of = schema.scan.c
    query = select(of.not_checked, of.scanned_at).where(of.component_set_id == members)
    found = connection.execute(query.order_by(of.scanned_at.desc(), of.id.desc()).limit(1)).one_or_none()
    if found is None:
        return ()
    known = findings.matching(connection)
    if known is None or found.scanned_at > known.matched_at:
        return msgspec.convert(found.not_checked, tuple[NotChecked, ...])
    component, gap, inside = schema.component.c, schema.component_gap.c, schema.component_set_member.c
    rows = connection.execute(
        select(component.purl, component.name, component.version, component.ecosystem, gap.reason, gap.advisories)
        .join(schema.component_gap, gap.component_id == component.id)
        .join(schema.component_set_member, inside.component_id == component.id)
        .where(inside.component_set_id == members)
        .order_by(component.purl, gap.reason)
    )
    return tuple(msgspec.convert(row, NotChecked, from_attributes=True) for row in rows)


def _components(connection: Connection, artifact: int, members: int | None) -> tuple[ComponentAnswer, ...]:
    component, inside = schema.component.c, schema.component_set_member.c
    places = _places(connection, artifact)
    counts: dict[int, int] = {
        row.component_id: row.findings
        for row in connection.execute(
            select(schema.finding.c.component_id, func.count().label("findings"))
            .join(schema.component_set_member, inside.component_id == schema.finding.c.component_id)
            .where(inside.component_set_id == members)
            .group_by(schema.finding.c.component_id)
        )
    }
    rows = connection.execute(
        select(schema.component)
        .join(schema.component_set_member, inside.component_id == component.id)
        .where(inside.component_set_id == members)
        .order_by(component.name, component.purl)
    )
    found = []
    for row in rows:
        place = places.get(row.id)
        found.append(
            ComponentAnswer(
                purl=row.purl,
                kind=row.kind,
                ecosystem=row.ecosystem,
                name=row.name,
                version=row.version,
                licenses=tuple(place.licenses if place else row.licenses),
                location=place.location if place else "",
                layer=place.diff_id if place else "",
                findings=counts.get(row.id, 0),
            )
        )
    return tuple(found)


def _places(connection: Connection, artifact: int) -> dict[int, AnyRow]:
    """By component: where the uppermost layer that holds it says that it is."""
    at, stack = schema.layer_component.c, schema.artifact_layer.c
    rows = connection.execute(
        select(at.component_id, at.location, at.licenses, schema.layer.c.diff_id)
        .join(schema.artifact_layer, stack.layer_id == at.layer_id)
        .join(schema.layer, schema.layer.c.id == at.layer_id)
        .where(stack.artifact_id == artifact)
        .order_by(stack.position)
    )
    return {row.component_id: row for row in rows}


def _layers(connection: Connection, artifact: int) -> tuple[LayerAnswer, ...]:
    stack, layer = schema.artifact_layer.c, schema.layer.c
    other = schema.artifact_layer.alias()
    sharing = select(func.count(other.c.artifact_id.distinct())).where(other.c.layer_id == layer.id).scalar_subquery()
    rows = connection.execute(
        select(schema.layer, stack.kind, stack.title, stack.contents, sharing.label("images"))
        .join(schema.artifact_layer, stack.layer_id == layer.id)
        .where(stack.artifact_id == artifact)
        .order_by(stack.position)
    )
    return tuple(
        LayerAnswer(
            digest=row.digest,
            diff_id=row.diff_id,
            size=row.size,
            unpacked_size=row.unpacked_size,
            files=row.files,
            kind=row.kind,
            title=row.title,
            contents=tuple(row.contents),
            images=row.images,
        )
        for row in rows
    )


def _builds(connection: Connection, artifact: int, repository: int) -> tuple[BuildAnswer, ...]:
    of = schema.build.c
    rows = connection.execute(
        select(schema.build, schema.base.c.name.label("base_name"))
        .join(schema.base, schema.base.c.id == of.base_id, isouter=True)
        .where(of.artifact_id == artifact, of.repository_id == repository)
        .order_by(of.finished.desc(), of.id.desc())
        .limit(_BUILDS)
    )
    return tuple(
        BuildAnswer(
            source=row.source,
            commit=row.commit,
            dirty=row.dirty,
            branch=row.branch,
            pipeline_run=row.pipeline_run,
            ci=None if row.ci is None else msgspec.convert(row.ci, CiRun),
            builder=row.builder,
            environment=row.environment,
            purpose=row.purpose,
            base_name=row.base_name or "",
            base_lock=row.base_lock or "",
            python_lock=row.python_lock or "",
            materials=msgspec.convert(row.materials, tuple[Material, ...]),
            reused_layers=row.reused_layers,
            built_layers=row.built_layers,
            started=row.started,
            finished=row.finished,
            seconds=row.seconds,
        )
        for row in rows
    )


def _signatures(connection: Connection, artifact: int) -> tuple[SignatureAnswer, ...]:
    of = schema.signature.c
    query = select(of.key_fingerprint, of.builder, of.format, of.manifest_digest, of.created)
    rows = connection.execute(query.where(of.artifact_id == artifact).order_by(of.created.desc(), of.id.desc()))
    return tuple(SignatureAnswer(**row._mapping) for row in rows)  # noqa: SLF001 - public in spite of its name


def _attestations(connection: Connection, artifact: int) -> tuple[AttestationAnswer, ...]:
    of = schema.attestation.c
    columns = [of[name] for name in AttestationAnswer.__struct_fields__]
    query = select(*columns).where(of.artifact_id == artifact, of.predicate_type != SIGNATURE)
    rows = connection.execute(query.order_by(of.created.desc(), of.id.desc()))
    return tuple(AttestationAnswer(**row._mapping) for row in rows)  # noqa: SLF001 - public in spite of its name


def _attachments(connection: Connection, artifact: int) -> tuple[AttachmentAnswer, ...]:
    """The newest document of each kind."""
    of = schema.attachment.c
    query = select(of.kind, of.media_type, of.blob_digest, of.size, of.created).where(of.artifact_id == artifact)
    rows = connection.execute(query.order_by(of.created, of.id))
    newest = {row.kind: AttachmentAnswer(**row._mapping) for row in rows}  # noqa: SLF001 - public in spite of its name
    return tuple(newest[kind] for kind in sorted(newest))
