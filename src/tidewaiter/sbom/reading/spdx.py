"""SPDX 2.2 and 2.3 JSON, as far as it names packages."""

import re
from collections.abc import Iterator

import msgspec

from tidewaiter.sbom import purls
from tidewaiter.sbom.reading.bounded import decode, refused
from tidewaiter.sbom.reading.document import (
    Entry,
    Notes,
    SbomDocument,
    clean,
    components,
    conjuncts,
    digest_of,
    hash_of,
    install_of,
)

_VERSION = re.compile(r"SPDX-(2\.[23])")
_DOCUMENT = "SPDXRef-DOCUMENT"
_NOTHING = frozenset({"", "NONE", "NOASSERTION"})
_ACTOR = re.compile(r"(?:Organization|Person|Tool):\s*")
_MAIL = re.compile(r"\s+\(([^()\s]+@[^()\s]+)\)$")
_SOURCE = re.compile(r"built package from: (\S+)(?: (\S+))?")
_SYFTS_PLACE = re.compile(r"acquired package info from [^:]*: (/[^,]+)")
_NEEDS = frozenset({"DEPENDS_ON"})
_NEEDED_BY = frozenset({"DEPENDENCY_OF", "RUNTIME_DEPENDENCY_OF"})


class _Checksum(msgspec.Struct):
    algorithm: str
    value: str = msgspec.field(name="checksumValue")


class _External(msgspec.Struct):
    type: str = msgspec.field(name="referenceType", default="")
    locator: str = msgspec.field(name="referenceLocator", default="")


class _Annotation(msgspec.Struct):
    comment: str = ""


class _Package(msgspec.Struct, rename="camel"):
    name: str
    reference: str = msgspec.field(name="SPDXID")
    version_info: str = ""
    license_declared: str = ""
    license_concluded: str = ""
    originator: str = ""
    supplier: str = ""
    description: str = ""
    source_info: str = ""
    primary_package_purpose: str = ""
    checksums: list[_Checksum] = []
    external_refs: list[_External] = []
    annotations: list[_Annotation] = []


class _Relation(msgspec.Struct):
    one: str = msgspec.field(name="spdxElementId")
    kind: str = msgspec.field(name="relationshipType")
    other: str = msgspec.field(name="relatedSpdxElement")


class _Extracted(msgspec.Struct, rename="camel"):
    license_id: str
    extracted_text: str = ""
    name: str = ""


class _Creation(msgspec.Struct):
    creators: list[str] = []


class _Document(msgspec.Struct, rename="camel"):
    spdx_version: str
    name: str = ""
    creation_info: _Creation | None = None
    packages: list[_Package] = []
    relationships: list[_Relation] = []
    document_describes: list[str] = []
    has_extracted_licensing_infos: list[_Extracted] = []


def _licenses(package: _Package, texts: dict[str, str]) -> tuple[str, ...]:
    """What is declared, else what was concluded; own identifiers are replaced by the texts that they stand for."""
    stated = package.license_declared.strip()
    if stated in _NOTHING:
        stated = package.license_concluded.strip()
    if stated in _NOTHING:
        return ()
    return tuple(texts.get(part, part) for part in conjuncts(stated))


def _purl(package: _Package) -> str:
    return next((one.locator for one in package.external_refs if one.type.lower() == "purl"), "")


def _actor(text: str) -> str:
    """`NAME <MAIL>` of `Organization: NAME (MAIL)`."""
    return "" if text in _NOTHING else _MAIL.sub(r" <\1>", _ACTOR.sub("", text, count=1))


def _entry(package: _Package, texts: dict[str, str]) -> Entry:
    said = dict(one.comment.partition(": ")[::2] for one in package.annotations)
    source = _SOURCE.fullmatch(package.source_info)
    place = _SYFTS_PLACE.match(package.source_info)
    return Entry(
        reference=package.reference,
        name=package.name,
        version="" if package.version_info in _NOTHING else package.version_info,
        purl=_purl(package),
        licenses=_licenses(package, texts),
        supplier=_actor(package.originator) or _actor(package.supplier),
        description=package.description,
        location=said.get("FilePath") or (place[1] if place else ""),
        layer=said.get("LayerDiffID", ""),
        source_name=source[1] if source else "",
        source_version=(source[2] or "") if source else "",
        install=install_of(said.get("Install")),
        hashes=tuple(hash_of(one.algorithm, one.value) for one in package.checksums),
        model=said.get("Kind") == "model",
    )


def _digest(package: _Package) -> str:
    """Digest of the image that the package is."""
    stated = digest_of(package.version_info) or purls.digest_of(_purl(package))
    return stated or next(filter(None, (hash_of(one.algorithm, one.value) for one in package.checksums)), "")


def _needs(relations: list[_Relation]) -> Iterator[tuple[str, str]]:
    for relation in relations:
        if relation.kind in _NEEDS:
            yield relation.one, relation.other
        elif relation.kind in _NEEDED_BY:
            yield relation.other, relation.one


def read(data: bytes, where: str) -> SbomDocument:
    """What the document says; raises as `reader.read`."""
    document = decode(data, _Document, where)
    version = _VERSION.fullmatch(document.spdx_version)
    if version is None:
        raise refused(where, f"{clean(document.spdx_version, 20)!r} is not read; SPDX-2.2 and SPDX-2.3 are")
    notes = Notes()
    creators = document.creation_info.creators if document.creation_info else []
    tool = next((_ACTOR.sub("", one, count=1) for one in creators if one.startswith("Tool:")), "")
    described = {one.other for one in document.relationships if one.one == _DOCUMENT and one.kind == "DESCRIBES"}
    described.update(document.document_describes)
    texts = {one.license_id: one.name or one.extracted_text for one in document.has_extracted_licensing_infos}
    subject, system, packages = None, ("", ""), []
    for package in document.packages:
        if package.primary_package_purpose == "OPERATING-SYSTEM":
            system = clean(package.name, 100), clean(package.version_info, 100)
        elif package.reference in described and not purls.is_package(_purl(package)):
            subject = subject or package
        elif package.primary_package_purpose == "FILE":
            continue
        elif package.primary_package_purpose == "APPLICATION" and not _purl(package):
            continue  # Trivy's lock files: the packages that they name are packages of their own
        else:
            packages.append(package)
    return SbomDocument(
        format="spdx",
        version=version[1],
        tool=clean(tool, 100),
        name=clean(subject.name if subject else document.name, 200),
        digest=_digest(subject) if subject and subject.primary_package_purpose in {"", "CONTAINER"} else "",
        distribution=system[0],
        distribution_version=system[1],
        components=components(
            (_entry(package, texts) for package in packages),
            _needs(document.relationships),
            distribution=system,
            tool=tool,
            notes=notes,
            where=where,
        ),
        notes=notes.texts(),
    )
