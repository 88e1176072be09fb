"""CycloneDX JSON (ECMA-424), as far as it names packages."""

import re
from collections.abc import Iterator
from typing import Any

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

_VERSION = re.compile(r"1\.(\d{1,2})")
_FIRST, _LAST = 2, 6
_NOT_PACKAGES = frozenset({"container", "device", "device-driver", "platform", "data", "cryptographic-asset"})
_OURS, _TRIVY, _SYFT = "tidewaiter:", "aquasecurity:trivy:", "syft:"


class _Named(msgspec.Struct):
    name: str | None = None


class _License(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _Choice(msgspec.Struct):
    license: _License | None = None
    expression: str | None = None


class _Hash(msgspec.Struct):
    alg: str
    content: str


class _Property(msgspec.Struct):
    name: str | None = None
    value: str | None = None


class _Occurrence(msgspec.Struct):
    location: str | None = None


class _Evidence(msgspec.Struct):
    occurrences: list[_Occurrence] | None = None


class _Component(msgspec.Struct):
    name: str
    type: str = "library"
    reference: str | None = msgspec.field(name="bom-ref", default=None)
    group: str | None = None
    version: str | None = None
    purl: str | None = None
    licenses: list[_Choice] | None = None
    supplier: _Named | None = None
    publisher: str | None = None
    description: str | None = None
    hashes: list[_Hash] | None = None
    properties: list[_Property] | None = None
    evidence: _Evidence | None = None
    components: list["_Component"] | None = None


class _Metadata(msgspec.Struct):
    component: _Component | None = None
    tools: Any = None
    """A list of tools until 1.4, an object with components from 1.5 on."""


class _Dependency(msgspec.Struct):
    ref: str
    needs: list[str] | None = msgspec.field(name="dependsOn", default=None)


class _Bom(msgspec.Struct):
    version: str = msgspec.field(name="specVersion", default="")
    metadata: _Metadata | None = None
    components: list[_Component] | None = None
    dependencies: list[_Dependency] | None = None


def _tool(tools: object) -> str:
    """Name and version of the first tool that is named."""
    listed = tools.get("components") if isinstance(tools, dict) else tools
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            version = item.get("version")
            return clean(f"{item['name']} {version if isinstance(version, str) else ''}", 100)
    return ""


def _all(parts: list[_Component] | None) -> Iterator[_Component]:
    """The components, and those inside them."""
    waiting = list(reversed(parts or ()))
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(reversed(part.components or ()))


def _full_name(part: _Component) -> str:
    if not part.group:
        return part.name
    return f"{part.group}{':' if (part.purl or '').startswith('pkg:maven/') else '/'}{part.name}"


def _licenses(choices: list[_Choice] | None) -> tuple[str, ...]:
    found: list[str] = []
    for choice in choices or ():
        if choice.expression:
            found.extend(conjuncts(choice.expression))
        elif choice.license:
            found.append(choice.license.id or choice.license.name or "")
    return tuple(found)


def _trivys_version(said: dict[str, str]) -> str:
    """Version of the source package, which Trivy writes in parts."""
    version = said.get(f"{_TRIVY}SrcVersion", "")
    epoch, release = said.get(f"{_TRIVY}SrcEpoch", ""), said.get(f"{_TRIVY}SrcRelease", "")
    return f"{epoch}:" * bool(epoch) + version + f"-{release}" * bool(release) if version else ""


def _entry(part: _Component, number: int) -> Entry:
    said = {one.name: one.value or "" for one in part.properties or () if one.name}
    seen = [one.location for one in (part.evidence and part.evidence.occurrences) or () if one.location]
    return Entry(
        reference=part.reference or f"\n{number}",
        name=_full_name(part),
        version=part.version or "",
        purl=part.purl or "",
        licenses=_licenses(part.licenses),
        supplier=(part.supplier and part.supplier.name) or part.publisher or "",
        description=part.description or "",
        location=said.get(f"{_OURS}location")
        or said.get(f"{_TRIVY}FilePath")
        or said.get(f"{_SYFT}location:0:path")
        or (seen[0] if seen else ""),
        layer=said.get(f"{_OURS}layer:diff_id")
        or said.get(f"{_TRIVY}LayerDiffID")
        or said.get(f"{_SYFT}location:0:layerID")
        or "",
        source_name=said.get(f"{_OURS}source:name") or said.get(f"{_TRIVY}SrcName") or "",
        source_version=said.get(f"{_OURS}source:version") or _trivys_version(said),
        install=install_of(said.get(f"{_OURS}install")),
        hashes=tuple(hash_of(one.alg, one.content) for one in part.hashes or ()),
        model=part.type == "machine-learning-model",
    )


def _is_package(part: _Component, notes: Notes) -> bool:
    """Whether a component is one for us; notes what is neither a package nor a file."""
    if part.type == "file":
        return False
    if part.type in _NOT_PACKAGES:
        notes.add(f"components of type {part.type} are not read", part.name)
        return False
    # Trivy's lock files: the packages that they name are components of their own.
    return not any(one.name == f"{_TRIVY}Class" for one in part.properties or ())


def _check_version(version: str, notes: Notes, where: str) -> None:
    match = _VERSION.fullmatch(version)
    minor = int(match[1]) if match else 0
    if minor < _FIRST:
        raise refused(where, f"CycloneDX {clean(version, 20)!r} is not read; 1.{_FIRST} to 1.{_LAST} are")
    if minor > _LAST:
        notes.add(f"it is written for CycloneDX {version}: what is newer than 1.{_LAST} in it is not read")


def read(data: bytes, where: str) -> SbomDocument:
    """What the document says; raises as `reader.read`."""
    bom = decode(data, _Bom, where)
    notes = Notes()
    _check_version(bom.version, notes, where)
    metadata = bom.metadata or _Metadata()
    subject = metadata.component or _Component(name="")
    tool = _tool(metadata.tools)
    parts: list[_Component] = []
    system = ("", "")
    if subject.purl and subject.type != "container":
        parts.append(subject)  # a document about a package lists only what it needs
    for part in _all([*(bom.components or ()), *(subject.components or ())]):
        if part.type == "operating-system" and not part.purl:
            system = clean(part.name, 100), clean(part.version, 100)
        elif _is_package(part, notes):
            parts.append(part)
    return SbomDocument(
        format="cyclonedx",
        version=bom.version,
        tool=tool,
        name=clean(subject.name, 200),
        digest=digest_of(subject.version) or purls.digest_of(subject.purl or ""),
        distribution=system[0],
        distribution_version=system[1],
        components=components(
            (_entry(part, number) for number, part in enumerate(parts)),
            ((edge.ref, other) for edge in bom.dependencies or () for other in edge.needs or ()),
            distribution=system,
            tool=tool,
            notes=notes,
            where=where,
        ),
        notes=notes.texts(),
    )
