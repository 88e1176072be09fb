"""What a document is about, and what all formats say alike."""

import hashlib
import uuid
from urllib.parse import quote

import msgspec

from tidewaiter.advisories.finding import Finding, NotChecked, ScanResult
from tidewaiter.sbom.component import Component
from tidewaiter.sbom.subject import Subject, timestamp

_ADDRESSES = (
    ("CVE-", "https://nvd.nist.gov/vuln/detail/"),
    ("GHSA-", "https://github.com/advisories/"),
    ("", "https://osv.dev/vulnerability/"),
)


class Gap(msgspec.Struct, frozen=True):
    """Packages that were not checked for one reason."""

    ecosystem: str
    reason: str
    packages: tuple[NotChecked, ...]

    @property
    def text(self) -> str:
        """One sentence with the first of them."""
        shown = ", ".join(f"{one.name} {one.version}".rstrip() for one in self.packages[:5])
        more = ", …" if len(self.packages) > 5 else ""
        where = f" of {self.ecosystem}" if self.ecosystem else ""
        return f"{len(self.packages)} packages{where} were not checked: {self.reason} ({shown}{more})"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A scan of one image."""

    subject: Subject
    components: tuple[Component, ...]
    result: ScanResult

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """Those that count, then those that a VEX statement suppresses."""
        return self.result.findings + self.result.suppressed

    @property
    def at(self) -> str:
        """RFC 3339: of the newest advisory data, VEX statement or image that this scan is about; never the clock."""
        said = [one.vex.timestamp for one in self.all_findings if one.vex]
        data = [one.as_of for one in self.result.coverage]
        moments = [
            timestamp(Subject(name="", digest="", created=text)) for text in (*said, *data, self.subject.created)
        ]
        return max(moments)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What was not checked, by ecosystem and reason."""
        groups: dict[tuple[str, str], list[NotChecked]] = {}
        for one in self.result.not_checked:
            # Advisories whose versions cannot be compared have a reason for each package; one group says it once.
            reason = "versions that cannot be compared" if one.advisories else one.reason
            groups.setdefault((one.ecosystem, reason), []).append(one)
        return tuple(Gap(ecosystem, reason, tuple(found)) for (ecosystem, reason), found in sorted(groups.items()))

    @property
    def by_purl(self) -> dict[str, Component]:
        """The first component of each package URL."""
        return {one.purl: one for one in reversed(self.components)}


def suppressed(finding: Finding) -> bool:
    """Whether a VEX statement says that the finding does not count."""
    return finding.vex is not None and finding.vex.status in {"not_affected", "fixed"}


def address(advisory: str) -> str:
    """Where people read about an advisory."""
    start = next(start for prefix, start in _ADDRESSES if advisory.startswith(prefix))
    return start + quote(advisory, safe="")


def headline(finding: Finding) -> str:
    """`ADVISORY in PACKAGE VERSION`."""
    return f"{finding.advisory} in {finding.name} {finding.version}"


def remedy(finding: Finding) -> str:
    """What to do, one sentence."""
    if finding.fixed_in:
        return f"Upgrade {finding.name} to {' or '.join(finding.fixed_in)}."
    return f"No fixed version of {finding.name} is known."


def reason(finding: Finding) -> str:
    """Why a VEX statement lets the finding not count; empty without one."""
    vex = finding.vex
    if vex is None:
        return ""
    return ": ".join(part for part in (vex.status, vex.justification, vex.statement) if part) + f" ({vex.source})"


def fingerprint(*parts: str) -> str:
    """SHA-256 of texts, hexadecimal."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def identifier(report: Report, *parts: str) -> uuid.UUID:
    """A UUID (RFC 4122, version 5) that follows from the image and `parts`."""
    name = "\0".join((report.subject.name, report.subject.digest, *parts))
    return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:tidewaiter:scan:{name}")
