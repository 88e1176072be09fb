"""Step: project to image in the store, with its build recorded."""

import msgspec

from tidewaiter.assembly import build as assembly
from tidewaiter.assembly.build import Build
from tidewaiter.catalog.records import BuildRecord, BuiltLayer, Material, Visibility
from tidewaiter.core.project import Project
from tidewaiter.pipelines.workshop import Workshop

VISIBILITY = "dev.tidewaiter.visibility"
"""Annotation of an entry of the store's `index.json`: `built`, or `cleared` once policy allowed it."""

LOCAL_BUILDER = "local"


def _materials(build: Build) -> tuple[Material, ...]:
    """Every input that the image's bytes depend on, by digest."""
    locks = build.locks
    found = [Material("git", f"gitCommit:{build.source.commit}")]
    if locks.recipe is not None:
        found.append(Material(f"recipe {locks.recipe.name}", locks.recipe.digest))
    if locks.base is not None:
        found += [
            Material(
                f"pkg:deb/debian/{package.name}@{package.version}?arch={package.architecture}",
                f"sha256:{package.sha256}",
            )
            for package in locks.base.packages
        ]
    if locks.python is not None:
        found += [Material(wheel.filename, f"sha256:{wheel.sha256}") for wheel in locks.python.wheels]
    return tuple(found)


def _record(build: Build) -> BuildRecord:
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
        dirty=build.source.dirty,
        branch=build.source.branch,
        builder=LOCAL_BUILDER,
        started=build.started,
        finished=build.finished,
        seconds=build.seconds,
        created=build.created,
        base_name=build.foundation.name,
        base_lock=build.foundation.lock_digest,
        python_lock=build.locks.python_digest,
        materials=_materials(build),
        reused_layers=sum(part.reused for part in build.parts),
        built_layers=sum(not part.reused for part in build.parts),
    )


def build(workshop: Workshop, project: Project) -> Build:
    """Build `project`, record the build, and let its tag mean the image in the catalog, not yet cleared.

    Raises:
        TidewaiterError: as `assembly.build.build`; nothing is recorded or tagged then.
    """
    made = assembly.build(
        project,
        layers=workshop.layers,
        settings=workshop.settings,
        client=workshop.client,
        progress=workshop.progress,
    )
    workshop.catalog.record_build(_record(made))
    workshop.catalog.set_tag(made.name, made.source.tag, made.image.digest)
    return made


def list_in_store(workshop: Workshop, made: Build) -> None:
    """Name the build in the store's `index.json`, where other tools see it, and say whether it was cleared."""
    visibility: Visibility | None = None
    # A denial may take the tag back while it is written here; what the catalog says last must stand.
    while (current := _visibility(workshop, made)) != visibility:
        visibility = current
        workshop.store.tag(made.reference, msgspec.structs.replace(made.image, annotations={VISIBILITY: visibility}))


def _visibility(workshop: Workshop, made: Build) -> Visibility:
    record = workshop.catalog.image(f"{made.name}@{made.image.digest}")
    found: Visibility = "built"
    for tag in record.summary.tags:
        if tag.name == made.source.tag:
            found = tag.visibility
    return found
