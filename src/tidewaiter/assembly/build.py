"""A project to an image in the store: locks obeyed, layers reused, nothing of wheels or app executed.

1. Read which commit the project is at.
2. Read the locks; a missing one is resolved and written, a stale one is an error.
3. Make (or reuse) what the image stands on, then the wheels' layers and the app layer.
4. Write config and manifest of the base alone and of the whole image.
"""

import datetime as dt
import time
from collections.abc import Callable
from functools import partial

import msgspec

from tidewaiter.assembly import (
    app,
    base,
    base_lock,
    foreign,
    foreign_python,
    image,
    models,
    options,
    own_wheel,
    python_layers,
    python_lock,
    python_resolver,
    recipe,
    source,
    take,
)
from tidewaiter.assembly.base_lock import BaseLock
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.foreign import Images
from tidewaiter.assembly.foundation import NOT_FOR_PRODUCTION, Foundation
from tidewaiter.assembly.ground import Ground, Listings
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.models import Model
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.python_lock import PythonLock
from tidewaiter.assembly.recipe import Recipe
from tidewaiter.assembly.source import Source
from tidewaiter.assembly.source_wheels import Rebuilder, SourceBuilder
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.core import clock, limits
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError, IntegrityError, StaleLockError
from tidewaiter.core.progress import Progress
from tidewaiter.core.project import Project
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, RunConfig
from tidewaiter.transport.client import Client

ANNOTATION = "org.opencontainers.image."
_LIBRARY_PATH = "LD_LIBRARY_PATH"


Native = Callable[[], Interpreter]
"""Gives an interpreter of the base that runs on this machine."""


class Locks(msgspec.Struct, frozen=True):
    """The locks of a project and the recipe that its base lock belongs to; None for what the project has not."""

    recipe: Recipe | None = None
    base: BaseLock | None = None
    python: PythonLock | None = None

    @property
    def python_digest(self) -> Digest | None:
        """Names the wheels that are pinned, wherever they come from."""
        return None if self.python is None else python_lock.digest(self.python)

    @property
    def digest(self) -> Digest:
        """Names everything that the locks pin."""
        parts = (("base", self.base and self.base.digest), ("python", self.python_digest))
        return digests.of("".join(f"{name} {found}\n" for name, found in parts if found).encode())


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
        """The commit, with the architecture where it is another than amd64: each has an image of its own."""
        architecture = self.foundation.platform.architecture
        return self.source.tag if architecture == "amd64" else f"{self.source.tag}-{architecture}"

    @property
    def reference(self) -> str:
        """`NAME:TAG`."""
        return f"{self.name}:{self.tag}"


def recipe_of(project: Project, settings: Settings) -> Recipe:
    """The recipe that `[base] use` names; raises `InputError` when it is unknown or has another Python."""
    chosen = recipe.load(project.base.use, own=settings.home.recipes)
    python = project.file.python
    if python is not None and chosen.python != python.version:
        raise InputError(
            f"{project.path}: [python] version is {python.version}, the base {chosen.name} has "
            f"{chosen.python or 'no Python'}",
            next_step=f'Set version = "{chosen.python}", or use another base.'
            if chosen.python
            else "Use a base with Python, or leave [python] out.",
        )
    return chosen


def lock_base(
    project: Project, *, architecture: str = "amd64", settings: Settings, client: Client, progress: Progress
) -> BaseLock:
    """Resolve the base's packages anew and write their lock; raises what `base_lock.resolve` raises."""
    chosen = recipe_of(project, settings)
    wanted = project.system_packages
    found = base_lock.resolve(chosen, client, settings, progress, architecture=architecture, system=wanted)
    base_lock.write(project.base_lock_for(architecture), found)
    return found


def _native(
    project: Project,
    wanted: Options,
    *,
    layers: LayerCache,
    settings: Settings,
    client: Client,
    images: Images,
    progress: Progress,
) -> Interpreter:
    """The base's interpreter that builds pure Python for whatever platform is wanted, because it runs here."""
    here = options.here(wanted)
    locks = _base_locked(project, wanted=here, settings=settings, client=client, progress=progress)
    below = _ground(
        project, locks, here, layers=layers, settings=settings, client=client, images=images, progress=progress
    )
    if below.interpreter is None:
        raise InputError(
            f"{project.path}: building from source needs the base's interpreter, and {below.name} has none",
            next_step="Use a base with Python, or choose releases that have wheels.",
        )
    return below.interpreter


def _source_builder(
    project: Project, native: Native, *, settings: Settings, client: Client, progress: Progress
) -> SourceBuilder:
    sources = WheelSources(project.python.indexes, settings, client)
    return SourceBuilder(native(), cache=settings.home.cache, sources=sources, progress=progress)


def _lock_python(
    project: Project,
    native: Native,
    *,
    architecture: str,
    settings: Settings,
    client: Client,
    progress: Progress,
) -> PythonLock:
    builder = None
    if project.python.build:
        builder = _source_builder(project, native, settings=settings, client=client, progress=progress)
    target = python_lock.target_of(project, architecture)
    data = python_resolver.resolve(
        project, target, settings=settings, client=client, builder=builder, progress=progress
    )
    python_lock.write(project, data, architecture)
    return python_lock.read(project, target)


def lock_python(
    project: Project,
    *,
    wanted: Options = options.DEFAULT,
    layers: LayerCache,
    settings: Settings,
    client: Client,
    images: Images,
    progress: Progress,
) -> PythonLock:
    """Resolve the requirements anew and write the lock of the platform wanted; that of the base when it is missing.

    Raises what `locks_of` and `python_resolver.resolve` raise.
    """
    native = partial(
        _native,
        project,
        wanted,
        layers=layers,
        settings=settings,
        client=client,
        images=images,
        progress=progress,
    )
    _base_locked(project, wanted=wanted, settings=settings, client=client, progress=progress)
    architecture = wanted.platform.architecture
    # What an earlier lock says of bytecode was said on purpose.
    said = python_lock.says_bytecode(project.python_lock_for(architecture))
    found = _lock_python(
        project, native, architecture=architecture, settings=settings, client=client, progress=progress
    )
    bytecode = said if wanted.bytecode is None else wanted.bytecode
    return found if found.origin.bytecode == bytecode else python_lock.record_bytecode(found, bytecode)


def locks_of(
    project: Project,
    native: Native,
    *,
    wanted: Options = options.DEFAULT,
    settings: Settings,
    client: Client,
    progress: Progress,
) -> Locks:
    """Both locks, for the platform wanted: read where they are there, resolved and written where they are missing.

    Raises:
        StaleLockError: a lock does not belong to its inputs.
        NetworkError: a lock is missing, and the archive or index is out of reach.
        InputError: requirements cannot be satisfied, or a file is malformed.
    """
    if project.file.build is not None:
        return Locks()
    locks = _base_locked(project, wanted=wanted, settings=settings, client=client, progress=progress)
    if project.file.python is None:
        return locks
    architecture = wanted.platform.architecture
    if project.python_lock_for(architecture).exists():
        found = python_lock.read(project, python_lock.target_of(project, architecture))
    else:
        found = _lock_python(
            project,
            native,
            architecture=architecture,
            settings=settings,
            client=client,
            progress=progress,
        )
    return msgspec.structs.replace(locks, python=found)


def _base_locked(project: Project, *, wanted: Options, settings: Settings, client: Client, progress: Progress) -> Locks:
    """The recipe and its lock, which is written when it is missing; nothing for an image that exists."""
    if project.base.is_image:
        if project.system_packages:
            raise InputError(
                f"{project.path}: [system] packages can be added to the base of a recipe only",
                next_step="Take [system] out, or name a recipe in [base] use.",
            )
        return Locks()
    chosen = recipe_of(project, settings)
    base_locked = base_lock_of(
        project, chosen, wanted.platform.architecture, settings=settings, client=client, progress=progress
    )
    return Locks(recipe=chosen, base=base_locked)


def base_lock_of(
    project: Project, chosen: Recipe, architecture: str, *, settings: Settings, client: Client, progress: Progress
) -> BaseLock:
    """The lock of the base's packages: read where it is there, resolved and written where it is missing.

    Raises:
        StaleLockError, NetworkError, InputError: as `locks_of`.
    """
    path = project.base_lock_for(architecture)
    if not path.exists():
        return lock_base(project, architecture=architecture, settings=settings, client=client, progress=progress)
    found = base_lock.read(path)
    try:
        base_lock.require_fresh(found, chosen, project.system_packages, architecture)
    except StaleLockError as error:
        option = "" if architecture == "amd64" else f" --platform linux/{architecture}"
        raise StaleLockError(
            f"{path}: {error.message}",
            next_step=f"Run `tidewaiter base update {project.directory}{option}` and commit the lock.",
        ) from error
    return found


def _settled(locks: Locks, wanted: Options, progress: Progress) -> tuple[Locks, Options]:
    """Locks and options that agree on bytecode: what the caller says is recorded in the lock, what it says holds."""
    lock = locks.python
    if lock is None:
        return locks, wanted
    if wanted.bytecode is not None and wanted.bytecode != lock.origin.bytecode:
        lock = python_lock.record_bytecode(lock, wanted.bytecode)
        progress.note(f"{lock.path} now says bytecode = {str(wanted.bytecode).lower()}; commit it")
    return msgspec.structs.replace(locks, python=lock), msgspec.structs.replace(wanted, bytecode=lock.origin.bytecode)


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


def _unmoved(project: Project, before: Source) -> Source:
    """The source after everything was read; raises `IntegrityError` when it is another commit or project file.

    What differed from the commit before or after the reading counts as different.
    """
    after = source.read(project)
    if after.commit != before.commit or projects.load(project.directory).file != project.file:
        raise IntegrityError(
            f"{project.directory} changed while it was read", next_step="Let the checkout finish, then build again."
        )
    return msgspec.structs.replace(after, dirty=before.dirty or after.dirty)


def _debian(
    locks: Locks, wanted: Options, *, layers: LayerCache, settings: Settings, client: Client, progress: Progress
) -> Foundation:
    """The base that a recipe and its lock describe."""
    assert locks.recipe is not None  # noqa: S101  # who calls this has read both
    assert locks.base is not None  # noqa: S101  # as above
    made = base.build(
        locks.recipe,
        locks.base,
        layers=layers,
        settings=settings,
        client=client,
        progress=progress,
        bytecode=wanted.bytecode is not False,
    )
    alone = base.write_image(made, locks.recipe, locks.base, layers.store)
    return Foundation(
        name=locks.recipe.name,
        image=alone.manifest,
        parts=(*made.parts, *made.system),
        platform=alone.platform,
        config=alone.config,
        base_layers=len(made.parts),
        production=locks.recipe.production,
        interpreter=made.interpreter,
        lock_digest=made.lock_digest,
    )


def _existing(
    project: Project, images: Images, *, wanted: Options, settings: Settings, progress: Progress
) -> Foundation:
    """The image that `[base] use` names."""
    name = foreign.required(project, "[base] use", project.base.use, images)
    found = images.bring(name, wanted.platform)
    return foreign.foundation(found, name.shown, wanted=wanted, listings=listings(settings), progress=progress)


def _ground(
    project: Project,
    locks: Locks,
    wanted: Options,
    *,
    layers: LayerCache,
    settings: Settings,
    client: Client,
    images: Images,
    progress: Progress,
) -> Foundation:
    """What `[base] use` names: the image, or the base of the recipe."""
    if project.base.is_image:
        return _existing(project, images, wanted=wanted, settings=settings, progress=progress)
    return _debian(locks, wanted, layers=layers, settings=settings, client=client, progress=progress)


def _own_package(
    project: Project,
    package: bytes,
    lock: PythonLock,
    interpreter: Interpreter,
    native: Native,
    *,
    wanted: Options,
    ground: Ground | None,
    layers: LayerCache,
    settings: Settings,
    client: Client,
    progress: Progress,
) -> Part:
    """The layer of the project's own wheel."""
    cache = settings.home.cache
    sources = WheelSources(lock.indexes, settings, client)
    wheel = own_wheel.build(
        project, package, lock, interpreter=native(), cache=cache, sources=sources, progress=progress
    )
    made = python_layers.build(
        msgspec.structs.replace(lock, wheels=(wheel,)),
        wanted=wanted,
        most=1,
        interpreter=interpreter,
        ground=ground,
        layers=layers,
        threads=settings.threads,
        settings=settings,
        client=client,
        progress=progress,
    )
    return msgspec.structs.replace(made.parts[0], kind="app")


def _taken(
    project: Project,
    below: Foundation,
    images: Images,
    *,
    wanted: Options,
    layers: LayerCache,
    settings: Settings,
    progress: Progress,
) -> Foundation:
    """`below` with a layer for each `[[base.take]]`."""
    for section in project.base.take:
        name = foreign.required(project, "[[base.take]] image", section.image, images)
        found = images.bring(name, below.platform)
        below = take.onto(
            below,
            section,
            found,
            name.shown,
            wanted=wanted,
            layers=layers,
            listings=listings(settings),
            settings=settings,
            progress=progress,
        )
    return below


def _with_python(
    below: Foundation,
    version: str,
    lock: PythonLock,
    wanted: Options,
    *,
    layers: LayerCache,
    settings: Settings,
    progress: Progress,
) -> Foundation:
    """An image that exists, with the Python that it has, and without the packages that the lock brings."""
    files = [wheel.filename for wheel in lock.wheels]
    found = foreign_python.find(below, version, files, layers=layers, cache=settings.home.cache, progress=progress)
    names = [wheel.name for wheel in lock.wheels]
    return foreign_python.without(found, names, wanted=wanted, layers=layers, progress=progress)


def _ground_of_wheels(below: Foundation) -> Ground | None:
    """What wheels are fitted to: nothing on bases made here, whatever was taken onto them, so that all share layers."""
    return below.ground if below.interpreter is not None and below.interpreter.foreign else None


def listings(settings: Settings) -> Listings:
    """Where listings of layers are kept."""
    return Listings(settings.home.cache / "layer-listings")


def _advise(project: Project, served: tuple[Model, ...], progress: Progress) -> None:
    """Say how a model that is not in Git is named by the commit all the same."""
    for section, model in zip(project.file.models, served, strict=True):
        if section.digest is None and not source.tracked(project, [section.path]):
            progress.note(f'the model {model} is pinned to the commit by digest = "{model.digest}" in its [[models]]')


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


def build(
    project: Project,
    *,
    wanted: Options = options.DEFAULT,
    layers: LayerCache,
    settings: Settings,
    client: Client,
    images: Images,
    progress: Progress,
) -> Build:
    """Build the project's image into the store. Nothing is tagged.

    Raises:
        TidewaiterError: anything that stands in the way; what was finished is reused next time.
    """
    started, clock_start = clock.now(), time.monotonic()
    before = source.read(project)  # says at once, before anything is resolved, that there is no commit to build
    native = partial(
        _native,
        project,
        wanted,
        layers=layers,
        settings=settings,
        client=client,
        images=images,
        progress=progress,
    )
    locks = locks_of(project, native, wanted=wanted, settings=settings, client=client, progress=progress)
    locks, wanted = _settled(locks, wanted, progress)
    files = app.collect(project)
    package = own_wheel.archive(project) if project.file.app.package else b""
    served = models.collect(project, progress)
    found = _unmoved(project, before)
    if found.dirty:
        _advise(project, served, progress)

    if project.file.build is not None:
        from tidewaiter.assembly import dockerfile  # brings the registry's side along, which no other build needs

        below = dockerfile.build(
            project,
            found,
            wanted=wanted,
            layers=layers,
            images=images,
            listings=listings(settings),
            settings=settings,
            progress=progress,
        )
    else:
        below = _ground(
            project,
            locks,
            wanted,
            layers=layers,
            settings=settings,
            client=client,
            images=images,
            progress=progress,
        )
    if project.file.base is not None:
        below = _taken(project, below, images, wanted=wanted, layers=layers, settings=settings, progress=progress)
    if locks.python is not None and below.interpreter is None:
        below = _with_python(
            below, project.python.version, locks.python, wanted, layers=layers, settings=settings, progress=progress
        )
    parts = list(below.parts)
    library_path: tuple[str, ...] = ()
    if locks.python is not None and below.interpreter is not None:
        builder = partial(_source_builder, project, native, settings=settings, client=client, progress=progress)
        made = python_layers.build(
            locks.python,
            wanted=wanted,
            most=limits.BUILT_LAYERS - len(parts) - len(served) - bool(files) - bool(package),
            interpreter=below.interpreter,
            ground=_ground_of_wheels(below),
            layers=layers,
            threads=settings.threads,
            settings=settings,
            client=client,
            make=Rebuilder(builder),
            progress=progress,
        )
        parts += made.parts
        library_path = made.library_path
        if package:
            parts.append(
                _own_package(
                    project,
                    package,
                    locks.python,
                    below.interpreter,
                    native,
                    wanted=wanted,
                    ground=_ground_of_wheels(below),
                    layers=layers,
                    settings=settings,
                    client=client,
                    progress=progress,
                )
            )
    parts += [
        models.build(model, ground=below.ground, wanted=wanted, layers=layers, progress=progress) for model in served
    ]
    if files:
        parts.append(
            app.build(
                project,
                files,
                wanted=wanted,
                interpreter=below.interpreter,
                ground=below.ground,
                layers=layers,
                threads=settings.threads,
                progress=progress,
            )
        )
    if len(parts) > limits.BUILT_LAYERS:
        progress.note(
            f"the image has {len(parts)} layers, over {limits.BUILT_LAYERS}: {len(below.parts)} of them are its base's"
        )
    created = _created(settings, found.committed)
    written = image.write(
        layers.store,
        parts,
        config=_run_config(project, below, library_path),
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
        parts=tuple(parts),
        models=served,
        created=created,
        started=started,
        finished=clock.now(),
        seconds=time.monotonic() - clock_start,
    )
