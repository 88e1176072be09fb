"""SPDX 2.3 JSON, written by hand like `cyclonedx`."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tidewaiter import __version__
from tidewaiter.sbom.component import Component, component_key
from tidewaiter.sbom.licenses import conjunction, expression
from tidewaiter.sbom.purls import with_source
from tidewaiter.sbom.subject import Subject, identity, purl, timestamp

MEDIA_TYPE = "application/spdx+json"
_NONE = "NOASSERTION"
_DOCUMENT = "SPDXRef-DOCUMENT"
_IMAGE = "SPDXRef-Image"
_OPERATING_SYSTEM = "SPDXRef-OperatingSystem"
_TOOL = f"tidewaiter-{__version__}"
_ALGORITHMS = frozenset({"md5", "sha1", "sha256", "sha384", "sha512"})
_ADDRESS = re.compile(r"([^<>]*)<([^<>()\s]+@[^<>()\s]+)>")
_PARENTHESES = re.compile(r"[()]")
_ID = re.compile(r"[^A-Za-z0-9.\-]+")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _identifier(component: Component) -> str:
    """`SPDXRef-` and letters, digits, `.` and `-`; unique by purl and location."""
    slug = _ID.sub("-", f"{component.kind}-{component.name}")[:80]
    return f"SPDXRef-{slug}-{_digest(f'{component.purl} {component.location}')}"


class _Licenses:
    """Licence texts that are no SPDX expression, each under a `LicenseRef-` of its own."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def declared(self, texts: Sequence[str]) -> str:
        """One expression for all of `texts`; `NOASSERTION` when there are none."""
        parts = []
        for text in texts:
            known = expression(text)
            if known is None:
                known = f"LicenseRef-{_digest(text)}"
                self._texts[known] = text
            parts.append(known)
        return conjunction(parts) if parts else _NONE

    def extracted(self) -> list[dict[str, str]]:
        """`hasExtractedLicensingInfos`, sorted."""
        return [
            {"licenseId": reference, "name": text, "extractedText": text}
            for reference, text in sorted(self._texts.items())
        ]


def _actor(text: str) -> str:
    """`Organization: NAME (MAIL)` of a maintainer field such as `NAME <MAIL>`; empty when it names nobody."""
    match = _ADDRESS.fullmatch(text)
    name, mail = (match[1], match[2]) if match else (text, "")
    name = " ".join(_PARENTHESES.sub(" ", name).split())
    return f"Organization: {name}{f' ({mail})' if mail else ''}" if name else ""


def _checksums(texts: Sequence[str]) -> list[dict[str, str]]:
    pairs = (text.partition(":") for text in texts)
    return [{"algorithm": name.upper(), "checksumValue": value} for name, _, value in pairs if name in _ALGORITHMS]


def _annotations(values: Iterable[tuple[str, str]], moment: str) -> list[dict[str, str]]:
    """What SPDX 2.3 has no field for, under the names that Trivy reads back: `NAME: VALUE`."""
    return [
        {
            "annotator": f"Tool: {_TOOL}",
            "annotationDate": moment,
            "annotationType": "OTHER",
            "comment": f"{name}: {value}",
        }
        for name, value in values
        if value
    ]


def _purl(text: str) -> list[dict[str, str]]:
    return [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": text}]


def _package(component: Component, licenses: _Licenses, moment: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "SPDXID": _identifier(component),
        "name": component.name,
        "versionInfo": component.version,
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": licenses.declared(component.licenses),
        "copyrightText": _NONE,
        "externalRefs": _purl(with_source(component)),
    }
    originator = _actor(component.supplier)
    if originator:
        document["originator"] = originator
    if component.description:
        document["description"] = component.description
    checksums = _checksums(component.hashes)
    if checksums:
        document["checksums"] = checksums
    if component.source_name or component.source_version:
        name, version = component.source_name or component.name, component.source_version or component.version
        document["sourceInfo"] = f"built package from: {name} {version}"  # as Trivy writes and reads it
    annotations = _annotations(
        (
            ("FilePath", component.location),
            ("LayerDiffID", component.layer),
            ("Install", component.install),
            ("Kind", "model" if component.kind == "model" else ""),
        ),
        moment,
    )
    if annotations:
        document["annotations"] = annotations
    return document


def _image(subject: Subject, moment: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "SPDXID": _IMAGE,
        "name": subject.name,
        "versionInfo": subject.digest,
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": _NONE,
        "copyrightText": _NONE,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": _checksums([subject.digest]),
        "externalRefs": _purl(purl(subject)),
    }
    layers = [pair for layer in subject.layers for pair in (("DiffID", layer.diff_id), ("LayerDigest", layer.digest))]
    if layers:
        document["annotations"] = _annotations(layers, moment)
    return document


def _operating_system(subject: Subject) -> dict[str, Any]:
    document = {
        "SPDXID": _OPERATING_SYSTEM,
        "name": subject.distribution,
        "versionInfo": subject.distribution_version,
        "description": subject.distribution_name,
        "downloadLocation": _NONE,
        "licenseConcluded": _NONE,
        "licenseDeclared": _NONE,
        "copyrightText": _NONE,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
    }
    return {"filesAnalyzed": False, **{key: value for key, value in document.items() if value}}


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def encode(subject: Subject, components: Sequence[Component]) -> bytes:
    """The document as JSON; the same image and components give the same bytes."""
    ordered = sorted(components, key=component_key)
    licenses = _Licenses()
    moment = timestamp(subject)
    packages = [_image(subject, moment)]
    relations = [_relation(_DOCUMENT, "DESCRIBES", _IMAGE)]
    if subject.distribution:
        packages.append(_operating_system(subject))
        relations.append(_relation(_IMAGE, "CONTAINS", _OPERATING_SYSTEM))
    by_purl: dict[str, list[str]] = {}
    for component in ordered:
        by_purl.setdefault(component.purl, []).append(_identifier(component))
        packages.append(_package(component, licenses, moment))
        relations.append(_relation(_IMAGE, "CONTAINS", _identifier(component)))
    for component in ordered:
        own = _identifier(component)
        needs = {found for name in component.requires for found in by_purl.get(name, ())} - {own}
        relations.extend(_relation(own, "DEPENDS_ON", other) for other in sorted(needs))
    unique = identity(subject, "spdx")
    document: dict[str, Any] = {
        "SPDXID": _DOCUMENT,
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "name": subject.name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{_ID.sub('-', subject.name)[:100]}-{unique}",
        "creationInfo": {"created": moment, "creators": [f"Tool: {_TOOL}"]},
        "packages": packages,
        "relationships": relations,
    }
    if subject.unread:
        document["comment"] = f"Packages may be missing. What could not be read: {'; '.join(subject.unread)}"
    extracted = licenses.extracted()
    if extracted:
        document["hasExtractedLicensingInfos"] = extracted
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
