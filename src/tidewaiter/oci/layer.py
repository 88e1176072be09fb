"""Layers: deterministic tar out (image-spec `layer.md`), bounded tar in.

What we write: entries sorted by path bytes, parents first, no duplicate, no owner names, integer times; ustar
where it fits and PAX only where it must; gzip level 1 by isal with an empty header. One table gives the
attributes of every directory, because a directory entry replaces those of the layer below.
"""

import hashlib
import io
import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import IO, BinaryIO, Protocol, cast, runtime_checkable

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.oci import tar
from tidewaiter.oci.ahead import Ahead
from tidewaiter.oci.compression import Compression, Compressor, Gzip, Zstd
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.entry import MTIME, Entry, Kind, header

__all__ = [
    "FORMAT_VERSION",
    "MTIME",
    "OPAQUE_WHITEOUT",
    "WHITEOUT_PREFIX",
    "Content",
    "Deflated",
    "Entry",
    "HashingSink",
    "Kind",
    "LayerInfo",
    "LayerWriter",
    "Opener",
    "Reader",
    "Sink",
    "check_path",
    "directory_entry",
    "normalise",
    "read_layer",
    "with_parents",
    "write_layer",
]

FORMAT_VERSION = 1
"""Part of every layer cache key: raise it when the bytes that the same input gives change."""

_CHUNK = 1 << 20
_HEAD_BYTES = 64 * limits.KIB
"""What is read of a blob to see what it is. Reads of more than this go past the buffer that holds it, uncopied."""
_PACKED_BYTES = 2 << 20
_INFLATED_BYTES = 3 << 20
"""Bytes of a blob that are read at once, and of a tar that are inflated at once beside the walk.

Between two of them a thread needs Python's lock, which another may hold.
"""
_TAKEN_PACKED_BYTES = 64 * limits.KIB
"""Deflate data of this size or more enters a gzip layer as it is; less is not worth a member of its own."""

WHITEOUT_PREFIX = ".wh."
OPAQUE_WHITEOUT = ".wh..wh..opq"
_NO_NAMES = frozenset({"", ".", ".."})
"""Components that lead nowhere or out of a folder."""


class LayerInfo(msgspec.Struct, frozen=True):
    """What a finished layer is: digest and size of the blob as stored, diff ID and size of the tar inside."""

    digest: Digest
    size: int
    diff_id: Digest
    tar_size: int


Opener = Callable[[], IO[bytes]]


class Deflated(msgspec.Struct, frozen=True):
    """A file's content that is at hand as raw deflate (RFC 1951)."""

    size: int
    """Bytes of the deflate data."""
    open: Opener
    """Gives the content itself."""
    pieces: Callable[[], Iterator[tuple[bytes, bytes]]]
    """Gives all of the deflate data and all of the content, side by side, in any cut; raises when they disagree."""


Content = Opener | Deflated | bytes | None

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
        "\0" in path
        or not _NO_NAMES.isdisjoint(parts)
        or (len(path) > limits.PATH_BYTES // 4 and len(path.encode(errors="surrogateescape")) > limits.PATH_BYTES)
    ):
        raise InputError(
            f"{source}: the path {path[:200]!r} would leave its folder or is malformed",
            next_step="Do not use this file: it is broken or hostile. Fetch it again from a trusted place.",
            code="unsafe_path",
        )
    if WHITEOUT_PREFIX in path and any(part.startswith(WHITEOUT_PREFIX) for part in parts):
        raise InputError(
            f"{source}: the path {path[:200]!r} is a whiteout and would delete files of the base",
            next_step="Rename the file; no name in an image may begin with `.wh.`.",
            code="unsafe_path",
        )
    return path


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
    seen = {""}
    for path in list(table):
        parent = path.rpartition("/")[0]
        while parent not in seen:
            known = table.setdefault(parent, directory_entry(parent))
            if known.kind != "directory":
                raise InputError(
                    f"{path!r} lies below {parent!r}, which is a {known.kind}",
                    next_step="Remove one of the packages that ship these paths.",
                )
            seen.add(parent)
            parent = parent.rpartition("/")[0]
    ordered = sorted(table.values(), key=lambda entry: entry.path.encode(errors="surrogateescape"))
    links = [entry for entry in ordered if entry.kind == "hardlink"]
    return [entry for entry in ordered if entry.kind != "hardlink"] + links


class Sink(Protocol):
    """Where compressed bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


@runtime_checkable
class HashingSink(Sink, Protocol):
    """A sink that hashes what it takes, so that nobody else has to."""

    @property
    def digest(self) -> Digest:
        """SHA-256 of everything taken so far."""


class LayerWriter:
    """Streams entries into `sink` as a compressed layer, hashing the tar and the blob on the way.

    The caller writes entries in the order of `with_parents` and closes once.
    """

    def __init__(self, sink: Sink, compression: Compression = "gzip") -> None:
        self._sink = sink
        self._tar = hashlib.sha256()
        self._blob = None if isinstance(sink, HashingSink) else hashlib.sha256()
        self._tar_size = 0
        self._blob_size = 0
        self._gzip = Gzip() if compression == "gzip" else None
        self._compressor: Compressor = self._gzip or Zstd()
        self._pending: list[bytes] = []
        self._pending_size = 0

    def _emit(self, data: bytes) -> None:
        if data:
            if self._blob is not None:
                self._blob.update(data)
            self._blob_size += len(data)
            self._sink.write(data)

    def _feed(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= _CHUNK:
            self._flush()

    def _flush(self, *, all_of_it: bool = False) -> None:
        # The tar stream is cut into blocks of exactly 1 MiB before it is compressed, so that the
        # blob does not depend on how entries were read.
        data = b"".join(self._pending)
        whole = len(data) if all_of_it else len(data) // _CHUNK * _CHUNK
        for start in range(0, whole, _CHUNK):
            block = data[start : min(start + _CHUNK, whole)]
            self._count(block)
            self._emit(self._compressor.block(block))
        rest = data[whole:]
        self._pending, self._pending_size = ([rest] if rest else []), len(rest)

    def _count(self, data: bytes) -> None:
        self._tar.update(data)
        self._tar_size += len(data)

    def add(self, entry: Entry, content: IO[bytes] | None = None) -> None:
        """Write one entry; a file's content must have exactly `entry.size` bytes."""
        self._feed(header(entry))
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
        self._pad(entry)

    def _pad(self, entry: Entry) -> None:
        if entry.size % tar.BLOCK:
            self._feed(bytes(tar.BLOCK - entry.size % tar.BLOCK))

    def add_deflated(self, entry: Entry, content: Deflated) -> None:
        """Write a file whose content is at hand as deflate data; a gzip layer takes much of it as it is."""
        if self._gzip is None or content.size < _TAKEN_PACKED_BYTES or not entry.size:
            with content.open() as file:
                self.add(entry, file)
            return
        self._feed(header(entry))
        self._flush(all_of_it=True)
        self._emit(self._gzip.begin_packed())
        left = entry.size
        for packed, data in content.pieces():
            self._emit(packed)
            self._count(data)
            self._gzip.packed(data)
            left -= len(data)
        if left:
            raise IntegrityError(
                f"{entry.path} has {entry.size - left} bytes instead of {entry.size}",
                next_step="Run the command again; the file changed.",
            )
        self._emit(self._gzip.end_packed())
        self._pad(entry)

    def close(self) -> LayerInfo:
        """End the tar and the compressed stream and return what was written."""
        self._feed(bytes(2 * tar.BLOCK))
        self._flush(all_of_it=True)
        self._emit(self._compressor.end())
        if isinstance(self._sink, HashingSink):
            digest = self._sink.digest
        else:
            assert self._blob is not None  # noqa: S101  # made for such a sink
            digest = Digest("sha256:" + self._blob.hexdigest())
        return LayerInfo(
            digest=digest,
            size=self._blob_size,
            diff_id=Digest("sha256:" + self._tar.hexdigest()),
            tar_size=self._tar_size,
        )


def write_layer(sink: Sink, items: Iterable[tuple[Entry, Content]], compression: Compression = "gzip") -> LayerInfo:
    """Write a layer of `items` (in any order) to `sink`; parents are added, contents opened one at a time."""
    contents: dict[str, Content] = {}
    entries = []
    for entry, content in items:
        entries.append(entry)
        if entry.kind == "file":
            contents[entry.path] = content
    writer = LayerWriter(sink, compression)
    for entry in with_parents(entries):
        content = contents.get(entry.path) if entry.kind == "file" else None
        if isinstance(content, Deflated):
            writer.add_deflated(entry, content)
        elif callable(content):
            with content() as file:
                writer.add(entry, file)
        else:
            writer.add(entry, None if content is None else io.BytesIO(content))
    return writer.close()


# Reading


class _Packed(io.RawIOBase):
    """The blob's bytes, counted."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no length
        if isinstance(self._source, io.RawIOBase | io.BufferedIOBase):
            size = self._source.readinto(buffer) or 0
        else:
            data = self._source.read(len(buffer))
            size = len(data)
            buffer[:size] = data
        self.count += size
        return size


def _inflated(packed: _Packed) -> IO[bytes]:
    """The tar stream in `packed`: gzip, zstd or plain, told apart by the first bytes.

    Between and behind the members of a gzip file zeros are passed over, as gzip does. Go's reader, which containerd and
    skopeo use, refuses such a file. What is in it is proven by the diff ID either way.
    """
    buffered = io.BufferedReader(packed, _HEAD_BYTES)
    head = buffered.peek(4)[:4]
    if head[:2] == b"\x1f\x8b":
        from isal import isal_zlib

        # What `IGzipFile` consists of; that one reads in pieces of a size that cannot be chosen.
        reader = isal_zlib._GzipReader(cast("BinaryIO", buffered), _PACKED_BYTES)  # noqa: SLF001
        return io.BufferedReader(cast("io.RawIOBase", reader))
    if head == b"\x28\xb5\x2f\xfd":
        import zstandard

        from tidewaiter.oci import zstd_frames

        frames = zstd_frames.Frames(buffered)
        inflater = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        stream = inflater.stream_reader(cast("IO[bytes]", frames), read_size=_PACKED_BYTES, read_across_frames=True)
        return cast("IO[bytes]", zstd_frames.Inflated(stream, frames))
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
    and `tar_size` describe the whole tar stream. With `ahead` a thread inflates while entries are looked at, and no
    one else may read `blob` until iteration has ended. Iteration, and reading of a file just as well, raises

    - `InputError`: not a tar, damaged, or a path that would leave the image (code `unsafe_path`);
    - `LimitError`: over a bound of `core.limits`.

    `name` is what messages call the layer. `refused` may give another error for one that says that it cannot be read,
    and nobody reads `blob` any more when it is asked.
    """

    def __init__(
        self,
        blob: IO[bytes],
        *,
        limit: int = limits.LAYER_BYTES,
        algorithm: str = "sha256",
        ahead: bool = False,
        name: str = "the layer",
        refused: Callable[[InputError], InputError] | None = None,
    ) -> None:
        self._blob = blob
        self._ahead = ahead
        self._limit = limit
        self._algorithm = algorithm
        self._name = name
        self._refused = refused
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
        try:
            yield from self._walk()
        except tar.Malformed as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> Exception:
        """What to raise for `error`: the one place that knows how decompressors say that a stream is damaged."""
        from isal.igzip_lib import IsalError
        from zstandard import ZstdError

        damage = cast("tuple[type[Exception], ...]", (tar.Malformed, EOFError, IsalError, ZstdError))  # isal's stub
        # An `OSError` without a number is igzip's word for a damaged stream.
        if not isinstance(error, damage) and not (isinstance(error, OSError) and error.errno is None):
            return error
        found = tar.unreadable(error, self._name)
        return found if self._refused is None else self._refused(found)

    def _walk(self) -> Iterator[tuple[Entry, IO[bytes] | None]]:
        packed = _Packed(self._blob)
        if self._ahead:
            with Ahead(_inflated(packed), _INFLATED_BYTES) as inflated:
                yield from self._members(inflated, packed)
        else:
            yield from self._members(_inflated(packed), packed)

    def _members(self, inflated: tar.Source, packed: _Packed) -> Iterator[tuple[Entry, IO[bytes] | None]]:
        self._stream = tar.Stream(inflated, self._limit, self._algorithm, lambda: packed.count, self._error)
        for member, content in tar.Walk(self._stream):
            kind = _KINDS.get(member.type)
            if kind is not None:  # devices and pipes carry nothing to look at
                yield self._entry(member, kind), content if kind == "file" else None

    def _entry(self, member: tar.Member, kind: Kind) -> Entry:
        name, target = member.name, member.linkname
        if (".." in name and ".." in name.split("/")) or (
            kind == "hardlink" and ".." in target and ".." in target.split("/")
        ):
            raise InputError(
                f"the layer holds the path {member.name[:200]!r}, which would leave the image",
                next_step="Do not use this image: it is broken or hostile.",
                code="unsafe_path",
            )
        path = normalise(name)
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
