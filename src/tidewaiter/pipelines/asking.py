"""What a verdict was asked about, kept in the catalog: so it can be asked about again when advisories change.

An image's bytes never change, and neither does what was found in them. What does change (findings, what is attached,
what was said of the base, the time) is left out, and put in anew.
"""

import datetime as dt
from collections.abc import Iterable, Iterator

import msgspec

from tidewaiter.advisories import severity
from tidewaiter.advisories.finding import OURS, Finding, ScanResult
from tidewaiter.advisories.matcher import finding_key
from tidewaiter.catalog.questions import Asked
from tidewaiter.core.project import Environment
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.pipelines.resting import Resting
from tidewaiter.policy import adapt
from tidewaiter.policy.input import (
    NOT_ANALYSED,
    AnalysisInput,
    AttachedInput,
    BaseInput,
    ExposedInput,
    FrameworkInput,
    ImageInput,
    PackagesInput,
    PolicyInput,
    ProgramInput,
    SettingsInput,
)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The base that an image was found to stand on."""

    name: str
    digest: str
    layers: int
    platform: tuple[str, str]


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What images of a class have in common."""

    base: Standing | None
    programs: tuple[ProgramInput, ...]
    exposed: tuple[ExposedInput, ...]
    framework: FrameworkInput
    packages: PackagesInput
    settings: SettingsInput
    unread: tuple[str, ...]
    heard: tuple[Finding, ...]
    """Findings of which another scanner said something."""
    suppressed: tuple[Finding, ...]
    """Findings that a VEX document calls not affected or fixed."""
    analysis: AnalysisInput = NOT_ANALYSED


def asked(question: PolicyInput, facts: ImageFacts, scan: ScanResult, base: Resting | None) -> Asked:
    """What is kept of `question`, which was asked about the image that stands on `base`."""
    standing = None
    if base is not None and base.layers:
        platform = (facts.os, facts.architecture)
        standing = Standing(name=base.name, digest=base.digest, layers=base.layers, platform=platform)
    shared = Shared(
        base=standing,
        programs=question.programs,
        exposed=question.exposed,
        framework=question.framework,
        packages=question.packages,
        settings=question.settings,
        unread=facts.unread,
        heard=tuple(one for one in scan.findings if one.words or OURS not in one.reported_by),
        suppressed=scan.suppressed,
        analysis=question.analysis,
    )
    return Asked(msgspec.json.encode(question.image), msgspec.json.encode(shared, order="deterministic"))


own = msgspec.json.Decoder(ImageInput).decode
"""What was kept of one image."""
shared = msgspec.json.Decoder(Shared).decode
"""What was kept of a class."""


def again(
    kept: Shared,
    image: ImageInput,
    scan: ScanResult,
    *,
    environment: Environment,
    now: dt.datetime,
    stated: str,
    base: BaseInput,
    attached: AttachedInput = adapt.NOTHING_KNOWN,
) -> PolicyInput:
    """The question about an image of the class, with findings of now; `stated` is `now` as RFC 3339."""
    return PolicyInput(
        now=stated,
        environment=environment,
        image=image,
        base=base,
        programs=kept.programs,
        exposed=kept.exposed,
        attached=attached,
        framework=kept.framework,
        packages=kept.packages,
        settings=kept.settings,
        analysis=kept.analysis,
        **adapt.matched(scan, kept.unread, now),
    )


def joined(kept: Shared, scan: ScanResult) -> ScanResult:
    """`scan` with what other scanners and VEX documents said when the image was decided.

    Their reports are not at hand any more: a finding that only they had stays, and of two severities the worse counts.
    """
    if not (kept.heard or kept.suppressed):
        return scan
    findings: list[Finding] = []
    suppressed: list[Finding] = []
    for finding in scan.findings:
        silenced = _like(finding, kept.suppressed)
        if silenced:
            suppressed.append(msgspec.structs.replace(finding, vex=silenced[0].vex))
        else:
            levels = (finding.severity, *(one.severity for one in _like(finding, kept.heard)))
            findings.append(msgspec.structs.replace(finding, severity=max(levels, key=severity.LEVELS.index)))
    findings += [one for one in _of_others(kept.heard) if not _like(one, scan.findings)]
    suppressed += [one for one in _of_others(kept.suppressed) if not _like(one, scan.findings)]
    return msgspec.structs.replace(
        scan,
        findings=tuple(sorted(findings, key=finding_key)),
        suppressed=tuple(sorted(suppressed, key=finding_key)),
    )


def _of_others(findings: Iterable[Finding]) -> Iterator[Finding]:
    return (one for one in findings if OURS not in one.reported_by)


def _like(finding: Finding, others: Iterable[Finding]) -> list[Finding]:
    """Those of `others` that are about the same vulnerability of the same component."""
    names = {finding.advisory, *finding.aliases}
    return [
        one
        for one in others
        if one.component_purl == finding.component_purl and not names.isdisjoint((one.advisory, *one.aliases))
    ]
