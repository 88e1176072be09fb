"""`affected`: which package versions, layers and images an advisory touches, or a package is in."""

from typing import Annotated

import msgspec

from tidewaiter.catalog.affected import Concerned, ConcernedImage, ConcernedVersion
from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.pipelines import affected as pipeline


def affected(thing: str, /, *, output: Annotated[Format, Parameter(name="--format")] = "text") -> int:
    """Show which package versions and images an advisory touches, or a package is in.

    Answered from the findings of the catalog, which are first brought to the advisories of this home; no image is read.
    Exits with 0 whether something is affected or not, and with 3 when no advisory of that name is known here.

    Args:
        thing: an advisory (CVE-…, GHSA-…, PYSEC-…) or a package URL (pkg:pypi/NAME or pkg:pypi/NAME@VERSION).
        output: text or json.
    """
    from tidewaiter.advisories.database import Database

    with workshop(looking=True) as shop, Database(shop.settings.home.advisories) as database:
        found = pipeline.answer(shop.catalog, database, thing, shop.progress)
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
        console.table(("image", "digest", "tags"), [_image(image) for image in found.images])
    return 0


def _summary(thing: str, found: Concerned) -> list[str]:
    versions, images = len(found.versions), len({image.digest for image in found.images})
    cleared = len({image.digest for image in found.images if image.cleared})
    lines = [f"{thing}: package versions: {versions}; images: {images}, cleared: {cleared}"]
    if found.not_inspected:
        lines.append(f"not inspected, so not known: {found.not_inspected} images of the catalog")
    return lines


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
    return image.name, image.digest, tags
