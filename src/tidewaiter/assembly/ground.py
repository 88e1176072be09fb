"""What the layers below hold: every path with its attributes, so that what is put onto them leaves them as they are.

A directory entry over an existing directory replaces its attributes, and one over a link to a directory replaces the
link (image-spec `layer.md`). So what goes onto an image that was not made here is fitted to it first:

1. Walk each layer once, proven to be the one that the image promised; what was listed is kept by blob and diff ID.
2. Stack the listings by the overlay rules, whiteouts and links on the way included.
3. Write below the folder that a path really leads to, and repeat the attributes of every folder that is there.
"""

import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from tidewaiter.core import durable, limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import OPAQUE_WHITEOUT, WHITEOUT_PREFIX, Entry
from tidewaiter.oci.verified import VerifiedLayer

_VERSION = 1
"""Part of the name of a kept listing: raise it when listings change."""
_BROKEN = "Do not use this image: it is broken or hostile."

Content = TypeVar("Content")


class Listing(msgspec.Struct, frozen=True, array_like=True):
    """What one layer says, in its order; sizes in bytes."""

    entries: tuple[Entry, ...]
    tar_size: int


class Listings:
    """Listings of layers seen before, files below `directory`. Safe with many processes.

    A file holds the SHA-256 of the rest, a newline and MessagePack; what does not match is made again.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _path(self, blob: Digest, diff_id: Digest) -> Path:
        name = hashlib.sha256(f"{_VERSION} {blob} {diff_id}".encode()).hexdigest()
        return self._directory / name[:2] / name

    def get(self, blob: Digest, diff_id: Digest) -> Listing | None:
        """The listing; None when there is none, or it is damaged."""
        try:
            checksum, _, content = self._path(blob, diff_id).read_bytes().partition(b"\n")
        except OSError:
            return None  # the layer itself is the source
        if checksum != hashlib.sha256(content).hexdigest().encode():
            return None
        try:
            return msgspec.msgpack.decode(content, type=Listing)
        except (ValueError, RecursionError):
            return None

    def put(self, blob: Digest, diff_id: Digest, listing: Listing) -> None:
        """Keep the listing of a layer that was walked to its end."""
        content = msgspec.msgpack.encode(listing)
        durable.write_atomically(
            self._path(blob, diff_id), hashlib.sha256(content).hexdigest().encode() + b"\n" + content
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _listed(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries that a path of ours can meet: ours are UTF-8, and other names are others' affair."""
    for count, entry in enumerate(entries, 1):
        if count > limits.BASE_ENTRIES:
            raise LimitError(f"a layer of the base has over {limits.BASE_ENTRIES} entries", next_step=_BROKEN)
        if entry.path.count("/") >= limits.FOLDER_DEPTH:
            raise LimitError(
                f"{entry.path[:200]!r} lies more than {limits.FOLDER_DEPTH} folders deep", next_step=_BROKEN
            )
        if entry.path and _is_text(entry.path):
            yield entry if _is_text(entry.target) else msgspec.structs.replace(entry, target="\ufffd")


def listings_of(image: Image, kept: Listings, progress: Progress = SILENT) -> list[Listing]:
    """One listing for each layer of `image`, base first.

    Raises:
        IntegrityError: a layer is not the one that the image promised.
        InputError, LimitError: it cannot be read, or is over a bound.
        NotFoundError: a layer is missing.
    """
    found = []
    total = sum(descriptor.size for descriptor, _ in image.layers)
    with progress.task("Listing the base's layers", total=total, unit="bytes") as task:
        for descriptor, diff_id in image.layers:
            listing = kept.get(descriptor.digest, diff_id)
            if listing is None:
                layer = VerifiedLayer(image.source, descriptor, diff_id, advance=task.advance)
                entries = tuple(_listed(entry for entry, _ in layer))
                listing = Listing(entries, layer.tar_size)
                kept.put(descriptor.digest, diff_id, listing)
            found.append(listing)
    return found


def _ancestors(path: str) -> list[str]:
    """Folders above `path`, the outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


class Ground:
    """The view of layers stacked on one another. Paths are relative to the root, which is the empty path."""

    def __init__(self, layers: Iterable[Sequence[Entry]]) -> None:
        self._entries: dict[str, Entry] = {}
        self._children: dict[str, set[str]] = {}
        for entries in layers:
            self.add(entries)

    # Step 2

    def add(self, entries: Sequence[Entry]) -> None:
        """Put one more layer on top. Raises `InputError` when an entry lies below something that is no folder."""
        written: set[str] = set()  # where they really lie: the layer's own whiteouts spare them
        known: dict[str, str] = {"": ""}  # real folders, which are there, until a link comes or something goes
        for entry in entries:
            folder, _, name = entry.path.rpartition("/")
            if folder not in known:
                known[folder] = self.place(folder, whole=True)
                self._make_folders(known[folder])
            real = known[folder]
            path = f"{real}/{name}" if real else name
            if name.startswith(WHITEOUT_PREFIX):
                self._whiteout(real, name, written)
                known = {"": ""}
                continue
            old = self._entries.get(path)
            self._put(path, entry, old)
            if entry.kind == "symlink" or (old is not None and old.kind != entry.kind):
                known = {"": ""}
            while path and path not in written:
                written.add(path)
                path = path.rpartition("/")[0]
        if len(self._entries) > limits.BASE_ENTRIES:
            raise LimitError(f"the base has over {limits.BASE_ENTRIES} files and folders", next_step=_BROKEN)

    def _make_folders(self, path: str) -> None:
        for folder in [*_ancestors(path), path]:
            if folder and folder not in self._entries:
                self._link(Entry(path=folder, kind="directory", mode=0o755, mtime=0))

    def _put(self, path: str, entry: Entry, old: Entry | None) -> None:
        placed = entry if entry.path == path else msgspec.structs.replace(entry, path=path)
        if entry.kind == "hardlink":
            target = self.resolve(posixpath.dirname(entry.target))
            source = None if target is None else self._entries.get(posixpath.join(target, entry.target.split("/")[-1]))
            if source is None or source.kind == "directory":
                raise InputError(f"{entry.path!r} is a hard link to nothing", next_step=_BROKEN, code="unsafe_path")
            placed = msgspec.structs.replace(source, path=path)
        if old is not None and not (old.kind == entry.kind == "directory"):
            self._remove(path)
        self._link(placed)

    def _link(self, entry: Entry) -> None:
        self._entries[entry.path] = entry
        folder, _, name = entry.path.rpartition("/")
        self._children.setdefault(folder, set()).add(name)

    def _remove(self, path: str) -> None:
        """Take away `path` with all below it."""
        for name in list(self._children.get(path, ())):
            self._remove(f"{path}/{name}")
        self._children.pop(path, None)
        if self._entries.pop(path, None) is not None:
            folder, _, name = path.rpartition("/")
            self._children[folder].discard(name)

    def _prune(self, path: str, written: set[str]) -> None:
        """Take away what lower layers put at `path`, sparing what this layer has written there already."""
        if path not in written:
            self._remove(path)
            return
        for name in list(self._children.get(path, ())):
            self._prune(f"{path}/{name}", written)

    def _whiteout(self, folder: str, name: str, written: set[str]) -> None:
        if name == OPAQUE_WHITEOUT:
            hidden = list(self._children.get(folder, ()))
        elif name.startswith(WHITEOUT_PREFIX * 2):  # aufs' own bookkeeping
            hidden = []
        else:
            hidden = [name.removeprefix(WHITEOUT_PREFIX)]
        for one in hidden:
            self._prune(f"{folder}/{one}" if folder else one, written)

    def copy(self) -> "Ground":
        """The same view, to be built upon."""
        other = Ground(())
        other._entries = dict(self._entries)
        other._children = {folder: set(names) for folder, names in self._children.items()}
        return other

    # Looking

    def get(self, path: str) -> Entry | None:
        """What lies at `path`, no link followed; a hard link is shown as the file that it is."""
        return self._entries.get(path)

    def below(self, path: str) -> Iterator[Entry]:
        """Everything below the folder `path`, sorted, each folder before what it holds."""
        for name in sorted(self._children.get(path, ())):
            inner = f"{path}/{name}" if path else name
            yield self._entries[inner]
            yield from self.below(inner)

    def names(self, folder: str) -> list[str]:
        """Names in the folder that `folder` leads to, sorted; empty when it leads to none."""
        real = self.resolve(folder)
        return [] if real is None else sorted(self._children.get(real, ()))

    def _walk(self, path: str) -> Iterator[tuple[str, Entry | None]]:
        """The way to `path` by its real names: every step with what lies there; links are followed, not given."""
        left = [part for part in reversed(path.split("/")) if part]
        done: list[str] = []
        followed = 0
        while left:
            part = left.pop()
            if part in {".", ".."}:
                done = done[:-1] if part == ".." else done
                continue
            here = "/".join([*done, part])
            entry = self._entries.get(here)
            if entry is not None and entry.kind == "symlink":
                followed += 1
                if followed > limits.LINKS_FOLLOWED:
                    raise InputError(f"/{path} lies behind a loop of links", next_step=_BROKEN)
                done = [] if entry.target.startswith("/") else done
                left.extend(step for step in reversed(entry.target.split("/")) if step)
                continue
            done.append(part)
            yield here, entry
        yield "/".join(done), self._entries.get("/".join(done))

    def resolve(self, path: str) -> str | None:
        """The path that is opened for `path`, links followed on every level; None when nothing is there."""
        try:
            steps = list(self._walk(path))
        except InputError:
            return None
        if any(entry is None for _, entry in steps[:-1]):
            return None
        return steps[-1][0]

    # Step 3

    def place(self, path: str, *, whole: bool = False) -> str:
        """Where `path` lies when it is written: links to folders on the way are followed.

        The last name is that of what is written, unless `whole` says that it is a folder, which may be a link too.

        Raises:
            InputError: a file, or a loop of links, is in the way.
        """
        folder, _, name = (path, "", "") if whole else path.rpartition("/")
        real = folder
        for real, entry in self._walk(folder) if folder else ():
            if entry is not None and entry.kind != "directory":
                raise InputError(
                    f"/{path} cannot be written: /{real} of the base is no folder",
                    next_step="Put the file somewhere else, or use another base.",
                )
        return real if whole else f"{real}/{name}" if real else name

    def fit(self, items: Iterable[tuple[Entry, Content]]) -> Iterator[tuple[Entry, Content | None]]:
        """`items` at their real places, preceded by every folder of the base on the way, as the base has it.

        Raises:
            InputError: something is in the way.
        """
        told: set[str] = set()
        for entry, content in items:
            path = self.place(entry.path, whole=entry.kind == "directory")
            here = self._entries.get(path)
            if here is not None and here.kind == "directory" and entry.kind != "directory":
                raise InputError(
                    f"/{path} would be a file and is a folder of the base",
                    next_step="Put the file somewhere else, or use another base.",
                )
            for folder in [*_ancestors(path), path]:
                below = self._entries.get(folder)
                if below is not None and below.kind == "directory" and folder not in told:
                    told.add(folder)
                    yield below, None
            if here is None or here.kind != "directory":
                target = self.place(entry.target) if entry.kind == "hardlink" else entry.target
                yield msgspec.structs.replace(entry, path=path, target=target), content

    def identity(self, paths: Iterable[str]) -> Digest:
        """Names everything of the base that files written to `paths` depend on."""
        found: dict[str, object] = {}
        for path in paths:
            placed = self.place(path)
            found[path] = placed
            for folder in _ancestors(placed):
                entry = self._entries.get(folder)
                if entry is not None:
                    found[f"/{folder}"] = [entry.mode, entry.uid, entry.gid, entry.mtime]
        return digests.of(msgspec.json.encode(found, order="deterministic"))
