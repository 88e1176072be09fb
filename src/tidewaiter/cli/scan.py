"""`scan`: what is known to be wrong with an image."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from tidewaiter.advisories.finding import Coverage, Finding, ScanResult, age_days
from tidewaiter.cli import console
from tidewaiter.cli.console import emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core.errors import InputError
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci.image import Image
from tidewaiter.pipelines import images, looking
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.sbom.component import Component
from tidewaiter.sbom.subject import Subject

if TYPE_CHECKING:
    from tidewaiter.sbom.reading.document import SbomDocument

Severity = Literal["critical", "high", "medium", "low", "unknown"]
ScanFormat = Literal["text", "json", "sarif", "cyclonedx-vex", "openvex", "gitlab", "junit"]
_ORDER: tuple[str, ...] = ("critical", "high", "medium", "low", "none", "unknown")


def _days(coverage: Coverage) -> int | None:
    try:
        return age_days(coverage.as_of)
    except ValueError:
        return None


def _age(coverage: Coverage) -> str:
    days = _days(coverage)
    return "of unknown age" if days is None else f"{days} days old"


def coverage_lines(result: ScanResult) -> list[str]:
    """What data was used and how old it is, a line each; always shown with findings."""
    if not result.coverage:
        return ["advisories: none for the packages of this image"]
    return [
        f"advisories: {one.ecosystem}, {one.entries} entries, {_age(one)} (as of {one.as_of[:10]}, {one.source})"
        for one in result.coverage
    ]


def not_checked_lines(facts: "ImageFacts | Scanned", result: ScanResult) -> list[str]:
    """Packages that could not be judged, by ecosystem and reason, and metadata that could not be read."""
    groups = Counter((one.ecosystem, one.reason) for one in result.not_checked)
    return [
        *(f"not checked: {count} packages of {where}: {reason}" for (where, reason), count in sorted(groups.items())),
        *(f"not checked: {line}" for line in facts.unread),
    ]


class Scanned(msgspec.Struct, frozen=True):
    """Whose packages were matched: an image's, or those that an SBOM names."""

    reference: str
    digest: str
    """Of the image; empty when an SBOM does not say."""
    components: tuple[Component, ...]
    unread: tuple[str, ...]
    subject: Subject
    sbom: dict[str, str] | None = None
    """Format, version and writing program of the SBOM; None when the image itself was read."""
    image: Image | None = None
    """None when an SBOM was read."""


def _of_sbom(document: "SbomDocument", reference: str, digest: str) -> Scanned:
    written = {"format": document.format, "version": document.version, "tool": document.tool}
    subject = Subject(
        name=reference,
        digest=digest,
        distribution=document.distribution,
        distribution_version=document.distribution_version,
        unread=document.notes,
    )
    return Scanned(reference, digest, document.components, document.notes, subject, written)


def _scanned(shop: Workshop, name: str, *, attached: bool) -> Scanned:
    kind, colon, path = name.partition(":")
    if kind == "sbom" and colon:
        if attached:
            raise InputError("--attached asks for the SBOM of an image", next_step="Leave it out, or name an image.")
        from tidewaiter.pipelines import sboms

        document = sboms.from_file(Path(path))
        return _of_sbom(document, path, document.digest)
    if attached:
        from tidewaiter.pipelines import sboms

        found = sboms.attached(shop, name)
        return _of_sbom(found.document, found.reference, found.digest)
    named = images.open_named(shop, name)
    facts = looking.inspect(shop, named)
    subject = looking.subject_of(facts)
    return Scanned(facts.reference, facts.digest, facts.components, facts.unread, subject, image=named.image)


def scan(
    image: str,
    /,
    *,
    attached: bool = False,
    with_: tuple[str, ...] = (),
    vex: tuple[str, ...] = (),
    fail_on: Severity | None = None,
    output: Annotated[ScanFormat, Parameter(name="--format")] = "text",
) -> int:
    """Match the packages of an image with the advisories of this home.

    A package whose ecosystem has no data is shown as not checked, never as clean.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, HOST/REPO:TAG, or sbom:FILE.
        attached: match the SBOM that BuildKit attached to the image, without reading its layers.
        with_: add what another scanner says: a JSON report of Trivy, Grype or Harbor, or `trivy` to run it. Repeatable.
        vex: an OpenVEX document that you trust; what it calls not affected or fixed is suppressed. Repeatable.
        fail_on: exit with 1 when a finding is at least this severe; `unknown` means any finding.
        output: text, json, or a document for another program.
    """
    with workshop(looking=True) as shop:
        scanned = _scanned(shop, image, attached=attached)
        result = looking.scan(shop, scanned)
        if with_ or vex:
            from tidewaiter.pipelines import scanners

            subject, opened = scanned.subject, scanned.image
            result = scanners.consult(shop, result, scanned, subject, image=opened, reports=with_, vex=vex)
    if output == "json":
        said = {field: getattr(scanned, field) for field in ("reference", "digest", "sbom", "unread")}
        emit_json({**said, **_document(result)})
    elif output == "text":
        _show_findings(scanned, result)
    else:
        from tidewaiter.advisories.reports import encoding
        from tidewaiter.advisories.reports.report import Report

        report = Report(subject=scanned.subject, components=scanned.components, result=result)
        console.emit_bytes(encoding.encode(report, output))
    return 1 if fail_on and _reaches(result, fail_on) else 0


def _reaches(result: ScanResult, threshold: Severity) -> bool:
    # A severity that nobody stated may be anything, so it counts at every threshold.
    limit = len(_ORDER) if threshold == "unknown" else _ORDER.index(threshold) + 1
    return any(one.severity == "unknown" or one.severity in _ORDER[:limit] for one in result.findings)


def _document(result: ScanResult) -> dict[str, object]:
    return {
        "findings": result.findings,
        "suppressed": result.suppressed,
        "notes": result.notes,
        "not_checked": result.not_checked,
        "advisories": {
            "revision": result.revision,
            "coverage": [
                {"ecosystem": one.ecosystem, "entries": one.entries, "as_of": one.as_of, "age_days": _days(one)}
                for one in result.coverage
            ],
        },
    }


def outside_lines(result: ScanResult) -> list[str]:
    """What VEX documents suppress, and what must be known of them and of other scanners' reports, a line each."""
    lines = [f"note: {note}" for note in result.notes]
    for one in result.suppressed:
        if one.vex is None:
            continue
        why = ": ".join(part for part in (one.vex.status, one.vex.justification, one.vex.statement) if part)
        lines.append(f"suppressed: {one.severity} {one.advisory} in {one.name} {one.version}: {why} ({one.vex.source})")
    return lines


def _advisory(finding: Finding) -> str:
    """The id, with what a VEX statement that suppresses nothing says."""
    return finding.advisory + (f" ({finding.vex.status.replace('_', ' ')})" if finding.vex else "")


def _differ(finding: Finding) -> str:
    """In what the scanners differ, and who says what of it."""
    texts = []
    if "severity" in finding.disagreement:
        texts.append(", ".join(f"{word.scanner}: {word.severity}" for word in finding.words))
    if "fixed_in" in finding.disagreement:
        texts.append(", ".join(f"{word.scanner}: {' or '.join(word.fixed_in) or 'no fix'}" for word in finding.words))
    return "; ".join(texts)


def _show_findings(facts: Scanned, result: ScanResult) -> None:
    from packaging.utils import canonicalize_name as normalise

    emit(f"{facts.reference}  {facts.digest}".rstrip())
    if facts.sbom is not None:
        said = facts.sbom
        emit(f"  read from an SBOM: {said['format']} {said['version']}, by {said['tool'] or 'an unnamed program'}")
    for line in coverage_lines(result):
        emit(f"  {line}")
    for line in (*not_checked_lines(facts, result), *outside_lines(result)):
        emit(f"  {line}")
    if not result.findings:
        packages = sum(component.kind not in {"model", "os"} for component in facts.components)
        counting = "no other" if result.suppressed else "no"
        emit(f"  {counting} known vulnerability in the {packages - len(result.not_checked)} packages checked")
        return
    emit()
    several = any(one.words for one in result.findings)
    console.table(
        ("severity", "advisory", "package", "version", "fixed in", "also known as")
        + (("reported by", "they differ") if several else ()),
        [
            (
                one.severity,
                _advisory(one),
                one.name + ("" if normalise(one.found_as) == normalise(one.name) else f" (as {one.found_as})"),
                one.version,
                ", ".join(one.fixed_in) or "no fix",
                ", ".join(one.aliases[:2]),
                *((", ".join(one.reported_by), _differ(one)) if several else ()),
            )
            for one in result.findings
        ],
    )
