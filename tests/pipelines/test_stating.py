"""What is said of an image: the predicates' fields, what counts as the same, and what nobody said."""

import datetime as dt

import msgspec
import pytest

from inventories import facts, python
from tidewaiter.advisories.finding import Coverage, Finding, ScanResult, Vex
from tidewaiter.advisories.severity import Level
from tidewaiter.core import clock
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.pipelines import looking
from tidewaiter.pipelines.attachments import stating
from tidewaiter.policy.adapt import build_input
from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.pack import default_pack
from tidewaiter.policy.scope import Scope
from tidewaiter.policy.verdict import decide
from tidewaiter.policy.waivers import Waiver
from tidewaiter.signing import predicates, statement, vsa
from tidewaiter.signing.statement import Statement

NOW = clock.parse_rfc3339("2026-01-31T12:00:00Z")
DAY = dt.timedelta(days=1)
NAME = "team/app"
JINJA = python("jinja2", "2.10")
FACTS = facts("team/app:1", JINJA)


def finding(advisory: str, *aliases: str, severity: Level) -> Finding:
    """A finding in Jinja that 2.10.1 fixes."""
    return Finding(
        advisory=advisory,
        aliases=aliases,
        component_purl=JINJA.purl,
        name=JINJA.name,
        version=JINJA.version,
        kind=JINJA.kind,
        ecosystem=JINJA.ecosystem,
        severity=severity,
        score=None,
        vector="",
        fixed_in=("2.10.1",),
        found_as=JINJA.name,
        published="",
        modified="2024-05-01T00:00:00Z",
    )


def result(*findings: Finding) -> ScanResult:
    """A scan that found them in data of 1 January 2026."""
    return ScanResult(
        findings=findings,
        not_checked=(),
        coverage=(Coverage("PyPI", 1, "2026-01-01T00:00:00Z", "test"),),
        revision=digests.of(b"advisories"),
        oldest_as_of="2026-01-01T00:00:00Z",
    )


HIGH = finding("PYSEC-1", "CVE-2019-10906", severity="high")
LOW = finding("PYSEC-2", severity="low")
WAIVER = Waiver(
    id="W-1",
    scope=Scope(advisory="CVE-2019-10906", environments=("staging",)),
    owner="Anna",
    reason="No templates of strangers.",
    requested_by="Anna",
    requested_at=NOW - DAY,
    expires_at=NOW + 30 * DAY,
    reviewer="Bert",
    approved_at=NOW - DAY,
)


def found(scan: ScanResult, at: dt.datetime = NOW, run: str = "") -> Statement:
    """The statement about the findings of a scan."""
    return stating.found(NAME, FACTS, scan, at=at, builder="ci", pipeline_run=run)


def waived(scan: ScanResult, *waivers: Waiver) -> dict[Finding, Waiver]:
    """Findings that waivers cover in staging."""
    named = references.parse(f"{NAME}:1")
    asked = build_input(FACTS, scan, reference=named, environment="staging", now=NOW)
    return stating.waived(scan, asked, default_pack(), waivers)


def test_bills_of_materials_are_the_predicates_themselves() -> None:
    """Each document is the whole predicate, under the type that cosign gives its format, about the image's digest."""
    documents = {kind: looking.sbom(FACTS, kind) for kind in looking.MEDIA_TYPES}
    made = {one.predicate_type: one for one in stating.contents(NAME, FACTS.digest, documents)}
    assert set(made) == {predicates.SPDX, predicates.CYCLONEDX}
    assert made[predicates.SPDX].predicate == msgspec.json.decode(documents["spdx"])
    assert made[predicates.CYCLONEDX].predicate == msgspec.json.decode(documents["cyclonedx"])
    for one in made.values():
        (subject,) = one.subjects
        assert (subject.name, subject.is_(FACTS.digest)) == (NAME, True)


def test_findings_are_cosigns_record_of_a_scan() -> None:
    """The fields are those that cosign reads, with the revision of the advisory data and every finding."""
    scan = result(HIGH, LOW)
    made = found(scan, run="https://ci.example/jobs/7")
    assert made.predicate_type == "https://cosign.sigstore.dev/attestation/vuln/v1"
    said = made.predicate
    assert set(said) == {"invocation", "scanner", "metadata"}
    assert said["invocation"] == {
        "parameters": [],
        "uri": "https://ci.example/jobs/7",
        "event_id": "",
        "builder.id": "urn:tidewaiter:builder:ci",
    }
    assert said["scanner"]["db"]["version"] == scan.revision
    assert [one["advisory"] for one in said["scanner"]["result"]["findings"]] == ["PYSEC-1", "PYSEC-2"]
    assert said["metadata"] == {"scanStartedOn": "2026-01-31T12:00:00Z", "scanFinishedOn": "2026-01-31T12:00:00Z"}


def test_the_same_findings_of_another_run_are_the_same() -> None:
    """Time and run alone make no new statement; another finding, revision, image or name does."""
    first = found(result(HIGH))
    assert stating.same(first, found(result(HIGH), NOW + DAY, "https://ci.example/jobs/8"))
    assert not stating.same(first, found(result(HIGH, LOW)))
    newer = msgspec.structs.replace(result(HIGH), revision=digests.of(b"newer"))
    assert not stating.same(first, found(newer))
    other = msgspec.structs.replace(first, subjects=(statement.about("team/other", FACTS.digest),))
    assert not stating.same(first, other)


def test_nothing_said_is_no_statement() -> None:
    """Findings that nobody judged give no OpenVEX document: a match is not a judgement."""
    assert stating.excepted(NAME, FACTS, result(HIGH, LOW), {}) is None


def test_a_waiver_says_affected_and_until_when() -> None:
    """A waiver never makes an image unaffected: the status is `affected`, with its reason and its end, and no names."""
    scan = result(HIGH, LOW)
    covered = waived(scan, WAIVER)
    assert covered == {HIGH: WAIVER}
    made = stating.excepted(NAME, FACTS, scan, covered)
    assert made is not None
    assert made.predicate_type == "https://openvex.dev/ns"
    (said,) = made.predicate["statements"]
    assert (said["vulnerability"]["name"], said["status"]) == ("PYSEC-1", "affected")
    assert said["action_statement"] == "accepted until 2026-03-02T12:00:00Z: No templates of strangers."
    assert "W-1" in said["status_notes"]
    assert "Anna" not in msgspec.json.encode(made.predicate).decode()


def test_a_waiver_of_something_else_says_nothing() -> None:
    """A waiver for another environment, or that has ended, covers no finding."""
    elsewhere = msgspec.structs.replace(WAIVER, scope=Scope(advisory="PYSEC-1", environments=("production",)))
    ended = msgspec.structs.replace(WAIVER, expires_at=NOW)
    assert waived(result(HIGH), elsewhere, ended) == {}


def test_what_a_vex_document_says_is_repeated() -> None:
    """A suppressed finding stands in the statement with the status that its author gave."""
    vex = Vex(
        status="not_affected",
        justification="vulnerable_code_not_in_execute_path",
        statement="",
        author="Vendor",
        timestamp="2025-12-01T00:00:00Z",
        source="vendor.json",
        document=digests.of(b"vex"),
    )
    scan = msgspec.structs.replace(result(), suppressed=(msgspec.structs.replace(HIGH, vex=vex),))
    made = stating.excepted(NAME, FACTS, scan, {})
    assert made is not None
    (said,) = made.predicate["statements"]
    assert (said["status"], said["justification"]) == ("not_affected", "vulnerable_code_not_in_execute_path")


@pytest.mark.parametrize(("waivers", "passed"), [((WAIVER,), True), ((), False)])
def test_a_verdict_is_a_verification_summary(waivers: tuple[Waiver, ...], passed: bool) -> None:
    """It says answer, environment, policy, data, waivers, and until when, and is read back as that."""
    named = references.parse(f"{NAME}:0123456789ab")
    asked = build_input(FACTS, result(HIGH), reference=named, environment="staging", now=NOW)
    with EmbeddedEngine(default_pack()) as engine:
        verdict = decide(asked, engine, waivers=waivers)
    if verdict.allowed != passed:
        pytest.fail(f"the sample is decided otherwise: {[one.rule for one in verdict.violations]}")
    made = stating.decided(NAME, verdict, verifier="ci", origin="policy.example")
    assert made.predicate_type == predicates.VERDICT
    read = vsa.parse(made.predicate)
    assert (read.passed, read.environment, read.valid_until) == (passed, "staging", NOW + DAY)
    assert read.policy_uri == "https://policy.example/policies/staging"
    assert (read.revision, read.advisories) == (verdict.policy_revision, verdict.advisories_revision)
    assert read.waivers == tuple(one.id for one in waivers)
    assert read.is_of(FACTS.digest)
