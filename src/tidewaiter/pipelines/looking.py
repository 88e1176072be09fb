"""Steps: image to facts, facts to SBOM documents, components to findings. What the catalog knows is recorded there."""

from typing import TYPE_CHECKING

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.catalog.records import AttachmentRecord, SbomKind
from tidewaiter.core import clock
from tidewaiter.inspection import image as inspection
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.workshop import Workshop

if TYPE_CHECKING:
    from tidewaiter.sbom.subject import Subject

MEDIA_TYPES: dict[SbomKind, str] = {
    "cyclonedx": "application/vnd.cyclonedx+json",
    "spdx": "application/spdx+json",
}


def inspect(workshop: Workshop, named: NamedImage) -> ImageFacts:
    """Facts of the image, computed from its bytes; layers that were seen before are not read again.

    Raises:
        IntegrityError: a layer's bytes are not those that the image names.
        InputError: a layer is malformed or over the limits.
    """
    cache = LayerFactsCache(workshop.settings.home.cache / "layer-facts")
    return inspection.inspect(
        named.image,
        reference=named.reference,
        cache=cache,
        threads=workshop.settings.threads,
        progress=workshop.progress,
    )


def scan(workshop: Workshop, facts: ImageFacts) -> ScanResult:
    """Findings of the image's components, and what could not be checked.

    Raises:
        StorageError: the advisory database cannot be read.
    """
    from tidewaiter.advisories.database import Database
    from tidewaiter.advisories.matcher import Matcher

    with Database(workshop.settings.home.advisories) as database:
        return Matcher(database).match(facts.components)


def subject_of(facts: ImageFacts) -> "Subject":
    """What an SBOM says it is about."""
    from tidewaiter.sbom.subject import Subject

    system = facts.operating_system
    return Subject(
        name=facts.reference,
        digest=facts.digest,
        created=facts.created,
        os=facts.os,
        architecture=facts.architecture,
        distribution=system.id if system else "",
        distribution_version=system.version if system else "",
        distribution_name=system.name if system else "",
    )


def sbom(facts: ImageFacts, kind: SbomKind) -> bytes:
    """The SBOM of an image: the same facts give the same bytes."""
    from tidewaiter.sbom import cyclonedx, spdx

    encode = cyclonedx.encode if kind == "cyclonedx" else spdx.encode
    return encode(subject_of(facts), facts.components)


def attach_sboms(workshop: Workshop, facts: ImageFacts) -> None:
    """Store both SBOM documents and record them; the image's facts must be recorded before."""
    for kind, media_type in MEDIA_TYPES.items():
        document = sbom(facts, kind)
        blob = workshop.store.put(document)
        workshop.catalog.record_attachment(
            AttachmentRecord(
                digest=facts.digest,
                kind=kind,
                media_type=media_type,
                blob_digest=blob,
                size=len(document),
                created=clock.now(),
            )
        )
