"""The locks of a project: read where they are there, resolved and written where they are missing.

1. The base's: the packages of the recipe that `[base] use` names. An image that exists has neither recipe nor lock.
2. The wheels'. What has no wheel is built from its source by the base's interpreter, which is asked for only then.
3. What the lock says of bytecode holds, unless the caller says otherwise; then the lock says so from now on.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.assembly import base_lock, options, python_lock, recipe
from tidewaiter.assembly.base_lock import BaseLock
from tidewaiter.assembly.bench import Bench
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.python_lock import LockedWheel, PythonLock
from tidewaiter.assembly.recipe import Recipe
from tidewaiter.core.errors import InputError, StaleLockError
from tidewaiter.core.progress import Progress
from tidewaiter.core.project import Project
from tidewaiter.core.settings import Settings
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest

if TYPE_CHECKING:
    from tidewaiter.assembly.source_wheels import SourceBuilder

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


def locks_of(bench: Bench, project: Project, native: Native, *, wanted: Options = options.DEFAULT) -> Locks:
    """Both locks, for the platform wanted: read where they are there, resolved and written where they are missing.

    Raises:
        StaleLockError: a lock does not belong to its inputs.
        NetworkError: a lock is missing, and the archive or index is out of reach.
        InputError: requirements cannot be satisfied, or a file is malformed.
    """
    if project.file.build is not None:
        return Locks()
    locks = base_locked(bench, project, wanted=wanted)
    if project.file.python is None:
        return locks
    architecture = wanted.platform.architecture
    if project.python_lock_for(architecture).exists():
        found = python_lock.read(project, python_lock.target_of(project, architecture), known=_known(bench.settings))
    else:
        found = _lock_python(bench, project, native, architecture=architecture)
    return msgspec.structs.replace(locks, python=found)


def _known(settings: Settings) -> Path:
    """What recipes and locks were read as."""
    return settings.home.cache / "known-locks"


def settled(locks: Locks, wanted: Options, progress: Progress) -> tuple[Locks, Options]:
    """Locks and options that agree on bytecode: what the caller says is recorded in the lock, what it says holds."""
    lock = locks.python
    if lock is None:
        return locks, wanted
    if wanted.bytecode is not None and wanted.bytecode != lock.origin.bytecode:
        lock = python_lock.record_bytecode(lock, wanted.bytecode)
        progress.note(f"{lock.path} now says bytecode = {str(wanted.bytecode).lower()}; commit it")
    return msgspec.structs.replace(locks, python=lock), msgspec.structs.replace(wanted, bytecode=lock.origin.bytecode)


# The base


def recipe_of(project: Project, settings: Settings) -> Recipe:
    """The recipe that `[base] use` names; raises `InputError` when it is unknown or has another Python."""
    chosen = recipe.load(project.base.use, own=settings.home.recipes, known=_known(settings))
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


def lock_base(bench: Bench, project: Project, *, architecture: str = "amd64") -> BaseLock:
    """Resolve the base's packages anew and write their lock; raises what `base_lock.resolve` raises."""
    chosen = recipe_of(project, bench.settings)
    wanted = project.system_packages
    found = base_lock.resolve(
        chosen, bench.client, bench.settings, bench.progress, architecture=architecture, system=wanted
    )
    base_lock.write(project.base_lock_for(architecture), found)
    return found


def base_lock_of(bench: Bench, project: Project, chosen: Recipe, architecture: str) -> BaseLock:
    """The lock of the base's packages: read where it is there, resolved and written where it is missing.

    Raises:
        StaleLockError, NetworkError, InputError: as `locks_of`.
    """
    path = project.base_lock_for(architecture)
    if not path.exists():
        return lock_base(bench, project, architecture=architecture)
    found = base_lock.read(path, known=_known(bench.settings))
    try:
        base_lock.require_fresh(found, chosen, project.system_packages, architecture)
    except StaleLockError as error:
        option = "" if architecture == "amd64" else f" --platform linux/{architecture}"
        raise StaleLockError(
            f"{path}: {error.message}",
            next_step=f"Run `tidewaiter base update {project.directory}{option}` and commit the lock.",
        ) from error
    return found


def base_locked(bench: Bench, project: Project, *, wanted: Options) -> Locks:
    """The recipe and its lock, which is written when it is missing; nothing for an image that exists.

    Raises:
        StaleLockError, NetworkError, InputError: as `locks_of`.
    """
    if project.base.is_image:
        if project.system_packages:
            raise InputError(
                f"{project.path}: [system] packages can be added to the base of a recipe only",
                next_step="Take [system] out, or name a recipe in [base] use.",
            )
        return Locks()
    chosen = recipe_of(project, bench.settings)
    return Locks(recipe=chosen, base=base_lock_of(bench, project, chosen, wanted.platform.architecture))


# The wheels


def lock_python(bench: Bench, project: Project, native: Native, *, wanted: Options = options.DEFAULT) -> PythonLock:
    """Resolve the requirements anew and write the lock of the platform wanted; that of the base when it is missing.

    Raises what `locks_of` and `python_resolver.resolve` raise.
    """
    base_locked(bench, project, wanted=wanted)
    architecture = wanted.platform.architecture
    # What an earlier lock says of bytecode was said on purpose.
    said = python_lock.says_bytecode(project.python_lock_for(architecture))
    found = _lock_python(bench, project, native, architecture=architecture)
    bytecode = said if wanted.bytecode is None else wanted.bytecode
    return found if found.origin.bytecode == bytecode else python_lock.record_bytecode(found, bytecode)


def _lock_python(bench: Bench, project: Project, native: Native, *, architecture: str) -> PythonLock:
    from tidewaiter.assembly import python_resolver

    target = python_lock.target_of(project, architecture)
    data = python_resolver.resolve(
        project,
        target,
        settings=bench.settings,
        client=bench.client,
        builder=source_builder(bench, project, native) if project.python.build else None,
        progress=bench.progress,
    )
    python_lock.write(project, data, architecture)
    return python_lock.read(project, target)


def source_builder(bench: Bench, project: Project, native: Native) -> "SourceBuilder":
    """What builds wheels from source distributions, by the base's interpreter."""
    from tidewaiter.assembly.source_wheels import SourceBuilder
    from tidewaiter.assembly.wheel_sources import WheelSources

    sources = WheelSources(project.python.indexes, bench.settings, bench.client)
    return SourceBuilder(native(), cache=bench.settings.home.cache, sources=sources, progress=bench.progress)


class Rebuilder:
    """Builds recorded wheels, one after the other; the builder is made when the first one is missing."""

    def __init__(self, ask: "Callable[[], SourceBuilder]") -> None:
        self._ask = ask
        self._builder: SourceBuilder | None = None
        self._lock = Lock()

    def __call__(self, wheel: LockedWheel) -> Path:
        """As `SourceBuilder.rebuilt`."""
        with self._lock:
            self._builder = self._builder or self._ask()
            return self._builder.rebuilt(wheel)
