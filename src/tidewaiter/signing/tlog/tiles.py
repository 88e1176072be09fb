"""The tiles of a log (C2SP tlog-tiles): growing a tree by whole tiles, and what proofs read from them.

Level 0 has the leaf hashes, 256 to a tile; each level above has one hash for each full tile below.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.signing.tlog import merkle
from tidewaiter.signing.tlog.merkle import HASH_BYTES, Range

HEIGHT = 8
WIDTH = 1 << HEIGHT
TILE_BYTES = WIDTH * HASH_BYTES
_TOP = 63
"""Highest level in a path."""
_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6})([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class Place(msgspec.Struct, frozen=True):
    """Which tile: of `level` (`None`: the entries themselves), number `index` in it, the first `width` of 256."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it is served or stored, below the log's prefix."""
        level = "entries" if self.level is None else str(self.level)
        digits = str(self.index)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(['x' + group for group in groups[:-1]] + groups[-1:])}{partial}"


class Tile(msgspec.Struct, frozen=True):
    """Up to 256 hashes of one level, one after the other in `data`."""

    level: int
    index: int
    data: bytes

    @property
    def width(self) -> int:
        """How many hashes it has; 256 when it is full."""
        return len(self.data) // HASH_BYTES

    @property
    def path(self) -> str:
        """Where it is served or stored, below the log's prefix."""
        return Place(self.level, self.index, self.width).path


class TileReader(Protocol):
    """Gives tiles of a log to who makes proofs from them."""

    def read(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of tile `index` of `level`; raises what its storage raises when it has them not."""
        ...


class Frontier(msgspec.Struct, frozen=True):
    """All of a tree that is needed to go on with it: its size, and for each level the hashes of its last, partial tile.

    An empty tile at the end of a level is `b""`; levels above the highest are left out.
    """

    size: int = 0
    edge: tuple[bytes, ...] = ()


EMPTY = Frontier()


def parse_path(text: str) -> Place:
    """The tile or entry bundle that the path names, as `Place.path` writes it; raises `InputError` for any other."""
    match = _PATH.fullmatch(text)
    if match is not None:
        level = None if match[1] == "entries" else int(match[1])
        index = int(match[2].replace("x", "").replace("/", "") + match[3])
        place = Place(level, index, int(match[4] or WIDTH))
        bounded = index <= limits.LOG_SIZE and place.width <= WIDTH and (level is None or level <= _TOP)
        if bounded and place.path == text:
            return place
    raise InputError(
        f"{text[:100]!r} names no tile of a log", next_step="A tile's path is like `tile/0/x001/234` or `…/234.p/8`."
    )


def places(size: int) -> Iterator[Place]:
    """Every tile of hashes of a tree of `size` leaves, level by level; bundles of entries are named like level 0."""
    level = 0
    while size:
        full, rest = divmod(size, WIDTH)
        yield from (Place(level, index) for index in range(full))
        if rest:
            yield Place(level, full, rest)
        size, level = full, level + 1


def extend(frontier: Frontier, leaf_hashes: Sequence[bytes]) -> tuple[Frontier, list[Tile]]:
    """The tree with these leaves added, and every tile that is new or longer by it, the lowest level first.

    Tiles that become full are given once, full; the last one of a level is given as far as it goes.

    Raises:
        InputError: a leaf hash is none; `LimitError`: no log can be as large.
    """
    size, edge, tiles = frontier.size, list(frontier.edge), []
    if not set(map(len, leaf_hashes)) <= {HASH_BYTES}:
        raise InputError("a leaf hash is not 32 bytes long", next_step="Hand over what `merkle.leaf_hash` gives.")
    if size + len(leaf_hashes) > limits.LOG_SIZE:
        raise LimitError(f"the log would have over {limits.LOG_SIZE} entries", next_step="Begin another log.")
    added, level = b"".join(leaf_hashes), 0
    while added:
        if level == len(edge):
            edge.append(b"")
        index = size >> HEIGHT * (level + 1)
        hashes, roots = edge[level] + added, []
        for at in range(0, len(hashes), TILE_BYTES):
            tile = Tile(level, index + at // TILE_BYTES, hashes[at : at + TILE_BYTES])
            tiles.append(tile)
            if tile.width == WIDTH:
                roots.append(merkle.complete_root(tile.data))
        edge[level] = hashes[len(roots) * TILE_BYTES :]
        added, level = b"".join(roots), level + 1
    return Frontier(size + len(leaf_hashes), tuple(edge)), tiles


def frontier(reader: TileReader, size: int) -> Frontier:
    """The frontier of the tree of `size` leaves, from its tiles."""
    edge, level = [], 0
    while size >> HEIGHT * level:
        width = (size >> HEIGHT * level) % WIDTH
        edge.append(_read(reader, level, size >> HEIGHT * (level + 1), width) if width else b"")
        level += 1
    return Frontier(size, tuple(edge))


def root(frontier: Frontier) -> bytes:
    """Root hash of the tree."""
    found = b""
    for hashes in frontier.edge:
        for start, end in reversed(merkle.complete_subtrees(0, len(hashes) // HASH_BYTES)):
            peak = merkle.complete_root(hashes[start * HASH_BYTES : end * HASH_BYTES])
            found = merkle.node_hash(peak, found) if found else peak
    return found or merkle.EMPTY_ROOT


def prove_inclusion(reader: TileReader, size: int, index: int) -> list[bytes]:
    """Hashes that prove entry `index` in the tree of `size` leaves, for `merkle.verify_inclusion`.

    The tiles are believed; a proof from wrong ones does not hold.

    Raises:
        InputError: there is no such entry.
        IntegrityError: a tile has another length.
    """
    return _Tree(reader, size).hashes(merkle.inclusion_path(index, size))


def prove_consistency(reader: TileReader, old: int, new: int) -> list[bytes]:
    """Hashes that prove that the tree of `old` leaves begins the one of `new`, for `merkle.verify_consistency`.

    Raises:
        InputError: the old tree is larger.
        IntegrityError: a tile has another length.
    """
    return _Tree(reader, new).hashes(merkle.consistency_path(old, new))


def _read(reader: TileReader, level: int, index: int, width: int) -> bytes:
    data = reader.read(level, index, width)
    if len(data) != width * HASH_BYTES:
        raise IntegrityError(
            f"{Place(level, index, width).path} has {len(data)} bytes in place of {width * HASH_BYTES}",
            next_step="Restore the log's tiles; they can be made again from its entries.",
        )
    return data


class _Tree:
    """Hashes of subtrees of the tree of `size` leaves; reads each tile once."""

    def __init__(self, reader: TileReader, size: int) -> None:
        self._reader = reader
        self._size = size
        self._tiles: dict[tuple[int, int], bytes] = {}

    def hashes(self, ranges: Sequence[Range]) -> list[bytes]:
        return [self._hash(start, end) for start, end in ranges]

    def _hash(self, start: int, end: int) -> bytes:
        found = b""
        for first, last in reversed(merkle.complete_subtrees(start, end)):
            peak = self._complete(first, last - first)
            found = merkle.node_hash(peak, found) if found else peak
        return found

    def _complete(self, start: int, count: int) -> bytes:
        """Root of the complete subtree of `count` leaves: of 1 to 128 hashes of one tile."""
        level = (count.bit_length() - 1) // HEIGHT
        index, first = divmod(start >> HEIGHT * level, WIDTH)
        hashes = self._tile(level, index)
        return merkle.complete_root(hashes[first * HASH_BYTES : (first + (count >> HEIGHT * level)) * HASH_BYTES])

    def _tile(self, level: int, index: int) -> bytes:
        if (level, index) not in self._tiles:
            width = min(WIDTH, (self._size >> HEIGHT * level) - index * WIDTH)
            self._tiles[level, index] = _read(self._reader, level, index, width)
        return self._tiles[level, index]
