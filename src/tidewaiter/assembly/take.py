"""Files out of one image onto another: `[[base.take]]`.

1. Take what is named: files, links with what they lead to, folders with all they hold.
2. Follow what is taken to what it cannot run without: its loader, its libraries (`libraries`), its script's program.
3. Refuse, naming each, when something of it is missing or older than what is asked of it.
4. Write one layer, fitted to the base, with the entries of the Debian packages that the files belong to.
"""

import posixpath
from collections.abc import Iterator
from functools import partial
from typing import IO

import msgspec

from tidewaiter.assembly import execution, foreign, libraries, options, taken_packages
from tidewaiter.assembly.elf import Elf
from tidewaiter.assembly.foundation import Foundation, stacked
from tidewaiter.assembly.ground import Ground, Listings, listings_of
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.assembly.part import Part
from tidewaiter.assembly.unpacked_image import UnpackedImage
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NotFoundError
from tidewaiter.core.progress import Progress
from tidewaiter.core.project import TakeSection
from tidewaiter.core.settings import Settings
from tidewaiter.oci import compression, layer
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import Entry, LayerInfo, Opener, Sink

VERSION = 1
"""Part of the layer cache key: raise it when the same images and paths give other files."""


class _Taking:
    """What is taken so far, and what the result looks like with it."""

    def __init__(self, source: UnpackedImage, base: UnpackedImage, shown: str) -> None:
        self.source = source
        self.base = base
        self.shown = shown
        self.view = base.ground.copy()
        self.files: dict[str, str] = {}
        """Real path in the source by path in the result."""
        self.entries: dict[str, Entry] = {}
        self.problems: dict[str, None] = {}
        self._waiting: list[tuple[str, tuple[str, ...], str]] = []
        self._seen: set[str] = set()
        self._named: set[str] = set()

    # Step 1

    def take(self, path: str, *, asked: bool = False) -> str | None:
        """Take what `path` of the source leads to, and the links on the way; returns where it lies in the result."""
        path = path.strip("/")
        real = self.source.ground.resolve(path)
        if real is None:
            return None
        found = self.source.ground.get(real)
        if found is None:
            return None
        if found.kind == "directory":
            self._put(found, real)
            for entry in self.source.ground.below(real):
                self._member(entry)
        else:
            self._put(found, real)
            if asked:
                self._named.add(self.view.place(real))
        if self.view.resolve(path) is None or (asked and self.view.resolve(path) != self.view.resolve(real)):
            # The base has no such way there: its folders are other ones, or the path is a link in the image.
            self._put(Entry(path=path, kind="symlink", target=f"/{real}"), path)
        return self.view.resolve(path)

    def _member(self, entry: Entry) -> None:
        if entry.kind != "directory" and self._is_library_of_base(entry.path):
            return  # the base's libraries belong together; one of another build among them would not
        self._put(entry, entry.path)
        if entry.kind == "symlink":
            target = posixpath.normpath(posixpath.join("/", posixpath.dirname(entry.path), entry.target)).strip("/")
            # A link out of the folder is of no use without what it leads to; one to nothing stays one to nothing.
            if self.view.resolve(target) is None and self.source.ground.resolve(target) is not None:
                self.take(target)

    def _is_library_of_base(self, path: str) -> bool:
        real = self.base.ground.resolve(path)
        found = None if real is None else self.base.elf(real)
        return found is not None and bool(found.soname or (found.needed and not found.interpreter))

    def _put(self, entry: Entry, path: str) -> None:
        placed = self.view.place(path, whole=entry.kind == "directory")
        here = self.view.get(placed)
        if here is not None and (here.kind == "directory" or placed in self.entries):
            if entry.kind == "directory" or placed in self.entries:
                return
            raise InputError(
                f"{self.shown}: /{path} is a file there and a folder of the base",
                next_step="Leave it out of [[base.take]] paths.",
            )
        written = msgspec.structs.replace(entry, path=placed, mtime=layer.MTIME)
        self.entries[placed] = written
        if len(self.entries) > limits.TAKEN_FILES:
            raise LimitError(
                f"{self.shown}: over {limits.TAKEN_FILES} files would be taken",
                next_step="Name smaller folders in [[base.take]] paths.",
            )
        self.view.add([written])
        if entry.kind == "file":
            self.files[placed] = path
            self._waiting.append((placed, (), ""))

    # Step 2

    def elf(self, path: str) -> Elf | None:
        """What the file at the real path `path` of the result says as ELF."""
        origin = self.files.get(path)
        return self.base.elf(path) if origin is None else self.source.elf(origin)

    def follow(self) -> None:
        """Take everything that what is taken needs, until nothing is new."""
        while self._waiting:
            path, inherited, interpreter = self._waiting.pop()
            try:
                found = self.elf(path)
            except InputError:
                if path in self._named:
                    raise
                continue  # in a folder, what looks like a program may be somebody's data
            if found is not None and path not in self._seen:
                self._seen.add(path)
                self._needs(path, found, inherited, interpreter)
            elif found is None and path in self._named:
                self._script(path)  # one in a folder may be meant for another system, as many of Python's are

    def _script(self, path: str) -> None:
        entry = self.entries[path]
        head = self.source.head(self.files[path])
        if not entry.mode & 0o111 or not head.startswith(b"#!"):
            return
        words = head[2:].partition(b"\n")[0].decode(errors="replace").split()
        if words[:1] == ["/usr/bin/env"] and len(words) > 1:
            folders = ("usr/local/bin", "usr/bin", "bin")
            words = [words[0], *(f"/{folder}/{words[1]}" for folder in folders)][:4]
            if not any(self.view.resolve(word) for word in words[1:]):
                self.problems[f"{words[2]}, which runs /{path}"] = None
        elif words and self.view.resolve(words[0]) is None:
            self.problems[f"{words[0]}, which runs /{path}"] = None

    def _needs(self, path: str, found: Elf, inherited: tuple[str, ...], interpreter: str) -> None:
        if found.interpreter:
            interpreter = found.interpreter
            if self.view.resolve(interpreter) is None and self.take(interpreter) is None:
                self.problems[f"{interpreter}, the loader of /{path}"] = None
        folders = libraries.own_folders(found, path, inherited)
        further = tuple(libraries.passed_on(found, path, inherited))
        for name in found.needed:
            real = self._library(path, found, name, folders, interpreter)
            if real is not None:
                self._waiting.append((real, further, interpreter))

    def _library(self, path: str, found: Elf, name: str, own: list[str], interpreter: str) -> str | None:
        """Real path of the library in the result, taken when it is not there; None when there is a problem."""

        def fits(candidate: str) -> bool:
            seen = self.elf(candidate)
            return seen is not None and seen.machine == found.machine

        folders = [*own, *self._searched(interpreter)]
        here = libraries.find(self.view, name, folders, fits)
        if here is None:
            here = self._taken_library(found, name, own, interpreter)
            if here is None:
                self.problems[f"{name}, which /{path} needs"] = None
                return None
        real = here[1]
        library = self.elf(real)
        missing = libraries.lacking(found.requires.get(name, ()), library) if library else []
        if missing:
            self.problems[f"{name} with {', '.join(missing)}, which /{path} needs: /{real} is too old"] = None
        if real not in self.files and path in self.files and libraries.of_another_c_library(found, name):
            self.problems[f"{name} of {self.shown} itself: /{path} is a part of that C library"] = None
        return real

    def _searched(self, interpreter: str) -> list[str]:
        """Folders in which the loader of the result looks for everyone."""
        cached = self.base.library_folders() if self.base.ground.resolve("etc/ld.so.cache") else []
        return [*libraries.standard_folders(interpreter, self.view, self.source.ground), *cached]

    def _taken_library(self, found: Elf, name: str, own: list[str], interpreter: str) -> tuple[str, str] | None:
        """Path by which the result finds the library that was taken for `found`, and its real path."""

        def fits(candidate: str) -> bool:
            seen = self.source.elf(candidate)
            return seen is not None and seen.machine == found.machine

        standard = libraries.standard_folders(interpreter, self.source.ground)
        folders = [*own, *self.source.library_folders(), *standard]
        there = libraries.find(self.source.ground, name, folders, fits)
        if there is None:
            return None
        folder, _, last = there[0].rpartition("/")
        real = self.take(posixpath.join(self.source.ground.resolve(folder) or folder, last))
        if real is None:
            return None
        reached = [*own, *self._searched(interpreter)]
        again = libraries.find(self.view, name, reached, lambda candidate: self.elf(candidate) is not None)
        if again is None:
            # The image's loader was told of the folder, the base's is not: a link where it looks by itself.
            folder = libraries.standard_folders(interpreter, self.view, self.source.ground)[0]
            link = Entry(path=f"{folder}/{name}", kind="symlink", target=f"/{real}")
            self._put(link, link.path)
            again = link.path, real
        return again


def _plan(taking: _Taking, section: TakeSection) -> None:
    for path in section.paths:
        if taking.take(path.strip("/"), asked=True) is None:
            raise NotFoundError(
                f"{taking.shown} has no {path}",
                next_step="Correct the paths: they start at the image's root.",
            )
    taking.follow()
    # Step 3
    if taking.problems:
        raise InputError(
            f"{', '.join(section.paths)} of {taking.shown} cannot run on this base; missing: "
            + "; ".join(list(taking.problems)[:20]),
            next_step="Name what is missing in [[base.take]] paths, or use a base that has it, or a newer one.",
            code="missing_library",
        )


def _open(image: UnpackedImage, path: str) -> IO[bytes]:
    return image.place(path).open("rb")


def _items(taking: _Taking) -> Iterator[tuple[Entry, Opener | bytes | None]]:
    for path, entry in taking.entries.items():
        origin = taking.files.get(path)
        yield entry, None if origin is None else partial(_open, taking.source, origin)
    for name, data in taken_packages.records(taking.source, taking.base, taking.files).items():
        yield Entry(path=name, kind="file", size=len(data)), data


def onto(
    below: Foundation,
    section: TakeSection,
    image: Image,
    name: str,
    *,
    wanted: Options = options.DEFAULT,
    layers: LayerCache,
    listings: Listings,
    settings: Settings,
    progress: Progress,
) -> Foundation:
    """`below` with one more layer: what `section` names of `image`, and what that needs.

    Raises:
        NotFoundError: the image has no such path.
        InputError: something that it needs is missing or too old (code `missing_library`), or stands in the way.
    """
    foreign.require_platform(image, name, below.platform)
    base = stacked(below, layers.store)
    ground = below.ground or Ground(listing.entries for listing in listings_of(base, listings, progress))
    key = {
        "what": "take",
        "version": VERSION,
        "format": layer.FORMAT_VERSION,
        "compressor": compression.identity(wanted.compression),
        "base": [part.info.diff_id for part in below.parts],
        "image": [diff_id for _, diff_id in image.layers],
        "environment": image.config.config.env,
        "paths": section.paths,
    }

    def make(sink: Sink) -> LayerInfo:
        cache = settings.home.cache
        listed = Ground(listing.entries for listing in listings_of(image, listings, progress))
        source = UnpackedImage(listed, execution.unpacked(image, cache, progress), image.config.config.env or [])
        own = UnpackedImage(ground, execution.unpacked(base, cache, progress), below.config.env or [])
        taking = _Taking(source, own, name)
        _plan(taking, section)
        return layer.write_layer(sink, ground.fit(_items(taking)), wanted.compression)

    info, reused = layers.obtain(key, make)
    part = Part(
        info=info,
        kind="base",
        title=f"{', '.join(section.paths)} of {name}",
        contents=(),
        reused=reused,
        media_type=wanted.layer_type,
    )
    above = msgspec.structs.replace(below, parts=(*below.parts, part))
    written = listings_of(stacked(above, layers.store), listings, progress)[-1]
    raised = ground.copy()
    raised.add(written.entries)
    files = tuple(f"/{entry.path}" for entry in written.entries if entry.kind != "directory")
    return msgspec.structs.replace(
        above,
        parts=(*below.parts, msgspec.structs.replace(part, contents=files)),
        ground=raised,
        images=(*below.images, (name, image.digest)),
    )
