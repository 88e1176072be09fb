"""Unpacking an image's layers into a folder (image-spec `layer.md`, "Applying Changesets").

Layers are hostile. What keeps every write inside the destination:

1. No path is ever handed to the kernel whole. Folders are opened one name at a time, relative to the folder
   above, with `O_NOFOLLOW`.
2. A symlink on the way is read and walked by us, with `/` and `..` meaning the destination's root at the most.
3. What stands where an entry is written is removed first, so nothing is written through an old link.
4. Files are created with `O_EXCL | O_NOFOLLOW`; both ends of a hard link are found by steps 1 and 2.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tidewaiter.core import limits
from tidewaiter.core.durable import storage_error
from tidewaiter.core.errors import InputError
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import OPAQUE_WHITEOUT, WHITEOUT_PREFIX, Entry, Opener, read_layer
from tidewaiter.oci.verified import VerifiedLayer

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_LATEST = 2**34 - 1
"""Year 2514: the latest that ext4 can hold; later times are cut to it."""
_LARGEST_ID = 2**32 - 2
_IMPOSSIBLE = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.EMLINK}
_NEXT = "Do not use this image: it is broken or hostile."


def _refused(entry: Entry, why: str) -> InputError:
    return InputError(f"the layer's entry {entry.path[:200]!r} {why}", next_step=_NEXT, code="unsafe_path")


class _Tree:
    """A folder that layers are applied to. Close it after use."""

    def __init__(self, destination: Path, *, chown: bool) -> None:
        self._root = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._chown = chown
        # Where what the layer being applied wrote really lies, folders included: its own whiteouts spare it.
        self._written: set[str] = set()
        self._folder: tuple[str, int, str] | None = None  # the last parent folder, still open, and where it really lies
        self._moved = False  # something went since then: a link on the way to it, perhaps

    def close(self) -> None:
        self._forget()
        os.close(self._root)

    # Steps 1 and 2

    def _forget(self) -> None:
        """Close the remembered parent."""
        self._moved = False
        if self._folder is not None:
            os.close(self._folder[1])
            self._folder = None

    def _open(self, path: str, entry: Entry, *, create: bool) -> tuple[int, str]:
        """A handle of the folder `path`, symlinks walked inside the root, and its path without any.

        Raises:
            FileNotFoundError: it is not there, and `create` is not set.
            InputError: the way leads through something that is no folder, is too deep, or never ends.
        """
        handles = [os.dup(self._root)]
        names: list[str] = []
        left = [part for part in reversed(path.split("/")) if part]
        links = 0
        try:
            while left:
                part = left.pop()
                if part == ".":
                    continue
                if part == "..":
                    if names:
                        os.close(handles.pop())
                        names.pop()
                    continue
                if len(handles) > limits.FOLDER_DEPTH:
                    raise _refused(entry, f"lies more than {limits.FOLDER_DEPTH} folders deep")
                handle, target = _enter(handles[-1], part, entry, create=create)
                if handle is not None:
                    handles.append(handle)
                    names.append(part)
                    continue
                links += 1
                if links > limits.LINKS_FOLLOWED:
                    raise _refused(entry, "lies behind a loop of links")
                while target.startswith("/") and names:
                    os.close(handles.pop())
                    names.pop()
                left.extend(step for step in reversed(target.split("/")) if step)
            return handles.pop(), "/".join(names)
        finally:
            for handle in handles:
                os.close(handle)

    def _parent(self, entry: Entry) -> tuple[int, str, str]:
        """Handle of the folder that `entry` lies in, open until another is asked for, its name and its real path."""
        folder, _, name = entry.path.rpartition("/")
        if self._folder is None or self._folder[0] != folder or self._moved:
            handle, real = self._open(folder, entry, create=True)
            self._forget()
            self._folder = (folder, handle, real)
        _, handle, real = self._folder
        return handle, name, f"{real}/{name}" if real else name

    # Step 3

    def _remove(self, folder: int, name: str) -> None:
        """Remove whatever `name` is, folders with all they hold; links are removed, never followed."""
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            shutil.rmtree(name, dir_fd=folder)
        self._moved = True

    def _whiteout(self, entry: Entry, folder: int, name: str, path: str) -> None:
        prefix = path.removesuffix(name)
        if name == OPAQUE_WHITEOUT:
            for child in os.listdir(folder):
                self._prune(folder, child, prefix + child)
        elif not name.startswith(WHITEOUT_PREFIX * 2):
            hidden = name.removeprefix(WHITEOUT_PREFIX)
            if hidden in {"", ".", ".."}:
                raise _refused(entry, "is a whiteout of no name")
            self._prune(folder, hidden, prefix + hidden)

    def _prune(self, folder: int, name: str, path: str) -> None:
        """Remove what lower layers put at `path`, sparing what this layer has written there already."""
        if path not in self._written:
            self._remove(folder, name)
            return
        try:
            below = os.open(name, _FOLDER, dir_fd=folder)
        except OSError:
            return  # a file or link of this very layer
        try:
            for child in os.listdir(below):  # noqa: PTH208  as above
                self._prune(below, child, f"{path}/{child}")
        finally:
            os.close(below)

    # Step 4

    def apply(self, items: Iterable[tuple[Entry, IO[bytes] | None]]) -> None:
        """Apply one layer."""
        self._written = set()
        for entry, file in items:
            if not entry.path:
                continue
            try:
                folder, name, path = self._parent(entry)
                if name.startswith(WHITEOUT_PREFIX):
                    self._whiteout(entry, folder, name, path)
                    continue
                self._write(entry, file, folder, name)
            except FileNotFoundError as error:
                raise _refused(entry, "links to something that is not there") from error
            except OSError as error:
                if error.errno in _IMPOSSIBLE:
                    raise _refused(entry, f"cannot exist: {error.strerror}") from error
                raise storage_error(error, entry.path) from error
            self._remember(path)
        self._forget()

    def _remember(self, path: str) -> None:
        """Note that this layer has written `path`, and so has something in every folder above it."""
        while path and path not in self._written:
            self._written.add(path)
            path = path.rpartition("/")[0]

    def _write(self, entry: Entry, file: IO[bytes] | None, folder: int, name: str) -> None:
        if self._chown and not (0 <= entry.uid <= _LARGEST_ID and 0 <= entry.gid <= _LARGEST_ID):
            raise _refused(entry, "has an owner that Linux has not")
        if entry.kind == "directory":
            self._directory(entry, folder, name)
            return
        if entry.kind == "hardlink":
            self._hardlink(entry, folder, name)
            return
        self._remove(folder, name)
        if entry.kind == "symlink":
            os.symlink(entry.target, name, dir_fd=folder)
            if self._chown:
                os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
            return
        handle = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
        )
        try:
            while file is not None and (data := file.read(_CHUNK)):
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view) :]
            self._attributes_of(handle, entry)
        finally:
            os.close(handle)

    def _attributes_of(self, handle: int, entry: Entry) -> None:
        mode = entry.mode
        if self._chown:
            os.fchown(handle, entry.uid, entry.gid)
        else:
            mode &= 0o1777  # a setuid file of ours would run as us, not as the owner that the image meant
        # Whoever unpacks must be able to enter, change and remove what was unpacked.
        os.fchmod(handle, mode | (0o700 if entry.kind == "directory" else 0o400))
        if entry.kind == "file":
            moment = min(max(entry.mtime, 0), _LATEST)
            os.utime(handle, (moment, moment))

    def _directory(self, entry: Entry, folder: int, name: str) -> None:
        try:
            handle = os.open(name, _FOLDER, dir_fd=folder)
        except OSError:
            self._remove(folder, name)
            os.mkdir(name, 0o700, dir_fd=folder)
            handle = os.open(name, _FOLDER, dir_fd=folder)
        try:
            self._attributes_of(handle, entry)
        finally:
            os.close(handle)

    def _hardlink(self, entry: Entry, folder: int, name: str) -> None:
        if entry.target == entry.path:
            raise _refused(entry, "is a hard link to itself")
        source_folder, _, source_name = entry.target.rpartition("/")
        if not source_name:
            raise _refused(entry, "is a hard link to the root")
        source, _ = self._open(source_folder, entry, create=False)
        try:
            if stat.S_ISDIR(os.lstat(source_name, dir_fd=source).st_mode):
                raise _refused(entry, "is a hard link to a folder")
            self._remove(folder, name)
            os.link(source_name, name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)


def _enter(folder: int, name: str, entry: Entry, *, create: bool) -> tuple[int | None, str]:
    """A handle of the folder `name` in `folder`; or None and the target when it is a symlink."""
    try:
        return os.open(name, _FOLDER, dir_fd=folder), ""
    except FileNotFoundError:
        if not create:
            raise
    except OSError as error:
        # O_NOFOLLOW says ELOOP or ENOTDIR of a link, by kernel; look what it is.
        if not stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode):
            raise _refused(entry, f"lies below {name[:100]!r}, which is no folder") from error
        return None, os.readlink(name, dir_fd=folder)
    os.mkdir(name, 0o755, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder), ""


@contextmanager
def _tree(destination: Path, *, chown: bool) -> Iterator[_Tree]:
    try:
        destination.mkdir(parents=True, exist_ok=True)
        tree = _Tree(destination, chown=chown)
    except OSError as error:
        raise storage_error(error, str(destination)) from error
    try:
        yield tree
    finally:
        tree.close()


def unpack(layers: Iterable[Opener], destination: Path, *, chown: bool = False) -> None:
    """Apply `layers` (functions that open a blob, base first) to the folder `destination`.

    Bytes are not compared with digests; `unpack_image` does that. Devices and pipes are left out. Owners are
    set only with `chown`, which needs privileges; without it set-user-ID bits are dropped.

    Raises:
        InputError: a layer is not a tar, or an entry tries to leave `destination` or links to nothing.
        LimitError: a layer is over a bound of `core.limits`.
        StorageError: the disk refused. What was written stays and is incomplete.
    """
    with _tree(destination, chown=chown) as tree:
        for opener in layers:
            with opener() as blob:
                tree.apply(read_layer(blob))


def unpack_image(image: Image, destination: Path, *, chown: bool = False, progress: Progress = SILENT) -> None:
    """Apply the layers of `image` to `destination` like `unpack`, each compared with its digest and diff ID.

    Raises:
        IntegrityError: a layer's bytes are not those promised; what was written must not be used.
        InputError, LimitError, StorageError, NotFoundError: as `unpack`, or a layer is missing.
    """
    total = sum(descriptor.size for descriptor, _ in image.layers)
    with _tree(destination, chown=chown) as tree, progress.task("Unpacking layers", total=total, unit="bytes") as task:
        advance: Callable[[int], None] = task.advance
        for descriptor, diff_id in image.layers:
            tree.apply(VerifiedLayer(image.source, descriptor, diff_id, advance=advance))
