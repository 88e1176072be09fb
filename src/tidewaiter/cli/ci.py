"""`ci`: the whole way of a project, from its commit to a cleared image."""

from collections import Counter
from pathlib import Path
from typing import Annotated

from tidewaiter.cli import build as building
from tidewaiter.cli import remote
from tidewaiter.cli.build import PlatformName
from tidewaiter.cli.ci_reports import counted, ended, write
from tidewaiter.cli.ci_submit import submitted
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.scan import coverage_lines, not_checked_lines, outside_lines
from tidewaiter.cli.trust import asking
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError
from tidewaiter.oci.compression import Compression
from tidewaiter.pipelines import bounding, trusting
from tidewaiter.pipelines import building as pipeline
from tidewaiter.pipelines.clear import Cleared
from tidewaiter.pipelines.continuous import reports, surroundings, target
from tidewaiter.pipelines.continuous import way as ways
from tidewaiter.pipelines.continuous.way import Way
from tidewaiter.policy import explain
from tidewaiter.signing import predicates


def ci(
    project: Path = Path(),
    /,
    *,
    key: str = trusting.KEY_NAME,
    compression: Compression = "gzip",
    platform: PlatformName = "linux/amd64",
    bytecode: bool | None = None,
    provenance: Path | None = None,
    with_: tuple[str, ...] = (),
    vex: tuple[str, ...] = (),
    push: str = "",
    report: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    against: str = "",
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Build, inspect, match, decide, sign and clear the image of a project.

    Any failing step stops it. The image is tagged as cleared only when the policy of its environment allows it.
    Everything that was found out is in the catalog afterwards, and attached to the image, signed: provenance, SBOM,
    findings, verdict. A key named `verdict` signs the last two where this home has one.

    With a server the verdict is the server's: the image is built here, signed with the builder's key, pushed, and the
    server fetches, inspects and judges it. No verdict key of this home is used.

    Inside a job of GitLab CI, GitHub Actions or Jenkins, branch, author and addresses of the job come from the CI.

    Args:
        project: folder that holds tidewaiter.toml; the present one when not given.
        key: what signs: name of a key of this home, path of a key file, env://VARIABLE, hook:COMMAND or pkcs11:URI.
        compression: of the layers of wheels, models and app; some old clients cannot read zstd.
        platform: what the image runs on; another one than this machine's needs --no-bytecode.
        bytecode: with or without compiled Python files, recorded in pylock.toml; as the lock says when not given.
        provenance: file to write what the image was made of: SLSA v1 in an in-toto statement, not signed.
        with_: let the findings of another scanner count too: its JSON report, or `trivy` to run it. Repeatable.
        vex: an OpenVEX document that you trust; what it calls not affected or fixed does not count. Repeatable.
        push: with a server, HOST/REPO[:TAG] to push to, which the server reads; default its own registry.
        report: KIND=FILE to write, also when the image is denied: junit, sarif, gitlab-container-scanning,
            gitlab-dependency-scanning or markdown. Repeatable.
        against: what the Markdown report compares with: an image, or HOST/REPO whose tags are commits; default the
            newest image of the target branch that is known.
        output: text or json.
    """
    opened = projects.load(project)
    asked = reports.wanted(report)
    wanted = building.options(compression, platform, bytecode=bytecode)
    with remote.opened() as server:
        if server is not None:
            if with_ or vex:
                raise remote.not_through("`ci` with --with or --vex")
            return submitted(
                server,
                opened,
                key,
                wanted,
                push=push,
                provenance=provenance,
                asked=asked,
                against=against,
                output=output,
            )
    if push:
        raise InputError(
            "--push is for a server, which is to judge the image, and none is named",
            next_step="Set TIDEWAITER_SERVER; without one, run `tidewaiter push` after `tidewaiter ci`.",
            code="usage",
        )
    with workshop() as shop:
        # The key is opened first, so that a wrong password is found before the work.
        signers = trusting.signers(shop, key, asking(shop, key))
        way = ways.go(shop, opened, signers, wanted, reports=with_, vex=vex)
        around = surroundings.of_settings(shop.settings)
        write(shop.progress, asked, way, around, lambda: target.since(shop, way, around, against=against))
        if way.error is not None:
            raise ended(shop.progress, way, way.error)
        done = way.done
    bounding.keep(shop.settings, done.build, shop.progress)
    if provenance is not None:
        builder, run = signers.builder.trusted.builder, shop.settings.pipeline_run
        pipeline.write_provenance(done.build, provenance, builder=builder, pipeline_run=run)
    if output == "json":
        emit_json(
            {
                **building.document(done.build),
                "sources": counted(way),
                "base": done.base,
                "verdict": done.verdict,
                "production_would_demand": done.beyond.violations,
                "findings": len(done.scan.findings),
                "not_checked": len(done.scan.not_checked),
                "signature": trusting.signature_of(done.attached),
                "attested": done.attested,
            }
        )
        return 0
    for line in _lines(done, way):
        emit(line)
    return 0


def _lines(done: Cleared, way: Way) -> list[str]:
    kinds = Counter(component.kind for component in done.facts.components)
    packages = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    findings = Counter(one.severity for one in done.scan.findings)
    found = ", ".join(f"{count} {severity}" for severity, count in sorted(findings.items())) or "none known"
    return [
        *building.summary(done.build),
        f"  sources  {counted(way)['files']} files, {counted(way)['findings']} findings",
        f"  packages {packages}",
        f"  findings {found}",
        *(f"  {line}" for line in (*coverage_lines(done.scan), *not_checked_lines(done.facts, done.scan))),
        *(f"  {line}" for line in outside_lines(done.scan)),
        f"  signed  {trusting.signature_of(done.attached)}",
        f"  attested  {', '.join(map(predicates.short, done.attested))}",
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
