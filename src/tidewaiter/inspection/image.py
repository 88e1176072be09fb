"""From an image's bytes to its facts: every layer once, in parallel, then stacked."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tidewaiter.core.errors import TidewaiterError
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.inspection import framework_record
from tidewaiter.inspection.environment import masked
from tidewaiter.inspection.facts import ImageFacts, LayerSummary, OperatingSystem
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.inspection.layer_facts import LayerFacts
from tidewaiter.inspection.merge import Merged
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.manifest import Descriptor

_Item = tuple[Digest, Digest]
"""Blob digest and diff ID of a layer."""


class _Stopped(Exception):  # noqa: N818  not an error: another layer has failed, or the user interrupted
    pass


def _layer_facts(
    image: Image, *, cache: LayerFactsCache | None, threads: int, progress: Progress
) -> dict[_Item, LayerFacts]:
    """Facts of every distinct layer, from the cache or from its bytes, largest first."""
    wanted: dict[_Item, Descriptor] = {(descriptor.digest, diff_id): descriptor for descriptor, diff_id in image.layers}
    found: dict[_Item, LayerFacts] = {}
    for pair in wanted:
        facts = cache.get(*pair) if cache is not None else None
        if facts is not None:
            found[pair] = facts
    missing = sorted(wanted.keys() - found.keys(), key=lambda pair: (-wanted[pair].size, pair))
    if not missing:
        return found
    from tidewaiter.inspection import layer as layers  # all catalogers; not needed for layers that are known

    stop = threading.Event()
    total = sum(wanted[pair].size for pair in missing)
    with progress.task("Inspecting layers", total=total, unit="bytes") as task:

        def advance(amount: int) -> None:
            if stop.is_set():
                raise _Stopped
            task.advance(amount)

        def work(pair: _Item) -> LayerFacts:
            facts = layers.read(image.source, wanted[pair], pair[1], advance=advance)
            if cache is not None:
                cache.put(pair[0], facts)
            return facts

        found |= _in_threads(work, missing, threads, stop)
    return found


def _in_threads(
    work: Callable[[_Item], LayerFacts], items: list[_Item], threads: int, stop: threading.Event
) -> dict[_Item, LayerFacts]:
    """`work` of each item; the first failure stops the others and is raised."""
    with ThreadPoolExecutor(max_workers=max(1, min(threads, len(items)))) as pool:
        futures = {item: pool.submit(work, item) for item in items}
        try:
            return {item: future.result() for item, future in futures.items()}
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            failures = [future.exception() for future in futures.values() if future.done() and not future.cancelled()]
            for failure in failures:
                if isinstance(failure, TidewaiterError):
                    raise failure from None
            raise


def runs_as_root(user: str, merged: Merged) -> bool:
    """Whether `config.User` is root: absent, uid 0, or a name that does not lead to another number for certain."""
    name = user.partition(":")[0].strip()
    if not name:
        return True
    unsigned = name.removeprefix("+")
    if unsigned.isascii() and unsigned.isdigit():
        return len(unsigned) > 10 or not 0 < int(unsigned) < 2**31
    uid = merged.uid(name)
    return uid is None or uid == 0


def _summaries(image: Image, facts: list[LayerFacts]) -> tuple[LayerSummary, ...]:
    history = [entry.created_by or "" for entry in image.config.history if not entry.empty_layer]
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
        )
        for (descriptor, diff_id), found, created_by in zip(image.layers, facts, history, strict=True)
    )


def inspect(
    image: Image,
    *,
    reference: str,
    cache: LayerFactsCache | None = None,
    threads: int = 1,
    progress: Progress = SILENT,
) -> ImageFacts:
    """Facts of `image`, computed from its bytes; layers that `cache` knows are not read.

    Raises:
        IntegrityError: a layer's bytes are not those that the image names.
        InputError: a layer cannot be read.
        LimitError: the image is over a bound of `core.limits`.
        NotFoundError: a layer is missing.
    """
    found = _layer_facts(image, cache=cache, threads=threads, progress=progress)
    facts = [found[descriptor.digest, diff_id] for descriptor, diff_id in image.layers]
    merged = Merged(facts, image.config.architecture)
    components = merged.components()
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
        entrypoint=tuple(run.entrypoint or ()),
        cmd=tuple(run.cmd or ()),
        env=env,
        labels=dict(run.labels or {}),
        annotations=dict(image.annotations),
        exposed_ports=tuple(sorted(run.exposed_ports or {})),
        working_dir=run.working_dir,
        created=image.config.created or "",
        operating_system=None
        if release is None
        else OperatingSystem(id=release.id, version=release.version_id, name=release.name),
        components=components,
        programs=merged.programs(components),
        layers=_summaries(image, facts),
        size=sum(descriptor.size for descriptor, _ in image.layers),
        unpacked_size=sum(layer.unpacked_size for layer in facts),
        exposed=merged.exposed(),
        frameworks=frameworks,
        framework=framework_record.of(components, frameworks, env),
        models=merged.models(),
        unread=tuple(f"{note.path}: {note.reason}" for note in merged.unread()),
    )
