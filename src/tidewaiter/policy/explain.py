"""A verdict in words: which rule, what was found, what to change."""

import datetime as dt

import msgspec

from tidewaiter.core import clock
from tidewaiter.policy.pack import Pack
from tidewaiter.policy.verdict import Verdict, Violation

_EVIDENCE = 10
_REFUSED = 10
WAIVER_ENDS_SOON = dt.timedelta(days=14)
"""A waiver that a verdict relies on is announced when it ends this soon."""


class Difference(msgspec.Struct, frozen=True):
    """What a stricter environment asks beyond another: what it denies for, and what it only warns of."""

    violations: tuple[Violation, ...]
    warnings: tuple[Violation, ...]


def difference(verdict: Verdict, stricter: Verdict) -> Difference:
    """What `stricter` holds against the image that `verdict` does not; both are about the same image."""
    denied = {item.rule for item in verdict.violations}
    warned = {item.rule for item in verdict.warnings} | denied
    return Difference(
        violations=tuple(item for item in stricter.violations if item.rule not in denied),
        warnings=tuple(item for item in stricter.warnings if item.rule not in warned),
    )


def lines(verdict: Verdict, pack: Pack | None = None) -> list[str]:
    """The verdict for a person to read; with the pack, also why each rule exists."""
    word = "allowed" if verdict.allowed else "could not be checked, so denied" if verdict.undetermined else "denied"
    text = [f"{verdict.environment}: {word} (until {verdict.valid_until})"]
    for title, items in (("violations", verdict.violations), ("warnings", verdict.warnings)):
        if items:
            text += [f"{title}:", *violation_lines(items, pack)]
    text += _waiver_lines(verdict)
    for item in verdict.not_checked:
        examples = _printable(", ".join(item.examples))
        text.append(f"not checked: {item.count} packages of {item.ecosystem} ({item.reason}): {examples}")
    return text


def _waiver_lines(verdict: Verdict) -> list[str]:
    """Waivers that were used, those that did not count and why, and those that end soon."""
    text = ["waived:"] if verdict.waived else []
    for one in verdict.waived:
        evidence = [*one.violation.evidence[:_EVIDENCE]]
        if len(one.violation.evidence) > _EVIDENCE:
            evidence.append(f"{len(one.violation.evidence) - _EVIDENCE} more")
        text.append(f"  {one.violation.rule} [{one.violation.severity}] by {one.waiver} until {one.expires_at}")
        text += [f"    found: {_printable(line)}" for line in evidence]
        text.append(
            f"    because: {_printable(one.reason)} ({_printable(one.owner)}, reviewed by {_printable(one.reviewer)})"
        )
    if verdict.refused_waivers:
        text.append("waivers that do not count:")
        text += [
            f"  {one.waiver} of {one.subject}: {_printable(one.message)}" for one in verdict.refused_waivers[:_REFUSED]
        ]
    if len(verdict.refused_waivers) > _REFUSED:
        text.append(f"  {len(verdict.refused_waivers) - _REFUSED} more")
    soon = clock.parse_rfc3339(verdict.decided_at) + WAIVER_ENDS_SOON
    ends = {one.waiver: one.expires_at for one in verdict.waived if clock.parse_rfc3339(one.expires_at) <= soon}
    for name, end in sorted(ends.items(), key=lambda item: (item[1], item[0])):
        text.append(f"soon over: the waiver {name} ends at {end}; change what it covers, or ask for a new one before")
    return text


def violation_lines(items: tuple[Violation, ...], pack: Pack | None = None) -> list[str]:
    """Violations for a person to read: rule, evidence, what to change."""
    text: list[str] = []
    for item in items:
        text.append(f"  {item.rule} [{item.severity}] {item.message}")
        rule = pack.rule(item.rule) if pack else None
        if rule:
            text.append(f"    why: {rule.why}")
        text += [f"    found: {_printable(line)}" for line in item.evidence[:_EVIDENCE]]
        if len(item.evidence) > _EVIDENCE:
            text.append(f"    found: {len(item.evidence) - _EVIDENCE} more")
        text.append(f"    change: {_printable(item.remedy)}")
    return text


def _printable(text: str) -> str:
    """`text` without what could steer a terminal: evidence holds paths and names that came out of the image."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
