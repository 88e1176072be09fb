"""Compares what an engine answered with what the manifest promises: exactly one result for each rule."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from tidewaiter.policy.engine import Evaluation, PackageAnswer
from tidewaiter.policy.pack import Pack, Rule

Status = Literal["pass", "fail", "not_applicable", "undetermined"]


class RuleResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How one rule came out. `undetermined` is ours: there is no usable answer, and `evidence` says why."""

    id: str
    status: Status
    evidence: tuple[str, ...]
    remedy: str


class _Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One element of `results`, as a rule must give it."""

    id: str
    status: Literal["pass", "fail", "not_applicable"]
    evidence: tuple[str, ...]
    remedy: str


_ANSWERS = msgspec.json.Decoder(list[_Answer])
_REMEDY = "Mend the policy pack: `tidewaiter policy test` shows what is wrong with it."
_SHOWN = 100
_KEPT = 1000
"""Answers of packages."""


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
        for result in _results(bytes(answer.value)):
            if isinstance(result, str):
                strange.append(undetermined(package, result))
            elif not _is_at_home(package, result.id, homes):
                strange.append(undetermined(result.id, f"package {package} of another layer gave a result for it"))
            else:
                found.setdefault(result.id, []).append(result)
    known = {rule.id for rule in rules}
    strange += [undetermined(name[:_SHOWN], "pack.toml has no such rule") for name in sorted(found.keys() - known)]
    missing = "; ".join(["it gave no result", *failed])
    return (*(_one(rule.id, found.get(rule.id, []), missing) for rule in rules), *strange)


class _Finished(NamedTuple):
    """An answer of a package, and its results by rule."""

    answer: PackageAnswer
    results: Mapping[str, RuleResult]
    plain: bool
    """Whether it is just one for each of these rules; else there are none here."""


class Comparing:
    """As `compare`, for many evaluations of one pack: what a package answered before is not looked at again."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._rules = [rule.id for rule in pack.rules]
        self._known = frozenset(self._rules)
        # By package and answer, which lives as long as it is known here: images of a class have the same object.
        self._finished: dict[str, dict[int, _Finished]] = {}
        # Of the last evaluation with one result for each rule and none beside them: nothing depends on what other
        # packages answered then, so that one that answers otherwise, about the same rules, changes only its own.
        self._last: dict[str, _Finished] = {}
        self._results: dict[str, RuleResult] = {}

    def compare(self, evaluation: Evaluation) -> tuple[RuleResult, ...]:
        """The results, in the manifest's order."""
        packages = evaluation.packages
        if not evaluation.failure and (self._follow(packages) or self._begin(packages)):
            return tuple([self._results[name] for name in self._rules])
        return compare(self._pack.rules, evaluation, self._pack.homes)

    def _follow(self, packages: Mapping[str, PackageAnswer]) -> bool:
        """Change what packages answer otherwise than the last time; False when the rest may not stay."""
        last = self._last
        if not last or packages.keys() != last.keys():
            return False
        for package, answer in packages.items():
            before = last[package]
            if before.answer is not answer:
                found = self._look_at(package, answer)
                if not found.plain or found.results.keys() != before.results.keys():
                    self._last = {}
                    return False
                last[package] = found
                self._results.update(found.results)
        return True

    def _begin(self, packages: Mapping[str, PackageAnswer]) -> bool:
        """Take in what all packages answer; False when it is not one result for each rule and none beside them."""
        found = {package: self._look_at(package, answer) for package, answer in packages.items()}
        together: dict[str, RuleResult] = {}
        for one in found.values():
            together |= one.results
        plain = all(one.plain for one in found.values())
        if not plain or not sum(len(one.results) for one in found.values()) == len(together) == len(self._rules):
            return False
        self._last, self._results = found, together
        return True

    def _look_at(self, package: str, answer: PackageAnswer) -> _Finished:
        known = self._finished.setdefault(package, {})
        found = known.get(id(answer))
        if found is None:
            if len(known) >= _KEPT:
                known.clear()
            results = None if answer.error else self._finish(package, bytes(answer.value))
            found = known[id(answer)] = _Finished(answer, results or {}, plain=results is not None)
        return found

    def _finish(self, package: str, value: bytes) -> dict[str, RuleResult] | None:
        """The results of a package by rule; None when they are not just one for each of some rules."""
        answers = _results(value)
        found = {answer.id: _one(answer.id, [answer], "") for answer in answers if not isinstance(answer, str)}
        if len(found) < len(answers) or not found.keys() <= self._known:
            return None
        return found if all(_is_at_home(package, name, self._pack.homes) for name in found) else None


def _is_at_home(package: str, rule: str, homes: Mapping[str, frozenset[str]]) -> bool:
    """Whether a package may give the result of a rule."""
    return rule not in homes or package.partition(".")[0] in homes[rule]


def _one(name: str, answers: list[_Answer], missing: str) -> RuleResult:
    if not answers:
        return undetermined(name, missing)
    if len(answers) > 1:
        return undetermined(name, f"it gave {len(answers)} results that differ")
    (answer,) = answers
    if answer.status == "fail" and not (answer.evidence and answer.remedy):
        return undetermined(name, "it failed without evidence or remedy")
    return RuleResult(id=name, status=answer.status, evidence=answer.evidence, remedy=answer.remedy)


@lru_cache(maxsize=_KEPT)
def _results(value: bytes) -> Sequence[_Answer | str]:
    """Elements of a set or array; anything else is one element, which is a result or is malformed.

    Kept, since images of a class have the same answers.
    """
    try:
        return tuple(_ANSWERS.decode(value))
    except (ValueError, RecursionError):
        pass  # which of them it is, is told one by one
    try:
        items = msgspec.json.decode(value, type=list[msgspec.Raw])
    except (ValueError, RecursionError):
        items = [msgspec.Raw(value)]
    return tuple(_read(item) for item in items)


def _read(item: msgspec.Raw) -> _Answer | str:
    """The result in `item`, or what is wrong with it."""
    try:
        return msgspec.json.decode(item, type=_Answer)
    except (ValueError, RecursionError) as error:
        return f"malformed result {bytes(item)[:_SHOWN].decode(errors='replace')}: {error}"
