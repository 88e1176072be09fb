"""Makes the policy input out of what inspection and the advisory matcher found."""

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any, Literal, cast, get_args

from tidewaiter.advisories.advisory import family
from tidewaiter.advisories.finding import Finding, NotChecked, ScanResult
from tidewaiter.advisories.versions import order_of
from tidewaiter.core import clock
from tidewaiter.core.project import Environment
from tidewaiter.inspection.facts import Exposed, FrameworkRecord, ImageFacts
from tidewaiter.oci.reference import LayoutReference, Reference, RegistryReference, StoreReference
from tidewaiter.policy.input import (
    NO_BASE,
    NOT_ANALYSED,
    AdvisoriesInput,
    AnalysisInput,
    AttachedInput,
    BaseInput,
    DocumentInput,
    ExposedInput,
    FeedInput,
    FindingInput,
    FrameworkInput,
    ImageInput,
    NotCheckedInput,
    PackagesInput,
    PolicyInput,
    ProgramInput,
    SettingsInput,
    SuppressedInput,
)
from tidewaiter.sbom.component import Component, Kind

LOCAL_BUILDER = "local"
"""The builder of everything that no registered builder vouches for."""

_UNKNOWN = DocumentInput(state="unknown", created="", age_days=0)
NOTHING_KNOWN = AttachedInput(sbom=_UNKNOWN, provenance=_UNKNOWN, signature=_UNKNOWN)
"""Nobody looked what is attached to the image."""

_EXAMPLES = 5
_AHEAD = 1
"""Days that another clock may be ahead."""
_LICENSE = 500
# At the end, or before what names the platform or the base that the image was put on.
_DIRTY = re.compile(r"-dirty(-|$)")
_SEPARATORS = re.compile(r"[-_.]+")


def build_input(
    facts: ImageFacts,
    scan: ScanResult,
    *,
    reference: Reference,
    environment: Environment,
    now: dt.datetime,
    base: BaseInput = NO_BASE,
    attached: AttachedInput = NOTHING_KNOWN,
    dirty: bool | None = None,
    builder: str = LOCAL_BUILDER,
    registered_builders: Iterable[str] = (),
    analysis: AnalysisInput = NOT_ANALYSED,
) -> PolicyInput:
    """What the rules of `environment` are asked about.

    Args:
        facts: what inspection found in the image.
        scan: what the advisory matcher found about its components.
        reference: how the user named the image: rules look at its name and tag.
        environment: the policy environment.
        now: the time that the decision is made for.
        base: what the image stands on, proven by its layers.
        attached: what is attached to the image; see `document`.
        dirty: whether the build's inputs differed from the commit; None reads it from the tag.
        builder: the builder as a verified provenance names it.
        registered_builders: builders that the server's settings accept.
        analysis: what the analysis of the sources found, where it is known.
    """
    name, tag, pinned = _named(reference)
    return PolicyInput(
        now=clock.rfc3339(now),
        environment=environment,
        image=ImageInput(
            reference=str(reference),
            name=name,
            tag=tag,
            pinned=pinned,
            digest=facts.digest,
            user=facts.user,
            runs_as_root=facts.runs_as_root,
            entrypoint=facts.entrypoint,
            cmd=facts.cmd,
            exposed_ports=facts.exposed_ports,
            labels=facts.labels,
            annotations=facts.annotations,
            created=facts.created,
            dirty=_DIRTY.search(tag) is not None if dirty is None else dirty,
            builder=builder,
        ),
        base=base,
        programs=tuple(ProgramInput(path=program.path, kind=program.kind) for program in facts.programs),
        exposed=_exposed(facts.exposed),
        attached=attached,
        framework=_framework(facts.framework),
        packages=PackagesInput(
            python=_versions(facts.components, "python"),
            deb=_versions(facts.components, "deb"),
            licenses=_licenses(facts.components),
        ),
        **matched(scan, facts.unread, now),
        settings=SettingsInput(registered_builders=tuple(sorted(set(registered_builders) - {LOCAL_BUILDER}))),
        analysis=analysis,
    )


def matched(scan: ScanResult, unread: Iterable[str], now: dt.datetime) -> dict[str, Any]:
    """The fields of the policy input that advisories change; `unread` is metadata that inspection could not read."""
    return {
        "findings": _findings(scan.findings),
        "suppressed": tuple(map(_suppressed, scan.suppressed)),
        "not_checked": _not_checked((*scan.not_checked, *map(_unread, unread))),
        "advisories": AdvisoriesInput(revision=scan.revision, feeds=_feeds(scan, now)),
    }


def document(
    created: Iterable[dt.datetime], now: dt.datetime, *, otherwise: Literal["absent", "follows", "unknown"]
) -> DocumentInput:
    """What rules are told of documents of one kind, made at these times; `otherwise` when there is none."""
    newest = max(created, default=None)
    if newest is None:
        return DocumentInput(state=otherwise, created="", age_days=0)
    return DocumentInput(state="present", created=clock.rfc3339(newest), age_days=max(0, (now - newest).days))


def _named(reference: Reference) -> tuple[str, str, bool]:
    """Repository, tag, and whether the reference holds a digest; a file has no repository."""
    if isinstance(reference, StoreReference):
        return reference.name, reference.tag or "", reference.digest is not None
    if isinstance(reference, RegistryReference):
        return reference.repository, reference.tag or "", reference.digest is not None
    if isinstance(reference, LayoutReference):
        return "", reference.tag or "", False
    return "", "", False


def _framework(record: FrameworkRecord | None) -> FrameworkInput:
    return FrameworkInput(
        tensorflow=record.tensorflow if record else "",
        python=record.python if record else "",
        cuda=record.cuda if record else "",
        cudnn=record.cudnn if record else "",
        serving=record.serving if record else "",
        least_driver=record.least_driver if record else "",
        tested=record.tested if record else "unknown",
        tested_reason=record.tested_reason if record else "",
        nearest_tested=record.nearest_tested if record else "",
        conflicts=record.conflicts if record else (),
    )


def _normalised(kind: str, name: str) -> str:
    return _SEPARATORS.sub("-", name).lower() if kind == "python" else name


def _versions(components: Iterable[Component], kind: Kind) -> dict[str, tuple[str, ...]]:
    versions: dict[str, set[str]] = {}
    for component in components:
        if component.kind == kind:
            versions.setdefault(_normalised(kind, component.name), set()).add(component.version)
    return {name: tuple(sorted(found)) for name, found in sorted(versions.items())}


def _licenses(components: Iterable[Component]) -> dict[str, tuple[str, ...]]:
    names: dict[str, set[str]] = {}
    for component in components:
        for expression in component.licenses:
            names.setdefault(expression[:_LICENSE], set()).add(component.name)
    return {expression: tuple(sorted(found)) for expression, found in sorted(names.items())}


def _exposed(found: Iterable[Exposed]) -> tuple[ExposedInput, ...]:
    groups: dict[str, list[Exposed]] = {}
    for item in found:
        groups.setdefault(item.kind, []).append(item)
    return tuple(
        ExposedInput(kind=group[0].kind, count=len(group), examples=tuple(sorted(map(_shown, group))[:_EXAMPLES]))
        for _, group in sorted(groups.items())
    )


def _shown(item: Exposed) -> str:
    return f"{item.path}:{item.line} ({item.rule})" if item.rule else item.path


def _findings(findings: tuple[Finding, ...]) -> tuple[FindingInput, ...]:
    by_package: dict[str, list[Finding]] = {}
    for finding in findings:
        by_package.setdefault(finding.component_purl, []).append(finding)
    upgrades = {purl: _upgrade(group) for purl, group in by_package.items()}
    return tuple(
        FindingInput(
            advisory=finding.advisory,
            aliases=finding.aliases,
            purl=finding.component_purl,
            kind=_kind(finding.kind),
            name=_normalised(finding.kind, finding.name),
            version=finding.version,
            severity=finding.severity,
            fixed_in=finding.fixed_in,
            upgrade_to=upgrades[finding.component_purl] if finding.fixed_in else "",
            waived_by="",
            kev=finding.kev,
            epss=finding.epss,
            epss_percentile=finding.epss_percentile,
        )
        for finding in findings
    )


def _suppressed(finding: Finding) -> SuppressedInput:
    vex = finding.vex
    if vex is None or vex.status not in ("not_affected", "fixed"):
        raise ValueError(f"{finding.advisory} is suppressed without a statement that says so")
    return SuppressedInput(
        advisory=finding.advisory,
        aliases=finding.aliases,
        purl=finding.component_purl,
        name=_normalised(finding.kind, finding.name),
        version=finding.version,
        severity=finding.severity,
        status=vex.status,
        justification=vex.justification,
        document=vex.document,
    )


def _kind(kind: str) -> Kind:
    for known in get_args(Kind):
        if kind == known:
            return cast("Kind", known)
    raise ValueError(f"unknown kind of component: {kind!r}")


def _upgrade(findings: list[Finding]) -> str:
    """Lowest version in which every fixable finding of one package is fixed; empty when versions cannot be compared.

    `fixed_in` is ascending and newer than the installed version, so its first entry is the nearest fix.
    """
    nearest = [finding.fixed_in[0] for finding in findings if finding.fixed_in]
    order = order_of(family(findings[0].ecosystem), "ECOSYSTEM")
    if not nearest or order is None:
        return ""
    try:
        return max(nearest, key=order)
    except ValueError:
        return ""


def _unread(line: str) -> NotChecked:
    """Metadata that inspection could not read whole: packages may be missing, so it is not clean either."""
    path, _, reason = line.partition(": ")
    return NotChecked(purl="", name=path, version="", ecosystem="unread metadata", reason=reason or "not readable")


def _not_checked(items: tuple[NotChecked, ...]) -> tuple[NotCheckedInput, ...]:
    groups: dict[tuple[str, str], list[NotChecked]] = {}
    for item in items:
        # Advisories whose versions cannot be compared have a reason for each package; one group says it once.
        reason = "versions that cannot be compared" if item.advisories else item.reason
        groups.setdefault((item.ecosystem, reason), []).append(item)
    return tuple(
        NotCheckedInput(
            ecosystem=ecosystem,
            reason=reason,
            count=len(group),
            examples=tuple(sorted(f"{item.name} {item.version}".rstrip() for item in group)[:_EXAMPLES]),
        )
        for (ecosystem, reason), group in sorted(groups.items())
    )


def _feeds(scan: ScanResult, now: dt.datetime) -> tuple[FeedInput, ...]:
    feeds = []
    for coverage in scan.coverage:
        try:
            as_of, age = coverage.as_of, coverage.age_days(now)
        except ValueError:
            as_of, age = "", 0
        if age < -_AHEAD:
            # A clock was set back: nobody knows how old the data is.
            as_of = ""
        age = max(0, age)
        feeds.append(FeedInput(ecosystem=coverage.ecosystem, as_of=as_of, age_days=age))
    return tuple(feeds)
