"""Syft's own JSON, as far as it names packages."""

from typing import Any

import msgspec

from tidewaiter.sbom.reading.bounded import decode, refused
from tidewaiter.sbom.reading.document import Entry, Notes, SbomDocument, clean, components, digest_of

_FIRST = 2
"""Major version of the schema; shapes of what is read here have stayed since."""


class _Location(msgspec.Struct):
    path: str = ""
    layer: str = msgspec.field(name="layerID", default="")


class _Artifact(msgspec.Struct):
    name: str
    reference: str = msgspec.field(name="id")
    version: str = ""
    purl: str = ""
    licenses: list[Any] | None = None
    """Objects; texts before version 9 of the schema."""
    locations: list[_Location] | None = None


class _Relation(msgspec.Struct):
    parent: str
    child: str
    type: str


class _Distribution(msgspec.Struct):
    id: str = ""
    version: str = msgspec.field(name="versionID", default="")


class _Source(msgspec.Struct):
    name: str = ""
    metadata: Any = None


class _Descriptor(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Schema(msgspec.Struct):
    version: str = ""


class _Document(msgspec.Struct):
    artifacts: list[_Artifact]
    relations: list[_Relation] | None = msgspec.field(name="artifactRelationships", default=None)
    source: _Source | None = None
    distribution: _Distribution | None = msgspec.field(name="distro", default=None)
    descriptor: _Descriptor | None = None
    schema: _Schema | None = None


def _licenses(stated: list[Any] | None) -> tuple[str, ...]:
    found = []
    for one in stated or ():
        text = (one.get("spdxExpression") or one.get("value")) if isinstance(one, dict) else one
        if isinstance(text, str) and text:
            found.append(text)
    return tuple(found)


def _entry(artifact: _Artifact) -> Entry:
    first = artifact.locations[0] if artifact.locations else _Location()
    return Entry(
        reference=artifact.reference,
        name=artifact.name,
        version=artifact.version,
        purl=artifact.purl,
        licenses=_licenses(artifact.licenses),
        location=first.path,
        layer=first.layer,
    )


def read(data: bytes, where: str) -> SbomDocument:
    """What the document says; raises as `reader.read`."""
    document = decode(data, _Document, where)
    version = document.schema.version if document.schema else ""
    major = version.partition(".")[0]
    if not major.isdigit() or int(major[:9]) < _FIRST:
        raise refused(where, f"version {clean(version, 20)!r} of Syft's JSON is not read; {_FIRST} and later are")
    source, system = document.source or _Source(), document.distribution or _Distribution()
    descriptor = document.descriptor or _Descriptor()
    about = source.metadata if isinstance(source.metadata, dict) else {}
    digest, given = about.get("manifestDigest"), about.get("userInput")
    distribution = clean(system.id, 100), clean(system.version, 100)
    notes = Notes()
    return SbomDocument(
        format="syft",
        version=clean(version, 20),
        tool=clean(f"{descriptor.name} {descriptor.version}", 100),
        name=clean(source.name or (given if isinstance(given, str) else ""), 200),
        digest=digest_of(digest) if isinstance(digest, str) else "",
        distribution=distribution[0],
        distribution_version=distribution[1],
        components=components(
            map(_entry, document.artifacts),
            ((one.child, one.parent) for one in document.relations or () if one.type == "dependency-of"),
            distribution=distribution,
            tool=descriptor.name,
            notes=notes,
            where=where,
        ),
        notes=notes.texts(),
    )
