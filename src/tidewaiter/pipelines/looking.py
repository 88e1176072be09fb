"""Steps: image to facts, facts to SBOM documents, components to findings. What the catalog knows is recorded there."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.catalog.records import AttachmentRecord, SbomKind
from tidewaiter.core import clock
from tidewaiter.core.errors import StorageError
from tidewaiter.core.progress import Progress
from tidewaiter.core.settings import Settings
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.image_cache import ImageFactsCache
from tidewaiter.pipelines.images import NamedImage
from tidewaiter.pipelines.workshop import Workshop

if TYPE_CHECKING:
    from tidewaiter.inspection.stack import Stack
    from tidewaiter.sbom.component import Component
    from tidewaiter.sbom.subject import Subject

MEDIA_TYPES: dict[SbomKind, str] = {
    "cyclonedx": "application/vnd.cyclonedx+json",
    "spdx": "application/spdx+json",
}


def layers(workshop: Workshop, named: NamedImage, *, threads: int = 0, progress: Progress | None = None) -> "Stack":
    """What is known of every layer of the image; those that were seen before are not read again.

    With `threads` and `progress` in the place of the workshop's.

    Raises:
        IntegrityError: a layer's bytes are not those that the image names.
        InputError: a layer is malformed or over the limits.
        UndeterminedError: a process that reads layers gave no answer.
    """
    from tidewaiter.inspection import image as inspection
    from tidewaiter.inspection.layer_cache import LayerFactsCache
    from tidewaiter.pipelines.reading import LayerReaders

    cache = LayerFactsCache(facts_folder(workshop.settings))
    found = inspection.read(
        named.image,
        cache=cache,
        reader=LayerReaders(threads or workshop.settings.threads),
        progress=progress or workshop.progress,
    )
    _tell(workshop, cache.refusal)
    return found


def inspect(workshop: Workshop, named: NamedImage, *, threads: int = 0, progress: Progress | None = None) -> ImageFacts:
    """Facts of the image, computed from its bytes, unless it was seen before; raises what `layers` does."""
    cache = ImageFactsCache(facts_folder(workshop.settings))
    known = cache.get(named.image.digest, reference=named.reference)
    if known is not None:
        return known
    from tidewaiter.inspection import image as inspection  # catalogers and all; not needed for an image that is known

    facts = inspection.describe(
        named.image, layers(workshop, named, threads=threads, progress=progress), reference=named.reference
    )
    cache.put(facts)
    return facts


def facts_folder(settings: Settings) -> Path:
    """Where facts of layers and images are kept that were seen before."""
    return settings.home.cache / "layer-facts"


def _tell(workshop: Workshop, refusal: StorageError | None) -> None:
    if refusal is not None:
        workshop.progress.note(f"{refusal.message}; the layers will be read again next time")


class Contents(Protocol):
    """What is matched: the facts of an image, or what an SBOM says."""

    @property
    def components(self) -> "tuple[Component, ...]":
        """Sorted."""


def scan(workshop: Workshop, facts: Contents) -> ScanResult:
    """Findings of the components, and what could not be checked.

    Raises:
        StorageError: the advisory database cannot be read.
    """
    from tidewaiter.advisories.database import Database
    from tidewaiter.advisories.matcher import Matcher

    with Database(workshop.settings.home.advisories) as database:
        return Matcher(database).match(facts.components)


def subject_of(facts: ImageFacts) -> "Subject":
    """What an SBOM says it is about."""
    from tidewaiter.sbom.subject import Subject, SubjectLayer

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
        layers=tuple(SubjectLayer(layer.digest, layer.diff_id) for layer in facts.layers),
        unread=facts.unread,
    )


def load() -> None:
    """Load what `sbom` needs, which would else be loaded when it is needed."""
    from tidewaiter.sbom import cyclonedx, licenses, spdx  # noqa: F401  # for the next one

    licenses.expression("MIT")


def sbom(facts: ImageFacts, kind: SbomKind) -> bytes:
    """The SBOM of an image: the same facts give the same bytes."""
    from tidewaiter.sbom import cyclonedx, spdx

    encode = cyclonedx.encode if kind == "cyclonedx" else spdx.encode
    return encode(subject_of(facts), facts.components)


def attach_sboms(workshop: Workshop, facts: ImageFacts) -> dict[SbomKind, bytes]:
    """Store both SBOM documents and record them; the image's facts must be recorded before. The documents by kind."""
    stored = store_sboms(workshop, facts)
    for record in stored:
        workshop.catalog.record_attachment(record)
    return {record.kind: document for record, document in stored.items()}


def store_sboms(workshop: Workshop, facts: ImageFacts) -> dict[AttachmentRecord, bytes]:
    """Store both SBOM documents; each with what is to be recorded of it."""
    stored: dict[AttachmentRecord, bytes] = {}
    for kind, media_type in MEDIA_TYPES.items():
        document = sbom(facts, kind)
        record = AttachmentRecord(
            digest=facts.digest,
            kind=kind,
            media_type=media_type,
            blob_digest=workshop.store.put(document),
            size=len(document),
            created=clock.now(),
        )
        stored[record] = document
    return stored
