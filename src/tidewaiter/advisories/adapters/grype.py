"""Grype's JSON report (Grype, `grype/presenter/models/document.go`)."""

import msgspec

from tidewaiter.advisories.adapters.reported import (
    Reported,
    ScannerReport,
    counted,
    decode,
    digests_of,
    level_of,
    names_of,
    package,
    scored,
)
from tidewaiter.sbom.component import Kind
from tidewaiter.sbom.reading.document import clean

# Syft, `syft/pkg/type.go`.
_KINDS: dict[str, Kind] = {
    "apk": "apk",
    "conda": "conda",
    "deb": "deb",
    "gem": "gem",
    "go-module": "golang",
    "java-archive": "maven",
    "npm": "npm",
    "python": "python",
    "rpm": "rpm",
    "rust-crate": "cargo",
}


class _Cvss(msgspec.Struct):
    vector: str = ""


class _Fix(msgspec.Struct):
    versions: list[str] | None = None


class _Vulnerability(msgspec.Struct):
    id: str
    severity: str = ""
    cvss: list[_Cvss] | None = None
    fix: _Fix = msgspec.field(default_factory=_Fix)


class _Related(msgspec.Struct):
    id: str
    cvss: list[_Cvss] | None = None


class _Artifact(msgspec.Struct):
    name: str = ""
    version: str = ""
    type: str = ""
    purl: str = ""


class _Match(msgspec.Struct):
    vulnerability: _Vulnerability
    artifact: _Artifact
    related: list[_Related] | None = msgspec.field(name="relatedVulnerabilities", default=None)


class _Target(msgspec.Struct, rename="camel"):
    image_id: str = msgspec.field(name="imageID", default="")
    manifest_digest: str = ""
    repo_digests: list[str] | None = None


class _Source(msgspec.Struct):
    type: str = ""
    target: msgspec.Raw = msgspec.Raw()
    """An object for images, a path for folders and files."""


class _Descriptor(msgspec.Struct):
    version: str = ""


class _Report(msgspec.Struct):
    matches: list[_Match]
    source: _Source | None = None
    descriptor: _Descriptor = msgspec.field(default_factory=_Descriptor)


def _reported(match: _Match, where: str) -> Reported:
    found, artifact, related = match.vulnerability, match.artifact, match.related or ()
    named = package(artifact.purl, artifact.name, artifact.version, _KINDS.get(artifact.type), where)
    advisory, aliases = names_of(found.id, (one.id for one in related), where)
    own = scored(one.vector for one in found.cvss or ())
    score = own if own.vector else scored(one.vector for other in related for one in other.cvss or ())
    return Reported(
        advisory=advisory,
        aliases=aliases,
        name=named.name,
        version=named.version,
        kind=named.kind,
        ecosystem=named.ecosystem,
        purl=named.purl,
        severity=level_of(found.severity),
        score=score.score,
        vector=score.vector,
        fixed_in=tuple(clean(one, 200) for one in found.fix.versions or () if one.strip()),
        published="",
        modified="",
    )


def read(data: bytes, where: str) -> ScannerReport:
    """What the checked document says; raises as `reader.read`. What Grype itself was told to ignore is not in it."""
    report = decode(data, _Report, where)
    target = _Target()
    if report.source is not None and report.source.type == "image":
        target = decode(report.source.target, _Target, where)
    return ScannerReport(
        scanner="grype",
        version=clean(report.descriptor.version, 100),
        findings=tuple(counted((_reported(match, where) for match in report.matches), where)),
        digests=digests_of([target.image_id, target.manifest_digest, *(target.repo_digests or ())]),
    )
