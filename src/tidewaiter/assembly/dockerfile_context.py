"""The folder that a builder gets: what Git tracks below `[build] context`, with attributes that depend on nothing else.

Untracked and ignored files stay out, so that neither a stray `.env` nor a build of yesterday can enter an image. Modes
are 644 and 755 as Git knows them, times are those of every layer made here, whatever the umask and the checkout were.
"""

import os
import shutil
import stat
from pathlib import Path

from tidewaiter.assembly import source
from tidewaiter.core import durable, limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, ProjectError
from tidewaiter.core.files import open_regular
from tidewaiter.core.project import Project
from tidewaiter.oci.layer import MTIME

_CHUNK = 1 << 20
_MOMENT = (MTIME, MTIME)


def stage(project: Project, context: str, folder: Path, *, clean: bool) -> None:
    """Copy the context into `folder`, which must not exist. `clean`: every file must be the commit's.

    Raises:
        IntegrityError: it should be clean and a file has changed meanwhile.
        ProjectError: Git tracks nothing there.
        InputError: a file lies behind a link out of the context, or cannot be read.
        LimitError: over `limits.CONTEXT_FILES` or `limits.CONTEXT_BYTES`.
        StorageError: the disk refused.
    """
    start = (project.directory / context).resolve()
    held = source.tracked(project, [context])
    if not held:
        raise ProjectError(
            f"{project.path}: [build] context: Git tracks nothing in {context!r}",
            next_step="Add the files to Git and commit them: only what Git tracks is given to the builder.",
        )
    if len(held) > limits.CONTEXT_FILES:
        raise LimitError(
            f"{start} has over {limits.CONTEXT_FILES} tracked files", next_step="Choose a smaller context."
        )
    folder.mkdir(mode=0o755)
    total = 0
    for path, known in held.items():
        origin = project.directory / path
        parent = origin.parent.resolve()
        if not parent.is_relative_to(start):
            raise InputError(
                f"{origin} lies behind a link that leads out of the context",
                next_step="Commit the files themselves instead of a link to their folder.",
            )
        target = folder / parent.relative_to(start) / origin.name
        _make_parents(target.parent, folder)
        total += _copy(origin, target)
        if clean and (not os.path.lexists(target) or not source.is_held(target, known, _algorithm(known))):
            raise IntegrityError(
                f"{origin} changed while it was read", next_step="Let the checkout finish, then build again."
            )
        if total > limits.CONTEXT_BYTES:
            raise LimitError(f"{start} is over {limits.CONTEXT_BYTES} bytes", next_step="Choose a smaller context.")
    for place, folders, _ in os.walk(folder):
        for name in folders:
            os.utime(Path(place, name), _MOMENT, follow_symlinks=False)


def _algorithm(known: tuple[str, str]) -> str:
    return "sha1" if len(known[1]) == 40 else "sha256"


def _make_parents(parent: Path, folder: Path) -> None:
    missing = []
    while parent != folder and not parent.exists():
        missing.append(parent)
        parent = parent.parent
    for path in reversed(missing):
        path.mkdir()
        path.chmod(0o755)


def _copy(origin: Path, target: Path) -> int:
    """Copy one tracked file or link; one that is gone from the working tree is left out. Returns its bytes."""
    try:
        status = origin.lstat()
        if stat.S_ISLNK(status.st_mode):
            target.symlink_to(origin.readlink())
        else:
            with open_regular(origin) as content, target.open("xb") as file:
                shutil.copyfileobj(content, file, _CHUNK)
            target.chmod(0o755 if status.st_mode & stat.S_IXUSR else 0o644)
        os.utime(target, _MOMENT, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    except PermissionError as error:
        raise InputError(f"{origin} cannot be read: {error.strerror}", next_step="Mend its permissions.") from error
    except OSError as error:
        raise durable.storage_error(error, str(target)) from error
    return status.st_size
