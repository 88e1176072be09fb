"""A project to an image in the store: locks obeyed, layers reused, nothing of wheels or app executed.

1. Read which commit the project is at.
2. Read the locks; a missing one is resolved and written, a stale one is an error.
3. Make (or reuse) what the image stands on, then the wheels' layers and the app layer.
4. Write config and manifest of the base alone and of the whole image.
"""

import datetime as dt
import time

import msgspec

from tidewaiter.assembly import app, base, base_lock, image, options, python_layers, python_lock, recipe, source
from tidewaiter.assembly.base_lock import BaseLock
from tidewaiter.assembly.foundation import Foundation
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.python_lock import PythonLock
from tidewaiter.assembly.recipe import Recipe
from tidewaiter.assembly.source import Source
from tidewaiter.core import clock
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
    source: Source
    locks: Locks
    image: Descriptor
    foundation: Foundation
    parts: tuple[Part, ...]
    created: dt.datetime
    started: dt.datetime
    finished: dt.datetime
    seconds: float

    @property
    def name(self) -> str:
        """Repository that the project names."""
        return self.project.file.image.name

    @property
    def reference(self) -> str:
        """`NAME:TAG`; the tag is the commit."""
        return f"{self.name}:{self.source.tag}"


def recipe_of(project: Project, settings: Settings) -> Recipe:
    """The recipe that `[base] use` names; raises `InputError` when it is unknown or has another Python."""
    chosen = recipe.load(project.base.use, own=settings.home.recipes)
    python = project.file.python
    if python is not None and chosen.python != python.version:
        raise InputError(
            f"{project.path}: [python] version is {python.version}, the base {chosen.name} has {chosen.python}",
            next_step=f'Set version = "{chosen.python}", or use another base.',
        )
    return chosen


def lock_base(project: Project, *, settings: Settings, client: Client, progress: Progress) -> BaseLock:
    """Resolve the base's packages anew and write `base.lock`; raises what `base_lock.resolve` raises."""
    found = base_lock.resolve(recipe_of(project, settings), client, settings, progress)
    base_lock.write(project.base_lock, found)
    return found


def lock_python(project: Project, *, settings: Settings, progress: Progress) -> PythonLock:
    """Resolve the requirements anew and write `pylock.toml`; raises what `python_lock.resolve` raises."""
    python_lock.write(project, python_lock.resolve(project, settings=settings, progress=progress))
    return python_lock.read(project)


def locks_of(project: Project, *, settings: Settings, client: Client, progress: Progress) -> Locks:
    """Both locks: read where they are there, resolved and written where they are missing.

    Raises:
        StaleLockError: a lock does not belong to its inputs.
        NetworkError: a lock is missing, and the archive or index is out of reach.
        InputError: requirements cannot be satisfied, or a file is malformed.
    """
    chosen = recipe_of(project, settings)
    if project.base_lock.exists():
        base_locked = base_lock.read(project.base_lock)
        try:
            base_lock.require_fresh(base_locked, chosen)
        except StaleLockError as error:
            raise StaleLockError(
                f"{project.base_lock}: {error.message}",
                next_step=f"Run `tidewaiter base update {project.directory}` and commit the lock.",
            ) from error
    else:
        base_locked = lock_base(project, settings=settings, client=client, progress=progress)
    return Locks(recipe=chosen, base=base_locked, python=_python_locked(project, settings, progress))


def _python_locked(project: Project, settings: Settings, progress: Progress) -> PythonLock | None:
    if project.file.python is None:
        return None
    if project.python_lock.exists():
        return python_lock.read(project)
    return lock_python(project, settings=settings, progress=progress)


def _created(settings: Settings, committed: int) -> dt.datetime:
    epoch = settings.source_date_epoch
    return clock.from_epoch(committed if epoch is None else epoch)


def _annotations(project: Project, found: Source, created: dt.datetime, below: Foundation) -> dict[str, str]:
    written = {
        "title": project.file.image.name,
        "revision": found.commit,
        "version": found.commit[:12],
        "created": clock.rfc3339(created),
        "base.name": below.name,
        "base.digest": below.image.digest,
    }
    if project.file.image.source:
        written["source"] = project.file.image.source
    return {ANNOTATION + key: value for key, value in written.items()}


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


def _debian(locks: Locks, *, layers: LayerCache, settings: Settings, client: Client, progress: Progress) -> Foundation:
    """The base that a recipe and its lock describe."""
    assert locks.recipe is not None  # noqa: S101  # who calls this has read both
    assert locks.base is not None  # noqa: S101  # as above
    made = base.build(locks.recipe, locks.base, layers=layers, settings=settings, client=client, progress=progress)
    config = RunConfig(user=image.USER, env=list(made.environment) or None, working_dir="/")
    written = image.write(
        layers.store,
        made.parts,
        config=config,
        created=max(clock.parse_rfc3339(suite.date) for suite in locks.base.suites),
        annotations={ANNOTATION + "title": locks.recipe.name},
        platform=options.AMD64,
    )
    return Foundation(
        name=locks.recipe.name,
        image=written,
        parts=made.parts,
        platform=options.AMD64,
        config=config,
        interpreter=made.interpreter,
        lock_digest=made.lock_digest,
    )


def _run_config(project: Project, below: Foundation) -> RunConfig:
    """How a container of the image starts: as the project says, else as the base does."""
    said = project.file.app
    config = below.config
    if said.entrypoint:
        # What the base runs by default are arguments to its own program.
        config = msgspec.structs.replace(config, entrypoint=list(said.entrypoint), cmd=None)
    if said.include:
        config = msgspec.structs.replace(config, working_dir=f"/{app.ROOT}")
    if said.user is not None:
        config = msgspec.structs.replace(config, user=said.user)
    return config


def build(
    project: Project,
    *,
    wanted: Options = options.DEFAULT,
    layers: LayerCache,
    settings: Settings,
    client: Client,
    progress: Progress,
) -> Build:
    """Build the project's image into the store. Nothing is tagged.

    Raises:
        TidewaiterError: anything that stands in the way; what was finished is reused next time.
    """
    started, clock_start = clock.now(), time.monotonic()
    before = source.read(project)  # says at once, before anything is resolved, that there is no commit to build
    locks = locks_of(project, settings=settings, client=client, progress=progress)
    files = app.collect(project)
    found = _unmoved(project, before)

    below = _debian(locks, layers=layers, settings=settings, client=client, progress=progress)
    parts = list(below.parts)
    if locks.python is not None and below.interpreter is not None:
        parts += python_layers.build(
            locks.python,
            interpreter=below.interpreter,
            layers=layers,
            threads=settings.threads,
            settings=settings,
            client=client,
            progress=progress,
        )
    if files and below.interpreter is not None:
        parts.append(
            app.build(
                project,
                files,
                interpreter=below.interpreter,
                layers=layers,
                threads=settings.threads,
                progress=progress,
            )
        )
    created = _created(settings, found.committed)
    written = image.write(
        layers.store,
        parts,
        config=_run_config(project, below),
        created=created,
        annotations=_annotations(project, found, created, below),
        platform=below.platform,
        docker=below.docker,
    )
    return Build(
        project=project,
        source=found,
        locks=locks,
        image=written,
        foundation=below,
        parts=tuple(parts),
        created=created,
        started=started,
        finished=clock.now(),
        seconds=time.monotonic() - clock_start,
    )
