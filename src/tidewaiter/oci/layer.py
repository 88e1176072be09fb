"""Layers: deterministic tar out (image-spec `layer.md`), bounded tar in.

What we write: entries sorted by path bytes, parents first, no duplicate, no owner names, integer times; ustar
where it fits and PAX only where it must; gzip level 1 by isal with an empty header. One table gives the
attributes of every directory, because a directory entry replaces those of the layer below.
"""

import hashlib
import io
import posixpath
import struct
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, BinaryIO, Literal, Protocol, cast

import msgspec
from isal import isal_zlib

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.oci import tar
from tidewaiter.oci.digest import Digest

FORMAT_VERSION = 1
"""Part of every layer cache key: raise it when the bytes that the same input gives change."""

MTIME = 315_532_800
"""1980-01-01, the time of every entry that we write: the oldest that zip files can hold."""

_CHUNK = 1 << 20
WHITEOUT_PREFIX = ".wh."
OPAQUE_WHITEOUT = ".wh..wh..opq"

Kind = Literal["file", "directory", "symlink", "hardlink"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One path of a layer: relative, no leading or trailing slash, no `.` or `..`."""

    path: str
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = MTIME
    size: int = 0
    target: str = ""
    """Target of a symlink as written, or path of a hard link's target inside the layer."""


class LayerInfo(msgspec.Struct, frozen=True):
    """What a finished layer is: digest and size of the blob as stored, diff ID and size of the tar inside."""

    digest: Digest
    size: int
    diff_id: Digest
    tar_size: int


Opener = Callable[[], IO[bytes]]

# Directories that differ from root:root 0755. Every layer takes them from here.
_DIRECTORY_MODES = {"tmp": 0o1777, "var/tmp": 0o1777, "run/lock": 0o1777, "root": 0o700}
_DIRECTORY_OWNERS = {"home/nonroot": 65532}


def directory_entry(path: str) -> Entry:
    """The one true entry of a directory."""
    owner = _DIRECTORY_OWNERS.get(path, 0)
    mode = _DIRECTORY_MODES.get(path, 0o700 if owner else 0o755)
    return Entry(path=path, kind="directory", mode=mode, uid=owner, gid=owner)


def check_path(path: str, *, source: str) -> str:
    """`path` when it may stand in a layer that we write; raises `InputError` naming `source` otherwise."""
    parts = path.split("/")
    if (
        not path
        or "\0" in path
        or any(part in {"", ".", ".."} for part in parts)
        or len(path.encode(errors="surrogateescape")) > limits.PATH_BYTES
    ):
        raise InputError(
            f"{source}: the path {path[:200]!r} would leave its folder or is malformed",
            next_step="Do not use this file: it is broken or hostile. Fetch it again from a trusted place.",
            code="unsafe_path",
        )
    if any(part.startswith(WHITEOUT_PREFIX) for part in parts):
        raise InputError(
            f"{source}: the path {path[:200]!r} is a whiteout and would delete files of the base",
            next_step="Rename the file; no name in an image may begin with `.wh.`.",
            code="unsafe_path",
        )
    return path


def _header(entry: Entry) -> bytes:
    info = tarfile.TarInfo(entry.path + ("/" if entry.kind == "directory" else ""))
    info.type = {
        "file": tarfile.REGTYPE,
        "directory": tarfile.DIRTYPE,
        "symlink": tarfile.SYMTYPE,
        "hardlink": tarfile.LNKTYPE,
    }[entry.kind]
    info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
    info.size = entry.size if entry.kind == "file" else 0
    info.linkname = entry.target
    if entry.kind == "symlink":
        info.mode = 0o777  # what every file system reports; anything else would differ between tools
    plain = entry.path.isascii() and entry.target.isascii()
    if plain:
        try:
            return info.tobuf(tarfile.USTAR_FORMAT)
        except ValueError:
            pass  # too long or too large for ustar
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def with_parents(entries: Iterable[Entry]) -> list[Entry]:
    """`entries` sorted by path bytes with every missing parent directory added; directories as the table says.

    Raises:
        InputError: two entries share a path, or a path lies below something that is not a directory.
    """
    table: dict[str, Entry] = {}
    for given in entries:
        entry = given
        if entry.kind == "directory" and entry.path in table and table[entry.path].kind == "directory":
            continue
        if entry.path in table:
            raise InputError(
                f"two files claim the path {entry.path!r}",
                next_step="Remove one of the packages that ship it.",
            )
        table[entry.path] = entry
    for path in list(table):
        parent = posixpath.dirname(path)
        while parent:
            known = table.get(parent)
            if known is None:
                table[parent] = directory_entry(parent)
            elif known.kind != "directory":
                raise InputError(
                    f"{path!r} lies below {parent!r}, which is a {known.kind}",
                    next_step="Remove one of the packages that ship these paths.",
                )
            parent = posixpath.dirname(parent)
    ordered = sorted(table.values(), key=lambda entry: entry.path.encode(errors="surrogateescape"))
    links = [entry for entry in ordered if entry.kind == "hardlink"]
    return [entry for entry in ordered if entry.kind != "hardlink"] + links


class Sink(Protocol):
    """Where compressed bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


class LayerWriter:
    """Streams entries into `sink` as a gzip layer, hashing the tar and the blob on the way.

    The caller writes entries in the order of `with_parents` and closes once.
    """

    _GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, unknown system

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._tar = hashlib.sha256()
        self._blob = hashlib.sha256()
        self._crc = 0
        self._tar_size = 0
        self._blob_size = 0
        self._deflate = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._emit(self._GZIP_HEADER)

    def _emit(self, data: bytes) -> None:
        if data:
            self._blob.update(data)
            self._blob_size += len(data)
            self._sink.write(data)

    def _feed(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        # The tar stream is cut into blocks of exactly 1 MiB before deflate sees it, so that the
        # blob does not depend on how entries were read.
        data = b"".join(self._pending)
        whole = len(data) // _CHUNK * _CHUNK
        for start in range(0, whole, _CHUNK):
            self._deflate_block(data[start : start + _CHUNK])
        rest = data[whole:]
        self._pending, self._pending_size = ([rest] if rest else []), len(rest)

    def _deflate_block(self, block: bytes) -> None:
        self._tar.update(block)
        self._tar_size += len(block)
        self._crc = isal_zlib.crc32(block, self._crc)
        self._emit(self._deflate.compress(block))

    def add(self, entry: Entry, content: IO[bytes] | None = None) -> None:
        """Write one entry; a file's content must have exactly `entry.size` bytes."""
        self._feed(_header(entry))
        if entry.kind != "file" or entry.size == 0:
            return
        if content is None:
            raise ValueError(f"no content for {entry.path}")
        left = entry.size
        while left:
            data = content.read(min(_CHUNK, left))
            if not data:
                raise IntegrityError(
                    f"{entry.path} ended {left} bytes early",
                    next_step="Run the command again; the file changed.",
                )
            self._feed(data)
            left -= len(data)
        if entry.size % 512:
            self._feed(bytes(512 - entry.size % 512))

    def close(self) -> LayerInfo:
        """End the tar and the gzip stream and return what was written."""
        self._feed(bytes(1024))
        self._flush()
        if self._pending:
            self._deflate_block(self._pending[0])
            self._pending = []
        self._emit(self._deflate.flush())
        self._emit(struct.pack("<LL", self._crc, self._tar_size & 0xFFFFFFFF))
        return LayerInfo(
            digest=Digest("sha256:" + self._blob.hexdigest()),
            size=self._blob_size,
            diff_id=Digest("sha256:" + self._tar.hexdigest()),
            tar_size=self._tar_size,
        )


def write_layer(sink: Sink, items: Iterable[tuple[Entry, Opener | bytes | None]]) -> LayerInfo:
    """Write a layer of `items` (in any order) to `sink`; parents are added, contents opened one at a time."""
    contents: dict[str, Opener | bytes | None] = {}
    entries = []
    for entry, content in items:
        entries.append(entry)
        if entry.kind == "file":
            contents[entry.path] = content
    writer = LayerWriter(sink)
    for entry in with_parents(entries):
        content = contents.get(entry.path) if entry.kind == "file" else None
        if callable(content):
            with content() as file:
                writer.add(entry, file)
        else:
            writer.add(entry, None if content is None else io.BytesIO(content))
    return writer.close()


# Reading


def _inflated(source: IO[bytes]) -> IO[bytes]:
    """The tar stream in `source`: gzip, zstd or plain, told apart by the first bytes."""
    from isal import igzip

    buffered = io.BufferedReader(source, 1 << 18) if isinstance(source, io.RawIOBase) else source
    head = b""
    if isinstance(buffered, io.BufferedReader):
        head = buffered.peek(4)[:4]
    elif buffered.seekable():
        head = buffered.read(4)
        buffered.seek(0)
    if head[:2] == b"\x1f\x8b":
        return cast("IO[bytes]", igzip.IGzipFile(fileobj=buffered, mode="rb"))  # type: ignore[no-untyped-call]
    if head == b"\x28\xb5\x2f\xfd":
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(buffered, read_across_frames=True)
    return buffered


def normalise(name: str) -> str:
    """Path of a tar member relative to the root: no leading `/` or `./`, no trailing `/`; empty for the root."""
    path = name.strip("/")
    if "//" in path or "./" in path or path.endswith("."):
        return posixpath.normpath("/" + path).lstrip("/")
    return path


_KINDS: dict[bytes, Kind] = {
    tar.REGULAR: "file",
    tar.CONTIGUOUS: "file",
    tar.DIRECTORY: "directory",
    tar.SYMLINK: "symlink",
    tar.HARDLINK: "hardlink",
}


class Reader:
    """Walks a layer once, front to back, bounded in entries, sizes and header lengths.

    Iterate to get `(entry, file or None)`; the file is valid until the next step. After the end, `diff_id`
    and `tar_size` describe the whole tar stream. Iteration raises

    - `InputError`: not a tar, damaged, or a path that would leave the image (code `unsafe_path`);
    - `LimitError`: over a bound of `core.limits`.
    """

    def __init__(self, blob: IO[bytes], *, limit: int = limits.LAYER_BYTES, algorithm: str = "sha256") -> None:
        self._blob = blob
        self._limit = limit
        self._algorithm = algorithm
        self._stream: tar.Stream | None = None

    @property
    def diff_id(self) -> Digest:
        """Digest of the tar stream; complete once iteration has ended."""
        if self._stream is None:
            raise ValueError("the layer has not been read")
        return self._stream.digest

    @property
    def tar_size(self) -> int:
        """Bytes of the tar stream read so far."""
        return 0 if self._stream is None else self._stream.size

    def __iter__(self) -> Iterator[tuple[Entry, IO[bytes] | None]]:
        from isal.igzip_lib import IsalError
        from zstandard import ZstdError

        try:
            yield from self._walk()
        except (tar.Malformed, EOFError, IsalError, ZstdError) as error:  # type: ignore[misc]  # isal's stub declares its exception as a value
            raise tar.unreadable(error) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise tar.unreadable(error) from error  # igzip's word for a damaged stream

    def _walk(self) -> Iterator[tuple[Entry, IO[bytes] | None]]:
        self._stream = tar.Stream(_inflated(self._blob), self._limit, self._algorithm)
        for member, content in tar.Walk(self._stream):
            kind = _KINDS.get(member.type)
            if kind is not None:  # devices and pipes carry nothing to look at
                yield self._entry(member, kind), content if kind == "file" else None

    def _entry(self, member: tar.Member, kind: Kind) -> Entry:
        path, target = normalise(member.name), member.linkname
        names = (member.name, target) if kind == "hardlink" else (member.name,)
        if any(".." in name and ".." in name.split("/") for name in names):
            raise InputError(
                f"the layer holds the path {member.name[:200]!r}, which would leave the image",
                next_step="Do not use this image: it is broken or hostile.",
                code="unsafe_path",
            )
        if len(path) > limits.PATH_BYTES or len(target) > limits.PATH_BYTES:
            raise LimitError(
                f"a path in the layer is over {limits.PATH_BYTES} bytes", next_step="Do not use this image."
            )
        return Entry(
            path=path,
            kind=kind,
            mode=member.mode & 0o7777,
            uid=member.uid,
            gid=member.gid,
            mtime=member.mtime,
            size=member.size if kind == "file" else 0,
            target=normalise(target) if kind == "hardlink" else target,
        )


def read_layer(blob: BinaryIO | IO[bytes]) -> Reader:
    """A `Reader` of the layer in `blob` (gzip, zstd or plain tar)."""
    return Reader(blob)
