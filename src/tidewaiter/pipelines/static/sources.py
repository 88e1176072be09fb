"""Which files of a project are looked at: what Git tracks or would add, and what goes into the image.

Nothing else is the project's: a `.env` that Git ignores stays on its machine, unless `[app] include` names it. In a
folder that is in no repository it is everything but what tools keep. Links are not followed.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tidewaiter.assembly import source
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.core.files import open_regular
from tidewaiter.core.project import Project
from tidewaiter.lint.files import SKIPPED
from tidewaiter.pipelines.static.report import NotChecked


class Read(NamedTuple):
    """A text file of the project."""

    path: str
    """From the folder, with forward slashes."""
    content: str


def find(folder: Path, project: Project) -> list[Path]:
    """The regular files, sorted.

    Raises:
        LimitError: there are over `limits.STATIC_FILES`.
        InputError: a name of `[app] include` cannot be read.
    """
    given = source.would_track(folder)
    files = {folder / name for name in given} if given is not None else set(_below(folder))
    if project.directory.is_relative_to(folder):
        files |= set(source.included(project))
    found = sorted(path for path in files if path.is_file() and not path.is_symlink())
    if len(found) > limits.STATIC_FILES:
        raise LimitError(
            f"{folder} has {len(found)} files, over {limits.STATIC_FILES}",
            next_step="Keep data out of the repository, or look at a folder further down.",
        )
    return found


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        yield from (Path(root, name) for name in names)


def read(folder: Path, path: Path, unread: list[NotChecked]) -> Read | None:
    """The text of a file; None for what is no text. What cannot be read, or is too large, joins `unread`."""
    name = path.relative_to(folder).as_posix()
    try:
        with open_regular(path) as file:
            data = file.read(limits.STATIC_FILE_BYTES + 1)
    except (OSError, InputError) as error:
        reason = error.message if isinstance(error, InputError) else error.strerror or str(error)
        unread.append(NotChecked(name, f"it cannot be read: {reason}"))
        return None
    if b"\0" in data[:8192]:
        return None
    if len(data) > limits.STATIC_FILE_BYTES:
        unread.append(NotChecked(name, f"it is over {limits.STATIC_FILE_BYTES} bytes"))
        return None
    return Read(name, data.decode("utf-8-sig", errors="replace"))
