"""Recording what a pipeline step did. Each function is called inside one transaction and may be called again.

Recording the same thing twice changes nothing. Text that comes out of images is cut and cleaned, never refused:
an odd file name must not keep an image out of the catalog that governs it.
"""

import datetime as dt
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.catalog import schema
from tidewaiter.catalog.records import (
    AttachmentRecord,
    BuildRecord,
    BuiltLayer,
    PullRecord,
    ScanRecord,
    SignatureRecord,
)
from tidewaiter.catalog.rows import add_missing, number_of, numbers, put, storable, storable_purl, storable_tree
from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci.digest import Digest, of
from tidewaiter.oci.manifest import MANIFEST
from tidewaiter.oci.reference import check_repository


def audit(connection: Connection, at: dt.datetime, action: str, subject: str, detail: dict[str, Any]) -> None:
    """Append one event to the audit log."""
    row = {"at": at, "action": action, "subject": storable(subject), "detail": storable_tree(detail)}
    connection.execute(insert(schema.audit_event), row)


def artifact_number(connection: Connection, digest: str) -> int:
    """Row number of a recorded image; raises `NotFoundError`."""
    found = connection.scalar(select(schema.artifact.c.id).where(schema.artifact.c.digest == digest))
    if found is None:
        raise NotFoundError(
            f"the catalog does not know the image {digest}",
            next_step="Run `tidewaiter ci PROJECT`, which records the image and everything about it.",
            code="image_unknown",
        )
    return int(found)


def place(connection: Connection, repository: str, artifact: int, at: dt.datetime) -> int:
    """Put the image into the repository, now its latest change; row number of the repository."""
    number = number_of(connection, schema.repository, {"name": check_repository(repository)})
    row = {"repository_id": number, "artifact_id": artifact, "changed_at": at}
    put(connection, schema.repository_artifact, ("repository_id", "artifact_id"), [row])
    return number


def _artifact(connection: Connection, digest: Digest, size: int, at: dt.datetime, media_type: str) -> int:
    rest = {"media_type": media_type, "size": size, "recorded_at": at}
    return number_of(connection, schema.artifact, {"digest": digest}, rest)


def _layer_rows(connection: Connection, rows: list[dict[str, Any]]) -> dict[str, int]:
    """Row numbers of layers by digest; unknown sizes of known layers are filled in."""
    add_missing(connection, schema.layer, rows)
    for row in rows:
        if row["unpacked_size"]:
            connection.execute(
                update(schema.layer)
                .where(schema.layer.c.digest == row["digest"], schema.layer.c.unpacked_size == 0)
                .values(unpacked_size=row["unpacked_size"], files=row["files"])
            )
    return numbers(connection, schema.layer.c.digest, (row["digest"] for row in rows))


def _built_layers(connection: Connection, artifact: int, layers: tuple[BuiltLayer, ...]) -> None:
    put(connection, schema.artifact_layer, ("artifact_id", "position"), _members_of(connection, artifact, layers))


def _add_layers(connection: Connection, artifact: int, layers: tuple[BuiltLayer, ...]) -> None:
    """As `_built_layers`, but what a build recorded of the same image stays."""
    add_missing(connection, schema.artifact_layer, _members_of(connection, artifact, layers))


def _members_of(connection: Connection, artifact: int, layers: tuple[BuiltLayer, ...]) -> list[dict[str, Any]]:
    found = _layer_rows(
        connection,
        [
            {
                "digest": layer.digest,
                "diff_id": layer.diff_id,
                "size": layer.size,
                "unpacked_size": layer.unpacked_size,
                "files": 0,
            }
            for layer in layers
        ],
    )
    return [
        {
            "artifact_id": artifact,
            "position": position,
            "layer_id": found[layer.digest],
            "kind": layer.kind,
            "title": storable(layer.title),
            "contents": storable_tree(layer.contents),
        }
        for position, layer in enumerate(layers)
    ]


def _build_key(record: BuildRecord) -> Digest:
    """Name of this run of this build: the same record has the same name, a rebuild another one."""
    identity = (
        record.repository,
        record.digest,
        record.commit,
        record.dirty,
        record.builder,
        record.pipeline_run,
        clock.rfc3339(record.started),
    )
    return of(msgspec.json.encode(identity))


def _base(connection: Connection, record: BuildRecord, at: dt.datetime) -> int | None:
    """Row number of the base of a build, whose own layers are recorded as those of an image."""
    made_from = record.base_lock or record.base_digest
    if not record.base_name or made_from is None:
        return None
    of, name = schema.base.c, storable(record.base_name)
    known = None
    if record.base_lock is None:
        image = schema.base_image.c
        same = select(of.id).join(schema.base_image, image.base_id == of.id)
        same = same.where(of.name == name, image.digest == record.base_digest)
        known = connection.scalar(same.order_by(of.id).limit(1))
    number = known or number_of(connection, schema.base, {"name": name, "lock_digest": made_from})
    if record.base_digest is not None:
        put(connection, schema.base_image, ("base_id",), [{"base_id": number, "digest": record.base_digest}])
        below = record.layers[: record.base_layers]
        lower = _artifact(connection, record.base_digest, sum(layer.size for layer in below), at, record.media_type)
        _add_layers(connection, lower, below)
    return number


def build(connection: Connection, record: BuildRecord, at: dt.datetime) -> None:
    """Record a finished build with its lineage: source, inputs, base, layers."""
    key = _build_key(record)
    if connection.scalar(select(schema.build.c.id).where(schema.build.c.key == key)) is not None:
        return
    size = sum(layer.size for layer in record.layers)
    artifact = _artifact(connection, record.digest, size, at, record.media_type)
    _built_layers(connection, artifact, record.layers)
    if record.created is not None:
        unset = (schema.artifact.c.id == artifact) & schema.artifact.c.created.is_(None)
        connection.execute(update(schema.artifact).where(unset).values(created=record.created))
    repository = place(connection, record.repository, artifact, at)
    base = _base(connection, record, at)
    row = {
        "key": key,
        "artifact_id": artifact,
        "repository_id": repository,
        "base_id": base,
        "environment": record.environment,
        "purpose": record.purpose,
        "source": storable(record.source),
        "commit": storable(record.commit),
        "dirty": record.dirty,
        "branch": storable(record.branch),
        "pipeline_run": storable(record.pipeline_run),
        "builder": storable(record.builder),
        "base_lock": record.base_lock,
        "python_lock": record.python_lock,
        "materials": storable_tree([msgspec.to_builtins(material) for material in record.materials]),
        "reused_layers": record.reused_layers,
        "built_layers": record.built_layers,
        "started": record.started,
        "finished": record.finished,
        "seconds": record.seconds,
    }
    add_missing(connection, schema.build, [row])
    audit(connection, at, "build", record.digest, {"repository": record.repository, "commit": record.commit})


def pull(connection: Connection, record: PullRecord, at: dt.datetime) -> None:
    """Record an image that was fetched from elsewhere; its tag is set beside this."""
    size = sum(layer.size for layer in record.layers)
    artifact = _artifact(connection, record.digest, size, at, record.media_type)
    _add_layers(connection, artifact, record.layers)
    if record.created is not None:
        unset = (schema.artifact.c.id == artifact) & schema.artifact.c.created.is_(None)
        connection.execute(update(schema.artifact).where(unset).values(created=record.created))
    place(connection, record.repository, artifact, at)
    audit(connection, at, "pull", record.digest, {"repository": record.repository, "source": record.source})


def facts(connection: Connection, found: ImageFacts, repository: str | None, at: dt.datetime) -> None:
    """Record what inspection found: layers, components, configuration."""
    artifact = _artifact(connection, found.digest, found.size, at, MANIFEST)
    if repository is not None:
        known = connection.scalar(
            select(schema.repository_artifact.c.artifact_id)
            .join(schema.repository)
            .where(schema.repository.c.name == repository, schema.repository_artifact.c.artifact_id == artifact)
        )
        if known is None:
            place(connection, repository, artifact, at)
    layers = _layer_rows(
        connection,
        [
            {
                "digest": layer.digest,
                "diff_id": layer.diff_id,
                "size": layer.size,
                "unpacked_size": layer.unpacked_size,
                "files": layer.files,
            }
            for layer in found.layers
        ],
    )
    add_missing(
        connection,
        schema.artifact_layer,
        [
            {
                "artifact_id": artifact,
                "position": position,
                "layer_id": layers[layer.digest],
                "kind": "",
                "title": storable(layer.created_by),
                "contents": [],
            }
            for position, layer in enumerate(found.layers)
        ],
    )
    values = {
        "component_set_id": _components(connection, found, layers),
        "facts": _config(found),
        "created": _moment(found.created),
    }
    changed = update(schema.artifact).where(schema.artifact.c.id == artifact)
    connection.execute(changed.values({name: value for name, value in values.items() if value is not None}))


def _moment(text: str) -> dt.datetime | None:
    """The time that `text` states, or None: it is someone's claim, and an odd one is no reason to stop."""
    try:
        return clock.parse_rfc3339(text)
    except (ValueError, OverflowError):
        return None


def _config(found: ImageFacts) -> dict[str, Any]:
    kept = (
        "os",
        "architecture",
        "user",
        "runs_as_root",
        "entrypoint",
        "cmd",
        "env",
        "labels",
        "annotations",
        "exposed_ports",
        "working_dir",
        "operating_system",
        "programs",
        "unpacked_size",
    )
    return {name: storable_tree(msgspec.to_builtins(getattr(found, name))) for name in kept}


def _components(connection: Connection, found: ImageFacts, layers: dict[str, int]) -> int:
    """Record the components and their set; row number of the set."""
    by_purl = {storable_purl(component.purl): component for component in found.components}
    rows = [
        {
            "purl": purl,
            "kind": component.kind,
            "ecosystem": storable(component.ecosystem),
            "name": storable(component.name),
            "version": storable(component.version),
            "source_name": storable(component.source_name),
            "source_version": storable(component.source_version),
            "supplier": storable(component.supplier),
            "licenses": storable_tree(component.licenses),
        }
        for purl, component in by_purl.items()
    ]
    add_missing(connection, schema.component, rows)
    known = numbers(connection, schema.component.c.purl, by_purl)
    members = number_of(connection, schema.component_set, {"digest": found.component_set}, {"size": len(by_purl)})
    add_missing(
        connection,
        schema.component_set_member,
        [{"component_set_id": members, "component_id": number} for number in known.values()],
    )
    layer_of = {layer.diff_id: layers[layer.digest] for layer in found.layers}
    places = [
        {
            "layer_id": layer_of[component.layer],
            "component_id": known[storable_purl(component.purl)],
            "location": storable(component.location),
            "licenses": storable_tree(component.licenses),
        }
        for component in found.components
        if component.layer in layer_of
    ]
    add_missing(connection, schema.layer_component, places)
    return members


def scan(connection: Connection, record: ScanRecord, at: dt.datetime) -> None:
    """Record which components of the image the advisories touch now.

    What an earlier scan found for these components, and this one does not, is gone: it was withdrawn or corrected.
    A scan that is older than what is known of a component changes nothing there.
    """
    artifact = artifact_number(connection, record.digest)
    members = connection.scalar(select(schema.artifact.c.component_set_id).where(schema.artifact.c.id == artifact))
    if members is None:
        raise NotFoundError(
            f"the packages of {record.digest} are not recorded", next_step="Inspect the image before its scan."
        )
    of = schema.scan.c
    known = connection.execute(
        select(of.advisories_revision, of.scanned_at)
        .where(of.component_set_id == members)
        .order_by(of.scanned_at.desc(), of.id.desc())
        .limit(1)
    ).one_or_none()
    revision = record.result.revision
    row = {
        "component_set_id": members,
        "advisories_revision": revision,
        "advisories_as_of": _moment(record.result.oldest_as_of),
        "not_checked": storable_tree(msgspec.to_builtins(record.result.not_checked)),
        "scanned_at": record.scanned_at,
    }
    if known is not None and known.scanned_at > record.scanned_at:
        add_missing(connection, schema.scan, [row])
        return
    if known is not None and tuple(known) == (revision, record.scanned_at):
        return
    put(connection, schema.scan, ("component_set_id", "advisories_revision"), [row])
    _findings(connection, record, members)
    audit(connection, at, "scan", record.digest, {"revision": revision, "findings": len(record.result.findings)})


def _findings(connection: Connection, record: ScanRecord, members: int) -> None:
    of_set = schema.component_set_member.c
    inside = select(of_set.component_id).where(of_set.component_set_id == members)
    old = schema.finding.c.found_at <= record.scanned_at
    connection.execute(delete(schema.finding).where(schema.finding.c.component_id.in_(inside), old))
    findings = {(storable_purl(one.component_purl), storable(one.advisory)): one for one in record.result.findings}
    components = _members(connection, members, {purl for purl, _ in findings})
    missing = sorted({purl for purl, _ in findings} - components.keys())
    if missing:
        raise InputError(
            f"the scan names {missing[0]}, which is not among the recorded packages of {record.digest}",
            next_step="Inspect the image again, then scan it.",
        )
    advisories = _advisories(connection, record.result)
    rows = [
        {
            "component_id": components[purl],
            "advisory_id": advisories[name],
            "severity": finding.severity,
            "score": finding.score,
            "vector": storable(finding.vector),
            "fixed_in": storable_tree(finding.fixed_in),
            "found_as": storable(finding.found_as),
            "advisories_revision": record.result.revision,
            "found_at": record.scanned_at,
        }
        for (purl, name), finding in findings.items()
    ]
    # What is still there was found by a newer scan of another image with the same package.
    add_missing(connection, schema.finding, rows)


def _members(connection: Connection, members: int, purls: set[str]) -> dict[str, int]:
    """Row numbers, by purl, of those of `purls` that belong to the set."""
    of_set = schema.component_set_member.c
    inside = set(connection.scalars(select(of_set.component_id).where(of_set.component_set_id == members)))
    known = numbers(connection, schema.component.c.purl, purls)
    return {purl: number for purl, number in known.items() if number in inside}


def _advisories(connection: Connection, result: ScanResult) -> dict[str, int]:
    """Row numbers of the advisories that the scan names, with their aliases recorded."""
    named = {storable(finding.advisory): finding for finding in result.findings}
    rows = [
        {"name": name, "published": _moment(finding.published), "modified": _moment(finding.modified)}
        for name, finding in named.items()
    ]
    put(connection, schema.advisory, ("name",), rows)
    found = numbers(connection, schema.advisory.c.name, named)
    aliases = [
        {"alias": storable(alias), "advisory_id": found[name]}
        for name, finding in named.items()
        for alias in {name, *finding.aliases}
    ]
    add_missing(connection, schema.advisory_alias, aliases)
    return found


def signature(connection: Connection, record: SignatureRecord, at: dt.datetime) -> None:
    """Record a signature of a recorded image."""
    row = {
        "artifact_id": artifact_number(connection, record.digest),
        "key_fingerprint": storable(record.key_fingerprint),
        "builder": storable(record.builder),
        "format": record.format,
        "manifest_digest": record.manifest_digest,
        "created": record.created,
    }
    key = ("artifact_id", "manifest_digest", "key_fingerprint")
    same = (schema.signature.c[name] == row[name] for name in key)
    if connection.scalar(select(schema.signature.c.id).where(*same)) is None:
        add_missing(connection, schema.signature, [row])
        audit(connection, at, "sign", record.digest, {"key": record.key_fingerprint, "builder": record.builder})


def attachment(connection: Connection, record: AttachmentRecord) -> None:
    """Record an SBOM document of a recorded image."""
    row = {
        "artifact_id": artifact_number(connection, record.digest),
        "kind": record.kind,
        "media_type": record.media_type,
        "blob_digest": record.blob_digest,
        "size": record.size,
        "created": record.created,
    }
    add_missing(connection, schema.attachment, [row])
