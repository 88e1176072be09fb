"""What an image's own layers stand on.

1. The base of the recipe that `[base] use` names, the image that it names, or what a Dockerfile gives.
2. On that, a layer for each `[[base.take]]`.
3. On an image that was not made here, its own Python, without the packages that the lock brings.
"""

from functools import partial

from tidewaiter.assembly import base, foreign, locking, options
from tidewaiter.assembly.bench import Bench
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.foundation import Foundation
from tidewaiter.assembly.ground import Ground
from tidewaiter.assembly.locking import Locks, Native
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.python_lock import PythonLock
from tidewaiter.assembly.source import Source
from tidewaiter.core.errors import InputError
from tidewaiter.core.project import Project


def under(bench: Bench, project: Project, found: Source, locks: Locks, *, wanted: Options) -> Foundation:
    """The lower layers of the project's image, made or reused.

    Raises:
        TidewaiterError: anything that stands in the way; what was finished is reused next time.
    """
    if project.file.build is not None:
        below = _dockerfile(bench, project, found, wanted=wanted)
    else:
        below = _ground(bench, project, locks, wanted=wanted)
    if project.file.base is not None:
        below = _taken(bench, project, below, wanted=wanted)
    if locks.python is not None and below.interpreter is None:
        below = _with_python(bench, below, project.python.version, locks.python, wanted=wanted)
    return below


def native(bench: Bench, project: Project, wanted: Options) -> Native:
    """Gives the base's interpreter that runs here, and so builds pure Python for whatever platform is wanted."""
    return partial(_native, bench, project, wanted)


def ground_of_wheels(below: Foundation) -> Ground | None:
    """What wheels are fitted to: nothing on bases made here, whatever was taken onto them, so that all share layers."""
    return below.ground if below.interpreter is not None and below.interpreter.foreign else None


def _native(bench: Bench, project: Project, wanted: Options) -> Interpreter:
    here = options.here(wanted)
    below = _ground(bench, project, locking.base_locked(bench, project, wanted=here), wanted=here)
    if below.interpreter is None:
        raise InputError(
            f"{project.path}: building from source needs the base's interpreter, and {below.name} has none",
            next_step="Use a base with Python, or choose releases that have wheels.",
        )
    return below.interpreter


# What it begins with


def _ground(bench: Bench, project: Project, locks: Locks, *, wanted: Options) -> Foundation:
    """What `[base] use` names: the image, or the base of the recipe."""
    if project.base.is_image:
        return _existing(bench, project, wanted=wanted)
    return _debian(bench, locks, wanted=wanted)


def _existing(bench: Bench, project: Project, *, wanted: Options) -> Foundation:
    """The image that `[base] use` names."""
    name = foreign.required(project, "[base] use", project.base.use, bench.images)
    found = bench.images.bring(name, wanted.platform)
    return foreign.foundation(found, name.shown, wanted=wanted, listings=bench.listings, progress=bench.progress)


def _debian(bench: Bench, locks: Locks, *, wanted: Options) -> Foundation:
    """The base that a recipe and its lock describe."""
    assert locks.recipe is not None  # noqa: S101  # who calls this has read both
    assert locks.base is not None  # noqa: S101  # as above
    made = base.build(
        locks.recipe,
        locks.base,
        layers=bench.layers,
        settings=bench.settings,
        connect=bench.connect,
        progress=bench.progress,
        bytecode=wanted.bytecode is not False,
    )
    alone = base.write_image(made, locks.recipe, locks.base, bench.layers.store)
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


def _dockerfile(bench: Bench, project: Project, found: Source, *, wanted: Options) -> Foundation:
    """What the project's Dockerfile gives."""
    from tidewaiter.assembly import dockerfile  # brings the registry's side along, which no other build needs

    return dockerfile.build(
        project,
        found,
        wanted=wanted,
        layers=bench.layers,
        images=bench.images,
        listings=bench.listings,
        settings=bench.settings,
        progress=bench.progress,
    )


# What is put onto it


def _taken(bench: Bench, project: Project, below: Foundation, *, wanted: Options) -> Foundation:
    """`below` with a layer for each `[[base.take]]`."""
    for section in project.base.take:
        from tidewaiter.assembly import take

        name = foreign.required(project, "[[base.take]] image", section.image, bench.images)
        found = bench.images.bring(name, below.platform)
        below = take.onto(
            below,
            section,
            found,
            name.shown,
            wanted=wanted,
            layers=bench.layers,
            listings=bench.listings,
            settings=bench.settings,
            progress=bench.progress,
        )
    return below


def _with_python(bench: Bench, below: Foundation, version: str, lock: PythonLock, *, wanted: Options) -> Foundation:
    """An image that exists, with the Python that it has, and without the packages that the lock brings."""
    from tidewaiter.assembly import foreign_python

    files = [wheel.filename for wheel in lock.wheels]
    cache = bench.settings.home.cache
    found = foreign_python.find(below, version, files, layers=bench.layers, cache=cache, progress=bench.progress)
    names = [wheel.name for wheel in lock.wheels]
    return foreign_python.without(found, names, wanted=wanted, layers=bench.layers, progress=bench.progress)
