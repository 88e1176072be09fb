"""Compares what an engine answered with what the manifest promises: exactly one result for each rule."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from tidewaiter.policy.engine import Evaluation
from tidewaiter.policy.pack import Rule

Status = Literal["pass", "fail", "not_applicable", "undetermined"]


class RuleResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one rule came out. `undetermined` is ours: there is no usable answer, and `evidence` says why."""

    id: str
    status: Status
    evidence: tuple[str, ...]
    remedy: str


class _Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One element of `results`, as a rule must give it."""

    id: str
    status: Literal["pass", "fail", "not_applicable"]
    evidence: tuple[str, ...]
    remedy: str


_REMEDY = "Mend the policy pack: `tidewaiter policy test` shows what is wrong with it."
_SHOWN = 100


def undetermined(name: str, why: str) -> RuleResult:
    """The result of a rule without a usable answer."""
    return RuleResult(id=name, status="undetermined", evidence=(f"could not be evaluated: {why}",), remedy=_REMEDY)


def compare(
    rules: tuple[Rule, ...], evaluation: Evaluation, homes: Mapping[str, frozenset[str]] = MappingProxyType({})
) -> tuple[RuleResult, ...]:
    """One result for each rule in the manifest's order, then one for everything that the manifest does not know.

    A rule that is missing, doubled or malformed, a package that failed, a result that no rule of the manifest gives,
    and one that comes from outside of the rule's roots in `homes`, are `undetermined`.
    """
    if evaluation.failure:
        return tuple(undetermined(rule.id, evaluation.failure) for rule in rules)
    found: dict[str, list[_Answer]] = {}
    strange: list[RuleResult] = []
    failed: list[str] = []
    for package, answer in sorted(evaluation.packages.items()):
        if answer.error:
            failed.append(answer.error)
            strange.append(undetermined(package, answer.error))
            continue
        for item in _items(answer.value):
            result = _read(item)
            if isinstance(result, str):
                strange.append(undetermined(package, result))
            elif package.partition(".")[0] not in homes.get(result.id, package.partition(".")[0]):
                strange.append(undetermined(result.id, f"package {package} of another layer gave a result for it"))
            else:
                found.setdefault(result.id, []).append(result)
    known = {rule.id for rule in rules}
    strange += [undetermined(name[:_SHOWN], "pack.toml has no such rule") for name in sorted(found.keys() - known)]
    missing = "; ".join(["it gave no result", *failed])
    return (*(_one(rule.id, found.get(rule.id, []), missing) for rule in rules), *strange)


def _one(name: str, answers: list[_Answer], missing: str) -> RuleResult:
    if not answers:
        return undetermined(name, missing)
    if len(answers) > 1:
        return undetermined(name, f"it gave {len(answers)} results that differ")
    (answer,) = answers
    if answer.status == "fail" and not (answer.evidence and answer.remedy):
        return undetermined(name, "it failed without evidence or remedy")
    return RuleResult(id=name, status=answer.status, evidence=answer.evidence, remedy=answer.remedy)


def _items(value: msgspec.Raw) -> list[msgspec.Raw]:
    """Elements of a set or array; anything else is one element, which is a result or is malformed."""
    try:
        return msgspec.json.decode(value, type=list[msgspec.Raw])
    except (ValueError, RecursionError):
        return [value]


def _read(item: msgspec.Raw) -> _Answer | str:
    """The result in `item`, or what is wrong with it."""
    try:
        return msgspec.json.decode(item, type=_Answer)
    except (ValueError, RecursionError) as error:
        return f"malformed result {bytes(item)[:_SHOWN].decode(errors='replace')}: {error}"
