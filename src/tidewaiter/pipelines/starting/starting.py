"""Step: a folder with a program in it to a project that builds: looked at, planned, locked, written, committed.

1. What lies there is looked at, and files are planned; a project file that is there is kept as it is.
2. Requirements and base are locked in a copy, so that a conflict leaves nothing behind.
3. All new files are written, or none.
4. A folder without a commit gets its first one, of these files and what the image takes.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tidewaiter.core import limits
from tidewaiter.core import project as projects
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.core.project import Project
from tidewaiter.pipelines import building
from tidewaiter.pipelines.starting import ci_files, looking_around, planning, repository, writing
from tidewaiter.pipelines.starting.ci_files import Ci
from tidewaiter.pipelines.starting.planning import Ask, File, Plan
from tidewaiter.pipelines.starting.writing import Kept
from tidewaiter.pipelines.workshop import Workshop

_LOCKED_FROM = ("*.txt", "*.in", "*.toml", "*.cfg", "*.whl", "*.lock", "README*", "setup.py")
"""What a lock may be made from, in the folder and in `requirements/`."""


class Started(msgspec.Struct, frozen=True):
    """What was done."""

    about: str
    written: tuple[str, ...]
    kept: tuple[Kept, ...]
    notes: tuple[str, ...]
    committed: bool
    """Whether the first commit was made."""


def start(workshop: Workshop, folder: Path, *, name: str, ci: Ci | None, ask: Ask, lock: bool = True) -> Started:
    """Make a project of `folder`.

    Args:
        workshop: resolves and locks.
        folder: holds what the image is made of.
        name: of the image; what Git's remote or the folder suggest when it is empty.
        ci: whose file is written; None for none.
        ask: answers what cannot be seen.
        lock: whether requirements and base are locked, too.

    Raises:
        InputError: nothing there could become an image, or a name is wrong.
        TidewaiterError: as `building.lock`; nothing is written then.
    """
    # 1.
    made, opened = _planned(folder, name, ask)
    files, notes = list(made.files), list(made.notes)
    if ci is not None:
        below = repository.prefix(folder)
        files.append(ci_files.file(ci, below or "."))
        if below:
            notes.append(f"{files[-1].path} is read at the root of the repository only: move it there")
    new, kept = writing.compare(folder, files)
    # 2.
    if lock and made.locked and not _is_locked(opened):
        with tempfile.TemporaryDirectory(prefix="tidewaiter-init-") as place:
            new = (*new, *_locks(workshop, folder, new, Path(place)))
    # 3.
    writing.write(folder, new)
    written = tuple(one.path for one in new)
    # 4.
    committed = not repository.has_commit(folder)
    if committed:
        repository.first_commit(folder, sorted({*written, *(one.path for one in kept), *_inputs(folder)}))
    return Started(made.about, written, kept, tuple(notes), committed)


def _planned(folder: Path, name: str, ask: Ask) -> tuple[Plan, Project | None]:
    """What is to be written; and the project, when there is one already."""
    found = looking_around.look(folder)
    if planning.PROJECT in found.names:
        opened = projects.load(folder)
        made = Plan(f"{opened.file.image.name}, as {planning.PROJECT} says", (), opened.file.base is not None, ())
    else:
        opened, made = None, planning.plan(found, name or repository.image_name(folder), ask)
    ignoring = planning.ignored(found)
    return (msgspec.structs.replace(made, files=(*made.files, ignoring)) if ignoring else made), opened


def _is_locked(opened: Project | None) -> bool:
    if opened is None:
        return False
    python = opened.file.python is None or opened.python_lock.exists()
    return python and (opened.base_lock.exists() or opened.base.is_image)


def _locks(workshop: Workshop, folder: Path, files: tuple[File, ...], place: Path) -> Iterator[File]:
    """The locks of the project as it will be; made in `place`, which is thrown away."""
    total = 0
    for pattern in _LOCKED_FROM:
        for source in sorted({*folder.glob(pattern), *folder.glob(f"requirements/{pattern}")}):
            if not source.is_file() or source.is_symlink():
                continue
            total += source.stat().st_size
            if total > limits.STARTING_BYTES:
                raise LimitError(
                    f"what {folder} is locked from has over {limits.STARTING_BYTES} bytes",
                    next_step="Run `tidewaiter init --no-lock`, then `tidewaiter lock`.",
                )
            target = place / source.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for one in files:
        if "/" not in one.path:
            (place / one.path).write_bytes(one.content)
    opened = projects.load(place)
    if opened.file.python is None:
        raise InputError(
            f"{folder / planning.PROJECT} has no [python], so there are no requirements to lock",
            next_step="Run `tidewaiter build`, which locks the base.",
        )
    building.lock(workshop, opened)
    for path in (opened.python_lock, opened.base_lock):
        name = path.relative_to(opened.directory).as_posix()
        if path.is_file() and not (folder / name).exists():
            yield File(name, path.read_bytes())


def _inputs(folder: Path) -> Iterator[str]:
    """What the image is made of and Git should hold."""
    opened = projects.load(folder)
    file = opened.file
    if file.python is not None:
        yield file.python.requirements
    locks = [opened.base_lock] if file.python is None else [opened.base_lock, opened.python_lock]
    yield from (path.relative_to(opened.directory).as_posix() for path in locks if path.is_file())
    yield from file.app.include
    yield from (model.path for model in file.models)
    if file.build is not None:
        yield file.build.context
    if file.app.package:
        yield "."
