"""Merkle trees: proofs hold for the tree that they are of, and for no other."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from little_log import audit_path, consistency_proof, tree_hash
from tidewaiter.core.errors import InputError, NotVerifiedError
from tidewaiter.signing.tlog import merkle

LEAVES = [merkle.leaf_hash(b"entry %d" % number) for number in range(600)]
OTHER = merkle.leaf_hash(b"another")
SIZES = st.integers(1, 40) | st.sampled_from([63, 64, 65, 255, 256, 257, 511, 512, 513, 600])


def flipped(hashes: Sequence[bytes], which: int) -> list[bytes]:
    """One bit of one of them is another."""
    changed = bytearray(hashes[which])
    changed[which % 32] ^= 1 << which % 8
    return [*hashes[:which], bytes(changed), *hashes[which + 1 :]]


def test_known_hashes() -> None:
    """The test vectors of Certificate Transparency: the empty tree, an empty leaf, and a tree of eight leaves."""
    entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [merkle.leaf_hash(bytes.fromhex(entry)) for entry in entries]
    assert merkle.EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaves[0].hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle.complete_root(b"".join(leaves)).hex() == (
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    )


@given(SIZES, st.data())
def test_an_inclusion_proof_is_that_of_the_specification_and_holds(size: int, data: st.DataObject) -> None:
    """The named subtrees are PATH(m, D) of RFC 6962, and their hashes lead to the root."""
    index = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]
    proof = [tree_hash(leaves[start:end]) for start, end in merkle.inclusion_path(index, size)]
    assert proof == audit_path(index, leaves)
    merkle.verify_inclusion(leaves[index], index, size, proof, tree_hash(leaves))


@given(SIZES, st.data())
def test_a_wrong_inclusion_proof_does_not_hold(size: int, data: st.DataObject) -> None:
    """Another leaf, number, size, root, hash, or number of hashes: none is accepted."""
    index = data.draw(st.integers(0, size - 1))
    leaves = LEAVES[:size]
    proof, root = audit_path(index, leaves), tree_hash(leaves)
    wrong = [
        (OTHER, index, size, proof, root),
        (leaves[index], index, size, proof, OTHER),
        (leaves[index], index, size, [*proof, OTHER], root),
        (leaves[index], index, 4 * size, proof, root),
    ]
    if proof:
        which = data.draw(st.integers(0, len(proof) - 1))
        wrong += [
            (leaves[index], index, size, flipped(proof, which), root),
            (leaves[index], index, size, proof[:-1], root),
            (leaves[index], index, size, proof[1:], root),
            (leaves[index], (index + 1) % size, size, proof, root),
        ]
    for leaf, number, total, hashes, top in wrong:
        with pytest.raises(NotVerifiedError):
            merkle.verify_inclusion(leaf, number, total, hashes, top)


@given(SIZES, st.data())
def test_a_consistency_proof_is_that_of_the_specification_and_holds(new: int, data: st.DataObject) -> None:
    """The named subtrees are PROOF(m, D) of RFC 6962, and their hashes lead to both roots."""
    old = data.draw(st.integers(0, new))
    leaves = LEAVES[:new]
    proof = [tree_hash(leaves[start:end]) for start, end in merkle.consistency_path(old, new)]
    assert proof == (consistency_proof(old, leaves) if old else [])
    merkle.verify_consistency(old, tree_hash(leaves[:old]), new, tree_hash(leaves), proof)


@given(SIZES, st.data())
def test_a_log_that_was_rewritten_is_not_consistent(new: int, data: st.DataObject) -> None:
    """When an earlier entry was edited, removed or swapped, no proof from the new tree leads to the old root."""
    old = data.draw(st.integers(1, new))
    where = data.draw(st.integers(0, old - 1))
    honest = LEAVES[:new]
    edited = [*honest[:where], OTHER, *honest[where + 1 :]]
    removed = [*honest[:where], *honest[where + 1 :], OTHER]
    swapped = [*honest[:where], *honest[where : where + 2][::-1], *honest[where + 2 :]]
    before = tree_hash(honest[:old])
    for rewritten in (edited, removed, swapped):
        if rewritten[:old] == honest[:old]:  # a swap of the last old entry with itself
            continue
        with pytest.raises(NotVerifiedError):
            merkle.verify_consistency(old, before, new, tree_hash(rewritten), consistency_proof(old, rewritten))


@given(SIZES, st.data())
def test_a_wrong_consistency_proof_does_not_hold(new: int, data: st.DataObject) -> None:
    """Another root, a changed hash, one more or one fewer: none is accepted."""
    old = data.draw(st.integers(1, new))
    before, after = tree_hash(LEAVES[:old]), tree_hash(LEAVES[:new])
    proof = consistency_proof(old, LEAVES[:new])
    wrong = [(OTHER, after, proof), (before, OTHER, proof), (before, after, [*proof, OTHER])]
    if proof:
        which = data.draw(st.integers(0, len(proof) - 1))
        wrong += [(before, after, flipped(proof, which)), (before, after, proof[1:]), (before, after, [])]
    for first, second, hashes in wrong:
        with pytest.raises(NotVerifiedError):
            merkle.verify_consistency(old, first, new, second, hashes)


def test_the_empty_tree() -> None:
    """Every log goes on from the empty one, without a proof, but only from its one root."""
    root = tree_hash(LEAVES[:3])
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, 3, root, [])
    merkle.verify_consistency(0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [])
    for old_root, new, new_root, proof in [
        (OTHER, 3, root, []),
        (merkle.EMPTY_ROOT, 3, root, [OTHER]),
        (merkle.EMPTY_ROOT, 0, OTHER, []),
    ]:
        with pytest.raises(NotVerifiedError):
            merkle.verify_consistency(0, old_root, new, new_root, proof)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (1, 0)])
def test_an_entry_that_is_not_there_has_no_proof(index: int, size: int) -> None:
    """A number outside the log is wrong input, for who proves and for who checks."""
    with pytest.raises(InputError, match="has no entry"):
        merkle.inclusion_path(index, size)
    with pytest.raises(InputError, match="has no entry"):
        merkle.verify_inclusion(OTHER, index, size, [], OTHER)


def test_a_log_does_not_shrink() -> None:
    """A new tree that is smaller than the old one has no consistency proof."""
    for old, new in [(4, 3), (-1, 3)]:
        with pytest.raises(InputError, match="no earlier state"):
            merkle.verify_consistency(old, OTHER, new, OTHER, [])


def test_the_largest_log_has_short_proofs() -> None:
    """Paths in a tree of 2^63 - 1 leaves have at most 63 hashes and are found at once."""
    size = 2**63 - 1
    assert {len(merkle.inclusion_path(index, size)) for index in (0, size // 2, size - 1)} <= set(range(64))
    assert len(merkle.consistency_path(size // 3, size)) <= 64
