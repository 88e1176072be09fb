"""What lies in a layer, entry by entry, and which package says that a file is its own.

Written during the walk, kept compressed, and streamed by whoever asks for paths. A listing is a row of frames, each a
length (4 bytes, little-endian) and a zstd frame with a msgpack document; claims stand before rows. Its columns lie side
by side, because hundreds of thousands of rows are read at once and few of them are looked at one by one.
"""

import sys
from array import array
from collections.abc import Iterator
from enum import IntEnum
from itertools import compress
from typing import NamedTuple

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.inspection.paths import PathSet, ancestors
from tidewaiter.oci.layer import Entry

_FRAME_CHARACTERS = 1 << 20
_ROW_CHARACTERS = 12
"""What a row weighs besides its path."""
_FOLDERS = 1 << 16
_LENGTH = 4
_KIND_SHIFT = 12


class Kind(IntEnum):
    """What a row is; `FILE` carries bytes, a hard link only leads to some."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    HARDLINK = 3


_KIND_BITS = {kind.name.lower(): kind.value << _KIND_SHIFT for kind in Kind}


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """A package says that files are its own; `names` are paths below `folder`, a line each."""

    owner: str
    folder: str
    names: str

    def paths(self) -> Iterator[str]:
        """The files, relative to the root."""
        lines = self.names.split("\n")
        return map(f"{self.folder}/".__add__, lines) if self.folder else iter(lines)


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    paths: str = ""
    sizes: bytes = b""
    modes: bytes = b""
    targets: dict[int, str] = {}
    claims: tuple[Claim, ...] = ()


class Rows(NamedTuple):
    """Some entries of a layer, in its order, column by column."""

    paths: list[str]
    """`paths.readable`, relative to the root."""
    sizes: "array[int]"
    modes: "array[int]"
    """Permission bits, and the `Kind` above them: what is less than `FILES_BELOW` is a regular file."""
    targets: dict[int, str]
    """Of hard links: the path of the file, by index."""

    def kind(self, index: int) -> Kind:
        """What the entry is."""
        return Kind(self.modes[index] >> _KIND_SHIFT)

    def permissions(self, index: int) -> int:
        """Its permission bits."""
        return self.modes[index] & 0o7777


FILES_BELOW = 1 << _KIND_SHIFT
"""A mode less than this is that of a regular file."""


def _packed(numbers: "array[int]") -> bytes:
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _unpacked(code: str, packed: bytes) -> "array[int]":
    numbers = array(code)
    numbers.frombytes(packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


class Writer:
    """Takes the entries of a layer in their order; at most about 1 MB of them is not compressed yet."""

    def __init__(self) -> None:
        import zstandard

        self._compress = zstandard.ZstdCompressor(level=1).compress
        self._encode = msgspec.msgpack.Encoder().encode
        self._rows: list[bytes] = []
        self._claimed: list[bytes] = []
        self._claims: list[Claim] = []
        self._claim_room = _FRAME_CHARACTERS
        self._files = 0
        self._folders = {""}
        self._paths: list[str] = []
        self._entries: list[Entry] = []
        self._targets: dict[int, str] = {}
        self._room = _FRAME_CHARACTERS
        self.has_links = False
        """Whether a hard link is among the entries."""
        self.listed = PathSet()
        """All entries; complete once the listing is finished."""
        self.implied = PathSet()
        """Folders that the layer does not list, though something lies in them; complete once the listing is finished.

        Of a layer of very many folders, some that it lists are among them.
        """

    def add(self, path: str, entry: Entry, target: str = "") -> None:
        """Take an entry under its readable path; `target` is that of a hard link, readable too."""
        if target:
            self._targets[len(self._paths)] = target
            self.has_links = True
            self._room -= len(target)
        self._paths.append(path)
        self._entries.append(entry)
        self._room -= len(path) + _ROW_CHARACTERS
        if self._room <= 0:
            self._flush()

    def claim(self, owner: str, folder: str, names: str) -> None:
        """Take what a package says of itself: `names` are readable paths below `folder`, a line each.

        Past `limits.CLAIMED_FILES` nothing more is taken.
        """
        self._files += names.count("\n") + 1
        if self._files > limits.CLAIMED_FILES:
            return
        self._claims.append(Claim(owner, folder, names))
        self._claim_room -= len(owner) + len(folder) + len(names)
        if self._claim_room <= 0:
            self._flush_claims()

    def _frame(self, frame: _Frame) -> bytes:
        packed: bytes = self._compress(self._encode(frame))
        return len(packed).to_bytes(_LENGTH, "little") + packed

    def _flush(self) -> None:
        paths, entries = self._paths, self._entries
        if not paths:
            return
        directories = [entry.kind == "directory" for entry in entries]
        self.listed.add_all(paths, directories)
        listed = set(compress(paths, directories))
        if len(self._folders) < _FOLDERS:
            self._folders |= listed
            listed = self._folders
        implied = {path.rpartition("/")[0] for path in paths} - listed - self._folders
        for folder in implied | {above for one in implied for above in ancestors(one)} - listed:
            self.implied.add(folder, directory=True)
        sizes = array("Q", [entry.size for entry in entries])
        modes = array("H", [entry.mode | _KIND_BITS[entry.kind] for entry in entries])
        self._rows.append(self._frame(_Frame("\n".join(paths), _packed(sizes), _packed(modes), self._targets)))
        self._paths, self._entries, self._targets, self._room = [], [], {}, _FRAME_CHARACTERS

    def _flush_claims(self) -> None:
        if self._claims:
            self._claimed.append(self._frame(_Frame(claims=tuple(self._claims))))
        self._claims, self._claim_room = [], _FRAME_CHARACTERS

    def finish(self) -> bytes:
        """The listing."""
        self._flush()
        self._flush_claims()
        return b"".join(self._claimed + self._rows)


def _damaged(error: Exception | str) -> UndeterminedError:
    return UndeterminedError(
        f"the listing of a layer is damaged: {error}",
        next_step="Run `tidewaiter cache prune --keep 0`, then the same command again.",
    )


def _frames(listing: bytes) -> Iterator[_Frame]:
    """Frames in their order; raises `UndeterminedError` when the listing is damaged."""
    import zstandard

    decoder = msgspec.msgpack.Decoder(_Frame)
    inflater = zstandard.ZstdDecompressor()
    view = memoryview(listing)
    at = 0
    while at < len(view):
        end = at + _LENGTH + int.from_bytes(view[at : at + _LENGTH], "little")
        packed = view[at + _LENGTH : end]
        try:
            size = zstandard.frame_content_size(packed) if end <= len(view) else -1
            if not 0 <= size <= limits.LISTING_FRAME_BYTES:
                raise _damaged(f"a frame of {size} bytes")
            yield decoder.decode(inflater.decompress(packed))
        except (zstandard.ZstdError, ValueError, RecursionError) as error:
            raise _damaged(error) from error
        at = end


def rows(listing: bytes) -> Iterator[Rows]:
    """The entries, about 1 MB at a time; raises `UndeterminedError` when the listing is damaged."""
    for frame in _frames(listing):
        if not frame.paths:
            continue
        paths = frame.paths.split("\n")
        try:
            found = Rows(paths, _unpacked("Q", frame.sizes), _unpacked("H", frame.modes), frame.targets)
        except ValueError as error:
            raise _damaged(error) from error
        if not len(paths) == len(found.sizes) == len(found.modes):
            raise _damaged("columns of different lengths")
        yield found


def claims(listing: bytes) -> Iterator[Claim]:
    """What packages say of themselves; raises `UndeterminedError` when the listing is damaged."""
    for frame in _frames(listing):
        if frame.paths:
            return
        yield from frame.claims
