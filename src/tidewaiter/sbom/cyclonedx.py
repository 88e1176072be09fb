"""CycloneDX 1.6 JSON, written by hand: the object model of the reference library is far slower."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tidewaiter import __version__
from tidewaiter.sbom.component import Component, component_key
from tidewaiter.sbom.licenses import conjunction, expression, is_single
from tidewaiter.sbom.purls import with_source
from tidewaiter.sbom.subject import Subject, identity, purl, timestamp

MEDIA_TYPE = "application/vnd.cyclonedx+json"
_TYPES = {"model": "machine-learning-model", "os": "operating-system"}
_ALGORITHMS = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
_TRIVY = "aquasecurity:trivy"
"""Under this prefix Trivy looks for the source package, by which distributions file advisories, and for the layer."""


def _licenses(texts: Sequence[str]) -> list[dict[str, Any]]:
    """The `licenses` choice: either one expression, or a list of licences by identifier or by name."""
    canonical = [expression(text) for text in texts]
    known = [text for text in canonical if text is not None]
    if len(known) == len(texts) and any(not is_single(text) for text in known):
        return [{"expression": conjunction(known)}]
    return [
        {"license": {"id": spdx}} if spdx is not None and is_single(spdx) else {"license": {"name": spdx or text}}
        for text, spdx in zip(texts, canonical, strict=True)
    ]


def references(components: Sequence[Component]) -> list[str]:
    """`bom-ref` of each component: its purl, with the location where two share one."""
    count: dict[str, int] = {}
    for component in components:
        count[component.purl] = count.get(component.purl, 0) + 1
    return [
        component.purl if count[component.purl] == 1 else f"{component.purl}#{component.location}"
        for component in components
    ]


def _properties(values: Mapping[str, str], space: str = "tidewaiter") -> list[dict[str, str]]:
    return [{"name": f"{space}:{name}", "value": value} for name, value in values.items() if value]


def _hashes(texts: Sequence[str]) -> list[dict[str, str]]:
    pairs = (text.partition(":") for text in texts)
    return [{"alg": _ALGORITHMS[name], "content": value} for name, _, value in pairs if name in _ALGORITHMS]


def _grouped(component: Component) -> tuple[str, str]:
    """Group and name of a package that has both: `@scope/name` of npm, `group:artifact` of Maven."""
    if component.kind == "npm" and component.name.startswith("@"):
        group, _, name = component.name.partition("/")
        return group, name
    if component.kind == "maven" and ":" in component.name:
        group, _, name = component.name.partition(":")
        return group, name
    return "", component.name


def _component(component: Component, reference: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": _TYPES.get(component.kind, "library"),
        "bom-ref": reference,
        "name": component.name,
        "version": component.version,
        "purl": with_source(component),
    }
    group, name = _grouped(component)
    if group:
        document |= {"group": group, "name": name}
    if component.supplier:
        document["supplier"] = {"name": component.supplier}
    if component.description:
        document["description"] = component.description
    hashes = _hashes(component.hashes)
    if hashes:
        document["hashes"] = hashes
    if component.licenses:
        document["licenses"] = _licenses(component.licenses)
    if component.location:
        document["evidence"] = {"occurrences": [{"location": component.location}]}
    document["properties"] = _properties(
        {
            "ecosystem": component.ecosystem,
            "location": component.location,
            "layer:diff_id": component.layer,
            "source:name": component.source_name,
            "source:version": component.source_version,
            "install": component.install,
        }
    )
    source = bool(component.source_name or component.source_version)
    document["properties"] += _properties(
        {
            "FilePath": component.location,
            "LayerDiffID": component.layer,
            "SrcName": (component.source_name or component.name) if source else "",
            "SrcVersion": (component.source_version or component.version) if source else "",
        },
        _TRIVY,
    )
    return document


def _image(subject: Subject, reference: str) -> dict[str, Any]:
    properties = _properties({"os": subject.os, "architecture": subject.architecture})
    for number, layer in enumerate(subject.layers):
        properties += _properties({f"layer:{number}:diff_id": layer.diff_id, f"layer:{number}:digest": layer.digest})
    properties += [entry for text in subject.unread for entry in _properties({"unread": text})]
    return {
        "type": "container",
        "bom-ref": reference,
        "name": subject.name,
        "version": subject.digest,
        "hashes": _hashes([subject.digest]),
        "purl": reference,
        "properties": properties,
    }


def _operating_system(subject: Subject) -> dict[str, Any]:
    document = {
        "type": "operating-system",
        "bom-ref": f"os:{subject.distribution}:{subject.distribution_version}",
        "name": subject.distribution,
        "version": subject.distribution_version,
        "description": subject.distribution_name,
    }
    return {key: value for key, value in document.items() if value}


def encode(subject: Subject, components: Sequence[Component]) -> bytes:
    """The document as JSON; the same image and components give the same bytes."""
    ordered = sorted(components, key=component_key)
    refs = references(ordered)
    by_purl: dict[str, list[str]] = {}
    for component, reference in zip(ordered, refs, strict=True):
        by_purl.setdefault(component.purl, []).append(reference)
    image = purl(subject)
    parts = [_component(component, reference) for component, reference in zip(ordered, refs, strict=True)]
    if subject.distribution:
        parts.insert(0, _operating_system(subject))
    dependencies = [{"ref": image, "dependsOn": sorted({part["bom-ref"] for part in parts})}]
    for component, reference in zip(ordered, refs, strict=True):
        needs = {found for name in component.requires for found in by_purl.get(name, ())} - {reference}
        dependencies.append({"ref": reference, "dependsOn": sorted(needs)} if needs else {"ref": reference})
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": identity(subject, "cyclonedx").urn,
        "version": 1,
        "metadata": {
            "timestamp": timestamp(subject),
            "tools": {"components": [{"type": "application", "name": "tidewaiter", "version": __version__}]},
            "component": _image(subject, image),
        },
        "components": parts,
        "dependencies": dependencies,
        "compositions": [{"aggregate": "incomplete" if subject.unread else "unknown", "assemblies": [image]}],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
