"""`verify.chain`: nine steps, each said, for an image that production, staging or research may trust."""

import datetime as dt
from pathlib import Path

import msgspec
import negative_corpus_world as world
import pytest
from negative_corpus_places import store
from negative_corpus_world import CI, DEVELOPER, GOOD, IMAGE, LOCAL_KEY, NOW, SERVER, World, at, attestation, good

from tidewaiter.core.project import Environment
from tidewaiter.signing import predicates, trust, verify, vsa
from tidewaiter.signing.gathered import Broken, Format, Gathered, Unread
from tidewaiter.signing.verify import Report

FORMATS: tuple[Format, ...] = ("tag", "bundle")
LOST = (Unread("the referrer sha256:0", "the registry did not answer"),)


def chain(asked: World) -> Report:
    return verify.chain(asked.gathered, IMAGE, asked.trust, at=asked.now, repository=asked.repository)


def outcomes(report: Report) -> str:
    """One letter a step: holds, invalid, absent, unchecked, not asked."""
    return "".join({"not_asked": "-"}.get(step.outcome, step.outcome[0]) for step in report.steps)


@pytest.mark.parametrize("form", FORMATS)
def test_production_holds(form: Format) -> None:
    """All steps but the one that no policy asks for hold, in either format; each says by whose word."""
    report = chain(good(form))
    assert outcomes(report) == "hhhhhhh-h"
    assert [step.number for step in report.steps] == list(range(1, 10))
    assert report.holds
    assert not report.undetermined
    assert report.error() is None
    details = {step.number: step.detail for step in report.steps}
    assert "server (server)" in details[1]
    assert details[3] == f"ci ({form})"
    for number in (4, 5, 6, 7):
        assert "signed by ci (ci)" in details[number]
        assert f"{form} format" in details[number]
    assert f"built from {world.SOURCE} at {world.COMMIT} by ci" in details[7]
    assert "valid until 2026-11-23T11:00:00Z" in details[9]


@pytest.mark.parametrize(("ago", "outcome"), [(59, "i"), (60, "i"), (61, "h")])
def test_what_the_own_catalog_said_last_counts(ago: int, outcome: str) -> None:
    """A no of the asker's own catalog withdraws an attested yes of that moment or before, also where none is asked."""
    report = verify.chain(GOOD.gathered, IMAGE, GOOD.trust, at=NOW, repository=GOOD.repository, denied=at(minutes=ago))
    assert outcomes(report) == f"hhhhhhh-{outcome}"
    staging = msgspec.structs.replace(GOOD.trust, demanded=(predicates.SIGNATURE,))
    without = GOOD.but(verdict=())
    report = verify.chain(without.gathered, IMAGE, staging, at=NOW, repository=GOOD.repository, denied=at(minutes=ago))
    assert not report.holds


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_stored_holds(form: Format, tmp_path: Path) -> None:
    """The same from stored manifests and blobs on, as `gather` finds them."""
    assert outcomes(chain(store(tmp_path, form).world)) == "hhhhhhh-h"


def test_formats_may_be_mixed() -> None:
    """Each step may stand on either format: what lies in one does not hide what lies in the other."""
    tag, bundle = good("tag"), good("bundle")
    mixed = tag.but(**{name: bundle.parts[name] for name in ("spdx", "verdict")})
    assert chain(mixed).holds
    doubled = tag.but(**{f"{name}-again": bundle.parts[name] for name in bundle.parts})
    assert chain(doubled).holds


def test_what_does_not_hold_takes_nothing_away() -> None:
    """Foreign, expired and broken things beside the true ones do not matter."""
    extra = GOOD.but(
        strangers=[attestation(predicates.VERDICT, world.verdict(passed=False), world.STRANGER)],
        expired=[attestation(predicates.VERDICT, world.verdict(verified=at(days=3)), SERVER)],
        builders=[attestation(predicates.VERDICT, world.verdict(passed=False), CI)],
    ).asked(broken=(Broken("a manifest", "it is an index"),))
    report = chain(extra)
    assert outcomes(report) == "hhhhhhh-h"
    assert "1 broken" in report.steps[1].detail


def test_a_no_for_another_environment_or_from_before_takes_nothing_away() -> None:
    """A verdict stands against the denial of staging, and after an earlier denial of its own environment."""
    staging = attestation(predicates.VERDICT, world.verdict(passed=False, environment="staging", verified=NOW), SERVER)
    earlier = attestation(predicates.VERDICT, world.verdict(passed=False, verified=at(hours=1, seconds=1)), SERVER)
    assert chain(GOOD.but(staging=staging, earlier=earlier)).holds


def test_a_newer_yes_follows_a_no() -> None:
    """Yes, no, yes: the last word counts, and the newest yes is the one that is told."""
    later = attestation(predicates.VERDICT, world.verdict(verified=at(minutes=5)), SERVER)
    no = attestation(predicates.VERDICT, world.verdict(verified=at(minutes=30), passed=False), SERVER)
    report = chain(GOOD.but(no=no, later=later))
    assert outcomes(report) == "hhhhhhh-h"
    assert "passed at 2026-11-22T11:55:00Z" in report.steps[8].detail


def test_what_is_unread_harms_the_verdict_only() -> None:
    """The other steps may stand on what was read; a verdict could be followed by a no that was not."""
    report = chain(GOOD.asked(unread=LOST))
    assert outcomes(report) == "hhhhhhh-u"
    assert report.undetermined
    assert "the registry did not answer" in report.steps[1].detail
    without = GOOD.trusting(demanded=tuple(one for one in trust.DEMANDED["staging"] if one != predicates.VERDICT))
    assert outcomes(chain(without.asked(unread=LOST))) == "hhhhhhh--"


def test_a_no_is_a_no_whatever_could_not_be_read() -> None:
    """Something invalid makes the answer no, though another step is open; only open steps make it open."""
    report = chain(GOOD.but(verdict=()).with_key("ci", revoked_at=at(days=1)).asked(unread=LOST))
    assert outcomes(report) == "hhhuuuu-u"
    assert report.undetermined
    withdrawn = attestation(predicates.VERDICT, world.verdict(verified=at(minutes=5), passed=False), SERVER)
    report = chain(GOOD.but(no=withdrawn).asked(unread=LOST))
    assert outcomes(report) == "hhhhhhh-i"
    assert not report.undetermined


@pytest.mark.parametrize(
    ("environment", "expected"), [("research", "hhhh-----"), ("staging", "hhhhhhh-h"), ("production", "ihhiiii-i")]
)
def test_what_a_home_without_a_server_can_show(environment: Environment, expected: str) -> None:
    """Research and staging accept a developer's own key; in production it vouches for nothing."""
    predicate = world.provenance(builder="urn:tidewaiter:builder:local")
    said = world.verdict(verifier={"id": f"{vsa.VERIFIER}local"}, environment=environment)
    local = World(
        parts={
            "all": (
                world.image_signature(DEVELOPER),
                attestation(predicates.SPDX, world.SPDX, DEVELOPER),
                attestation(predicates.CYCLONEDX, world.CYCLONEDX, DEVELOPER),
                attestation(predicates.PROVENANCE, predicate, DEVELOPER),
                attestation(predicates.VERDICT, said, DEVELOPER),
            )
        },
        trust=trust.for_environment(environment, [LOCAL_KEY]),
    )
    report = chain(local)
    # A signature that is truly by a trusted key is one in production too; step 4 says why it does not count.
    assert outcomes(report) == expected
    assert report.environment == environment


def test_files_that_differ_from_the_commit_are_for_elsewhere_than_production() -> None:
    """Staging takes the provenance of a dirty tree."""
    dirty = attestation(predicates.PROVENANCE, world.provenance(annotations={"dirty": True}))
    staging = GOOD.trusting(environment="staging", demanded=(predicates.PROVENANCE,))
    assert chain(staging.but(provenance=dirty)).holds


def test_provenance_of_a_github_workflow_is_read() -> None:
    """A builder whose name is a URI, and a source in `workflow`, as GitHub's provenance has them."""
    builder = "https://github.com/actions/runner/github-hosted"
    predicate = world.provenance(
        builder=builder,
        external={"workflow": {"repository": "https://github.com/vision/classifier", "ref": "refs/heads/main"}},
        dependencies=[
            {"uri": "git+https://github.com/vision/classifier@refs/heads/main", "digest": {"gitCommit": world.COMMIT}}
        ],
    )
    asked = GOOD.trusting(sources=("https://github.com/vision/*",), builders=(builder,)).with_key("ci", builder=builder)
    assert chain(asked.but(provenance=attestation(predicates.PROVENANCE, predicate))).holds


def test_whatever_else_is_demanded_is_looked_for() -> None:
    """Step 8 takes any predicate type, and names each."""
    kinds = (predicates.VULNERABILITIES, predicates.OPENVEX)
    asked = GOOD.trusting(demanded=(*GOOD.trust.demanded, *kinds))
    found = [attestation(kind, {"x": 1}) for kind in kinds]
    report = chain(asked.but(further=found))
    assert outcomes(report) == "hhhhhhhhh"
    assert "vuln is attested: holds" in report.steps[7].detail
    assert "openvex is attested: holds" in report.steps[7].detail
    assert outcomes(chain(asked.but(further=found[:1]))) == "hhhhhhhah"


def test_nothing_beside_an_image() -> None:
    """Every step that is asked says absent, but that somebody is trusted and that there was nothing to read."""
    report = verify.chain(Gathered(), IMAGE, GOOD.trust, at=NOW, repository=world.REPOSITORY)
    assert outcomes(report) == "hhaaaaa-a"
    error = report.error()
    assert isinstance(error, verify.AbsentError)
    assert error.code == "chain_absent"
    assert "step 3" in error.message
    assert "step 8" not in error.message


def test_the_steps_say_no_more_than_what_holds() -> None:
    """Two keys sign; the one that may not is not told as the one that vouches."""
    both = GOOD.but(signature=(world.image_signature(SERVER), world.image_signature(CI)))
    report = chain(both)
    assert report.steps[2].detail == "server (tag), ci (tag)"
    assert report.steps[3].detail.startswith("signed by ci (ci)")


@pytest.mark.parametrize("hours", [1, 24])
def test_a_verdicts_age_and_end(hours: int) -> None:
    """A policy's limit on age holds from both sides, and so does a verdict's own end."""
    second = dt.timedelta(seconds=1)
    asked = GOOD.trusting(verdict_seconds=hours * 3600).trusting(demanded=(predicates.VERDICT,))
    moment = at(hours=1)
    last = moment + dt.timedelta(hours=hours)
    until = last if hours == 1 else last - second  # the age may be just 24 hours, but the verdict ends then
    assert chain(asked.asked(now=until)).holds
    assert not chain(asked.asked(now=until + second)).holds


def test_no_signature_is_asked_for_when_the_policy_does_not() -> None:
    """What is not demanded is said to be not asked."""
    report = chain(GOOD.trusting(demanded=(predicates.VERDICT,)))
    assert outcomes(report) == "hh------h"
    assert report.steps[2].detail == "the policy does not demand it"


def test_reports_are_json() -> None:
    """A report is plain values, for whoever prints it."""
    document = msgspec.json.decode(msgspec.json.encode(chain(GOOD)))
    assert document["steps"][0] == {
        "number": 1,
        "name": "somebody is trusted",
        "outcome": "holds",
        "detail": "ci (ci), server (server)",
    }
