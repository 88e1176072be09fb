"""What lies in a folder that is to become an image: programs, requirements, Dockerfiles, notebooks, models.

Nothing is run. Links are not followed, and nothing below hidden folders, virtual environments and their like is read.
"""

import ast
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, TidewaiterError
from tidewaiter.core.files import open_regular
from tidewaiter.inspection.catalogers import models as saved_models
from tidewaiter.inspection.catalogers.stream import Forward

REQUIREMENTS = ("requirements.in", "requirements.txt", "requirements/base.in", "requirements/base.txt")
"""Where requirements usually stand, the most usual first."""
_PROGRAMS = ("main.py", "app.py", "train.py", "serve.py", "server.py", "run.py", "predict.py", "inference.py")
"""What is started where there are several programs, the first of them that is there."""
_SKIPPED = frozenset({"venv", "env", "node_modules", "__pycache__", "site-packages", "build", "dist"})
_DOCKERFILE = re.compile(r"(?:docker|container)file", re.IGNORECASE)
_DEPTH = 4


class Model(msgspec.Struct, frozen=True):
    """A SavedModel: its folder (relative), a name for it, and the TensorFlow that wrote it (empty when unknown)."""

    path: str
    name: str
    tensorflow: str


class Notebook(msgspec.Struct, frozen=True):
    """A notebook: its path (relative), the modules that its code imports, the Python that ran it last."""

    path: str
    imports: tuple[str, ...]
    python: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen; paths are relative to the folder."""

    folder: Path
    requirements: str = ""
    programs: tuple[str, ...] = ()
    """Python files of the folder itself, the one that is likely started first."""
    dockerfiles: tuple[str, ...] = ()
    notebooks: tuple[Notebook, ...] = ()
    models: tuple[Model, ...] = ()
    package: dict[str, Any] | None = None
    """`[project]` of `pyproject.toml`."""
    buildable: bool = False
    """Whether `pyproject.toml` says how its wheel is built."""
    names: tuple[str, ...] = ()
    """All that lies in the folder itself."""
    notes: tuple[str, ...] = ()
    """What could not be read."""


def look(folder: Path) -> Found:
    """What lies in `folder`.

    Raises:
        InputError: it is no folder, or cannot be read.
        LimitError: it holds over `limits.STARTING_FILES` files and folders.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", next_step="Name the folder of the project, or make it first.")
    paths = sorted(_walk(folder))
    top = [path for path in paths if "/" not in path]
    notes: list[str] = []
    project, buildable = _pyproject(folder, notes) if "pyproject.toml" in top else (None, False)
    return Found(
        folder=folder,
        requirements=next((name for name in REQUIREMENTS if name in paths), ""),
        programs=_programs(folder, [path for path in top if path.endswith(".py")]),
        dockerfiles=tuple(path for path in top if _DOCKERFILE.fullmatch(path)),
        notebooks=tuple(_notebook(folder, path, notes) for path in paths if path.endswith(".ipynb")),
        models=tuple(_model(folder, path, notes) for path in paths if path.rpartition("/")[2] == "saved_model.pb"),
        package=project,
        buildable=buildable,
        names=tuple(sorted(one.name for one in folder.iterdir())),
        notes=tuple(notes),
    )


def _walk(folder: Path) -> Iterator[str]:
    """Relative paths of regular files."""
    todo, seen = [(folder, 0)], 0
    while todo:
        here, depth = todo.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda one: one.name)
        except OSError as error:
            raise InputError(f"{here} cannot be read: {error.strerror}", next_step="Mend its permissions.") from error
        for one in entries:
            seen += 1
            if seen > limits.STARTING_FILES:
                raise LimitError(
                    f"{folder} holds over {limits.STARTING_FILES} files",
                    next_step="Name the folder of one project; move data elsewhere.",
                )
            if one.is_dir(follow_symlinks=False):
                if depth < _DEPTH and one.name not in _SKIPPED and not one.name.startswith("."):
                    todo.append((Path(one.path), depth + 1))
            elif one.is_file(follow_symlinks=False) and not one.name.startswith("."):
                yield Path(one.path).relative_to(folder).as_posix()


def text(path: Path) -> str:
    """The text of a small file; raises `InputError` and `LimitError`."""
    try:
        with open_regular(path) as file:
            data = file.read(limits.LINTED_BYTES + 1)
        if len(data) > limits.LINTED_BYTES:
            raise LimitError(f"{path} is over {limits.LINTED_BYTES} bytes", next_step="Make it smaller.")
        return data.decode()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", next_step="Mend its permissions.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8", next_step="Save it as UTF-8.") from error


def _programs(folder: Path, names: list[str]) -> tuple[str, ...]:
    """Files that look like programs before modules; `setup.py` and tests are none."""
    real = [name for name in names if not re.fullmatch(r"(?:setup|conftest|noxfile|tasks|test_.*|.*_test)\.py", name)]

    def rank(name: str) -> tuple[int, str]:
        if name in _PROGRAMS:
            return _PROGRAMS.index(name), name
        try:
            runs = "__main__" in text(folder / name)
        except TidewaiterError:
            runs = False
        return len(_PROGRAMS) + (not runs), name

    return tuple(sorted(real, key=rank))


def _pyproject(folder: Path, notes: list[str]) -> tuple[dict[str, Any] | None, bool]:
    try:
        content = tomllib.loads(text(folder / "pyproject.toml"))
    except (TidewaiterError, ValueError, RecursionError) as error:
        notes.append(f"pyproject.toml could not be read: {error}")
        return None, False
    project = content.get("project")
    return (project if isinstance(project, dict) else None), isinstance(content.get("build-system"), dict)


def _notebook(folder: Path, path: str, notes: list[str]) -> Notebook:
    try:
        document = json.loads(text(folder / path))
        cells = [one for one in document.get("cells", []) if one.get("cell_type") == "code"]
        code = ["".join(one["source"]) for one in cells]
        language = document.get("metadata", {}).get("language_info", {})
        python = str(language.get("version", "")) if language.get("name", "python") == "python" else ""
    except (TidewaiterError, ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
        notes.append(f"{path} could not be read: {str(error)[:200]}")
        return Notebook(path, (), "")
    modules = {name for one in code for name in imported(one)}
    return Notebook(path, tuple(sorted(modules)), python[:20])


def imported(code: str) -> set[str]:
    """Top-level modules that Python code imports; of IPython's own lines only `%matplotlib` needs one."""
    plain = "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in code.splitlines())
    try:
        tree = ast.parse(plain)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found = {"matplotlib"} if re.search(r"^\s*%(?:matplotlib|pylab)\b", code, re.MULTILINE) else set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _model(folder: Path, path: str, notes: list[str]) -> Model:
    place = path.rpartition("/")[0]
    name, _ = saved_models.name_of(f"{folder.resolve().name}/{path}")
    version = ""
    try:
        with open_regular(folder / path) as file:
            _, _, version = saved_models.saved_model(Forward(file, (folder / path).stat().st_size))
    except (saved_models.Malformed, InputError, OSError) as error:
        notes.append(f"{path} is no SavedModel that can be read: {error}")
    return Model(place or ".", re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model", version)
