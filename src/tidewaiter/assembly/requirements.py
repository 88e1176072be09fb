"""The requirements that a lock is made from: the file that the project names and what it includes."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError
from tidewaiter.core.project import Project

_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s+|\s*=\s*|(?<=-[rc]))(\S+)")


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a small file; raises `LimitError` over `limit`, and `OSError`."""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise LimitError(f"{path} is over {limit} bytes", next_step="Shorten it.")
    return data


def files(project: Project) -> Iterator[tuple[str, bytes]]:
    """The requirements and the local files that they include with `-r` and `-c`, named relative to the folder."""
    folder = project.requirements.parent
    todo, seen = [project.requirements.name], set[str]()
    while todo:
        name = todo.pop(0)
        if name in seen:
            continue
        seen.add(name)
        if len(seen) > limits.REQUIREMENT_FILES:
            raise LimitError(
                f"{project.requirements} includes more than {limits.REQUIREMENT_FILES} files",
                next_step="Write the requirements into fewer files.",
            )
        pure = PurePosixPath(name)
        if "://" in name or pure.is_absolute() or ".." in pure.parts:
            raise InputError(
                f"{project.requirements} includes {name!r}, which is not a file below its folder",
                next_step="Copy the file beside the requirements and include the copy.",
            )
        try:
            data = read_bounded(folder / name, limits.PROJECT_FILE_BYTES)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"{folder / name}: there is no such requirements file",
                next_step="Create it, or mend [python] requirements in tidewaiter.toml.",
            ) from error
        except OSError as error:
            raise InputError(
                f"{folder / name} cannot be read: {error.strerror}", next_step="Mend the file's kind or permissions."
            ) from error
        yield name, data
        for line in data.decode(errors="replace").splitlines():
            include = _INCLUDE.match(line.strip())
            if include:
                todo.append(include[1] if "://" in include[1] else str(PurePosixPath(name).parent / include[1]))


def sha256(project: Project) -> str:
    """SHA-256 (hex) of the requirements; of names and bytes of all files when they include others.

    Raises:
        InputError: a file is missing, too large or outside the project.
    """
    found = list(files(project))
    if len(found) == 1:
        return hashlib.sha256(found[0][1]).hexdigest()
    whole = hashlib.sha256()
    for name, data in found:
        whole.update(f"{len(name.encode())} {name} {len(data)}\n".encode() + data)
    return whole.hexdigest()
