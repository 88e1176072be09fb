"""A transparency log in memory, and the definitions of RFC 6962 in its own words, to compare with."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidewaiter.signing.tlog import checkpoint, entries, merkle, proof, tiles
from tidewaiter.signing.tlog.checkpoint import Checkpoint
from tidewaiter.signing.tlog.note import LogKey, WitnessKey
from tidewaiter.signing.tlog.proof import Proof
from tidewaiter.signing.tlog.tiles import Place

ORIGIN = "log.example/audit"


def _private(name: str) -> Ed25519PrivateKey:
    """Always the same, so that the names of tests are too."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def log_key(name: str = ORIGIN) -> LogKey:
    """The key of a log of this name."""
    return LogKey(name, _private(name))


def witness_key(name: str = "witness.example/w1") -> WitnessKey:
    """The key of a witness of this name."""
    return WitnessKey(name, _private(name))


class LittleLog:
    """Entries and their tiles; `read` makes it a `TileReader`."""

    def __init__(self, entries: Sequence[bytes] = (), key: LogKey | None = None) -> None:
        self.key = key or log_key()
        self.entries: list[bytes] = []
        self.frontier = tiles.EMPTY
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.reads: list[tuple[int, int, int]] = []
        self.add(entries)

    def add(self, entries: Sequence[bytes]) -> None:
        """Append entries as one batch."""
        self.entries += entries
        self.frontier, changed = tiles.extend(self.frontier, [merkle.leaf_hash(entry) for entry in entries])
        self.tiles |= {(tile.level, tile.index): tile.data for tile in changed}

    def read(self, level: int, index: int, width: int) -> bytes:
        """A tile, from which later hashes are left out."""
        self.reads.append((level, index, width))
        return self.tiles[level, index][: width * merkle.HASH_BYTES]

    @property
    def leaves(self) -> list[bytes]:
        """All leaf hashes."""
        return [merkle.leaf_hash(entry) for entry in self.entries]

    def signed(self, size: int | None = None) -> bytes:
        """The signed checkpoint of the log as it is, or as it was."""
        size = len(self.entries) if size is None else size
        root = tiles.root(tiles.frontier(self, size))
        return checkpoint.sign(Checkpoint(self.key.vkey.name, size, root), self.key)

    def prove(self, index: int, *, extra: bytes | None = None) -> Proof:
        """The proof of one entry."""
        size = len(self.entries)
        return proof.Proof(index, tuple(tiles.prove_inclusion(self, size, index)), self.signed(), extra)

    def export(self, folder: Path) -> None:
        """Write the log as C2SP tlog-tiles has it."""
        size = len(self.entries)
        for place in tiles.places(size):
            assert place.level is not None
            _write(folder / place.path, self.read(place.level, place.index, place.width))
            if place.level == 0:
                start = place.index * tiles.WIDTH
                bundle = entries.encode(self.entries[start : start + place.width])
                _write(folder / Place(None, place.index, place.width).path, bundle)
        _write(folder / "checkpoint", self.signed())


class EqualEntries:
    """Tiles of a log of any size whose entries are all the same, so that each level has one hash."""

    def __init__(self, entry: bytes) -> None:
        self._hash = [merkle.leaf_hash(entry)]
        for _ in range(8):
            self._hash.append(merkle.complete_root(self._hash[-1] * tiles.WIDTH))

    def read(self, level: int, index: int, width: int) -> bytes:
        """Any tile."""
        return self._hash[level] * width


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _half(leaves: Sequence[bytes]) -> int:
    """The largest power of two below the number of leaves."""
    power = 1
    while power * 2 < len(leaves):
        power *= 2
    return power


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH(D) of RFC 6962, 2.1."""
    if not leaves:
        return merkle.EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = _half(leaves)
    return merkle.node_hash(tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def audit_path(m: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D) of RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    k = _half(leaves)
    if m < k:
        return [*audit_path(m, leaves[:k]), tree_hash(leaves[k:])]
    return [*audit_path(m - k, leaves[k:]), tree_hash(leaves[:k])]


def consistency_proof(m: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D, b) of RFC 6962, 2.1.2, for 0 < m."""
    if m == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    k = _half(leaves)
    if m <= k:
        return [*consistency_proof(m, leaves[:k], whole=whole), tree_hash(leaves[k:])]
    return [*consistency_proof(m - k, leaves[k:], whole=False), tree_hash(leaves[:k])]
