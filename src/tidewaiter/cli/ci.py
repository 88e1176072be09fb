"""`ci`: the whole way of a project, from its commit to a cleared image."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from tidewaiter.cli import build as building
from tidewaiter.cli.build import PlatformName
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.scan import coverage_lines, not_checked_lines
from tidewaiter.cli.trust import password
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import project as projects
from tidewaiter.oci.compression import Compression
from tidewaiter.pipelines import bounding, clear, trusting
from tidewaiter.pipelines import building as pipeline
from tidewaiter.pipelines.clear import Cleared
from tidewaiter.policy import explain


def ci(
    project: Path,
    /,
    *,
    key: str = trusting.KEY_NAME,
    compression: Compression = "gzip",
    platform: PlatformName = "linux/amd64",
    bytecode: bool | None = None,
    provenance: Path | None = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Build, inspect, match, decide, sign and clear the image of a project.

    Any failing step stops it. The image is tagged as cleared only when the policy of its environment allows it.
    Everything that was found out is in the catalog afterwards: build, SBOM, findings, verdict, signature.

    Args:
        project: folder that holds tidewaiter.toml.
        key: name of the key of this home that signs.
        compression: of the layers of wheels, models and app; some old clients cannot read zstd.
        platform: what the image runs on; another one than this machine's needs --no-bytecode.
        bytecode: with or without compiled Python files, recorded in pylock.toml; as the lock says when not given.
        provenance: file to write what the image was made of: SLSA v1 in an in-toto statement, not signed.
        output: text or json.
    """
    opened = projects.load(project)
    with workshop() as shop:
        # The key is opened first, so that a wrong password is found before the work.
        signer = trusting.open_key(shop, key, password(shop, f"Password of the key {key}: "))
        done = clear.clear(shop, opened, signer, building.options(compression, platform, bytecode=bytecode))
    bounding.keep(shop.settings, done.build, shop.progress)
    if provenance is not None:
        pipeline.write_provenance(done.build, provenance)
    if output == "json":
        emit_json(
            {
                **building.document(done.build),
                "base": done.base,
                "verdict": done.verdict,
                "production_would_demand": done.beyond.violations,
                "findings": len(done.scan.findings),
                "not_checked": len(done.scan.not_checked),
                "signature": done.signature.digest,
            }
        )
        return 0
    for line in _lines(done):
        emit(line)
    return 0


def _lines(done: Cleared) -> list[str]:
    kinds = Counter(component.kind for component in done.facts.components)
    packages = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    findings = Counter(one.severity for one in done.scan.findings)
    found = ", ".join(f"{count} {severity}" for severity, count in sorted(findings.items())) or "none known"
    return [
        *building.summary(done.build),
        f"  packages {packages}",
        f"  findings {found}",
        *(f"  {line}" for line in (*coverage_lines(done.scan), *not_checked_lines(done.facts, done.scan))),
        f"  signed  {done.signature.digest}",
        *explain.lines(done.verdict),
        *_demands(done),
        f"cleared for {done.verdict.environment}: {done.build.reference}",
    ]


def _demands(done: Cleared) -> list[str]:
    if not done.beyond.violations:
        return []
    warned = {item.rule for item in done.verdict.warnings}
    new = tuple(item for item in done.beyond.violations if item.rule not in warned)
    known = [item.rule for item in done.beyond.violations if item.rule in warned]
    lines = ["production would demand beyond that:", *explain.violation_lines(new)]
    return [*lines, *(f"  {rule}: what is a warning above is a denial there" for rule in known)]
