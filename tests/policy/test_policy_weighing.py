"""Waivers in a decision: what they take out of it, what they never do, and what the verdict says of them."""

import datetime as dt
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from policy_documents import FINDING, document, make_pack

from tidewaiter.core import clock, limits
from tidewaiter.policy import explain
from tidewaiter.policy.engine import EmbeddedEngine, Evaluation
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.pack import Pack, default_pack
from tidewaiter.policy.scope import Scope
from tidewaiter.policy.verdict import ENVIRONMENTS, Decider, Verdict, decide
from tidewaiter.policy.waivers import Waiver

NOW = clock.parse_rfc3339("2026-01-31T12:00:00Z")
DAY = dt.timedelta(days=1)
RULE = "advisories.no-fixable-high-critical"
SECOND = {**FINDING, "advisory": "PYSEC-2024-2", "aliases": ["CVE-2024-2"], "severity": "critical"}
SHELL = {"path": "/bin/sh", "kind": "shell"}


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedEngine]:
    """One engine with the default pack."""
    with EmbeddedEngine(default_pack()) as engine:
        yield engine


def waiver(name: str = "W-1", changes: dict[str, Any] | None = None, **scope: Any) -> Waiver:
    """An approved waiver of the finding's CVE in production, with another scope or other fields."""
    about: dict[str, Any] = {"advisory": "CVE-2024-1", "environments": ("production",)}
    if "rule" in scope:
        about["advisory"] = ""
    values: dict[str, Any] = {
        "id": name,
        "owner": "Anna",
        "reason": "No pictures of strangers.",
        "requested_by": "Anna",
        "requested_at": NOW - 10 * DAY,
        "expires_at": NOW + 30 * DAY,
        "reviewer": "Bert",
        "approved_at": NOW - 9 * DAY,
    }
    return Waiver(scope=Scope(**{**about, **scope}), **{**values, **(changes or {})})


def used(verdict: Verdict) -> list[tuple[str, str]]:
    """Waiver and rule of everything that was waived."""
    return [(one.waiver, one.violation.rule) for one in verdict.waived]


def refused(verdict: Verdict) -> list[tuple[str, str]]:
    """Waiver and reason of everything that does not count."""
    return [(one.waiver, one.reason) for one in verdict.refused_waivers]


def test_a_waived_advisory_is_taken_out_and_shown(engine: EmbeddedEngine) -> None:
    """The image is allowed, and the verdict says what it would deny, who stands behind it, and until when."""
    verdict = decide(document(findings=[FINDING]), engine, waivers=[waiver()])
    assert (verdict.verdict, verdict.violations, verdict.refused_waivers) == ("allow", (), ())
    (one,) = verdict.waived
    assert (one.waiver, one.owner, one.reviewer, one.expires_at) == ("W-1", "Anna", "Bert", "2026-03-02T12:00:00Z")
    assert one.violation.rule == RULE
    assert one.violation.evidence == ("pillow 10.2.0: PYSEC-2024-1 (high); fixed in 10.3.0",)
    assert one.violation.remedy


def test_what_is_not_waived_is_still_a_violation(engine: EmbeddedEngine) -> None:
    """Of two findings of one package, the other one denies, and only it is shown."""
    verdict = decide(document(findings=[FINDING, SECOND]), engine, waivers=[waiver()])
    assert verdict.verdict == "deny"
    assert verdict.violations[0].evidence == ("pillow 10.2.0: PYSEC-2024-2 (critical); fixed in 10.3.0",)
    assert used(verdict) == [("W-1", RULE)]
    assert verdict.waived[0].violation.evidence == ("pillow 10.2.0: PYSEC-2024-1 (high); fixed in 10.3.0",)


def test_each_finding_needs_its_own_waiver(engine: EmbeddedEngine) -> None:
    """Two waivers for two findings allow; the verdict names each with what it covers."""
    both = [waiver(), waiver("W-2", advisory="PYSEC-2024-2")]
    verdict = decide(document(findings=[FINDING, SECOND]), engine, waivers=both)
    assert verdict.allowed
    assert used(verdict) == [("W-1", RULE), ("W-2", RULE)]
    assert "PYSEC-2024-2" in verdict.waived[1].violation.evidence[0]


def test_a_finding_that_nothing_holds_against_the_image_is_not_called_waived(engine: EmbeddedEngine) -> None:
    """A waiver of a finding of low severity changes nothing, and the verdict does not pretend that it did."""
    verdict = decide(document(findings=[{**FINDING, "severity": "low"}]), engine, waivers=[waiver()])
    assert (verdict.allowed, verdict.waived, verdict.refused_waivers) == (True, (), ())


def test_a_waived_rule_is_taken_out_whole(engine: EmbeddedEngine) -> None:
    """Its violation moves to what is waived; other rules stay."""
    given = document(programs=[SHELL], image__dirty=True)
    verdict = decide(given, engine, waivers=[waiver(rule="image.no-shell")])
    assert [item.rule for item in verdict.violations] == ["name.not-dirty"]
    assert used(verdict) == [("W-1", "image.no-shell")]
    assert verdict.waived[0].violation.evidence == ("/bin/sh",)


def test_a_warning_is_waived_too(engine: EmbeddedEngine) -> None:
    """Where a rule only warns, its waiver takes the warning out."""
    given = document(environment="staging", programs=[SHELL])
    verdict = decide(given, engine, waivers=[waiver(rule="image.no-shell", environments=("staging",))])
    assert (verdict.warnings, used(verdict)) == ((), [("W-1", "image.no-shell")])


def test_a_rule_that_passes_uses_no_waiver(engine: EmbeddedEngine) -> None:
    """A waiver of something that does not fail is neither used nor refused."""
    verdict = decide(document(), engine, waivers=[waiver(rule="image.no-shell"), waiver("W-2")])
    assert (verdict.waived, verdict.refused_waivers) == ((), ())


@pytest.mark.parametrize(
    ("changes", "scope", "reason"),
    [
        ({"approved_at": None, "reviewer": ""}, {}, "not_approved"),
        ({"approved_at": NOW + dt.timedelta(seconds=1)}, {}, "not_approved"),
        ({"expires_at": NOW}, {}, "expired"),
        ({"revoked_at": NOW, "revoked_by": "Cleo"}, {}, "revoked"),
        ({"revoked_at": NOW + DAY, "revoked_by": "Cleo"}, {}, "revoked"),
        ({"reviewer": "anna"}, {}, "same_person"),
        ({"requested_by": "Bert"}, {}, "same_person"),
        ({}, {"environments": ("research", "staging")}, "environment"),
        ({}, {"image": "vision/other"}, "image"),
        ({}, {"image": "*"}, "image"),
        ({}, {"package": "pkg:pypi/numpy"}, "package"),
        ({}, {"package": "pkg:deb/debian/pillow"}, "package"),
        ({}, {"package": "pkg:pypi/pillow", "versions": "<10.2"}, "version"),
        ({}, {"package": "pkg:pypi/pillow", "versions": "<banana"}, "version"),
    ],
    ids=str,
)
def test_a_waiver_that_does_not_count_is_named_with_the_reason(
    engine: EmbeddedEngine, changes: dict[str, Any], scope: dict[str, Any], reason: str
) -> None:
    """Not approved, over, revoked, one person, another environment, image, package or version: denied, and said."""
    verdict = decide(document(findings=[FINDING]), engine, waivers=[waiver(changes=changes, **scope)])
    assert (verdict.verdict, verdict.waived) == ("deny", ())
    assert refused(verdict) == [("W-1", reason)]
    assert verdict.refused_waivers[0].message


def test_the_last_second_counts(engine: EmbeddedEngine) -> None:
    """A waiver counts from its approval up to, and without, its end."""
    first = waiver(changes={"approved_at": NOW})
    last = waiver(changes={"expires_at": NOW + dt.timedelta(seconds=1)})
    for one in (first, last):
        assert decide(document(findings=[FINDING]), engine, waivers=[one]).allowed


def test_one_person_is_enough_outside_of_production(engine: EmbeddedEngine) -> None:
    """In staging the owner's own review counts; the very same waiver does not in production."""
    one = waiver(changes={"reviewer": "Anna"}, environments=("staging", "production"))
    assert decide(document(environment="staging", findings=[FINDING]), engine, waivers=[one]).allowed
    assert not decide(document(findings=[FINDING]), engine, waivers=[one]).allowed


@pytest.mark.parametrize(("version", "allowed"), [("10.2.0", True), ("10.9.9", True), ("11.0", False), ("9.5", False)])
def test_it_carries_to_new_versions_exactly_as_far_as_it_says(
    engine: EmbeddedEngine, version: str, *, allowed: bool
) -> None:
    """Of the package's versions, those in the range are covered; the next image with the same name is too."""
    one = waiver(package="pkg:pypi/Pillow", versions=">=10,<11", image="vision/*")
    finding = {**FINDING, "version": version, "purl": f"pkg:pypi/pillow@{version}"}
    for tag in ("0123456789ab", "ba9876543210"):
        given = document(findings=[finding], image__tag=tag)
        assert decide(given, engine, waivers=[one]).allowed is allowed


def test_another_name_of_the_advisory_is_the_same_advisory(engine: EmbeddedEngine) -> None:
    """The waiver of a CVE covers what a database calls by its own id, and the other way round."""
    for name in ("CVE-2024-1", "PYSEC-2024-1"):
        assert decide(document(findings=[FINDING]), engine, waivers=[waiver(advisory=name)]).allowed


def test_a_rule_s_waiver_holds_for_images_with_the_package(engine: EmbeddedEngine) -> None:
    """The package of a rule's waiver says which images it is for: all versions there must be in the range."""
    one = waiver(rule="image.no-shell", package="pkg:pypi/numpy", versions=">=2,<3")

    def answer(versions: list[str]) -> Verdict:
        return decide(document(programs=[SHELL], packages__python={"numpy": versions}), engine, waivers=[one])

    assert answer(["2.1.0"]).allowed
    assert refused(answer(["1.26.4", "2.1.0"])) == [("W-1", "version")]
    assert refused(decide(document(programs=[SHELL], packages__python={}), engine, waivers=[one])) == [
        ("W-1", "package")
    ]


def test_an_image_that_was_named_by_a_file_uses_no_waiver(engine: EmbeddedEngine) -> None:
    """Without a repository name even the pattern of every image does not fit."""
    verdict = decide(document(findings=[FINDING], image__name=""), engine, waivers=[waiver()])
    assert refused(verdict) == [("W-1", "image")]


def test_each_waiver_stands_alone(engine: EmbeddedEngine) -> None:
    """Beside a revoked, an expired and a narrower one, one that counts is enough; of two, the last to end is used."""
    others = [
        waiver("W-2", {"revoked_at": NOW, "revoked_by": "Cleo"}),
        waiver("W-3", {"expires_at": NOW - DAY}),
        waiver("W-4", image="speech/*"),
    ]
    verdict = decide(
        document(findings=[FINDING]), engine, waivers=[*others, waiver("W-5", {"expires_at": NOW + DAY}), waiver()]
    )
    assert verdict.allowed
    assert used(verdict) == [("W-1", RULE)]
    assert refused(verdict) == [("W-3", "expired"), ("W-2", "revoked"), ("W-4", "image")]


def test_the_order_of_the_waivers_changes_nothing(engine: EmbeddedEngine) -> None:
    """The verdict is a function of the set of waivers."""
    some = [waiver(), waiver("W-2", advisory="PYSEC-2024-2"), waiver("W-3"), waiver("W-4", {"expires_at": NOW})]
    given = document(findings=[FINDING, SECOND])
    assert decide(given, engine, waivers=some) == decide(given, engine, waivers=some[::-1])


def test_the_id_names_the_waivers_that_count(engine: EmbeddedEngine) -> None:
    """Waivers that count change the id, those that do not leave it; asked later, the same question has the same id."""
    given = document(findings=[FINDING])
    without = decide(given, engine)
    refusing = decide(given, engine, waivers=[waiver(image="speech/*")])
    counting = decide(given, engine, waivers=[waiver()])
    later = decide(document(findings=[FINDING], now="2026-02-01T12:00:00Z"), engine, waivers=[waiver()])
    other = decide(given, engine, waivers=[waiver("W-2")])
    assert without.id == refusing.id
    assert counting.id == later.id
    assert len({without.id, counting.id, other.id}) == 3
    assert counting.evidence["waivers"] != without.evidence["waivers"]


def test_a_verdict_ends_with_the_first_waiver_that_it_relies_on(engine: EmbeddedEngine) -> None:
    """Valid for 24 hours, or until a waiver of an advisory or of a rule ends; one that is not used does not matter."""
    hour = {"expires_at": NOW + dt.timedelta(hours=1)}
    given = document(findings=[FINDING], programs=[SHELL])
    rule: dict[str, Any] = {"rule": "image.no-shell"}
    assert decide(given, engine, waivers=[waiver(), waiver("W-2", **rule)]).valid_until == "2026-02-01T12:00:00Z"
    for some in ([waiver(changes=hour), waiver("W-2", **rule)], [waiver(), waiver("W-2", hour, **rule)]):
        assert decide(given, engine, waivers=some).valid_until == "2026-01-31T13:00:00Z"
    unused = [waiver(), waiver("W-2", **rule), waiver("W-3", hour, rule="image.no-jupyter")]
    assert decide(given, engine, waivers=unused).valid_until == "2026-02-01T12:00:00Z"


def test_a_rule_that_could_not_be_evaluated_is_never_waived(tmp_path: Path) -> None:
    """Its waiver is refused, and the image is denied."""
    with EmbeddedEngine(make_pack(tmp_path, "package p\n\nresults contains 1\n", "a.b")) as engine:
        verdict = decide(document(), engine, waivers=[waiver(rule="a.b")])
    assert (verdict.undetermined, verdict.waived) == (True, ())
    assert refused(verdict) == [("W-1", "undetermined")]


def test_a_rule_that_may_not_be_waived_is_not(engine: EmbeddedEngine) -> None:
    """A waiver of the rule about builders, wherever it came from, does not count."""
    verdict = decide(document(image__builder="local"), engine, waivers=[waiver(rule="build.builder-registered")])
    assert verdict.verdict == "deny"
    assert refused(verdict) == [("W-1", "not_waivable")]


def test_waivers_that_only_together_make_a_difference_are_all_named(tmp_path: Path) -> None:
    """A rule that fails from two findings on passes without either waiver; both are said to be used."""
    rego = """package p

left := [finding | some finding in input.findings; finding.waived_by == ""]

results contains {"id": "a.b", "status": "pass", "evidence": [], "remedy": ""} if count(left) < 2

results contains {"id": "a.b", "status": "fail", "evidence": ["too many"], "remedy": "r"} if count(left) >= 2
"""
    given = document(findings=[FINDING, SECOND])
    both = [waiver(), waiver("W-2", advisory="CVE-2024-2")]
    with EmbeddedEngine(make_pack(tmp_path, rego, "a.b")) as engine:
        assert not decide(given, engine).allowed
        verdict = decide(given, engine, waivers=both)
    assert verdict.allowed
    assert used(verdict) == [("W-1", "a.b"), ("W-2", "a.b")]


class _Dying:
    """An engine that answers the first question only."""

    def __init__(self, inner: EmbeddedEngine) -> None:
        self._inner, self._asked = inner, 0

    @property
    def pack(self) -> Pack:
        return self._inner.pack

    def evaluate(self, given: PolicyInput) -> Evaluation:
        self._asked += 1
        return self._inner.evaluate(given) if self._asked == 1 else Evaluation({}, "it died")


def test_a_waiver_is_visible_when_its_effect_could_not_be_found_out(engine: EmbeddedEngine) -> None:
    """When the engine dies after it has decided, the verdict stands, and the waiver is still among those used."""
    verdict = decide(document(findings=[FINDING]), _Dying(engine), waivers=[waiver()])
    assert verdict.allowed
    assert ("W-1", RULE) in used(verdict)
    assert {one.violation.severity for one in verdict.waived} == {"undetermined"}


def test_what_a_document_says_of_waivers_does_not_count(engine: EmbeddedEngine) -> None:
    """`waived_by` is ours: a document that brings it along is corrected before rules see it."""
    claimed = document(findings=[{**FINDING, "waived_by": "W-1"}])
    assert decide(claimed, engine).verdict == "deny"
    assert decide(claimed, engine).id == decide(document(findings=[FINDING]), engine).id


def test_refused_waivers_are_bounded(engine: EmbeddedEngine) -> None:
    """Of many, those that need the least to count are listed."""
    many = [waiver(f"W-{number:03}", image="speech/*") for number in range(limits.REFUSED_WAIVERS)]
    near = waiver("W-near", {"approved_at": None})
    found = refused(decide(document(findings=[FINDING]), engine, waivers=[*many, near]))
    assert len(found) == limits.REFUSED_WAIVERS
    assert found[0] == ("W-near", "not_approved")


def test_words_say_who_why_and_until_when(engine: EmbeddedEngine) -> None:
    """A person reads what is waived by whom, what does not count and why, and which waiver is soon over."""
    some = [waiver(changes={"expires_at": NOW + 14 * DAY}), waiver("W-2", {"expires_at": NOW - DAY})]
    text = explain.lines(decide(document(findings=[FINDING]), engine, waivers=some))
    assert text[1:] == [
        "waived:",
        f"  {RULE} [critical] by W-1 until 2026-02-14T12:00:00Z",
        "    found: pillow 10.2.0: PYSEC-2024-1 (high); fixed in 10.3.0",
        "    because: No pictures of strangers. (Anna, reviewed by Bert)",
        "waivers that do not count:",
        "  W-2 of CVE-2024-1: it ended at 2026-01-30T12:00:00Z",
        "soon over: the waiver W-1 ends at 2026-02-14T12:00:00Z; change what it covers, or ask for a new one before",
    ]
    later = explain.lines(decide(document(findings=[FINDING]), engine, waivers=[waiver()]))
    assert not [line for line in later if line.startswith("soon over")]


def test_a_verdict_with_waivers_is_read_back(engine: EmbeddedEngine) -> None:
    """JSON and back gives the same verdict."""
    some = [waiver(), waiver("W-2", image="speech/*")]
    verdict = decide(document(findings=[FINDING]), engine, waivers=some)
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


def test_a_verdict_does_not_depend_on_those_before(engine: EmbeddedEngine) -> None:
    """Decided after others by the same `Decider`, every verdict is, to the last byte, the one that it is alone."""
    waivers = (waiver(), waiver("W-2", advisory="CVE-2024-2", environments=ENVIRONMENTS), waiver("W-3", rule=RULE))
    for given in ((), waivers):
        decider = Decider(engine, given)
        said = []
        for tag, findings, environment in itertools.product(
            ("0123456789ab", "latest"), ((), (FINDING,), (FINDING, SECOND)), ENVIRONMENTS
        ):
            asked = document(image__tag=tag, findings=list(findings), programs=[SHELL], environment=environment)
            found = decider.decide(asked, evidence={"findings": asked.image.digest})
            alone = decide(asked, engine, evidence={"findings": asked.image.digest}, waivers=given)
            assert msgspec.json.encode(found) == msgspec.json.encode(alone)
            said.append(found.id)
        assert len(set(said)) == len(said) > 10
