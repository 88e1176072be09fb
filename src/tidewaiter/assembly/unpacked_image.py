"""An image whose files lie in a folder here: what its layers list, and the bytes, never through a link of its own."""

import fnmatch
import posixpath
from collections.abc import Iterator
from pathlib import Path

from tidewaiter.assembly import elf
from tidewaiter.assembly.elf import Elf
from tidewaiter.assembly.ground import Ground
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError

_LOADER_CONFIGURATION = "etc/ld.so.conf"


class UnpackedImage:
    """Reads files of an image by their real paths, relative to its root."""

    def __init__(self, ground: Ground, root: Path, variables: list[str]) -> None:
        self.ground = ground
        self._root = root
        self._variables = dict(item.partition("=")[::2] for item in variables)
        self._elf: dict[str, Elf | None] = {}

    def place(self, path: str) -> Path:
        """Where the file at the real path `path` lies here; raises `InputError` when a link is in the way."""
        steps = path.split("/")
        for end in range(len(steps)):
            if self._root.joinpath(*steps[: end + 1]).is_symlink():
                raise InputError(f"/{path} lies behind a link", next_step="Do not use this image.")
        return self._root / path

    def elf(self, path: str) -> Elf | None:
        """What the file at the real path `path` says as ELF; None when it is none."""
        if path not in self._elf:
            entry = self.ground.get(path)
            regular = entry is not None and entry.kind == "file"
            self._elf[path] = elf.read(self.place(path)) if regular else None
        return self._elf[path]

    def head(self, path: str, size: int = limits.PATH_BYTES) -> bytes:
        """The first bytes of the file at the real path `path`."""
        with self.place(path).open("rb") as file:
            return file.read(size)

    def text(self, path: str, limit: int) -> str | None:
        """The text file that `path` leads to; None when there is none, or it is longer than `limit` bytes."""
        real = self.ground.resolve(path)
        entry = None if real is None else self.ground.get(real)
        if real is None or entry is None or entry.kind != "file" or entry.size > limit:
            return None
        return self.head(real, limit).decode(errors="replace")

    def library_folders(self) -> list[str]:
        """Folders that the image's own loader is told to look in: by its environment, and by `ld.so.conf`."""
        told = [folder for folder in self._variables.get("LD_LIBRARY_PATH", "").split(":") if folder.startswith("/")]
        return [folder.strip("/") for folder in [*told, *self._configured(_LOADER_CONFIGURATION, set())]]

    def _configured(self, path: str, read: set[str]) -> Iterator[str]:
        """Folders that the file names, and those that it includes; `read` has the files that were read before."""
        if path in read or len(read) >= limits.LOADER_FILES:
            return
        read.add(path)
        for line in (self.text(path, limits.LOADER_FILE_BYTES) or "").splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    for included in self._included(posixpath.join("/etc", pattern).strip("/")):
                        yield from self._configured(included, read)
            elif words and words[0].startswith("/"):
                yield words[0]

    def _included(self, pattern: str) -> list[str]:
        folder, _, names = pattern.rpartition("/")
        fitting = [name for name in self.ground.names(folder) if fnmatch.fnmatchcase(name, names)]
        return [f"{folder}/{name}" for name in fitting]
