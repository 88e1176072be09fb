"""Trivy's JSON report, schema version 2 (Trivy, `pkg/types/report.go`)."""

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
    refused,
    scored,
)
from tidewaiter.sbom.component import Kind
from tidewaiter.sbom.reading.document import clean

_SCHEMA = 2
# Trivy, `pkg/fanal/types/const.go`; distributions are told by the class `os-pkgs` and their package manager.
_KINDS: dict[str, Kind] = {
    "alpine": "apk",
    "wolfi": "apk",
    "chainguard": "apk",
    "debian": "deb",
    "ubuntu": "deb",
    "alma": "rpm",
    "amazon": "rpm",
    "azurelinux": "rpm",
    "centos": "rpm",
    "fedora": "rpm",
    "oracle": "rpm",
    "photon": "rpm",
    "redhat": "rpm",
    "rocky": "rpm",
    "python-pkg": "python",
    "pip": "python",
    "node-pkg": "npm",
    "npm": "npm",
    "gobinary": "golang",
    "gomod": "golang",
    "jar": "maven",
    "pom": "maven",
    "rustbinary": "cargo",
    "cargo": "cargo",
    "gemspec": "gem",
    "conda-pkg": "conda",
}


class _Identifier(msgspec.Struct):
    purl: str = msgspec.field(name="PURL", default="")


class _Cvss(msgspec.Struct, rename="pascal"):
    v2_vector: str = msgspec.field(name="V2Vector", default="")
    v3_vector: str = msgspec.field(name="V3Vector", default="")
    v40_vector: str = msgspec.field(name="V40Vector", default="")


class _Vulnerability(msgspec.Struct, rename="pascal"):
    vulnerability_id: str = msgspec.field(name="VulnerabilityID")
    pkg_name: str = ""
    pkg_identifier: _Identifier = msgspec.field(default_factory=_Identifier)
    installed_version: str = ""
    fixed_version: str = ""
    severity: str = ""
    severity_source: str = ""
    cvss: dict[str, _Cvss] = msgspec.field(name="CVSS", default_factory=dict)
    published_date: str = ""
    last_modified_date: str = ""


class _Result(msgspec.Struct, rename="pascal"):
    type: str = ""
    vulnerabilities: list[_Vulnerability] | None = None


class _Metadata(msgspec.Struct, rename="pascal"):
    image_id: str = msgspec.field(name="ImageID", default="")
    repo_digests: list[str] | None = None


class _Program(msgspec.Struct, rename="pascal"):
    version: str = ""


class _Report(msgspec.Struct, rename="pascal"):
    schema_version: int
    trivy: _Program = msgspec.field(default_factory=_Program)
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    results: list[_Result] | None = None


def _vectors(found: _Vulnerability) -> tuple[str, ...]:
    """Those of the source that the severity is from, else of the National Vulnerability Database, else of any."""
    preferred = found.cvss.get(found.severity_source) or found.cvss.get("nvd")
    said = [preferred] if preferred else list(found.cvss.values())
    return tuple(vector for one in said for vector in (one.v2_vector, one.v3_vector, one.v40_vector))


def _reported(found: _Vulnerability, kind: Kind | None, where: str) -> Reported:
    named = package(found.pkg_identifier.purl, found.pkg_name, found.installed_version, kind, where)
    advisory, aliases = names_of(found.vulnerability_id, (), where)
    score = scored(_vectors(found))
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
        fixed_in=tuple(clean(one, 200) for one in found.fixed_version.split(",") if one.strip()),
        published=clean(found.published_date, 40),
        modified=clean(found.last_modified_date, 40),
    )


def read(data: bytes, where: str) -> ScannerReport:
    """What the checked document says; raises as `reader.read`. What Trivy itself was told to ignore is not in it."""
    report = decode(data, _Report, where)
    if report.schema_version != _SCHEMA:
        raise refused(where, f"schema version {report.schema_version} of Trivy's report is not read; {_SCHEMA} is")
    found = (
        _reported(one, _KINDS.get(result.type), where)
        for result in report.results or ()
        for one in result.vulnerabilities or ()
    )
    return ScannerReport(
        scanner="trivy",
        version=clean(report.trivy.version, 100),
        findings=tuple(counted(found, where)),
        digests=digests_of([report.metadata.image_id, *(report.metadata.repo_digests or ())]),
    )
