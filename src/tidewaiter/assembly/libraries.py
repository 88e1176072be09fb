"""Which libraries a program that is taken out of an image needs, as the loader would look for them (ld.so(8)).

1. Each library is looked for in what is being put together: the base, and what was taken already.
2. One that is there must be of the same machine and define every symbol version that is asked of it.
3. One that is not there is found as the image's own loader finds it, and taken; then its needs are looked at.
4. What is found nowhere, or is too old, is named.

What a program opens by name while it runs (plug-ins, name services) cannot be seen, and is named by the user.
"""

import posixpath
from collections.abc import Callable, Iterator, Sequence

from tidewaiter.assembly.elf import Elf
from tidewaiter.assembly.ground import Ground

_PRIVATE = "GLIBC_PRIVATE"
_C_LIBRARIES = ("libc.so.6", "libc.so.6.1")


def _standard(view: Ground) -> list[str]:
    """Folders that the view's C library searches when nobody says anything: those where it lies itself."""
    for folder in _candidates(view):
        real = next((found for name in _C_LIBRARIES if (found := view.resolve(f"{folder}/{name}"))), None)
        if real is not None:
            last = posixpath.basename(posixpath.dirname(real))
            if last.count("-") >= 2:  # Debian's multiarch tuple
                return [f"lib/{last}", f"usr/lib/{last}", "lib", "usr/lib"]
            return [last, f"usr/{last}"]
    return []


def _candidates(view: Ground) -> Iterator[str]:
    for folder in ("lib64", "usr/lib64", "lib", "usr/lib"):
        yield folder
        for name in view.names(folder):
            if name.count("-") >= 2:
                yield f"{folder}/{name}"


def standard_folders(interpreter: str, *views: Ground) -> list[str]:
    """Folders, relative to the root, that the loader `interpreter` searches by itself.

    The first of `views` that has a C library decides.
    """
    if posixpath.basename(interpreter).startswith("ld-musl-"):
        return ["lib", "usr/local/lib", "usr/lib"]
    return next(filter(None, map(_standard, views)), ["lib64", "usr/lib64", "lib", "usr/lib"])


def _expanded(places: Sequence[str], path: str) -> Iterator[str]:
    """Search paths of the file at `path` with the loader's variables filled in; relative ones are left out."""
    origin = "/" + posixpath.dirname(path)
    for place in places:
        for library in ("lib", "lib64"):
            full = place.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", origin)
            full = full.replace("${LIB}", "$LIB").replace("$LIB", library)
            if full.startswith("/") and "$" not in full:
                yield posixpath.normpath(full).strip("/")


def own_folders(file: Elf, path: str, inherited: Sequence[str]) -> list[str]:
    """Folders that the file itself names, with those of the program that loads it."""
    if file.runpath:
        return list(dict.fromkeys(_expanded(file.runpath, path)))
    return list(dict.fromkeys([*_expanded(file.rpath, path), *inherited]))


def passed_on(file: Elf, path: str, inherited: Sequence[str]) -> list[str]:
    """Folders that count for the libraries of its libraries too: RPATH does, RUNPATH does not."""
    return list(inherited) if file.runpath else list(dict.fromkeys([*_expanded(file.rpath, path), *inherited]))


def find(view: Ground, name: str, folders: Sequence[str], fits: Callable[[str], bool]) -> tuple[str, str] | None:
    """Path by which `name` is found in `folders`, and its real path; None when nothing there fits."""
    for path in [name.strip("/")] if "/" in name else [f"{folder}/{name}" for folder in folders]:
        real = view.resolve(path)
        if real is not None and fits(real):
            return path, real
    return None


def lacking(required: Sequence[str], library: Elf) -> list[str]:
    """Symbol versions that `library` does not define; a library without versions satisfies any, as ld.so has it."""
    return [version for version in required if version not in library.defines] if library.defines else []


def of_another_c_library(requiring: Elf, name: str) -> bool:
    """Whether a file is part of its own C library, so that it cannot be used with another one."""
    return _PRIVATE in requiring.requires.get(name, ())
