"""A project to an image in the store: locks obeyed, layers reused, nothing of wheels or app executed.

1. Read which commit the project is at.
2. Read the locks; a missing one is resolved and written, a stale one is an error.
3. Make (or reuse) what the image stands on, then the wheels' layers and the app layer.
4. Write config and manifest of the base alone and of the whole image.
"""

import datetime as dt
import time
from contextlib import nullcontext
from functools import partial

import msgspec

from tidewaiter.assembly import app, image, locking, models, options, python_layers, source, standing
from tidewaiter.assembly.app import AppFile
from tidewaiter.assembly.bench import Bench
from tidewaiter.assembly.foundation import NOT_FOR_PRODUCTION, Foundation
from tidewaiter.assembly.locking import Locks, Native, Rebuilder
from tidewaiter.assembly.models import Model
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.python_layers import PythonLayers
from tidewaiter.assembly.python_lock import PythonLock
from tidewaiter.assembly.source import Look, Source
from tidewaiter.core import clock, limits
from tidewaiter.core import project as projects
from tidewaiter.core.progress import Progress
from tidewaiter.core.project import Project
from tidewaiter.core.settings import Settings
from tidewaiter.oci.manifest import Descriptor, RunConfig

ANNOTATION = "org.opencontainers.image."
_LIBRARY_PATH = "LD_LIBRARY_PATH"


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A finished build. Times are UTC; `seconds` is wall-clock time."""

    project: Project
    wanted: Options
    source: Source
    locks: Locks
    image: Descriptor
    foundation: Foundation
    parts: tuple[Part, ...]
    models: tuple[Model, ...]
    created: dt.datetime
    started: dt.datetime
    finished: dt.datetime
    seconds: float

    @property
    def name(self) -> str:
        """Repository that the project names."""
        return self.project.file.image.name

    @property
    def tag(self) -> str:
        """The commit, the architecture where it is not amd64 (each has an image of its own), and what differed."""
        return self.source.tag_for(self.foundation.platform.architecture)

    @property
    def reference(self) -> str:
        """`NAME:TAG`."""
        return f"{self.name}:{self.tag}"


class _Content(msgspec.Struct, frozen=True):
    """What of the project itself goes into the image."""

    files: list[AppFile]
    package: bytes
    """The archive that the project's own wheel is built from; empty without one."""
    models: tuple[Model, ...]


class _Layers(msgspec.Struct, frozen=True):
    """All layers of the image, from the bottom."""

    parts: tuple[Part, ...]
    library_path: tuple[str, ...] = ()
    """Folders that the loader has to search."""


def build(bench: Bench, project: Project, *, wanted: Options = options.DEFAULT, asked: Look | None = None) -> Build:
    """Build the project's image into the store. Nothing is tagged.

    `asked` is of `source.reading`, by whoever had Git look at the project already.

    Raises:
        TidewaiterError: anything that stands in the way; what was finished is reused next time.
    """
    started, clock_start = clock.now(), time.monotonic()
    with nullcontext(asked) if asked is not None else source.reading(project) as look:
        before = look()  # says at once, before anything is resolved, that there is no commit to build
    native = standing.native(bench, project, wanted)
    locks = locking.locks_of(bench, project, native, wanted=wanted)
    locks, wanted = locking.settled(locks, wanted, bench.progress)
    content = _collect(project, bench.progress)
    with source.reading(project, look) as again:
        _require_same(project)
        # Git looks once more while layers are made; the builder of a Dockerfile is told what it says.
        found = before if project.file.build is None else _unmoved(project, before, again())
        below = standing.under(bench, project, found, locks, wanted=wanted)
        layers = _Layers(below.parts)
        if locks.python is not None and below.interpreter is not None:
            layers = _with_wheels(bench, project, below, locks.python, content=content, native=native, wanted=wanted)
        layers = _with_content(bench, project, below, layers, content=content, wanted=wanted)
        if project.file.build is None:
            found = _unmoved(project, before, again())
    if project.file.build is not None:
        with source.reading(project, look) as last:
            found = _unmoved(project, found, last())
    if found.dirty:
        _advise(project, content.models, bench.progress)

    created = _created(bench.settings, found.committed)
    written = image.write(
        bench.layers.store,
        layers.parts,
        config=_run_config(project, below, layers.library_path),
        created=created,
        annotations=_annotations(project, found, created, below),
        platform=below.platform,
        docker=below.docker,
        history=below.history,
    )
    return Build(
        project=project,
        wanted=wanted,
        source=found,
        locks=locks,
        image=written,
        foundation=below,
        parts=layers.parts,
        models=content.models,
        created=created,
        started=started,
        finished=clock.now(),
        seconds=time.monotonic() - clock_start,
    )


# What is read of the project


def _collect(project: Project, progress: Progress) -> _Content:
    files = app.collect(project)
    package = b""
    if project.file.app.package:
        from tidewaiter.assembly import own_wheel

        package = own_wheel.archive(project)
    return _Content(files, package, models.collect(project, progress))


def _require_same(project: Project) -> None:
    """Raise `IntegrityError` when the project file is another one by now."""
    if projects.load(project.directory).file != project.file:
        raise source.moved(project.directory)


def _unmoved(project: Project, before: Source, after: Source) -> Source:
    """The source after everything was read; raises `IntegrityError` when it is another commit.

    What differed from the commit before or after the reading counts as different.
    """
    if after.commit != before.commit:
        raise source.moved(project.directory)
    return msgspec.structs.replace(after, dirty=before.dirty or after.dirty)


def _advise(project: Project, served: tuple[Model, ...], progress: Progress) -> None:
    """Say how a model that is not in Git is named by the commit all the same."""
    for section, model in zip(project.file.models, served, strict=True):
        if section.digest is None and not source.tracked(project, [section.path]):
            progress.note(f'the model {model} is pinned to the commit by digest = "{model.digest}" in its [[models]]')


# Layers


def _with_wheels(
    bench: Bench,
    project: Project,
    below: Foundation,
    lock: PythonLock,
    *,
    content: _Content,
    native: Native,
    wanted: Options,
) -> _Layers:
    """The layers below, those of the locked wheels, and that of the project's own wheel."""
    others = len(below.parts) + len(content.models) + bool(content.files) + bool(content.package)
    rebuilder = Rebuilder(partial(locking.source_builder, bench, project, native))
    made = _wheels(bench, below, lock, most=limits.BUILT_LAYERS - others, make=rebuilder, wanted=wanted)
    parts = (*below.parts, *made.parts)
    if content.package:
        parts += (_own_package(bench, project, below, lock, package=content.package, native=native, wanted=wanted),)
    return _Layers(parts, made.library_path)


def _wheels(
    bench: Bench, below: Foundation, lock: PythonLock, *, most: int, make: Rebuilder | None = None, wanted: Options
) -> PythonLayers:
    """At most `most` layers of the locked wheels."""
    assert below.interpreter is not None  # noqa: S101  # who calls this has looked
    return python_layers.build(
        lock,
        wanted=wanted,
        most=most,
        interpreter=below.interpreter,
        ground=standing.ground_of_wheels(below),
        layers=bench.layers,
        threads=bench.settings.threads,
        settings=bench.settings,
        connect=bench.connect,
        make=make,
        progress=bench.progress,
    )


def _own_package(
    bench: Bench,
    project: Project,
    below: Foundation,
    lock: PythonLock,
    *,
    package: bytes,
    native: Native,
    wanted: Options,
) -> Part:
    """The layer of the project's own wheel."""
    from tidewaiter.assembly import own_wheel
    from tidewaiter.assembly.wheel_sources import WheelSources

    wheel = own_wheel.build(
        project,
        package,
        lock,
        interpreter=native(),
        cache=bench.settings.home.cache,
        sources=WheelSources(lock.indexes, bench.settings, bench.client),
        progress=bench.progress,
    )
    made = _wheels(bench, below, msgspec.structs.replace(lock, wheels=(wheel,)), most=1, wanted=wanted)
    return msgspec.structs.replace(made.parts[0], kind="app")


def _with_content(
    bench: Bench, project: Project, below: Foundation, layers: _Layers, *, content: _Content, wanted: Options
) -> _Layers:
    """`layers`, those of the models, and that of the app."""
    parts = list(layers.parts)
    parts += [
        models.build(model, ground=below.ground, wanted=wanted, layers=bench.layers, progress=bench.progress)
        for model in content.models
    ]
    if content.files:
        parts.append(
            app.build(
                project,
                content.files,
                wanted=wanted,
                interpreter=below.interpreter,
                ground=below.ground,
                layers=bench.layers,
                threads=bench.settings.threads,
                progress=bench.progress,
            )
        )
    if len(parts) > limits.BUILT_LAYERS:
        bench.progress.note(
            f"the image has {len(parts)} layers, over {limits.BUILT_LAYERS}: {len(below.parts)} of them are its base's"
        )
    return msgspec.structs.replace(layers, parts=tuple(parts))


# Config and manifest


def _created(settings: Settings, committed: int) -> dt.datetime:
    epoch = settings.source_date_epoch
    return clock.from_epoch(committed if epoch is None else epoch)


def _annotations(project: Project, found: Source, created: dt.datetime, below: Foundation) -> dict[str, str]:
    written = {
        "title": project.file.image.name,
        "revision": found.commit,
        "version": found.commit[:12],
        "created": clock.rfc3339(created),
    }
    if not below.builder:
        written |= {"base.name": below.name, "base.digest": below.image.digest}
    if project.file.image.source:
        written["source"] = project.file.image.source
    mark = {} if below.production else {NOT_FOR_PRODUCTION: "false"}
    return {ANNOTATION + key: value for key, value in written.items()} | mark


def _run_config(project: Project, below: Foundation, library_path: tuple[str, ...]) -> RunConfig:
    """How a container of the image starts: as the project says, else as the base does; `library_path` is searched."""
    said = project.file.app
    config = below.config
    if said.entrypoint:
        # What the base runs by default are arguments to its own program.
        config = msgspec.structs.replace(config, entrypoint=list(said.entrypoint), cmd=None)
    if said.include:
        config = msgspec.structs.replace(config, working_dir=f"/{app.ROOT}")
    if said.user is not None:
        config = msgspec.structs.replace(config, user=said.user)
    if library_path:
        variables = dict(one.partition("=")[::2] for one in config.env or ())
        before = variables.get(_LIBRARY_PATH)
        variables[_LIBRARY_PATH] = ":".join([*library_path, *([before] if before else [])])
        config = msgspec.structs.replace(config, env=[f"{name}={value}" for name, value in variables.items()])
    return config
