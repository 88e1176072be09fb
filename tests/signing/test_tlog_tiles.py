"""Tiles: a log that grows by batches has those of its size, and proofs read few of them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from little_log import EqualEntries, LittleLog, audit_path, consistency_proof, tree_hash
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.signing.tlog import merkle, tiles
from tidewaiter.signing.tlog.tiles import Frontier, Place

LEAF = merkle.leaf_hash(b"x")
EDGES = [1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 65_792, 70_000]


@pytest.fixture(scope="module")
def log() -> LittleLog:
    """A log of 70,000 entries, with three levels of tiles."""
    return LittleLog([b"entry %d" % number for number in range(70_000)])


@given(st.lists(st.integers(0, 700), max_size=8))
def test_batches_do_not_matter(batches: list[int]) -> None:
    """Whatever the batches, tiles, frontier and root are those of the definition, and partial tiles only grow."""
    log = LittleLog()
    for batch in batches:
        before = dict(log.tiles)
        log.add([b"%d" % (len(log.entries) + number) for number in range(batch)])
        assert all(log.tiles[place].startswith(data) for place, data in before.items())
    size, leaves = sum(batches), log.leaves
    assert log.frontier.size == size
    assert tiles.root(log.frontier) == tree_hash(leaves)
    assert tiles.frontier(log, size) == log.frontier
    for (level, index), data in log.tiles.items():
        span = tiles.WIDTH**level
        start = index * tiles.WIDTH * span
        parts = [leaves[start + at * span : start + (at + 1) * span] for at in range(len(data) // 32)]
        assert data == b"".join(map(tree_hash, parts))


def test_only_changed_tiles_are_given() -> None:
    """What is given after a batch is new or longer; a batch of nothing changes nothing."""
    frontier, _ = tiles.extend(tiles.EMPTY, [LEAF] * 256)
    assert tiles.extend(frontier, []) == (frontier, [])
    frontier, changed = tiles.extend(frontier, [LEAF] * 3)
    assert [tile.path for tile in changed] == ["tile/0/001.p/3"]
    _, changed = tiles.extend(frontier, [LEAF] * 600)
    assert [tile.path for tile in changed] == ["tile/0/001", "tile/0/002", "tile/0/003.p/91", "tile/1/000.p/3"]


@pytest.mark.parametrize("size", EDGES)
def test_places_are_those_of_the_specification(log: LittleLog, size: int) -> None:
    """Around powers of 256, the tiles of a size are exactly those that such a log writes, with their widths."""
    frontier, changed = tiles.extend(tiles.EMPTY, log.leaves[:size])
    assert sorted(place.path for place in tiles.places(size)) == sorted(tile.path for tile in changed)
    assert tiles.frontier(log, size) == frontier
    for level in range(4):
        partial = [place for place in tiles.places(size) if place.level == level and place.width != 256]
        assert [place.width for place in partial] == [width for width in [size // 256**level % 256] if width]


def test_the_specification_has_an_example() -> None:
    """A tree of 70,000 leaves: 273 full tiles and one of 112; one full and one of 17; one of 1."""
    widths: dict[int | None, list[int]] = {}
    for place in tiles.places(70_000):
        widths.setdefault(place.level, []).append(place.width)
    assert widths == {0: [256] * 273 + [112], 1: [256, 17], 2: [1]}
    assert list(tiles.places(0)) == []


@pytest.mark.parametrize("size", EDGES)
def test_proofs_from_tiles_hold(log: LittleLog, size: int) -> None:
    """Inclusion and consistency proofs of states around powers of 256 lead to the roots of those states."""
    chosen = random.Random(size)
    root = tiles.root(tiles.frontier(log, size))
    for index in {0, size - 1, size // 2, *(chosen.randrange(size) for _ in range(5))}:
        leaf = merkle.leaf_hash(log.entries[index])
        merkle.verify_inclusion(leaf, index, size, tiles.prove_inclusion(log, size, index), root)
    for old in {0, 1, size, size - 1, *(chosen.randrange(size) for _ in range(5))}:
        proof = tiles.prove_consistency(log, old, size)
        merkle.verify_consistency(old, tiles.root(tiles.frontier(log, old)), size, root, proof)


@pytest.mark.parametrize("size", [2**24 - 1, 2**24, 2**24 + 1, 2**32 + 12_345, 2**40 - 256, 2**63 - 1])
def test_proofs_of_large_logs_hold(size: int) -> None:
    """Around higher powers of 256, up to the largest log, of which all entries are the same."""
    log, chosen, leaf = EqualEntries(b"x"), random.Random(size), LEAF
    root = tiles.root(tiles.frontier(log, size))
    for index in (0, size - 1, 2**24 - 2, chosen.randrange(size)):
        merkle.verify_inclusion(leaf, index, size, tiles.prove_inclusion(log, size, index), root)
    for old in (1, size - 1, 2**24 - 1, chosen.randrange(size)):
        proof = tiles.prove_consistency(log, old, size)
        merkle.verify_consistency(old, tiles.root(tiles.frontier(log, old)), size, root, proof)


@given(st.integers(1, 3000), st.data())
def test_proofs_from_tiles_are_those_of_the_specification(size: int, data: st.DataObject) -> None:
    """Hash for hash, they are PATH(m, D) and PROOF(m, D) of RFC 6962."""
    log = LittleLog([b"%d" % number for number in range(size)])
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    assert tiles.prove_inclusion(log, size, index) == audit_path(index, log.leaves)
    assert tiles.prove_consistency(log, old, size) == consistency_proof(old, log.leaves)


def test_a_proof_reads_few_tiles_each_once(log: LittleLog) -> None:
    """For 70,000 entries at most two tiles of each level, none of them twice."""
    for index in (0, 300, 65_536, 69_999):
        log.reads.clear()
        tiles.prove_inclusion(log, 70_000, index)
        assert len(log.reads) == len(set(log.reads)) <= 6
        log.reads.clear()
        tiles.prove_consistency(log, index + 1, 70_000)
        assert len(log.reads) == len(set(log.reads)) <= 6


def test_a_tile_of_another_length_is_an_error(log: LittleLog) -> None:
    """A tile that lost hashes is named; nothing is proven from it."""

    class Damaged(LittleLog):
        def read(self, level: int, index: int, width: int) -> bytes:
            return log.read(level, index, width)[:-1]

    for ask in (
        lambda: tiles.prove_inclusion(Damaged(), 70_000, 5),
        lambda: tiles.prove_consistency(Damaged(), 5, 70_000),
        lambda: tiles.frontier(Damaged(), 70_000),
    ):
        with pytest.raises(IntegrityError, match=r"tile/\S+ has \d+ bytes in place of"):
            ask()


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (Place(0, 0), "tile/0/000"),
        (Place(0, 1_234_067), "tile/0/x001/x234/067"),
        (Place(3, 1_234_067, 8), "tile/3/x001/x234/067.p/8"),
        (Place(None, 999, 255), "tile/entries/999.p/255"),
        (Place(None, 1000), "tile/entries/x001/000"),
        (Place(63, 2**63 - 1, 1), "tile/63/x009/x223/x372/x036/x854/x775/807.p/1"),
    ],
)
def test_paths_are_those_of_the_specification(place: Place, path: str) -> None:
    """A place has one path, and that path is read back as the place."""
    assert place.path == path
    assert tiles.parse_path(path) == place


@given(st.none() | st.integers(0, 63), st.integers(0, 2**63 - 1), st.integers(1, 256))
def test_every_path_is_read_back(level: int | None, index: int, width: int) -> None:
    """Paths lose nothing."""
    place = Place(level, index, width)
    assert tiles.parse_path(place.path) == place


@pytest.mark.parametrize(
    "path",
    [
        "", "tile/0/00", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/8/0/000", "tile/data/000", "/tile/0/000",
        "tile/0/x000/001", "tile/0/001/002", "tile/0/x001", "tile/0/x001/x002", "tile/0/000.p/0", "tile/0/000.p/256",
        "tile/0/000.p/01", "tile/0/000.p/300", "tile/0/000.p/", "tile/0/000\n", "tile/0/\u0663\u0663\u0663",
        "tile/0/../000", "tile/0/" + "x001/" * 100 + "000", "tile/0/x009/x223/x372/x036/x854/x775/808",
    ],
)  # fmt: skip
def test_other_paths_are_refused(path: str) -> None:
    """What is not exactly how a tile's path is written names none."""
    with pytest.raises(InputError, match="names no tile"):
        tiles.parse_path(path)


def test_leaves_have_the_length_of_a_hash() -> None:
    """Anything else than hashes of 32 bytes is refused, before the tree changes."""
    for wrong in ([b"short"], [LEAF[:-1], LEAF + b"x"], [LEAF, b""]):
        with pytest.raises(InputError, match="32 bytes"):
            tiles.extend(tiles.EMPTY, wrong)


def test_a_log_has_a_largest_size() -> None:
    """The last leaf that a log can take makes it 2^63 - 1 leaves long; one more is refused."""
    full = limits.LOG_SIZE - 1
    edge = tuple(LEAF * ((full >> 8 * level) % 256) for level in range(8))
    frontier, _ = tiles.extend(Frontier(full, edge), [LEAF])
    assert frontier.size == limits.LOG_SIZE
    with pytest.raises(LimitError):
        tiles.extend(frontier, [LEAF])
