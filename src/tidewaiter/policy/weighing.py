"""How waivers count in a decision.

A waiver counts when

1. it was approved by then, is not revoked, and has not ended,
2. in production, its owner and whoever asked for it are other people than its reviewer,
3. its environments and its image pattern fit what is decided about,
4. the package and version that it names are those of the finding (of the image, for a rule).

Each waiver stands alone: one that counts is enough, whatever others say. The time is that of the decision.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import msgspec

from tidewaiter.core import clock
from tidewaiter.oci.digest import Digest, of
from tidewaiter.policy.input import FindingInput, PolicyInput
from tidewaiter.policy.pack import Pack
from tidewaiter.policy.scope import ECOSYSTEMS, Scope, fits_name, package, within
from tidewaiter.policy.waivers import Waiver, two_people

Reason = Literal[
    "not_approved",
    "expired",
    "revoked",
    "same_person",
    "not_waivable",
    "undetermined",
    "version",
    "package",
    "environment",
    "image",
]
"""Why a waiver does not count; what needs the least to count comes first."""
_REASONS: tuple[Reason, ...] = get_args(Reason)


class RefusedWaiver(msgspec.Struct, frozen=True, kw_only=True):
    """A waiver about something that the image has, which does not count."""

    waiver: str
    subject: str
    reason: Reason
    message: str


class Weighed(msgspec.Struct, frozen=True, kw_only=True):
    """What waivers mean for one decision, before any rule is asked."""

    document: PolicyInput
    """With `waived_by` in the findings that a waiver covers."""
    marking: tuple[Waiver, ...]
    """Those named there."""
    rules: dict[str, Waiver]
    """By rule, the waiver that covers its failure."""
    refused: tuple[RefusedWaiver, ...]
    """Waivers of advisories that the image has, which do not count."""
    fitting: Digest
    """Names every waiver that counts for this image, of whatever it is about."""


def weigh(document: PolicyInput, waivers: Iterable[Waiver], at: dt.datetime, pack: Pack) -> Weighed:
    """Which of `waivers` count for `document` at the moment `at`; of several for one thing, the last to end does."""
    ordered = sorted(waivers, key=lambda one: (one.expires_at, one.id), reverse=True)
    refused: list[RefusedWaiver] = []
    covers: dict[int, Waiver] = {}
    rules: dict[str, Waiver] = {}
    fitting: dict[str, Waiver] = {}
    named = _by_name(document.findings) if ordered else {}
    for waiver in ordered:
        if waiver.scope.rule:
            if why_not(waiver, document, at, pack) is None:
                rules.setdefault(waiver.scope.rule, waiver)
                fitting[waiver.id] = waiver
            continue
        about = named.get(waiver.scope.advisory, [])
        answers = {place: why_not(waiver, document, at, pack, document.findings[place]) for place in about}
        refusals = [refusal for refusal in answers.values() if refusal is not None]
        for place, refusal in answers.items():
            if refusal is None:
                fitting[waiver.id] = waiver
                covers.setdefault(place, waiver)
        if refusals and len(refusals) == len(answers):
            refused.append(min(refusals, key=nearness))
    marking = {waiver.id: waiver for waiver in covers.values()}
    return Weighed(
        document=_marked(document, {place: waiver.id for place, waiver in covers.items()}),
        marking=tuple(marking[name] for name in sorted(marking)),
        rules=rules,
        refused=tuple(refused),
        fitting=of(msgspec.json.encode([fitting[name] for name in sorted(fitting)], order="sorted")),
    )


def _marked(document: PolicyInput, covers: Mapping[int, str]) -> PolicyInput:
    """`document` with exactly the findings at the places of `covers` waived, by the waivers with these ids."""
    if not covers and not any(finding.waived_by for finding in document.findings):
        return document
    findings = tuple(
        finding
        if finding.waived_by == covers.get(place, "")
        else msgspec.structs.replace(finding, waived_by=covers.get(place, ""))
        for place, finding in enumerate(document.findings)
    )
    return msgspec.structs.replace(document, findings=findings)


def nearness(refusal: RefusedWaiver) -> tuple[int, str]:
    """Sort key: what comes first needs the least to count."""
    return _REASONS.index(refusal.reason), refusal.waiver


def _by_name(findings: Iterable[FindingInput]) -> Mapping[str, list[int]]:
    """Places of findings by every name of their advisory."""
    named: dict[str, list[int]] = {}
    for place, finding in enumerate(findings):
        for name in {finding.advisory, *finding.aliases}:
            named.setdefault(name, []).append(place)
    return named


def why_not(
    waiver: Waiver, document: PolicyInput, at: dt.datetime, pack: Pack, finding: FindingInput | None = None
) -> RefusedWaiver | None:
    """Why the waiver does not count for the image, or for one finding of it; None when it does."""
    found = _standing(waiver, document, at, pack) or _place(waiver, document)
    if found is None and waiver.scope.package:
        found = _installed(waiver.scope, document) if finding is None else _reached(waiver.scope, finding)
    if found is None:
        return None
    return RefusedWaiver(waiver=waiver.id, subject=waiver.subject, reason=found[0], message=found[1])


def _standing(waiver: Waiver, document: PolicyInput, at: dt.datetime, pack: Pack) -> tuple[Reason, str] | None:
    # 1. A clock that was set back finds approvals of the future.
    if waiver.revoked_at is not None:
        return "revoked", f"{waiver.revoked_by} revoked it at {clock.rfc3339(waiver.revoked_at)}"
    if waiver.expires_at <= at:
        return "expired", f"it ended at {clock.rfc3339(waiver.expires_at)}"
    if waiver.approved_at is None or waiver.approved_at > at:
        when = "" if waiver.approved_at is None else f" ({clock.rfc3339(waiver.approved_at)} is not reached)"
        return "not_approved", f"it is not approved yet{when}"
    # 2.
    if document.environment == "production" and not two_people(waiver):
        return "same_person", f"{waiver.reviewer} reviewed what is their own"
    rule = pack.rule(waiver.scope.rule) if waiver.scope.rule else None
    if rule is not None and not rule.waivable:
        return "not_waivable", "the policy says that this rule cannot be waived"
    return None


def _place(waiver: Waiver, document: PolicyInput) -> tuple[Reason, str] | None:
    # 3.
    scope = waiver.scope
    if document.environment not in scope.environments:
        return "environment", f"it is for {', '.join(scope.environments)}, not for {document.environment}"
    if not fits_name(scope.image, document.image.name):
        return "image", f"it is for {scope.image}, not for {document.image.name or 'an image without a name'}"
    return None


def _reached(scope: Scope, finding: FindingInput) -> tuple[Reason, str] | None:
    # 4., of a finding
    try:
        wanted, there = package(scope.package), package(finding.purl)
    except ValueError:
        return "package", f"it is for {scope.package}, and {finding.purl} cannot be read"
    if wanted != there:
        return "package", f"it is for {scope.package}, not for {finding.name}"
    return _versions(scope, wanted[0], (finding.version,))


def _installed(scope: Scope, document: PolicyInput) -> tuple[Reason, str] | None:
    # 4., of an image
    kind, _, name = package(scope.package)
    there = document.packages.python if kind == "pypi" else document.packages.deb if kind == "deb" else {}
    if name not in there:
        return "package", f"it is for images with {scope.package}, which this one has not"
    return _versions(scope, kind, there[name])


def _versions(scope: Scope, kind: str, versions: tuple[str, ...]) -> tuple[Reason, str] | None:
    """Why one of the versions that are there is not in the scope; all must be."""
    for version in versions if scope.versions else ():
        try:
            if within(version, scope.versions, ECOSYSTEMS.get(kind, "")):
                continue
        except ValueError as error:
            return "version", f"it is for {scope.versions}, and {version} cannot be compared with that: {error}"
        return "version", f"it is for {scope.package} {scope.versions}, not for {version}"
    return None
