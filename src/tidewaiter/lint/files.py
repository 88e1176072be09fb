"""Which files are looked at, and as what.

A file that is named is looked at whatever it is called; below a folder only what its name or its first lines tell.
Links are not followed, and nothing below `.git`, virtual environments, `node_modules` and their like is read.
"""

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.core.files import open_regular

Kind = Literal["dockerfile", "kubernetes", "compose", "requirements", "shell", "python"]

SKIPPED = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "venv",
        "node_modules",
        "__pycache__",
        ".tox",
        ".nox",
        ".mypy_cache",
        ".ruff_cache",
    }
)
"""Folders that tools keep; nothing in them is a project's own."""
_NO_DOCKERFILE = re.compile(
    r".*\.(?:dockerignore|md|py|sh|txt|ya?ml|json|html?|lock|j2|jinja2?|tmpl|tpl|erb|in|m4|[\w.-]*template"
    r"|patch|diff|log|csv|xml|toml|ini|cfg|rst|ipynb|svg|png)",
    re.IGNORECASE,
)
_NAMES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "dockerfile",
        re.compile(r"(?:.*\.)?(?:docker|container)file(?:\..+)?|(?:docker|container)file[-_].+", re.IGNORECASE),
    ),
    ("requirements", re.compile(r"(?:.*[-_.])?requirements(?:[-_.].*)?\.(?:txt|in)|constraints.*\.txt", re.IGNORECASE)),
    ("compose", re.compile(r"(?:docker-)?compose(?:[.-].+)?\.ya?ml", re.IGNORECASE)),
    ("kubernetes", re.compile(r".*\.(?:ya?ml|json)", re.IGNORECASE)),
    ("python", re.compile(r".*\.py")),
    ("shell", re.compile(r".*\.sh")),
)
_SOURCE = re.compile(r".*\.(?:go|js|ts|rs|java|rb|c|cc|cpp|h|cs|ps1|tf|proto|bats)")
"""Sources of programs; but `Dockerfile.cpp` may be the Dockerfile of one."""
_FROM = re.compile(r"^\s*FROM\s", re.IGNORECASE | re.MULTILINE)
_OTHER_LANGUAGE = re.compile(r"#[ \t]*syntax[ \t]*=[ \t]*(?!\S*dockerfile)\S+", re.IGNORECASE)
"""The first line of what BuildKit reads with another frontend."""
_OBJECT = re.compile(r"^(?:apiVersion|kind)\s*:|^\s*\"(?:apiVersion|kind)\"\s*:", re.MULTILINE)
_JSON_OBJECT = re.compile(r"(?=.*\"apiVersion\"\s*:).*\"kind\"\s*:", re.DOTALL)
_SHEBANG = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-\S+\s+)*(?:\S*/)?)?(?P<program>[A-Za-z]+)")
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "ksh", "zsh"})
_TEMPLATE = re.compile(r"^\s*\{\{", re.MULTILINE)


class Source(NamedTuple):
    """A file that rules are asked about."""

    path: str
    """As findings name it."""
    kind: Kind
    content: str
    beside: frozenset[str] = frozenset()
    """Names in its folder: for a Dockerfile what `COPY .` would take; for requirements also `../setup.py`."""


def kind_of(name: str, content: str) -> Kind | None:
    """What a file is by its name and content; None when there are no rules for it."""
    found = next((kind for kind, pattern in _NAMES if pattern.fullmatch(name)), None)
    if found == "dockerfile" and (_NO_DOCKERFILE.fullmatch(name) or _OTHER_LANGUAGE.match(content)):
        found = None
    if found == "dockerfile" and _SOURCE.fullmatch(name) and content.count("\n") > 1 and not _FROM.search(content):
        found = None
    if found == "kubernetes" and name.lower().endswith(".json"):
        return found if _JSON_OBJECT.match(content) else None  # so only where it is named
    if found == "kubernetes" and (_TEMPLATE.search(content) or not _OBJECT.search(content)):
        return None  # a chart's template is no YAML; what Helm makes of it is
    if found is None and "." not in name and (shebang := _SHEBANG.match(content)):
        program = shebang["program"].lower()
        return "shell" if program in _SHELLS else "python" if program == "python" else None
    return found


def read(path: Path) -> str | None:
    """The text of a file; None when it is not text.

    Raises:
        LimitError: it is over `limits.LINTED_BYTES`.
        InputError: it is not there or cannot be read.
    """
    try:
        with open_regular(path) as file:
            data = file.read(limits.LINTED_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror or error}", next_step="Name a file or folder that is there."
        ) from error
    if len(data) > limits.LINTED_BYTES:
        raise LimitError(
            f"{path} is over {limits.LINTED_BYTES} bytes",
            next_step="Name smaller files, or leave it out with `exclude`.",
        )
    if b"\0" in data[:8192]:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _below(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED and name != "site-packages" and not name.endswith(".egg-info")
        )
        yield from (Path(root, name) for name in sorted(names) if not Path(root, name).is_symlink())


def _beside(path: Path, kind: Kind) -> frozenset[str]:
    if kind not in {"dockerfile", "requirements"}:
        return frozenset()
    names = {one.name for one in path.parent.iterdir()}
    if kind == "requirements":
        names |= {f"../{name}" for name in ("setup.py", "setup.cfg") if (path.parent / ".." / name).exists()}
    return frozenset(names)


def _could_be(name: str) -> bool:
    """Whether the name alone leaves it open that there are rules for it: the others are not read."""
    return kind_of(name, "kind:\n") is not None or "." not in name


def find(paths: Sequence[Path], *, exclude: Sequence[str] = ()) -> Iterator[Source]:
    """The files that are named, and those below the folders that are named, that rules know; each once.

    Args:
        paths: files and folders.
        exclude: patterns of paths below a folder, as `fnmatch` reads them.

    Raises:
        InputError: one is not there, or a named file is of no known kind.
        LimitError: there are more than `limits.LINTED_FILES`, or one is too long.
    """
    seen: set[Path] = set()
    for given in paths:
        named = not given.is_dir()
        for path in [given] if named else _below(given):
            if path in seen or (not named and not _could_be(path.name)):
                continue
            if not named and any(fnmatchcase(path.relative_to(given).as_posix(), pattern) for pattern in exclude):
                continue
            seen.add(path)
            if len(seen) > limits.LINTED_FILES:
                raise LimitError(
                    f"there are over {limits.LINTED_FILES} files below {given}", next_step="Name a folder further down."
                )
            content = read(path)
            kind = None if content is None else kind_of(path.name, content)
            if kind is None and named:
                raise InputError(
                    f"{path} is nothing that rules know",
                    next_step="Name a Dockerfile, Kubernetes or Compose YAML, requirements, a shell or Python script.",
                )
            if kind is not None and content is not None:
                yield Source(path.as_posix(), kind, content, _beside(path, kind))
