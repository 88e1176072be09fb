"""What a scan says: findings, what was not checked, and how good the data was."""

import datetime as dt
from typing import Literal

import msgspec

from tidewaiter.advisories.severity import Level
from tidewaiter.core import clock
from tidewaiter.oci.digest import Digest


class Coverage(msgspec.Struct, frozen=True):
    """The advisory data of one ecosystem: number of entries, newest change (RFC 3339), where it came from."""

    ecosystem: str
    entries: int
    as_of: str
    source: str

    def age_days(self, now: dt.datetime | None = None) -> int:
        """Whole days since `as_of`, at `now` or at the current time."""
        return age_days(self.as_of, now)


OURS = "tidewaiter"
"""How this program is called among those that report a finding."""

Disagreement = Literal["found_by", "severity", "fixed_in"]
VexStatus = Literal["not_affected", "affected", "fixed", "under_investigation"]


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What one scanner says of a finding."""

    scanner: str
    advisory: str
    """Under which id it reports the vulnerability."""
    severity: Level
    fixed_in: tuple[str, ...]


class Vex(msgspec.Struct, frozen=True, kw_only=True):
    """The statement of a VEX document that holds for a finding; empty where it does not say."""

    status: VexStatus
    justification: str
    """Label of OpenVEX, for example `vulnerable_code_not_in_execute_path`."""
    statement: str
    """In the author's words."""
    author: str
    timestamp: str
    """RFC 3339 in UTC."""
    source: str
    """The document: its `@id`, else the file's name."""
    document: Digest
    """Of the document's bytes."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One vulnerability of one component. Times are RFC 3339 in UTC, empty when no advisory says them."""

    advisory: str
    aliases: tuple[str, ...]
    """Every other id of the same vulnerability, sorted."""
    component_purl: str
    name: str
    version: str
    kind: str
    ecosystem: str
    severity: Level
    score: float | None
    """CVSS base score, when the severity comes from a vector."""
    vector: str
    fixed_in: tuple[str, ...]
    """Fixed versions newer than `version`, the smallest first; empty when no fix is known."""
    found_as: str
    """Package name under which the advisory is filed; differs from the component's for names of one identity."""
    published: str
    modified: str
    source: str = "osv"
    kev: bool | None = None
    """Whether CISA's catalogue lists one of its CVEs; None when no catalogue was imported, or it has no CVE."""
    epss: float | None = None
    """EPSS's probability that it is exploited within 30 days, 0 to 1, the highest of its CVEs; None when not known."""
    epss_percentile: float | None = None
    """Share of all CVEs that are no more probable, 0 to 1."""
    reported_by: tuple[str, ...] = (OURS,)
    """Sorted names of the scanners that report it."""
    words: tuple[Word, ...] = ()
    """What each of them says, ours first; empty when no other scanner was asked."""
    disagreement: tuple[Disagreement, ...] = ()
    """In what the scanners that were asked differ: who found it, how severe, which version is the nearest fix."""
    vex: Vex | None = None


class NotChecked(msgspec.Struct, frozen=True, kw_only=True):
    """A component (or some advisories about it) that could not be judged. Never to be read as clean."""

    purl: str
    name: str
    version: str
    ecosystem: str
    reason: str
    advisories: tuple[str, ...] = ()
    """The advisories that could not be decided; empty when none could be looked up at all."""


class ScanResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of matching components with advisories."""

    findings: tuple[Finding, ...]
    """Sorted by purl, worst severity first, then id."""
    not_checked: tuple[NotChecked, ...]
    coverage: tuple[Coverage, ...]
    """Data that was used: the ecosystems of the components, as far as they are known."""
    revision: Digest
    """Names all advisory data of the home by content."""
    oldest_as_of: str
    """Oldest `as_of` of `coverage`; empty when there was no data to use."""
    suppressed: tuple[Finding, ...] = ()
    """Findings that a VEX document calls not affected or fixed, in the order of `findings`."""
    notes: tuple[str, ...] = ()
    """What must be known of the other scanners' reports and of the VEX documents."""


def age_days(as_of: str, now: dt.datetime | None = None) -> int:
    """Whole days between `as_of` (RFC 3339) and `now` (default: the current time); raises `ValueError` as parsing."""
    return ((now or clock.now()) - clock.parse_rfc3339(as_of)).days
