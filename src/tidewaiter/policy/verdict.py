"""Facts in, verdict out.

1. Ask the engine; whatever is not exactly one well-formed result for each rule counts as failed.
2. Sort failures by what the manifest says they mean in this environment.
3. Deny unless nothing is left that denies, and at least one rule is in force.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Environment
from tidewaiter.oci.digest import Digest, of
from tidewaiter.policy.engine import Engine
from tidewaiter.policy.input import NotCheckedInput, PolicyInput
from tidewaiter.policy.pack import Pack, RuleSeverity
from tidewaiter.policy.results import RuleResult, compare

ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that the image does not satisfy. Severity `undetermined`: nobody knows, so it counts as not satisfied."""

    rule: str
    severity: RuleSeverity | Literal["undetermined"]
    message: str
    evidence: tuple[str, ...]
    remedy: str


class Waived(msgspec.Struct, frozen=True, kw_only=True):
    """A violation that an approved waiver covers."""

    waiver: str
    violation: Violation


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
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
    lifetime: dt.timedelta = dt.timedelta(seconds=limits.VERDICT_SECONDS),
) -> Verdict:
    """The verdict of the engine's pack on `document`, decided at `document.now`.

    Args:
        document: what the rules are asked about; the digest of it (without times) becomes `evidence["input"]`.
        engine: holds the pack.
        evidence: digests of what the document was made from, by name (`facts`, `sbom`, `scan`, ...).
        lifetime: how long the verdict is good for, at most 24 hours.

    Raises:
        InputError: the environment is unknown, `now` is no time, or `lifetime` is too long.
    """
    environment = check_environment(document.environment)
    if not dt.timedelta(0) < lifetime <= dt.timedelta(seconds=limits.VERDICT_SECONDS):
        raise InputError("a verdict is valid for at most 24 hours", next_step="Give a shorter lifetime.")
    try:
        decided_at = clock.parse_rfc3339(document.now)
    except ValueError as error:
        raise InputError(f"the time of the decision is {document.now!r}", next_step="Give it as RFC 3339.") from error
    # 1.
    results = compare(engine.pack.rules, engine.evaluate(document))
    # 2. and 3.
    violations, warnings = _sort(engine.pack, environment, results)
    digests = {**(evidence or {}), "input": of(_canonical(document.without_times()))}
    identity = {
        "artifact": document.image.digest,
        "environment": environment,
        "policy_revision": engine.pack.revision,
        "advisories_revision": document.advisories.revision,
        "evidence": digests,
        "results": results,
    }
    return Verdict(
        id=of(_canonical(identity)),
        artifact=document.image.digest,
        environment=environment,
        verdict="deny" if violations else "allow",
        policy_revision=engine.pack.revision,
        advisories_revision=document.advisories.revision,
        evidence=digests,
        violations=violations,
        waived=(),
        warnings=warnings,
        not_checked=document.not_checked,
        decided_at=clock.rfc3339(decided_at),
        valid_until=clock.rfc3339(decided_at + lifetime),
    )


def _canonical(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _sort(
    pack: Pack, environment: Environment, results: tuple[RuleResult, ...]
) -> tuple[tuple[Violation, ...], tuple[Violation, ...]]:
    """Violations and warnings, in the manifest's order."""
    violations: list[Violation] = []
    warnings: list[Violation] = []
    for result in results:
        rule = pack.rule(result.id)
        if result.status == "undetermined" or rule is None:
            # A pack that does not work is a reason to deny, also where the rule itself is off.
            message = f"{rule.title if rule else result.id}: could not be evaluated."
            violations.append(_violation(result, "undetermined", message))
        elif result.status == "fail":
            level = rule.levels.of(environment)
            if level == "deny":
                violations.append(_violation(result, rule.severity, rule.failure))
            elif level == "warn":
                warnings.append(_violation(result, rule.severity, rule.failure))
    if all(rule.levels.of(environment) == "off" for rule in pack.rules):
        violations.append(
            Violation(
                rule="policy.empty",
                severity="undetermined",
                message="The policy has no rule for this environment, and nothing is allowed without one.",
                evidence=(f"policy pack {pack.name}, environment {environment}",),
                remedy="Add rules to the pack, or name another pack.",
            )
        )
    return tuple(violations), tuple(warnings)


def _violation(result: RuleResult, severity: RuleSeverity | Literal["undetermined"], message: str) -> Violation:
    return Violation(rule=result.id, severity=severity, message=message, evidence=result.evidence, remedy=result.remedy)
