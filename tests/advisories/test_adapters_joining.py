"""Findings of several scanners, joined."""

from collections.abc import Iterable

import pytest
from our_findings import COMPONENTS, JINJA, LIBC, LIBC_BIN, finding, result

from scanner_reports import grype, harbor, trivy, trivy_found
from tidewaiter.advisories.adapters.joining import join
from tidewaiter.advisories.adapters.reader import read
from tidewaiter.advisories.exploited import Exploitation
from tidewaiter.advisories.finding import Finding, ScanResult


def known(names: Iterable[str]) -> Exploitation:
    """A list in which CVE-1 is."""
    return Exploitation(kev="CVE-1" in names)


def joined(ours: ScanResult, *reports: bytes) -> tuple[Finding, ...]:
    return join(ours, COMPONENTS, [read(data, "r") for data in reports], exploitation=known).findings


def test_one_vulnerability_under_three_names_is_one_finding() -> None:
    """A finding keeps its names, knows who reported it, and takes over the worst severity that is stated."""
    ours = result(finding(JINJA, "PYSEC-1", "CVE-1"))
    by_trivy = trivy(trivy_found("CVE-1", "jinja2", "2.10", fixed="2.10.1", word="MEDIUM", purl="pkg:pypi/jinja2@2.10"))
    match = {"id": "GHSA-1", "severity": "High", "fix": {"versions": ["2.10.1"]}}
    by_grype = grype((match, {"name": "Jinja2", "version": "2.10", "type": "python"}), related=("CVE-1",))
    (found,) = joined(ours, by_grype, by_trivy)
    assert (found.advisory, found.aliases) == ("PYSEC-1", ("CVE-1",))
    assert found.reported_by == ("grype", "tidewaiter", "trivy")
    assert (found.severity, found.fixed_in, found.source) == ("high", ("2.10.1",), "osv")
    assert [(word.scanner, word.advisory, word.severity) for word in found.words] == [
        ("tidewaiter", "PYSEC-1", "unknown"),
        ("grype", "GHSA-1", "high"),
        ("trivy", "CVE-1", "medium"),
    ]
    assert found.disagreement == ("severity",)
    assert found.kev is True
    assert joined(ours, by_trivy, by_grype) == (found,)


def test_without_reports_nothing_changes() -> None:
    """A scan without other scanners says that we reported it, and no more."""
    ours = result(finding())
    assert join(ours, COMPONENTS, [], exploitation=known) is ours
    (found,) = ours.findings
    assert (found.reported_by, found.words, found.disagreement) == (("tidewaiter",), (), ())


def test_found_by_one_only() -> None:
    """What only we or only another scanner found is marked, and neither is lost."""
    said = trivy_found("CVE-2", "jinja2", "2.10", fixed="3.0, 2.9", word="LOW", purl="pkg:pypi/jinja2@2.10")
    ours, theirs = joined(result(finding()), trivy(said))[::-1]
    assert (ours.advisory, ours.reported_by, ours.disagreement) == ("PYSEC-1", ("tidewaiter",), ("found_by",))
    assert (theirs.advisory, theirs.reported_by, theirs.disagreement) == ("CVE-2", ("trivy",), ("found_by",))
    assert (ours.kev, theirs.kev) == (None, False)
    assert (theirs.component_purl, theirs.name, theirs.ecosystem) == (JINJA.purl, "Jinja2", "PyPI")
    assert (theirs.fixed_in, theirs.severity, theirs.source) == (("3.0",), "low", "trivy")


@pytest.mark.parametrize(
    ("ours", "theirs", "differ", "kept"),
    [
        (("2.10.1",), "2.10.1", (), ("2.10.1",)),
        (("2.10.1",), "2.10.1, 2.11", (), ("2.10.1",)),
        (("2.10.1",), "2.11", ("fixed_in",), ("2.10.1",)),
        (("2.10.1",), "", ("fixed_in",), ("2.10.1",)),
        ((), "2.12, 2.11", ("fixed_in",), ("2.11", "2.12")),
        ((), "", (), ()),
    ],
)
def test_fixes(ours: tuple[str, ...], theirs: str, differ: tuple[str, ...], kept: tuple[str, ...]) -> None:
    """Our fixes stay; others' count where we know none; another nearest fix is a disagreement."""
    said = trivy_found("PYSEC-1", "jinja2", "2.10", fixed=theirs, purl="pkg:pypi/jinja2@2.10")
    (found,) = joined(result(finding(fixed_in=ours)), trivy(said))
    assert (found.fixed_in, found.disagreement) == (kept, differ)


def test_a_source_package_means_its_binary_packages() -> None:
    """A scanner that names Debian's source package speaks of every binary package of it; binary names go first."""
    own = result(finding(LIBC, "DEBIAN-CVE-3", "CVE-3", fixed_in=()), finding(LIBC_BIN, "DEBIAN-CVE-3", "CVE-3"))
    source = {"id": "CVE-3", "package": "glibc", "version": "2.36-9+deb12u3", "severity": "High", "fix_version": ""}
    assert {one.reported_by for one in joined(own, harbor(source))} == {("harbor/trivy", "tidewaiter")}
    binary = joined(own, harbor(source | {"package": "libc6"}))
    assert {one.name: len(one.reported_by) for one in binary} == {"libc6": 2, "libc-bin": 1}


def test_a_package_that_the_image_does_not_have() -> None:
    """It is a finding too: another scanner may see what we do not; its package URL is that of the report."""
    said = trivy_found("CVE-4", "github.com/x/y", "v1.2.3", fixed="1.2.4", purl="pkg:golang/github.com/x/y@v1.2.3")
    (found,) = joined(result(), trivy(said, kind="gobinary"))
    assert (found.name, found.version, found.kind, found.ecosystem) == ("github.com/x/y", "1.2.3", "golang", "Go")
    (bare,) = joined(result(), harbor({"id": "CVE-4", "package": "y", "version": "1", "severity": "Low"}))
    assert (bare.component_purl, bare.kind) == ("pkg:generic/y@1", "other")


def test_versions_are_not_mixed_up() -> None:
    """A report about another version of a package says nothing of the one that is there."""
    said = trivy_found("PYSEC-1", "jinja2", "2.11", purl="pkg:pypi/jinja2@2.11")
    found = joined(result(finding()), trivy(said))
    assert [(one.version, one.reported_by) for one in found] == [("2.10", ("tidewaiter",)), ("2.11", ("trivy",))]


def test_a_bulletin_does_not_glue_vulnerabilities_together() -> None:
    """A report about several CVEs joins our findings of each, and gives none of them the other's CVE."""
    ours = result(finding(JINJA, "PYSEC-1", "CVE-1"), finding(JINJA, "PYSEC-2", "CVE-2"))
    match = ({"id": "RHSA-9", "severity": "Low"}, {"name": "jinja2", "version": "2.10", "type": "python"})
    found = {one.advisory: one.aliases for one in joined(ours, grype(match, related=("CVE-1", "CVE-2")))}
    assert found == {"PYSEC-1": ("CVE-1",), "PYSEC-2": ("CVE-2",)}


def test_a_report_that_calls_everything_one_takes_nothing_away() -> None:
    """Findings of ours stay, whatever a report claims to be their aliases."""
    ours = result(finding(JINJA, "PYSEC-1"), finding(JINJA, "PYSEC-2"))
    match = ({"id": "PYSEC-1", "severity": "Low"}, {"name": "jinja2", "version": "2.10", "type": "python"})
    found = {one.advisory: one.aliases for one in joined(ours, grype(match, related=("PYSEC-2",)))}
    assert found == {"PYSEC-1": ours.findings[0].aliases, "PYSEC-2": ours.findings[1].aliases}


def test_a_report_cannot_put_a_finding_under_the_waiver_of_another() -> None:
    """Whatever it calls an alias, a finding of ours gets no name that a waiver could be for."""
    ours = result(finding(JINJA, "PYSEC-1", "CVE-1"), finding(JINJA, "PYSEC-2", "CVE-2"))
    match = ({"id": "CVE-1", "severity": "Low"}, {"name": "jinja2", "version": "2.10", "type": "python"})
    found = {one.advisory: set(one.aliases) for one in joined(ours, grype(match, related=("PYSEC-2", "GHSA-9")))}
    assert found == {"PYSEC-1": {"CVE-1"}, "PYSEC-2": {"CVE-2"}}


def test_what_others_know_to_be_exploited_counts() -> None:
    """A vulnerability is looked up by the names that others give it too, though our finding does not take them."""
    match = ({"id": "PYSEC-1", "severity": "Low"}, {"name": "jinja2", "version": "2.10", "type": "python"})
    (found,) = joined(result(finding(JINJA, "PYSEC-1", "GHSA-7")), grype(match, related=("CVE-1",)))
    assert (found.aliases, found.kev) == (("GHSA-7",), True)
