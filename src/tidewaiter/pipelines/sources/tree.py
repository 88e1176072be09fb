"""What a commit would put into a folder, looked at before anything is written.

A tree can be small to fetch and endless to write; a link in it can lead out of the folder, to whatever the process may
read. So files are counted and sized from Git's own lists, and every link is followed by its text.
"""

import contextlib
import posixpath
from collections.abc import Generator
from pathlib import Path

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, RefusedError
from tidewaiter.pipelines.sources.bounds import Left
from tidewaiter.pipelines.sources.git import Git

_LINK = "120000"
_SUBMODULE = "160000"
HOSTILE = "source_refused"


class Tree(msgspec.Struct, frozen=True):
    """The files of a commit."""

    files: int
    bytes: int
    links: tuple[str, ...]
    """Paths of symlinks."""
    submodules: tuple[tuple[str, str], ...]
    """Path and commit."""
    small: tuple[str, ...]
    """Files that are as small as the pointers of Git LFS are."""


def read(git: Git, repository: Path, commit: str, left: Left) -> Tree:
    """The tree of a commit, none of whose links leads out of it; its files are counted in `left`.

    Raises:
        LimitError: there are too many files, or they are too large.
        RefusedError: a link leads out, or a path is none that a folder should have.
    """
    files, size = 0, 0
    links: dict[str, str] = {}
    submodules: list[tuple[str, str]] = []
    small: list[str] = []
    with contextlib.closing(_entries(git, repository, commit)) as entries:
        for about, path in entries:
            mode, _, name, length = about.split()
            files += 1
            of_file = 0 if length == "-" else int(length)
            size += of_file
            left.take_file(of_file)
            _require_plain(path)
            if mode == _LINK:
                if int(length) > limits.SOURCE_LINK_BYTES:
                    raise _refused(f"the link {path[:200]!a} has a target of {length} bytes")
                links[path] = name
            elif mode == _SUBMODULE:
                submodules.append((path, name))
            elif int(length) <= limits.LFS_POINTER_BYTES:
                small.append(path)
    _require_inside(git, repository, links)
    return Tree(files, size, tuple(links), tuple(submodules), tuple(small))


def _entries(git: Git, repository: Path, commit: str) -> Generator[tuple[str, str], None, None]:
    """Mode, type, name and size of each file, and its path; raises `LimitError` for one that is endless."""
    rest = b""
    with contextlib.closing(git.stream(repository, "ls-tree", "-r", "-z", "-l", "--full-tree", commit)) as parts:
        for part in parts:
            *whole, rest = (rest + part).split(b"\0")
            if len(rest) > 2 * limits.PATH_BYTES:
                raise LimitError(f"a path is over {limits.PATH_BYTES} bytes", next_step="Shorten it.")
            for entry in whole:
                about, _, path = entry.partition(b"\t")
                try:
                    yield about.decode("ascii"), path.decode()
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"the path {path[:200]!r} is not UTF-8", next_step="Rename the file; images have UTF-8 paths."
                    ) from error


def _require_plain(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or not {"", ".", ".."}.isdisjoint(parts) or any(p.lower() == ".git" for p in parts):
        raise _refused(f"{path[:200]!a} is no path of a work tree")
    if len(path.encode()) > limits.PATH_BYTES:
        raise LimitError(f"a path is over {limits.PATH_BYTES} bytes", next_step="Shorten it.")


def _refused(what: str) -> RefusedError:
    return RefusedError(what, next_step="Look who made this commit; remove it from the repository.", code=HOSTILE)


def _require_inside(git: Git, repository: Path, links: dict[str, str]) -> None:
    """Raise when a link, followed by its text, leads out of the tree."""
    if not links:
        return
    asked = "".join(f"{name}\n" for name in links.values()).encode()
    answer = git.ask(repository, "cat-file", "--batch", given=asked)
    place = 0
    for path in links:
        end = answer.index(b"\n", place)
        size = int(answer[place:end].split()[2])
        target = answer[end + 1 : end + 1 + size]
        place = end + 1 + size + 1
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(path), target.decode(errors="replace")))
        if not target or target.startswith(b"/") or inside == ".." or inside.startswith("../"):
            raise _refused(f"the link {path[:200]!a} leads out of the repository")


def require_really_inside(folder: Path, links: tuple[str, ...]) -> None:
    """Raise when a link that lies in `folder` leads out of it over other links. Raises `RefusedError`."""
    root = folder.resolve()
    for path in links:
        try:
            real = (folder / path).resolve()
        except (OSError, RuntimeError):
            raise _refused(f"the link {path[:200]!a} leads in a circle") from None
        if not real.is_relative_to(root) or (root / ".git") in (real, *real.parents):
            raise _refused(f"the link {path[:200]!a} leads out of the repository")
