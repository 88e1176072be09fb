"""`affected`: which package versions, images, workloads and model versions an advisory touches, or a package is in."""

from typing import Annotated

import msgspec

from tidewaiter.catalog.reach.affected import Concerned, Wanted
from tidewaiter.catalog.reach.fixes import Fix
from tidewaiter.catalog.reach.images import ConcernedImage
from tidewaiter.catalog.reach.versions import ConcernedVersion
from tidewaiter.cli import console, remote
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import limits
from tidewaiter.pipelines import affected as pipeline
from tidewaiter.policy import environments

_FIXES = 5
"""That are shown to people."""


def affected(
    thing: str,
    /,
    *,
    running: Annotated[bool, Parameter(negative="")] = False,
    owner: str = "",
    as_of: str = "",
    rows: int = limits.AFFECTED_ROWS,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Show what an advisory touches, or a package is in: versions, images, what runs of them; and what to bump.

    Answered from the findings of the catalog, which are first brought to the advisories of this home; no image is read.
    Exits with 0 whether something is affected or not, and with 3 when no advisory of that name is known here.

    Args:
        thing: an advisory (CVE-…, GHSA-…, PYSEC-…) or a package URL (pkg:pypi/NAME or pkg:pypi/NAME@VERSION).
        running: only images that a workload runs.
        owner: only what this owner answers for.
        as_of: what was known, and what ran, at the end of this day (2027-06-30), or at a moment.
        rows: name at most so many images, workloads and model versions, of each; all are counted.
        output: text or json.
    """
    found = _found(thing, Wanted(running=running, owner=owner, rows=rows), as_of)
    if output == "json":
        emit_json({"thing": thing, **msgspec.structs.asdict(found)})
        return 0
    for line in _summary(thing, found):
        emit(line)
    if found.versions:
        console.table(
            ("package", "version", "advisory", "severity", "found as", "fixed in", "layers", "images"),
            [row for version in found.versions for row in _rows(version)],
        )
    if found.images:
        console.table(
            ("image", "digest", "tags", "owner", "runs", "through base"), [_image(image) for image in found.images]
        )
    _print_use(found)
    for one in found.fixes[:_FIXES]:
        emit(_fix(one))
    if len(found.fixes) > _FIXES:
        emit(f"and {len(found.fixes) - _FIXES} more fixes")
    return 0


def _found(thing: str, wanted: Wanted, as_of: str) -> Concerned:
    from tidewaiter.advisories.database import Database

    with remote.opened() as server:
        if server is not None:
            query: remote.Query = {
                "of": thing,
                "running": wanted.running,
                "owner": wanted.owner,
                "rows": wanted.rows,
                "as_of": as_of,
            }
            return server.get("/affected", Concerned, query)
    with workshop(looking=True) as shop, Database(shop.settings.home.advisories) as database:
        said = environments.said_by(shop.settings)
        return pipeline.answer(shop.catalog, database, thing, shop.progress, wanted=wanted, as_of_day=as_of, said=said)


def _summary(thing: str, found: Concerned) -> list[str]:
    totals = found.totals
    first = (
        f"{thing}: package versions: {len(found.versions)}; images: {totals.images}, cleared: {totals.cleared}, "
        f"through a base: {totals.derived}, running: {totals.running}; workloads: {totals.workloads}; "
        f"model versions: {totals.models}"
    )
    lines = [first]
    if found.not_inspected:
        lines.append(f"not inspected, so not known: {found.not_inspected} images of the catalog")
    if found.running_unknown:
        lines.append(f"not known: {found.running_unknown} workloads run images that were not inspected")
    if found.unfixed:
        lines.append(f"no fix is known for all findings of {found.unfixed} images")
    if found.cut:
        lines.append(f"not all are named: {', '.join(found.cut)}; --rows names more")
    lines += [f"not known: {text}" for text in found.unknown]
    return lines


def _print_use(found: Concerned) -> None:
    if found.workloads:
        console.table(
            ("workload", "kind", "container", "image", "owner", "environment", "verdict"),
            [
                (one.path, one.kind, one.container, one.digest, one.owner, one.environment, one.verdict)
                for one in found.workloads
            ],
        )
    if found.models:
        console.table(
            ("model version", "stage", "image", "owner"),
            [(f"{one.name}:{one.version}", one.stage, one.digest, one.owner) for one in found.models],
        )
    if [one.owner for one in found.owners] not in ([], [""]):
        console.table(
            ("owner", "images", "workloads", "model versions"),
            [
                (one.owner or "nobody is known", str(one.images), str(one.workloads), str(one.models))
                for one in found.owners
            ],
        )


def _fix(one: Fix) -> str:
    return f"fix: {one.why}; {one.findings} findings, {one.running} running images"


def _rows(version: ConcernedVersion) -> list[tuple[str, ...]]:
    ends = (str(len(version.layers)), str(version.images))
    found: list[tuple[str, ...]] = [
        (
            version.name,
            version.version,
            finding.advisory,
            finding.severity,
            finding.found_as,
            finding.fixed_in[0] if finding.fixed_in else "",
            *ends,
        )
        for finding in version.findings
    ]
    found += [(version.name, version.version, "not checked", gap.reason, "", "", *ends) for gap in version.gaps]
    return found or [(version.name, version.version, "", "", "", "", *ends)]


def _image(image: ConcernedImage) -> tuple[str, ...]:
    tags = ", ".join(f"{tag.name} ({tag.visibility})" for tag in image.tags)
    return image.name, image.digest, tags, image.owner, str(image.workloads or ""), ", ".join(image.bases)
