"""The requirements that a lock is made from: the file that the project names and what it includes."""

import hashlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError
from tidewaiter.core.project import Project

_INCLUDE = r"(?:-r|--requirement|-c|--constraint)(?:\s+|\s*=\s*|(?<=-[rc]))(\S+)"

_SOURCE = r"(-i|-f|--(?:extra-)?index-url|--index|--default-index|--find-links|--no-index)(?=[\s=]|$)"


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
            include = re.match(_INCLUDE, line.strip())
            if include:
                todo.append(include[1] if "://" in include[1] else str(PurePosixPath(name).parent / include[1]))


def require_plain(project: Project) -> None:
    """Raise `InputError` when the requirements name an index: where packages come from stands in the project file."""
    for name, data in files(project):
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            option = re.match(_SOURCE, line.strip())
            if option:
                raise InputError(
                    f"{project.requirements.parent / name}:{number}: {option[1]} says where packages come from",
                    next_step="Write [[python.indexes]] with the packages that come from there into tidewaiter.toml, "
                    "or set TIDEWAITER_PYTHON_INDEX for all packages.",
                )


def of_package(project: Project) -> list[str] | None:
    """`[build-system] requires` of the project's own package (PEP 518); None unless `[app] package` is set.

    Raises:
        InputError: there is no pyproject.toml, or it is malformed.
    """
    if not project.file.app.package:
        return None
    path = project.directory / "pyproject.toml"
    problem = ""
    try:
        system = tomllib.loads(read_bounded(path, limits.PROJECT_FILE_BYTES).decode())["build-system"]
        return msgspec.convert(system["requires"], list[str])
    except FileNotFoundError:
        problem = "does not exist"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except (KeyError, TypeError, msgspec.ValidationError):
        problem = "has no [build-system] with requires"
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number too long, nested too deep
        problem = f"is not TOML: {error}"
    raise InputError(
        f"{path} {problem}, and [app] package asks for the project's own wheel",
        next_step="Write [build-system] with requires and build-backend (PEP 517), or take package out.",
    )


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
