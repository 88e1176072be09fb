"""Files into a folder: all of them or none, and never over one that is there.

1. Whatever has a file in its place already is kept; how it differs is told.
2. The rest is written beside its place, to the disk.
3. Each is linked to its name, which fails when somebody made one meanwhile; then those that were linked are taken away.
"""

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from tidewaiter.core import durable, limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.files import open_regular
from tidewaiter.pipelines.starting.planning import File


class Kept(msgspec.Struct, frozen=True):
    """A file that was there, and what the new one would have changed in it; empty when nothing."""

    path: str
    difference: tuple[str, ...]


def compare(folder: Path, files: Iterable[File]) -> tuple[tuple[File, ...], tuple[Kept, ...]]:
    """The files that are new, and those that are there already. Raises `InputError` when one cannot be read."""
    new, kept = [], []
    for one in files:
        path = folder / one.path
        if path.is_symlink() or path.exists():
            kept.append(Kept(one.path, tuple(_difference(path, one))))
        else:
            new.append(one)
    return tuple(new), tuple(kept)


def _difference(path: Path, file: File) -> Iterator[str]:
    try:
        with open_regular(path) as there:
            old = there.read(limits.LOCK_FILE_BYTES).decode(errors="replace")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Mend its permissions.") from error
    new = file.content.decode()
    yield from difflib.unified_diff(old.splitlines(), new.splitlines(), f"a/{file.path}", f"b/{file.path}", lineterm="")


def write(folder: Path, files: Iterable[File]) -> None:
    """Write new files below `folder`; when one cannot be, none is there afterwards.

    Raises:
        InputError: somebody made one of them meanwhile.
        StorageError: the disk refuses.
    """
    made: list[Path] = []  # 2. and 3. take away what they made
    folders: list[Path] = []
    staged: list[tuple[Path, Path]] = []
    try:
        for one in files:
            path = folder / one.path
            folders += _make_folders(path.parent)
            temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
            staged.append((temporary, path))
            durable.write_atomically(temporary, one.content)
        for temporary, path in staged:
            try:
                os.link(temporary, path)
            except FileExistsError as error:
                raise InputError(
                    f"{path} was made by somebody else meanwhile", next_step="Run the command again."
                ) from error
            except OSError as error:
                raise durable.storage_error(error, str(path)) from error
            made.append(path)
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        _remove(temporary for temporary, _ in staged)
        for place in reversed(folders):
            with contextlib.suppress(OSError):
                place.rmdir()
        raise
    _remove(temporary for temporary, _ in staged)


def _make_folders(folder: Path) -> list[Path]:
    """Make `folder` and what is missing above it; those that were made, the outermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        try:
            one.mkdir()
        except OSError as error:
            raise durable.storage_error(error, str(one)) from error
    return missing[::-1]


def _remove(paths: Iterable[Path]) -> None:
    for one in paths:
        with contextlib.suppress(OSError):  # what stands in its way says why it was never made
            one.unlink(missing_ok=True)
