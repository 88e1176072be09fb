"""Step: project to image in the store, with its build recorded."""

import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from tidewaiter.assembly import build as assembly
from tidewaiter.assembly import locking, options, provenance, standing
from tidewaiter.assembly.bench import Bench
from tidewaiter.assembly.build import Build
from tidewaiter.assembly.foreign import Images
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.python_lock import PythonLock
from tidewaiter.assembly.source import Look
from tidewaiter.catalog import built, glance
from tidewaiter.catalog.records import BuildRecord, BuiltLayer, CiRun, Material, Visibility
from tidewaiter.core import durable
from tidewaiter.core.project import Project
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.pipelines import resting
from tidewaiter.pipelines.continuous import surroundings
from tidewaiter.pipelines.fetching import Fetcher
from tidewaiter.pipelines.workshop import Workshop

VISIBILITY = "dev.tidewaiter.visibility"
"""Annotation of an entry of the store's `index.json`: `built`, or `cleared` once policy allowed it."""


def bench_of(workshop: Workshop, images: Images | None = None) -> Bench:
    """What builds work with; `images` brings images in the place of a `Fetcher`."""
    return Bench(
        layers=workshop.layers,
        settings=workshop.settings,
        connect=workshop.connect,
        images=images or Fetcher(workshop),
        progress=workshop.progress,
    )


def _materials(build: Build) -> tuple[Material, ...]:
    """Every input that the image's bytes depend on, by digest: those of the provenance."""
    return tuple(Material(one.name, f"{one.algorithm}:{one.value}") for one in provenance.dependencies(build))


def _has_base(build: Build) -> bool:
    """Whether others may stand on the same base: what a Dockerfile gives is one image's own."""
    return build.foundation.base_layers > 0 and not build.foundation.builder


def record_of(build: Build, *, builder: str, pipeline_run: str) -> BuildRecord:
    """What the catalog keeps of the build, which `builder` made in the run of CI with that address."""
    section = build.project.file.image
    return BuildRecord(
        repository=build.name,
        digest=build.image.digest,
        media_type=build.image.media_type,
        layers=tuple(
            BuiltLayer(
                digest=part.info.digest,
                diff_id=part.info.diff_id,
                size=part.info.size,
                unpacked_size=part.info.tar_size,
                kind=part.kind,
                title=part.title,
                contents=part.contents,
            )
            for part in build.parts
        ),
        environment=section.environment,
        purpose=section.purpose,
        source=section.source or build.source.remote or build.project.directory.name,
        commit=build.source.commit,
        committed=_committed(build.source.committed),
        dirty=build.source.dirty,
        branch=build.source.branch,
        builder=builder,
        pipeline_run=pipeline_run,
        ci=msgspec.convert(dict(build.source.run), CiRun) if build.source.run else None,
        started=build.started,
        finished=build.finished,
        seconds=build.seconds,
        created=build.created,
        base_name=build.foundation.name,
        base_lock=build.foundation.lock_digest,
        base_digest=build.foundation.image.digest if _has_base(build) else None,
        base_layers=build.foundation.base_layers if _has_base(build) else 0,
        python_lock=build.locks.python_digest,
        materials=_materials(build),
        reused_layers=sum(part.reused for part in build.parts),
        built_layers=sum(not part.reused for part in build.parts),
    )


def _committed(seconds: int) -> dt.datetime | None:
    """The moment that a commit names, which its author chose; None when it is no date."""
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None


def load_recording() -> None:
    """Load what signs the audit log at the end."""
    with suppress(ImportError):  # said when it is needed
        import tidewaiter.catalog.audit.sequencer  # noqa: F401


def beside(load: Callable[[], None]) -> None:
    """Load in a thread what is needed later, while this one waits for something else."""
    from threading import Thread

    Thread(target=load, name="loading").start()


def build(
    workshop: Workshop,
    project: Project,
    wanted: Options = options.DEFAULT,
    *,
    builder: str = provenance.LOCAL_BUILDER,
    images: Images | None = None,
    asked: Look | None = None,
    meanwhile: Callable[[], None] = load_recording,
) -> Build:
    """Build `project`, record the build, and let its tag mean the image in the catalog, not yet cleared.

    A build that made nothing new, of a commit whose build is recorded, is not recorded once more. `builder` names who
    builds it; `images` says what names of images mean, in the place of the registries; `asked` as in `assembly.build`.
    `meanwhile` loads what comes next, in a thread, while something is made.

    Raises:
        TidewaiterError: as `assembly.build.build`; nothing is recorded or tagged then.
    """
    bench = bench_of(workshop, images)
    bench.layers.before_making = partial(beside, meanwhile)  # there is time while the image's interpreter starts
    made = assembly.build(bench, project, wanted=wanted, asked=asked)
    around = surroundings.of_settings(workshop.settings)
    for line in surroundings.warnings(made.source, around):
        workshop.progress.note(f"warning: {line}")
    made = msgspec.structs.replace(made, source=surroundings.told(made.source, around))
    record = record_of(made, builder=builder, pipeline_run=workshop.settings.pipeline_run)
    if record.built_layers or not _known(workshop, record, made.tag):
        _remember(workshop, record, made.tag)
    _warn_of_base(workshop, made)
    return made


def _warn_of_base(workshop: Workshop, made: Build) -> None:
    """Say that the base is retired, no longer approved, or that a later one was approved."""
    if not _has_base(made):
        return
    below = made.foundation
    platform = (below.platform.os, below.platform.architecture)
    base = resting.said(workshop, below.name, below.image.digest, layers=below.base_layers, platform=platform)
    if base.warning:
        workshop.progress.note(f"warning: {base.warning}; `tidewaiter base update` takes the newest packages")


def _remember(workshop: Workshop, record: BuildRecord, tag: str) -> None:
    try:
        built.record(workshop.settings.catalog, record, tag, actor=workshop.settings.identity)
        workshop.wrote = True
    except glance.UnansweredError:
        workshop.catalog.record_build(record)
        workshop.catalog.set_tag(record.repository, tag, record.digest)


def _known(workshop: Workshop, record: BuildRecord, tag: str) -> bool:
    try:
        return glance.knows_build(workshop.settings.catalog, record, tag)
    except glance.UnansweredError:
        return False


def lock(workshop: Workshop, project: Project, *, wanted: Options = options.DEFAULT) -> PythonLock:
    """Resolve the requirements of `project` anew and write the lock; errors as `locking.lock_python`."""
    bench = bench_of(workshop)
    return locking.lock_python(bench, project, standing.native(bench, project, wanted), wanted=wanted)


def write_provenance(
    made: Build, path: Path, *, builder: str = provenance.LOCAL_BUILDER, pipeline_run: str = ""
) -> None:
    """Write the in-toto statement about the build to `path`, atomically. Raises `StorageError`."""
    said = provenance.of(made, builder=builder, pipeline_run=pipeline_run)
    statement = said.statement(made.name, made.image.digest)
    durable.write_atomically(path.absolute(), msgspec.json.format(msgspec.json.encode(statement), indent=2) + b"\n")


def list_in_store(workshop: Workshop, name: str, tag: str, image: Descriptor) -> None:
    """Name the image in the store's `index.json`, where other tools see it, and say whether it was cleared."""
    visibility: Visibility | None = None
    # A denial may take the tag back while it is written here; what the catalog says last must stand.
    while (current := _visibility(workshop, name, tag, image.digest)) != visibility:
        visibility = current
        workshop.store.tag(f"{name}:{tag}", msgspec.structs.replace(image, annotations={VISIBILITY: visibility}))


def _visibility(workshop: Workshop, name: str, tag: str, digest: Digest) -> Visibility:
    try:
        current = glance.tag(workshop.settings.catalog, name, tag)
    except glance.UnansweredError:
        record = workshop.catalog.image(f"{name}@{digest}")
        return next((one.visibility for one in record.summary.tags if one.name == tag), "built")
    return current.visibility if current and current.digest == digest else "built"
