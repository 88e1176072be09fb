"""What is said of an image, as in-toto statements: its contents, how it was built, its findings, exceptions, verdict.

Values in, statements out: nothing is read, written or signed here. The subject of each is the image by its digest,
called by its repository. `same` tells whether two statements say the same, whenever each was made.
"""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

import tidewaiter
from tidewaiter.advisories.finding import Finding, ScanResult, Vex
from tidewaiter.advisories.reports import openvex
from tidewaiter.advisories.reports.report import Report
from tidewaiter.assembly import provenance
from tidewaiter.assembly.build import Build
from tidewaiter.catalog.records import SbomKind
from tidewaiter.core import clock, limits
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.pipelines import looking
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.pack import Pack
from tidewaiter.policy.verdict import Verdict
from tidewaiter.policy.waivers import Waiver
from tidewaiter.policy.weighing import weigh
from tidewaiter.signing import predicates, statement, verify, vsa
from tidewaiter.signing.statement import Statement
from tidewaiter.signing.vsa import Vsa

_SBOM_TYPES: dict[SbomKind, str] = {"cyclonedx": predicates.CYCLONEDX, "spdx": predicates.SPDX}


def about(name: str, image: Digest, predicate_type: str, predicate: Mapping[str, Any]) -> Statement:
    """A statement about the image `image` of the repository `name`."""
    return Statement((statement.about(name, image),), predicate_type, predicate)


def contents(name: str, image: Digest, documents: Mapping[SbomKind, bytes]) -> tuple[Statement, ...]:
    """The image's bills of materials, each of `documents` in its own format."""
    return tuple(
        about(name, image, _SBOM_TYPES[kind], msgspec.json.decode(document)) for kind, document in documents.items()
    )


def built(build: Build, *, builder: str, pipeline_run: str) -> Statement:
    """How the image was built, and of what (SLSA provenance)."""
    said = provenance.of(build, builder=builder, pipeline_run=pipeline_run)
    return about(build.name, build.image.digest, predicates.PROVENANCE, said.predicate)


# Findings


def found(
    name: str, facts: ImageFacts, scan: ScanResult, *, at: dt.datetime, builder: str, pipeline_run: str
) -> Statement:
    """What the advisories say of the image's packages at the moment `at`, as cosign's record of a scan."""
    moment = clock.rfc3339(at)
    predicate = {
        "invocation": {
            "parameters": [],
            "uri": pipeline_run,
            "event_id": "",
            "builder.id": provenance.builder_id(builder),
        },
        "scanner": {
            "uri": f"pkg:pypi/tidewaiter@{tidewaiter.__version__}",
            "version": tidewaiter.__version__,
            "db": {"uri": "urn:tidewaiter:advisories", "version": scan.revision},
            "result": {
                "findings": msgspec.to_builtins(scan.findings),
                "suppressed": msgspec.to_builtins(scan.suppressed),
                "not_checked": msgspec.to_builtins(scan.not_checked),
                "coverage": msgspec.to_builtins(scan.coverage),
                "unread": list(facts.unread),
            },
        },
        "metadata": {"scanStartedOn": moment, "scanFinishedOn": moment},
    }
    return about(name, facts.digest, predicates.VULNERABILITIES, predicate)


def excepted(name: str, facts: ImageFacts, scan: ScanResult, waived: Mapping[Finding, Waiver]) -> Statement | None:
    """What people said of findings, in VEX documents and in waivers, as OpenVEX; None when nobody said anything."""
    answered = [_answered(one, waived.get(one)) for one in scan.findings]
    counting = tuple(one for one in answered if one.vex is not None)
    if not counting and not scan.suppressed:
        return None
    result = msgspec.structs.replace(scan, findings=counting)
    report = Report(subject=looking.subject_of(facts), components=facts.components, result=result)
    return about(name, facts.digest, predicates.OPENVEX, msgspec.json.decode(openvex.encode(report)))


def _answered(finding: Finding, waiver: Waiver | None) -> Finding:
    """The finding with what the waiver says of it; a waiver never says that an image is not affected."""
    if waiver is None or waiver.approved_at is None:
        return finding
    until = clock.rfc3339(waiver.expires_at)
    said = Vex(
        status="affected",
        justification="",
        statement=f"accepted until {until}: {waiver.reason}",
        author="its owner",
        timestamp=clock.rfc3339(waiver.approved_at),
        source=f"waiver {waiver.id}",
        document=digests.of(msgspec.json.encode(waiver, order="sorted")),
    )
    return msgspec.structs.replace(finding, vex=said)


def waived(scan: ScanResult, asked: PolicyInput, pack: Pack, waivers: Iterable[Waiver]) -> dict[Finding, Waiver]:
    """The findings that a waiver covers in the decision about `asked`, each with it."""
    known = {one.id: one for one in waivers}
    weighed = weigh(asked, known.values(), clock.parse_rfc3339(asked.now), pack)
    pairs = zip(scan.findings, weighed.document.findings, strict=True)
    return {finding: known[marked.waived_by] for finding, marked in pairs if marked.waived_by}


# Verdicts


def decided(name: str, verdict: Verdict, *, verifier: str, origin: str, after: dt.datetime | None = None) -> Statement:
    """The verdict, as a SLSA verification summary.

    Args:
        name: repository of the image.
        verdict: allows or denies it.
        verifier: who decided: the builder that the signing key is registered for.
        origin: name, or address, below which the policies lie.
        after: what the verdict follows, if by a clock that is behind: it is then as of that moment, for as long.
    """
    moment = clock.parse_rfc3339(verdict.decided_at)
    verified = max(moment, after or moment)
    predicate = vsa.encode(
        verifier=verifier,
        name=name,
        image=verdict.artifact,
        environment=verdict.environment,
        origin=origin if "://" in origin else f"https://{origin}",
        revision=verdict.policy_revision,
        passed=verdict.allowed,
        verified=verified,
        valid_until=verified + (clock.parse_rfc3339(verdict.valid_until) - moment),
        advisories=verdict.advisories_revision,
        waivers=sorted({one.waiver for one in verdict.waived}),
    )
    return about(name, verdict.artifact, predicates.VERDICT, predicate)


def withdrawn(name: str, image: Digest, stands: Vsa, *, at: dt.datetime) -> Statement:
    """The verdict that says from the moment `at` on that `stands`, which said yes, holds no longer."""
    predicate = vsa.encode(
        verifier=stands.verifier,
        name=name,
        image=image,
        environment=stands.environment,
        origin=stands.policy_origin,
        revision=stands.revision,
        passed=False,
        verified=at,
        valid_until=at + dt.timedelta(seconds=limits.VERDICT_SECONDS),
        advisories=stands.advisories,
        waivers=stands.waivers,
    )
    return about(name, image, predicates.VERDICT, predicate)


# What says the same


_RUNS: dict[str, tuple[tuple[str, ...], ...]] = {
    predicates.PROVENANCE: (("runDetails", "metadata"),),
    predicates.VULNERABILITIES: (("metadata",), ("invocation",)),
    predicates.VERDICT: (("timeVerified",), ("tidewaiter_validUntil",)),
}
"""What a predicate says of the one run that made it."""


def same(one: Statement, other: Statement) -> bool:
    """Whether both say the same of the same thing, though other runs, at other times, said it."""
    return statement.encode(_timeless(one)) == statement.encode(_timeless(other))


def dated(given: Statement, at: dt.datetime) -> Statement:
    """The statement, which says itself when it was made: keys are judged by that moment."""
    stamp = {verify.SIGNED_AT: clock.rfc3339(at)}
    subjects = (msgspec.structs.replace(one, annotations={**one.annotations, **stamp}) for one in given.subjects)
    return msgspec.structs.replace(given, subjects=tuple(subjects))


def _timeless(given: Statement) -> Statement:
    predicate = dict(given.predicate)
    for path in _RUNS.get(given.predicate_type, ()):
        predicate = _without(predicate, path)
    subjects = (
        msgspec.structs.replace(one, annotations=_without(one.annotations, (verify.SIGNED_AT,)))
        for one in given.subjects
    )
    return msgspec.structs.replace(given, predicate=predicate, subjects=tuple(subjects))


def _without(document: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    first, *rest = path
    left = {key: value for key, value in document.items() if key != first}
    inner = document.get(first)
    return left | {first: _without(inner, rest)} if rest and isinstance(inner, dict) else left
