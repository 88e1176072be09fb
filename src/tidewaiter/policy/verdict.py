"""Facts in, verdict out.

1. Ask the engine; whatever is not exactly one well-formed result for each rule counts as failed.
2. Sort failures by what the manifest says they mean in this environment.
3. Take out what a waiver of a rule covers; never a rule that could not be evaluated.
4. Deny unless nothing is left that denies, and at least one rule is in force.

Findings that a waiver of their advisory covers are marked before anything is asked.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import msgspec

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Environment
from tidewaiter.oci.digest import Digest, of
from tidewaiter.policy.engine import Engine, Evaluation
from tidewaiter.policy.fingerprint import Fingerprints, canonical
from tidewaiter.policy.input import FindingInput, NotCheckedInput, PolicyInput
from tidewaiter.policy.pack import Level, Pack, Rule, RuleSeverity
from tidewaiter.policy.results import Comparing, RuleResult
from tidewaiter.policy.waivers import Waiver
from tidewaiter.policy.weighing import RefusedWaiver, Weighed, nearness, weigh, why_not

ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)


class Violation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rule that the image does not satisfy. Severity `undetermined`: nobody knows, so it counts as not satisfied."""

    rule: str
    severity: RuleSeverity | Literal["undetermined"]
    message: str
    evidence: tuple[str, ...]
    remedy: str


class Waived(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What would be a violation, or a warning, without the waiver; with those who stand behind it, and its end."""

    waiver: str
    owner: str
    reviewer: str
    reason: str
    expires_at: str
    violation: Violation


class Verdict(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer for one image in one environment. Times are RFC 3339 in UTC.

    `id` names the inputs and results without the times: the same question has the same id.
    """

    id: Digest
    artifact: Digest
    environment: Environment
    verdict: Literal["allow", "deny"]
    policy_revision: Digest
    advisories_revision: str
    evidence: dict[str, Digest]
    violations: tuple[Violation, ...]
    waived: tuple[Waived, ...]
    refused_waivers: tuple[RefusedWaiver, ...]
    warnings: tuple[Violation, ...]
    not_checked: tuple[NotCheckedInput, ...]
    decided_at: str
    valid_until: str

    @property
    def allowed(self) -> bool:
        return self.verdict == "allow"

    @property
    def undetermined(self) -> bool:
        """True when rules could not be evaluated and nothing else denies: "could not check" rather than "no"."""
        return bool(self.violations) and all(item.severity == "undetermined" for item in self.violations)


def check_environment(name: str) -> Environment:
    """`name` when it is a policy environment; raises `InputError` otherwise."""
    for environment in ENVIRONMENTS:
        if name == environment:
            return environment
    raise InputError(
        f"{name[:100]!r} is not a policy environment", next_step=f"Environments: {', '.join(ENVIRONMENTS)}."
    )


def decide(
    document: PolicyInput,
    engine: Engine,
    *,
    evidence: Mapping[str, Digest] | None = None,
    waivers: Iterable[Waiver] = (),
    lifetime: dt.timedelta = dt.timedelta(seconds=limits.VERDICT_SECONDS),
) -> Verdict:
    """The verdict of the engine's pack on `document`, decided at `document.now`.

    Args:
        document: what the rules are asked about; the digest of it (without times) becomes `evidence["input"]`.
        engine: holds the pack.
        evidence: digests of what the document was made from, by name (`facts`, `sbom`, `scan`, ...).
        waivers: all that are known; `evidence["waivers"]` names those that count for this image.
        lifetime: how long the verdict is good for, at most 24 hours; it ends with the first waiver that it relies on.

    Raises:
        InputError: the environment is unknown, `now` is no time, or `lifetime` is too long.
    """
    return Decider(engine, waivers).decide(document, evidence=evidence, lifetime=lifetime)


class _Sheet:
    """Results in an environment, and what they mean there; those that are as in the last evaluation stay."""

    def __init__(self, rules: Mapping[str, Rule], levels: Mapping[str, Level]) -> None:
        self._rules = rules
        self._levels = levels
        self._results: tuple[RuleResult, ...] = ()
        self.encoded: list[bytes] = []
        """In JSON."""
        self.violations: list[Violation | None] = []
        self.warnings: list[Violation | None] = []

    def put(self, results: tuple[RuleResult, ...]) -> None:
        """Hold `results` from now on."""
        last: Sequence[RuleResult | None] = self._results
        self._results = ()  # whoever is interrupted begins anew
        if len(last) != len(results):
            last = [None] * len(results)
            self.encoded = [b""] * len(results)
            self.violations, self.warnings = [None] * len(results), [None] * len(results)
        for place, (result, before) in enumerate(zip(results, last, strict=True)):
            if result is not before:
                self.encoded[place] = canonical(result)
                self.violations[place], self.warnings[place] = self._tell(result)
        self._results = results

    def _tell(self, result: RuleResult) -> tuple[Violation | None, Violation | None]:
        """The violation, or the warning, that the result is."""
        rule = self._rules.get(result.id)
        if result.status == "undetermined" or rule is None:
            # A pack that does not work is a reason to deny, also where the rule itself is off.
            message = f"{rule.title if rule else result.id}: could not be evaluated."
            return _violation(result, "undetermined", message), None
        level = self._levels[rule.id] if result.status == "fail" else "off"
        if level == "off":
            return None, None
        found = _violation(result, rule.severity, rule.failure)
        return (found, None) if level == "deny" else (None, found)


class _Outcome(NamedTuple):
    """What an evaluation means in an environment before any waiver, and its results in JSON."""

    evaluation: Evaluation
    results: msgspec.Raw
    violations: tuple[Violation, ...]
    warnings: tuple[Violation, ...]


_KEPT = 100
"""Outcomes that images of a class have in common."""


class Decider:
    """Decides about many images with one pack: what they have in common is worked out once.

    Each verdict is the one that `decide` gives.
    """

    def __init__(self, engine: Engine, waivers: Iterable[Waiver] = ()) -> None:
        self._engine = engine
        self._waivers = tuple(waivers)
        self._comparing = Comparing(engine.pack)
        self._fingerprints = Fingerprints()
        self._outcomes: dict[tuple[Environment, int], _Outcome] = {}
        rules = {rule.id: rule for rule in engine.pack.rules}
        self._levels = {name: {rule.id: rule.levels.of(name) for rule in engine.pack.rules} for name in ENVIRONMENTS}
        self._sheets = {name: _Sheet(rules, levels) for name, levels in self._levels.items()}

    def decide(
        self,
        document: PolicyInput,
        *,
        evidence: Mapping[str, Digest] | None = None,
        lifetime: dt.timedelta = dt.timedelta(seconds=limits.VERDICT_SECONDS),
    ) -> Verdict:
        """As the function."""
        environment = check_environment(document.environment)
        decided_at = _moment(document, lifetime)
        known, pack = self._waivers, self._engine.pack
        weighed = weigh(document, known, decided_at, pack)
        # 1.
        outcome = self._outcome(environment, weighed.document)
        # 2.
        violations, warnings = outcome.violations, outcome.warnings
        failed = (*violations, *warnings)
        # 3.
        covered = [item for item in failed if _is_covered(item, weighed)] if weighed.rules else []
        waived = [
            *(_waived(weighed.rules[item.rule], item) for item in covered),
            *self._kept_away(weighed, environment, failed),
        ]
        refused = [*weighed.refused, *_refused(known, weighed.document, failed, decided_at, pack)]
        relied = (*weighed.marking, *(weighed.rules[item.rule] for item in covered))
        # 4.
        if covered:
            violations = tuple(item for item in violations if not _is_covered(item, weighed))
            warnings = tuple(item for item in warnings if not _is_covered(item, weighed))
        digests = {
            **(evidence or {}),
            "input": self._fingerprints.of(weighed.document),
            "waivers": weighed.fitting,
        }
        identity = {
            "artifact": document.image.digest,
            "environment": environment,
            "policy_revision": pack.revision,
            "advisories_revision": document.advisories.revision,
            "evidence": digests,
            "results": outcome.results,
        }
        return Verdict(
            id=of(canonical(identity)),
            artifact=document.image.digest,
            environment=environment,
            verdict="deny" if violations else "allow",
            policy_revision=pack.revision,
            advisories_revision=document.advisories.revision,
            evidence=digests,
            violations=violations,
            waived=tuple(waived),
            refused_waivers=tuple(sorted(refused, key=nearness)[: limits.REFUSED_WAIVERS]),
            warnings=warnings,
            not_checked=document.not_checked,
            decided_at=clock.rfc3339(decided_at),
            valid_until=clock.rfc3339(min([decided_at + lifetime, *(waiver.expires_at for waiver in relied)])),
        )

    def _outcome(self, environment: Environment, document: PolicyInput) -> _Outcome:
        evaluation = self._engine.evaluate(document)
        # An engine of classes gives images of a class the same object, which lives as long as it is known here.
        key = (environment, id(evaluation))
        found = self._outcomes.get(key)
        if found is None:
            if len(self._outcomes) >= _KEPT:
                self._outcomes.clear()
            found = self._outcomes[key] = self._sorted(environment, evaluation)
        return found

    def _sorted(self, environment: Environment, evaluation: Evaluation) -> _Outcome:
        """Violations and warnings in the manifest's order."""
        sheet = self._sheets[environment]
        sheet.put(self._comparing.compare(evaluation))
        violations = [one for one in sheet.violations if one is not None]
        if set(self._levels[environment].values()) <= {"off"}:
            violations.append(
                Violation(
                    rule="policy.empty",
                    severity="undetermined",
                    message="The policy has no rule for this environment, and nothing is allowed without one.",
                    evidence=(f"policy pack {self._engine.pack.name}, environment {environment}",),
                    remedy="Add rules to the pack, or name another pack.",
                )
            )
        return _Outcome(
            evaluation=evaluation,
            results=msgspec.Raw(b"[%s]" % b",".join(sheet.encoded)),
            violations=tuple(violations),
            warnings=tuple([one for one in sheet.warnings if one is not None]),
        )

    def _kept_away(self, weighed: Weighed, environment: Environment, failed: tuple[Violation, ...]) -> list[Waived]:
        """What waivers of advisories keep away: rules that say more than `failed` when no finding is waived.

        A waiver keeps away those that fail when its findings are the only ones; where only several waivers together
        make a difference, each of them is named. The evidence is what the waiver covers.
        """
        document = weighed.document
        unanswered = [item for item in failed if item.severity == "undetermined"]
        if not weighed.marking or len(unanswered) >= len(self._engine.pack.rules):
            return []  # an engine that does not answer would not do so sooner for other questions

        def failing(findings: Iterable[FindingInput]) -> list[Violation]:
            bare = tuple(msgspec.structs.replace(finding, waived_by="") for finding in findings)
            asked = msgspec.structs.replace(document, findings=bare)
            outcome = self._outcome(environment, asked)
            return [*outcome.violations, *outcome.warnings]

        said = {item.rule: set(item.evidence) for item in failed}
        kept = [item for item in failing(document.findings) if not set(item.evidence) <= said.get(item.rule, set())]
        found: list[Waived] = []
        for waiver in weighed.marking if kept else ():
            own = [finding for finding in document.findings if finding.waived_by == waiver.id]
            alone = {item.rule for item in failing(own)} if len(weighed.marking) > 1 else {item.rule for item in kept}
            found += [_waived(waiver, _about(item, own)) for item in kept if item.rule in alone]
        named = {one.violation.rule for one in found}
        for waiver in weighed.marking:
            own = [finding for finding in document.findings if finding.waived_by == waiver.id]
            found += [_waived(waiver, _about(item, own)) for item in kept if item.rule not in named]
        return found


def _moment(document: PolicyInput, lifetime: dt.timedelta) -> dt.datetime:
    """When it is decided."""
    if not dt.timedelta(0) < lifetime <= dt.timedelta(seconds=limits.VERDICT_SECONDS):
        raise InputError("a verdict is valid for at most 24 hours", next_step="Give a shorter lifetime.")
    try:
        return clock.parse_rfc3339(document.now)
    except ValueError as error:
        raise InputError(f"the time of the decision is {document.now!r}", next_step="Give it as RFC 3339.") from error


def _violation(result: RuleResult, severity: RuleSeverity | Literal["undetermined"], message: str) -> Violation:
    return Violation(rule=result.id, severity=severity, message=message, evidence=result.evidence, remedy=result.remedy)


# Waivers


def _is_covered(item: Violation, weighed: Weighed) -> bool:
    return item.severity != "undetermined" and item.rule in weighed.rules


def _waived(waiver: Waiver, item: Violation) -> Waived:
    return Waived(
        waiver=waiver.id,
        owner=waiver.owner,
        reviewer=waiver.reviewer,
        reason=waiver.reason,
        expires_at=clock.rfc3339(waiver.expires_at),
        violation=item,
    )


def _about(item: Violation, findings: Iterable[FindingInput]) -> Violation:
    """The violation with `findings` alone as its evidence; one that could not be evaluated keeps its own."""
    if item.severity == "undetermined":
        return item
    return msgspec.structs.replace(item, evidence=tuple(map(_line, findings)))


def _line(finding: FindingInput) -> str:
    fixed = f"; fixed in {' or '.join(finding.fixed_in)}" if finding.fixed_in else ""
    return f"{finding.name} {finding.version}: {finding.advisory} ({finding.severity}){fixed}"


def _refused(
    waivers: tuple[Waiver, ...], document: PolicyInput, failed: tuple[Violation, ...], at: dt.datetime, pack: Pack
) -> list[RefusedWaiver]:
    """Waivers of the rules in `failed` that do not count, and why."""
    by_rule = {item.rule: item for item in failed}
    refused = []
    for waiver in waivers:
        item = by_rule.get(waiver.scope.rule)
        if item is None:
            continue
        refusal = why_not(waiver, document, at, pack)
        if refusal is None and item.severity == "undetermined":
            message = "a rule that could not be evaluated is never waived"
            refusal = RefusedWaiver(waiver=waiver.id, subject=item.rule, reason="undetermined", message=message)
        if refusal is not None:
            refused.append(refusal)
    return refused
