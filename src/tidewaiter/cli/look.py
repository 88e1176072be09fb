"""`inspect`, `sbom`, `scan`: what is in an image, and what is known to be wrong with it."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from tidewaiter.advisories.finding import Coverage, ScanResult, age_days
from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import durable
from tidewaiter.inspection.facts import FrameworkRecord, ImageFacts
from tidewaiter.pipelines import images, looking

Severity = Literal["critical", "high", "medium", "low", "unknown"]
_ORDER: tuple[str, ...] = ("critical", "high", "medium", "low", "none", "unknown")


def inspect(image: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show what is in an image: platform, user, entry point, layers, packages with licences.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        output: text or json.
    """
    with workshop() as shop:
        facts = looking.inspect(shop, images.open_named(shop, image))
    if output == "json":
        emit_json(facts)
    else:
        _show(facts)
    return 0


def _show(facts: ImageFacts) -> None:
    system = facts.operating_system
    emit(facts.reference)
    for label, text in (
        ("digest", facts.digest),
        ("platform", f"{facts.os}/{facts.architecture}"),
        ("system", system.name or f"{system.id} {system.version}" if system else "unknown"),
        ("user", f"{facts.user or 'not set'}{' (root)' if facts.runs_as_root else ''}"),
        ("starts", " ".join((*facts.entrypoint, *facts.cmd)) or "nothing"),
        ("created", facts.created or "unknown"),
        ("size", f"{size(facts.size)} in {len(facts.layers)} layers, {size(facts.unpacked_size)} unpacked"),
    ):
        emit(f"  {label:<9} {text}")
    found = Counter(program.kind for program in facts.programs)
    named = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(found.items()))
    emit(f"  {'programs':<9} {named or 'no shell, package manager, compiler, SSH server or Jupyter'}")
    if facts.framework is not None:
        emit(f"  {'framework':<9} {_framework(facts.framework)}")
    for model in facts.models:
        emit(f"  {'model':<9} {f'{model.name} {model.version}'.strip()} ({model.format}) at {model.path}")
    risks = Counter(one.kind.replace("_", " ") for one in facts.exposed)
    if risks:
        emit(f"  {'exposed':<9} {', '.join(f'{count} {kind}' for kind, count in sorted(risks.items()))}")
    for one in facts.exposed:
        if one.kind == "secret":
            emit(f"  {'secret':<9} {one.rule} in {one.path}, line {one.line}, layer {one.layer[7:19]}")
    for line in facts.unread:
        emit(f"  {'unread':<9} {line}; packages may be missing here")
    emit()
    console.table(
        ("layer", "size", "unpacked", "files", "made by"),
        [
            (layer.diff_id[7:19], size(layer.size), size(layer.unpacked_size), str(layer.files), layer.created_by[:60])
            for layer in facts.layers
        ],
    )
    emit()
    console.table(
        ("package", "version", "kind", "licence"),
        [
            (component.name, component.version, component.kind, "; ".join(component.licenses)[:60] or "not stated")
            for component in facts.components
        ],
    )


def _framework(record: FrameworkRecord) -> str:
    """Its versions in one line."""
    named = {"TensorFlow": record.tensorflow, "Python": record.python, "CUDA": record.cuda, "cuDNN": record.cudnn}
    parts = [f"{name} {version}" for name, version in named.items() if version]
    if record.built_for_cuda:
        parts.append(f"built for CUDA {record.built_for_cuda} and cuDNN {record.built_for_cudnn or 'unknown'}")
    return ", ".join(parts)


def sbom(
    image: str,
    /,
    *,
    output: Annotated[Literal["cyclonedx", "spdx"], Parameter(name="--format")],
    file: Annotated[str | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Write the software bill of materials of an image.

    The same image gives the same bytes.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        output: cyclonedx (1.6 JSON) or spdx (2.3 JSON).
        file: where to write; standard output when it is not given.
    """
    with workshop() as shop:
        document = looking.sbom(looking.inspect(shop, images.open_named(shop, image)), output)
    if file is None:
        console.emit_bytes(document)
    else:
        durable.write_atomically(Path(file), document + b"\n")
    return 0


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


def not_checked_lines(facts: ImageFacts, result: ScanResult) -> list[str]:
    """Packages that could not be judged, by ecosystem and reason, and metadata that could not be read."""
    groups = Counter((one.ecosystem, one.reason) for one in result.not_checked)
    return [
        *(f"not checked: {count} packages of {where}: {reason}" for (where, reason), count in sorted(groups.items())),
        *(f"not checked: {line}" for line in facts.unread),
    ]


def scan(
    image: str,
    /,
    *,
    fail_on: Severity | None = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Match the packages of an image with the advisories of this home.

    A package whose ecosystem has no data is shown as not checked, never as clean.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        fail_on: exit with 1 when a finding is at least this severe; `unknown` means any finding.
        output: text or json.
    """
    with workshop() as shop:
        facts = looking.inspect(shop, images.open_named(shop, image))
        result = looking.scan(shop, facts)
    if output == "json":
        emit_json({"reference": facts.reference, "digest": facts.digest, "unread": facts.unread, **_document(result)})
    else:
        _show_findings(facts, result)
    return 1 if fail_on and _reaches(result, fail_on) else 0


def _reaches(result: ScanResult, threshold: Severity) -> bool:
    # A severity that nobody stated may be anything, so it counts at every threshold.
    limit = len(_ORDER) if threshold == "unknown" else _ORDER.index(threshold) + 1
    return any(one.severity == "unknown" or one.severity in _ORDER[:limit] for one in result.findings)


def _document(result: ScanResult) -> dict[str, object]:
    return {
        "findings": result.findings,
        "not_checked": result.not_checked,
        "advisories": {
            "revision": result.revision,
            "coverage": [
                {"ecosystem": one.ecosystem, "entries": one.entries, "as_of": one.as_of, "age_days": _days(one)}
                for one in result.coverage
            ],
        },
    }


def _show_findings(facts: ImageFacts, result: ScanResult) -> None:
    from packaging.utils import canonicalize_name as normalise

    emit(f"{facts.reference}  {facts.digest}")
    for line in coverage_lines(result):
        emit(f"  {line}")
    for line in not_checked_lines(facts, result):
        emit(f"  {line}")
    if not result.findings:
        packages = sum(component.kind not in {"model", "os"} for component in facts.components)
        emit(f"  no known vulnerability in the {packages - len(result.not_checked)} packages checked")
        return
    emit()
    console.table(
        ("severity", "advisory", "package", "version", "fixed in", "also known as"),
        [
            (
                one.severity,
                one.advisory,
                one.name + ("" if normalise(one.found_as) == normalise(one.name) else f" (as {one.found_as})"),
                one.version,
                ", ".join(one.fixed_in) or "no fix",
                ", ".join(one.aliases[:2]),
            )
            for one in result.findings
        ],
    )
