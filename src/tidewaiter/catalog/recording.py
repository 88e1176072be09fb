"""Recording what a pipeline step did (a build: `built`), inside a transaction; each may be called again.

Recording the same thing twice changes nothing. Text that comes out of images is cut and cleaned, never refused:
an odd file name must not keep an image out of the catalog that governs it.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, or_, select, update

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.catalog import finding_periods, questions, schema
from tidewaiter.catalog.among import among
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import states as audit_states
from tidewaiter.catalog.records import (
    AttachmentRecord,
    BuiltLayer,
    PullRecord,
    ScanRecord,
    SignatureRecord,
)
from tidewaiter.catalog.rows import add_missing, add_new, change, chunks, ensure, number_of, numbers, put, storable_purl
from tidewaiter.catalog.storable import storable, storable_tree
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import MANIFEST
from tidewaiter.oci.reference import check_repository, parse_registry
from tidewaiter.sbom.component import Component


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
    row = {"repository_id": number, "artifact_id": artifact, "changed_at": at, "since": at}
    put(connection, schema.repository_artifact, ("repository_id", "artifact_id"), [row], keep=["since"])
    return number


def _artifact(connection: Connection, digest: Digest, size: int, at: dt.datetime, media_type: str) -> int:
    rest = {"media_type": media_type, "size": size, "recorded_at": at}
    return number_of(connection, schema.artifact, {"digest": digest}, rest)


def _layer_rows(connection: Connection, rows: list[dict[str, Any]]) -> dict[str, int]:
    """Row numbers of layers by digest; unknown sizes of known layers are filled in."""
    of = schema.layer.c
    known = ensure(connection, of.digest, {row["digest"]: row for row in rows})
    sized = {row["digest"]: row for row in rows if row["unpacked_size"]}
    unset: list[str] = []
    for some in chunks(sorted(sized)):
        unset += connection.scalars(select(of.digest).where(of.digest.in_(some), of.unpacked_size == 0))
    if unset:
        now = update(schema.layer).where(of.digest == bindparam("key"))
        connection.execute(
            now.values(unpacked_size=bindparam("bytes"), files=bindparam("number")),
            [{"key": one, "bytes": sized[one]["unpacked_size"], "number": sized[one]["files"]} for one in unset],
        )
    return known


def _add_layers(connection: Connection, artifact: int, layers: tuple[BuiltLayer, ...]) -> None:
    """Say which layers the image has; what a build recorded of the same image stays."""
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


def pull(connection: Connection, record: PullRecord, at: dt.datetime) -> None:
    """Record an image that was fetched from elsewhere; its tag is set beside this."""
    size = sum(layer.size for layer in record.layers)
    artifact = _artifact(connection, record.digest, size, at, record.media_type)
    _add_layers(connection, artifact, record.layers)
    if record.created is not None:
        unset = (schema.artifact.c.id == artifact) & schema.artifact.c.created.is_(None)
        connection.execute(update(schema.artifact).where(unset).values(created=record.created))
    place(connection, record.repository, artifact, at)
    audit.append(connection, "pull", record.digest, {"repository": record.repository, "source": record.source}, at=at)


def facts(connection: Connection, images: Sequence[tuple[ImageFacts, str | None]], at: dt.datetime) -> None:
    """Record what inspection found in each image: layers, components, configuration, and in which repository it is."""
    by_digest = {found.digest: found for found, _ in images}
    rows: dict[str, dict[str, Any]] = {
        digest: {"digest": digest, "media_type": MANIFEST, "size": found.size, "recorded_at": at}
        for digest, found in by_digest.items()
    }
    artifacts = ensure(connection, schema.artifact.c.digest, rows)
    _put_into(connection, {(repository, artifacts[found.digest]) for found, repository in images if repository}, at)
    stacks = {found.digest: found.layers for found in by_digest.values()}
    known = {
        layer.digest: {
            "digest": layer.digest,
            "diff_id": layer.diff_id,
            "size": layer.size,
            "unpacked_size": layer.unpacked_size,
            "files": layer.files,
        }
        for stack in stacks.values()
        for layer in stack
    }
    layers = _layer_rows(connection, list(known.values()))
    members = [
        {
            "artifact_id": artifacts[digest],
            "position": position,
            "layer_id": layers[layer.digest],
            "kind": "",
            "title": storable(layer.created_by),
            "contents": [],
        }
        for digest, stack in stacks.items()
        for position, layer in enumerate(stack)
    ]
    of = schema.artifact_layer.c
    known_to = select(of.artifact_id).distinct().where(among(of.artifact_id, artifacts.values()))
    layered = set(connection.scalars(known_to))
    add_new(connection, schema.artifact_layer, [row for row in members if row["artifact_id"] not in layered])
    # What a build recorded of the same image stays.
    add_missing(connection, schema.artifact_layer, [row for row in members if row["artifact_id"] in layered])
    alike = {digest: found.component_set for digest, found in by_digest.items()}
    sets = _components(connection, by_digest.values(), alike, layers)
    values = [
        {
            "id": artifacts[found.digest],
            "component_set_id": sets[alike[found.digest]],
            "facts": _config(found),
            "created": moment(found.created),
        }
        for found in by_digest.values()
    ]
    change(connection, schema.artifact, values, keep=("created",))


def _checked(name: str) -> str:
    """`name` as that of a repository of the store, or as HOST[:PORT]/REPO of one elsewhere; raises `InputError`."""
    if ":" in name.partition("/")[0]:
        parse_registry(name)
        return name
    return check_repository(name)


def _put_into(connection: Connection, places: set[tuple[str, int]], at: dt.datetime) -> None:
    """Put images into repositories, unless they are in them."""
    known = ensure(connection, schema.repository.c.name, {_checked(name): {"name": name} for name, _ in places})
    rows = [
        {"repository_id": known[name], "artifact_id": artifact, "changed_at": at, "since": at}
        for name, artifact in sorted(places)
    ]
    add_missing(connection, schema.repository_artifact, rows)


def moment(text: str) -> dt.datetime | None:
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


def _components(
    connection: Connection, images: Collection[ImageFacts], alike: Mapping[Digest, Digest], layers: Mapping[str, int]
) -> dict[Digest, int]:
    """Record the components of the images and the sets of them; row numbers of the sets, by digest.

    `alike` has the digest of the set of each image.
    """
    by_purl: dict[str, Component] = {}
    sets: dict[Digest, set[str]] = {}
    places: dict[tuple[int, str], Component] = {}
    before: dict[Digest, tuple[Sequence[Component], list[int | None]]] = {}
    for found in images:
        layer_of = {layer.diff_id: layers[layer.digest] for layer in found.layers}
        if alike[found.digest] not in sets:
            named = {storable_purl(component.purl): component for component in found.components}
            by_purl.update(named)
            sets[alike[found.digest]] = set(named)
        # Most images have their packages from the layers of the one before.
        holding = [layer_of.get(one) for one in sorted({one.layer for one in found.components})]
        if before.get(alike[found.digest]) == (found.components, holding):
            continue
        before[alike[found.digest]] = (found.components, holding)
        for component in found.components:
            if component.layer in layer_of:
                places.setdefault((layer_of[component.layer], component.purl), component)
    known = numbers(connection, schema.component.c.purl, by_purl)
    new = {purl: _component_row(purl, one) for purl, one in by_purl.items() if purl not in known}
    known |= ensure(connection, schema.component.c.purl, new)
    # A set is recorded with its members or not at all.
    there = numbers(connection, schema.component_set.c.digest, sets)
    rows: dict[str, dict[str, Any]] = {
        digest: {"digest": digest, "size": len(purls)} for digest, purls in sets.items() if digest not in there
    }
    made = ensure(connection, schema.component_set.c.digest, rows)
    members = [
        {"component_set_id": number, "component_id": component}
        for digest, number in sorted(made.items())
        for component in sorted(known[purl] for purl in sets[Digest(digest)])
    ]
    add_new(connection, schema.component_set_member, members)
    _holdings(connection, {(layer, known[storable_purl(purl)]): one for (layer, purl), one in places.items()})
    numbered = there | made
    return {digest: numbered[digest] for digest in sets}


def _holdings(connection: Connection, found: Mapping[tuple[int, int], Component]) -> None:
    """Record where layers hold components, both by row number, unless it is known."""
    of = schema.layer_component.c
    there: set[tuple[int, int]] = set()
    for some in chunks(sorted({layer for layer, _ in found})):
        query = select(of.layer_id, of.component_id).where(of.layer_id.in_(some))
        there.update((layer, component) for layer, component in connection.execute(query))
    rows = [
        {
            "layer_id": layer,
            "component_id": number,
            "location": storable(component.location),
            "licenses": storable_tree(component.licenses),
        }
        for (layer, number), component in sorted(found.items(), key=lambda one: one[0])
        if (layer, number) not in there
    ]
    add_new(connection, schema.layer_component, rows)


def _component_row(purl: str, component: Component) -> dict[str, Any]:
    return {
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


def scan(connection: Connection, record: ScanRecord, at: dt.datetime) -> int | None:
    """Record which components of the image the advisories touch now; row number of the set whose findings it put.

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
    # What a clock found that was ahead must not stand until then.
    latest = at + dt.timedelta(seconds=limits.CLOCK_SKEW_SECONDS)
    known = connection.execute(
        select(of.advisories_revision, of.scanned_at)
        .where(of.component_set_id == members, of.scanned_at <= latest)
        .order_by(of.scanned_at.desc(), of.id.desc())
        .limit(1)
    ).one_or_none()
    revision = record.result.revision
    row = {
        "component_set_id": members,
        "advisories_revision": revision,
        "advisories_as_of": moment(record.result.oldest_as_of),
        "not_checked": storable_tree(msgspec.to_builtins(record.result.not_checked)),
        "scanned_at": record.scanned_at,
    }
    if known is not None and known.scanned_at > record.scanned_at:
        add_missing(connection, schema.scan, [row])
        return None
    if known is not None and tuple(known) == (revision, record.scanned_at):
        return None
    put(connection, schema.scan, ("component_set_id", "advisories_revision"), [row])
    _findings(connection, record, members, latest)
    detail = {"revision": revision, "findings": len(record.result.findings)}
    audit.append(connection, "scan", record.digest, detail, at=at)
    return int(members)


def _findings(connection: Connection, record: ScanRecord, members: int, latest: dt.datetime) -> None:
    of_set = schema.component_set_member.c
    inside = select(of_set.component_id).where(of_set.component_set_id == members)
    found_at = schema.finding.c.found_at
    old = or_(found_at <= record.scanned_at, found_at > latest)
    connection.execute(delete(schema.finding).where(schema.finding.c.component_id.in_(inside), old))
    findings = {(storable_purl(one.component_purl), storable(one.advisory)): one for one in record.result.findings}
    components = _members(connection, members, {purl for purl, _ in findings})
    missing = sorted({purl for purl, _ in findings} - components.keys())
    if missing:
        raise InputError(
            f"the scan names {missing[0]}, which is not among the recorded packages of {record.digest}",
            next_step="Inspect the image again, then scan it.",
        )
    found = advisories(connection, record.result)
    rows = [
        {
            "component_id": components[purl],
            "advisory_id": found[name],
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
    changed = finding_periods.follow(connection, connection.scalars(inside).all(), record.scanned_at)
    questions.outdate(connection, changed, record.scanned_at)


def _members(connection: Connection, members: int, purls: set[str]) -> dict[str, int]:
    """Row numbers, by purl, of those of `purls` that belong to the set."""
    of_set = schema.component_set_member.c
    inside = set(connection.scalars(select(of_set.component_id).where(of_set.component_set_id == members)))
    known = numbers(connection, schema.component.c.purl, purls)
    return {purl: number for purl, number in known.items() if number in inside}


def advisories(connection: Connection, result: ScanResult) -> dict[str, int]:
    """Row numbers of the advisories that the scan names, with their aliases recorded."""
    named = {storable(finding.advisory): finding for finding in result.findings}
    rows = [
        {"name": name, "published": moment(finding.published), "modified": moment(finding.modified)}
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
        detail = {"key": record.key_fingerprint, "builder": record.builder}
        named = (record.digest, record.manifest_digest, storable(record.key_fingerprint))
        states = audit_states.now(connection, "signature", named)
        audit.append(connection, "sign", record.digest, detail, at=at, states=states)


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
