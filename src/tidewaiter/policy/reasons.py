"""How each rule answers about one document: where it stands, which values it reads, what it says of them."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tidewaiter.policy.engine import Reading
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.pack import Level, Pack
from tidewaiter.policy.results import RuleResult, Status
from tidewaiter.policy.verdict import Waived

_SHOWN = 300


class Value(msgspec.Struct, frozen=True):
    """A field of `input`, and its JSON, cut after 300 characters."""

    path: str
    value: str


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """How one rule answers. `file` is empty and `line` 0 when its place in the pack cannot be told."""

    rule: str
    title: str
    why: str
    level: Level
    status: Status
    evidence: tuple[str, ...]
    remedy: str
    file: str
    line: int
    reads: tuple[Value, ...]
    waived_by: tuple[str, ...] = ()
    """Ids of the waivers without which the rule would count against the image, or count for more."""


def reasons(
    pack: Pack,
    document: PolicyInput,
    results: tuple[RuleResult, ...],
    readings: Mapping[str, Reading],
    waived: Iterable[Waived] = (),
) -> tuple[Reason, ...]:
    """The reason of each result, in its order; what the pack's manifest does not know is always a reason to deny.

    Args:
        pack: whose rules they are.
        document: what they were asked about; with waivers, as `weigh` marked it.
        results: what they answered.
        readings: where each rule stands, and what it reads.
        waived: those of the verdict.
    """
    waivers: dict[str, list[str]] = {}
    for one in waived:
        waivers.setdefault(one.violation.rule, []).append(one.waiver)
    values = msgspec.to_builtins(document)
    nowhere = Reading(file="", line=0, reads=())
    found = []
    for result in results:
        rule, reading = pack.rule(result.id), readings.get(result.id, nowhere)
        found.append(
            Reason(
                rule=result.id,
                title=rule.title if rule else "",
                why=rule.why if rule else "",
                level=rule.levels.of(document.environment) if rule else "deny",
                status=result.status,
                evidence=result.evidence,
                remedy=result.remedy,
                file=reading.file,
                line=reading.line,
                reads=tuple(_value(values, path) for path in reading.reads),
                waived_by=tuple(sorted(set(waivers.get(result.id, ())))),
            )
        )
    return tuple(found)


def _value(values: Any, path: tuple[str, ...]) -> Value:  # noqa: ANN401  # any JSON
    for part in path:
        if not isinstance(values, dict) or part not in values:
            # A field of an open object, such as one label, that this image does not have.
            return Value(".".join(("input", *path)), "nothing")
        values = values[part]
    text = msgspec.json.encode(values).decode()
    return Value(
        ".".join(("input", *path)), text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
    )
