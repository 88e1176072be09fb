"""From an image's bytes to its facts: every layer once, then stacked."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.inspection.facts import ImageFacts, LayerSummary, OperatingSystem
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.inspection.layer_facts import LayerFacts
from tidewaiter.inspection.stack import Item, Stack
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource, Image
from tidewaiter.oci.manifest import Descriptor

if TYPE_CHECKING:
    from tidewaiter.inspection.merge import Merged


class Layer(NamedTuple):
    """A layer as its image names it."""

    blob: Descriptor
    diff_id: Digest


class LayerAnswer(NamedTuple):
    """What is known of a layer once it has been read."""

    layer: Layer
    facts: LayerFacts
    listing: bytes
    """`listing` of what lies in it."""


class LayerReader(Protocol):
    """Reads layers wherever it may: here, or in processes that can do no harm."""

    def __call__(
        self, source: BlobSource, layers: Sequence[Layer], advance: Callable[[int], None]
    ) -> Iterator[LayerAnswer]:
        """An answer for each of `layers`, in any order; `advance` is told compressed bytes, from any thread.

        Raises:
            IntegrityError: a layer's bytes are not those that the image names.
            InputError: a layer cannot be read, or is over a bound of `core.limits`.
            UndeterminedError: it could not be found out.
        """


def read_here(source: BlobSource, layers: Sequence[Layer], advance: Callable[[int], None]) -> Iterator[LayerAnswer]:
    """A `LayerReader` in this very process: for bytes that are trusted, and for tests of what is read."""
    from tidewaiter.inspection import layer as reading  # all catalogers; not needed for layers that are known

    for layer in layers:
        kept: list[bytes] = []
        facts = reading.read(source, layer.blob, layer.diff_id, advance=advance, keep=kept.append)
        yield LayerAnswer(layer, facts, kept[0])


def read(
    image: Image,
    *,
    cache: LayerFactsCache | None = None,
    reader: LayerReader = read_here,
    progress: Progress = SILENT,
) -> Stack:
    """The layers of `image` with their facts; those that `cache` does not know are read, largest first.

    Raises:
        IntegrityError: a layer's bytes are not those that the image names.
        InputError: a layer cannot be read.
        LimitError: it is over a bound of `core.limits`.
        NotFoundError: a layer is missing.
        UndeterminedError: it could not be found out.
    """
    items = [(blob.digest, diff_id) for blob, diff_id in image.layers]
    wanted = {item: Layer(*layer) for item, layer in zip(items, image.layers, strict=True)}
    found: dict[Item, LayerFacts] = {}
    listings: dict[Item, bytes] = {}
    for item in wanted:
        facts = cache.get(*item) if cache is not None else None
        if facts is not None:
            found[item] = facts
    missing = sorted((layer for item, layer in wanted.items() if item not in found), key=lambda layer: -layer.blob.size)
    if missing:
        with progress.task("Inspecting layers", total=sum(layer.blob.size for layer in missing), unit="bytes") as task:
            answers = reader(image.source, missing, task.advance)
            load()  # while the reader starts

            for layer, facts, listing in answers:
                item = (layer.blob.digest, layer.diff_id)
                found[item] = facts
                if cache is None or not cache.put(item[0], facts, listing):
                    listings[item] = listing
    return Stack(items, found, cache=cache, listings=listings)


def load() -> None:
    """Load what `describe` needs, which would else be loaded when it is needed."""
    import packaging.requirements  # noqa: F401  # for the next one

    from tidewaiter.frameworks import tables
    from tidewaiter.inspection import environment, framework_record, merge, waste  # noqa: F401

    tables.tensorflow()
    tables.cuda()


def runs_as_root(user: str, merged: "Merged") -> bool:
    """Whether `config.User` is root: absent, uid 0, or a name that does not lead to another number for certain."""
    name = user.partition(":")[0].strip()
    if not name:
        return True
    unsigned = name.removeprefix("+")
    if unsigned.isascii() and unsigned.isdigit():
        return len(unsigned) > 10 or not 0 < int(unsigned) < 2**31
    uid = merged.uid(name)
    return uid is None or uid == 0


def _summaries(image: Image, facts: list[LayerFacts], hidden: tuple[int, ...]) -> tuple[LayerSummary, ...]:
    from tidewaiter.inspection.environment import masked_text

    history = [masked_text(entry.created_by or "") for entry in image.config.history if not entry.empty_layer]
    if len(history) != len(facts):
        history = [""] * len(facts)  # a history that does not fit the layers says nothing about them
    return tuple(
        LayerSummary(
            digest=descriptor.digest,
            diff_id=diff_id,
            size=descriptor.size,
            unpacked_size=found.unpacked_size,
            files=found.files,
            created_by=created_by,
            hidden_size=unseen,
        )
        for (descriptor, diff_id), found, created_by, unseen in zip(image.layers, facts, history, hidden, strict=True)
    )


def inspect(
    image: Image,
    *,
    reference: str,
    cache: LayerFactsCache | None = None,
    reader: LayerReader = read_here,
    progress: Progress = SILENT,
) -> ImageFacts:
    """Facts of `image`, computed from its bytes; layers that `cache` knows are not read.

    Raises:
        IntegrityError: a layer's bytes are not those that the image names.
        InputError: a layer cannot be read.
        LimitError: the image is over a bound of `core.limits`.
        NotFoundError: a layer is missing.
    """
    return describe(image, read(image, cache=cache, reader=reader, progress=progress), reference=reference)


def describe(image: Image, stack: Stack, *, reference: str) -> ImageFacts:
    """Facts of `image` with the layers of `stack`.

    Raises:
        UndeterminedError: what is known of a layer is lost.
    """
    from tidewaiter.inspection import framework_record
    from tidewaiter.inspection.environment import masked, masked_labels, masked_words
    from tidewaiter.inspection.merge import Merged
    from tidewaiter.inspection.waste import weigh

    facts = stack.facts
    weights = weigh(stack.measured())
    merged = Merged(facts, image.config.architecture)
    components = tuple(map(weights.sized, merged.components()))
    release = merged.os_release
    run = image.config.config
    env = masked(run.env or ())
    frameworks = merged.frameworks()
    return ImageFacts(
        reference=reference,
        digest=image.digest,
        os=image.config.os,
        architecture=image.config.architecture,
        user=run.user,
        runs_as_root=runs_as_root(run.user, merged),
        entrypoint=masked_words(run.entrypoint or ()),
        cmd=masked_words(run.cmd or ()),
        env=env,
        labels=masked_labels(run.labels or {}),
        annotations=masked_labels(image.annotations),
        exposed_ports=tuple(sorted(run.exposed_ports or {})),
        working_dir=run.working_dir,
        created=image.config.created or "",
        operating_system=None
        if release is None
        else OperatingSystem(id=release.id, version=release.version_id, name=release.name),
        components=components,
        programs=merged.programs(components),
        layers=_summaries(image, facts, weights.hidden),
        size=sum(descriptor.size for descriptor, _ in image.layers),
        unpacked_size=sum(layer.unpacked_size for layer in facts),
        exposed=merged.exposed(),
        frameworks=frameworks,
        framework=framework_record.of(components, frameworks, env),
        models=merged.models(),
        unread=tuple(f"{note.path}: {note.reason}" for note in merged.unread()),
        visible_size=weights.visible[0],
        unowned_size=weights.unowned[0],
        wasted=weights.wasted,
        volumes=tuple(sorted(run.volumes or {})),
    )
