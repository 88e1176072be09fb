"""A project to an image in the store: locks obeyed, layers reused, nothing of wheels or app executed.

1. Read which commit the project is at.
2. Read both locks; a missing one is resolved and written, a stale one is an error.
3. Build (or reuse) the base's layers, the wheels' layers and the app layer.
4. Write config and manifest of the base alone and of the whole image.
"""

import datetime as dt
import time

import msgspec

from tidewaiter.assembly import app, base, base_lock, image, python_layers, python_lock, recipe, source
from tidewaiter.assembly.base_lock import BaseLock
from tidewaiter.assembly.image import Launch
from tidewaiter.assembly.layer_cache import LayerCache
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
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.transport.client import Client

ANNOTATION = "org.opencontainers.image."


class Locks(msgspec.Struct, frozen=True):
    """Both locks of a project and the recipe that its base lock belongs to."""

    recipe: Recipe
    base: BaseLock
    python: PythonLock

    @property
    def python_digest(self) -> Digest:
        """Names the wheels that are pinned, wherever they come from."""
        return python_lock.digest(self.python)

    @property
    def digest(self) -> Digest:
        """Names everything that both locks pin."""
        return digests.of(f"base {self.base.digest}\npython {self.python_digest}\n".encode())


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A finished build. Times are UTC; `seconds` is wall-clock time."""

    project: Project
    source: Source
    locks: Locks
    image: Descriptor
    base: Descriptor
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
    chosen = recipe.load(project.file.base.use, own=settings.home.recipes)
    if chosen.python != project.file.python.version:
        raise InputError(
            f"{project.path}: [python] version is {project.file.python.version}, "
            f"the base {chosen.name} has {chosen.python}",
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
    if project.python_lock.exists():
        python_locked = python_lock.read(project)
    else:
        python_locked = lock_python(project, settings=settings, progress=progress)
    return Locks(recipe=chosen, base=base_locked, python=python_locked)


def _created(settings: Settings, committed: int) -> dt.datetime:
    epoch = settings.source_date_epoch
    return clock.from_epoch(committed if epoch is None else epoch)


def _annotations(project: Project, found: Source, created: dt.datetime, base_image: Descriptor) -> dict[str, str]:
    written = {
        "title": project.file.image.name,
        "revision": found.commit,
        "version": found.commit[:12],
        "created": clock.rfc3339(created),
        "base.name": project.file.base.use,
        "base.digest": base_image.digest,
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


def build(project: Project, *, layers: LayerCache, settings: Settings, client: Client, progress: Progress) -> Build:
    """Build the project's image into the store. Nothing is tagged.

    Raises:
        TidewaiterError: anything that stands in the way; what was finished is reused next time.
    """
    started, clock_start = clock.now(), time.monotonic()
    before = source.read(project)  # says at once, before anything is resolved, that there is no commit to build
    locks = locks_of(project, settings=settings, client=client, progress=progress)
    files = app.collect(project)
    found = _unmoved(project, before)

    made = base.build(locks.recipe, locks.base, layers=layers, settings=settings, client=client, progress=progress)
    wheels = python_layers.build(
        locks.python,
        interpreter=made.interpreter,
        layers=layers,
        threads=settings.threads,
        settings=settings,
        client=client,
        progress=progress,
    )
    own = app.build(
        project, files, interpreter=made.interpreter, layers=layers, threads=settings.threads, progress=progress
    )
    parts = (*made.parts, *wheels, own)

    store = layers.store
    base_created = max(clock.parse_rfc3339(suite.date) for suite in locks.base.suites)
    base_image = image.write(
        store,
        made.parts,
        launch=Launch(environment=made.environment),
        created=base_created,
        annotations={ANNOTATION + "title": locks.recipe.name},
    )
    created = _created(settings, found.committed)
    written = image.write(
        store,
        parts,
        launch=Launch(entrypoint=project.file.app.entrypoint, environment=made.environment, working_dir=f"/{app.ROOT}"),
        created=created,
        annotations=_annotations(project, found, created, base_image),
    )
    return Build(
        project=project,
        source=found,
        locks=locks,
        image=written,
        base=base_image,
        parts=parts,
        created=created,
        started=started,
        finished=clock.now(),
        seconds=time.monotonic() - clock_start,
    )
