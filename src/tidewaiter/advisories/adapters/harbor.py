"""Harbor's scan report: `application/vnd.security.vulnerability.report; version=1.1`, and what was before it.

Read bare, as scanner adapters write it (pluggable-scanner-spec), and as Harbor's API hands it out: in an object whose
only key is the media type. Of an image that was not scanned the API's object is empty, which is no report.
"""

from collections.abc import Collection

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
from tidewaiter.sbom.reading.document import clean

MEDIA_TYPES = frozenset(
    {
        "application/vnd.security.vulnerability.report",
        "application/vnd.scanner.adapter.vuln.report.harbor+json",
    }
)


class _Scanner(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Artifact(msgspec.Struct):
    digest: str = ""


class _Cvss(msgspec.Struct):
    vector_v3: str = ""
    vector_v2: str = ""


class _Vulnerability(msgspec.Struct):
    id: str
    package: str = ""
    version: str = ""
    fix_version: str = ""
    severity: str = ""
    artifact_digests: list[str] | None = None
    preferred_cvss: _Cvss | None = None


class _Report(msgspec.Struct):
    scanner: _Scanner
    vulnerabilities: list[_Vulnerability] | None = None
    artifact: _Artifact = msgspec.field(default_factory=_Artifact)


def wrapped(keys: Collection[str]) -> str:
    """The media type among the keys of a document as Harbor's API hands it out; empty for any other document."""
    found = [key for key in keys if key.partition(";")[0].strip() in MEDIA_TYPES]
    return found[0] if len(found) == len(keys) == 1 else ""


def _reported(found: _Vulnerability, where: str) -> Reported:
    named = package("", found.package, found.version, None, where)
    advisory, aliases = names_of(found.id, (), where)
    cvss = found.preferred_cvss or _Cvss()
    score = scored((cvss.vector_v3, cvss.vector_v2))
    return Reported(
        advisory=advisory,
        aliases=aliases,
        name=named.name,
        version=named.version,
        kind=None,
        ecosystem="",
        purl=named.purl,
        severity=level_of(found.severity),
        score=score.score,
        vector=score.vector,
        fixed_in=tuple(clean(one, 200) for one in found.fix_version.split(",") if one.strip()),
        published="",
        modified="",
    )


def read(data: bytes, where: str) -> ScannerReport:
    """What the checked document says; raises as `reader.read`."""
    outside = decode(data, dict[str, msgspec.Raw], where)
    key = wrapped(outside.keys())
    report = decode(outside[key] if key else data, _Report, where)
    name = clean(report.scanner.name, 60).lower()
    if not name:
        raise refused(where, "it does not say which scanner Harbor ran")
    listed = report.vulnerabilities or ()
    digests = [digest for one in listed for digest in one.artifact_digests or ()]
    return ScannerReport(
        scanner=f"harbor/{name}",
        version=clean(report.scanner.version, 100),
        findings=tuple(counted((_reported(one, where) for one in listed), where)),
        digests=digests_of([report.artifact.digest, *digests]),
    )
