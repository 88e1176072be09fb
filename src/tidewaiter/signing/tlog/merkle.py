"""Merkle trees of a log (RFC 6962, section 2.1): hashing, and checking proofs.

A tree of `size` leaves is a list of leaf hashes of 32 bytes; a subtree is a range `(start, end)` of it. Proofs are
lists of the hashes of such ranges, which `inclusion_path` and `consistency_path` name.
"""

from collections.abc import Sequence
from hashlib import sha256

from tidewaiter.core.errors import InputError, NotVerifiedError

HASH_BYTES = 32
EMPTY_ROOT = sha256().digest()
"""Root of the tree without leaves."""

_DO_NOT_TRUST = "Do not trust this log or who handed over the proof; keep both as evidence."

Range = tuple[int, int]
"""Leaves from the first number up to, without, the second."""


def leaf_hash(entry: bytes) -> bytes:
    """Hash of the leaf that stands for `entry`."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of the node over two others."""
    return sha256(b"\x01" + left + right).digest()


def parents(hashes: bytes) -> bytes:
    """Hashes of the nodes over each two of `hashes`, which is an even number of them one after the other."""
    return b"".join([sha256(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 2 * HASH_BYTES)])


def complete_root(hashes: bytes) -> bytes:
    """Root over `hashes`, whose number is a power of two."""
    while len(hashes) > HASH_BYTES:
        hashes = parents(hashes)
    return hashes


def complete_subtrees(start: int, end: int) -> list[Range]:
    """The largest complete subtrees that together are the range, from left to right.

    The range is one of a tree, so that sizes fall from left to right.
    """
    found = []
    while start < end:
        step = 1 << ((end - start).bit_length() - 1)
        found.append((start, start + step))
        start += step
    return found


def _split(start: int, end: int) -> int:
    """Where a range of two or more leaves falls apart into two subtrees."""
    return start + (1 << ((end - start - 1).bit_length() - 1))


def inclusion_path(index: int, size: int) -> list[Range]:
    """Subtrees whose hashes prove leaf `index` in a tree of `size` leaves, from the leaf's sibling upwards.

    Raises:
        InputError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise InputError(f"a log of {size} entries has no entry {index}", next_step="Ask for one that it has.")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return path[::-1]


def consistency_path(old: int, new: int) -> list[Range]:
    """Subtrees whose hashes prove that the tree of `old` leaves begins the one of `new`; none from an empty tree.

    Raises:
        InputError: the old tree is larger than the new one.
    """
    if not 0 <= old <= new:
        raise InputError(f"a log of {new} entries has no earlier state of {old}", next_step="Swap the two.")
    if old in (0, new):
        return []
    path, start, end, whole = [], 0, new, True
    while end != old:
        middle = _split(start, end)
        if old <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
            whole = False
    if not whole:  # the verifier knows the root of the old tree itself
        path.append((start, end))
    return path[::-1]


def _wrong(what: str) -> NotVerifiedError:
    return NotVerifiedError(what, next_step=_DO_NOT_TRUST)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf with hash `leaf` is number `index` of the tree of `size` leaves with this `root`.

    Raises:
        NotVerifiedError: the proof does not show it.
        InputError: there is no such leaf.
    """
    path = inclusion_path(index, size)
    if len(path) != len(proof):
        raise _wrong(f"the proof that entry {index} is in the log has {len(proof)} hashes in place of {len(path)}")
    found = leaf
    for (start, _), sibling in zip(path, proof, strict=True):
        found = node_hash(found, sibling) if start > index else node_hash(sibling, found)
    if found != root:
        raise _wrong(f"the proof that entry {index} is in the log of {size} entries leads to another root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `old` leaves with `old_root` is the beginning of the one of `new` leaves with `new_root`.

    Raises:
        NotVerifiedError: the proof does not show it.
        InputError: the old tree is larger than the new one.
    """
    path = consistency_path(old, new)
    if len(path) != len(proof):
        raise _wrong(f"the proof from {old} to {new} entries has {len(proof)} hashes in place of {len(path)}")
    if old == 0 and old_root != EMPTY_ROOT:
        raise _wrong("the root of the log without entries is not that of an empty tree")
    if old in (0, new):
        if old == new and old_root != new_root:
            raise _wrong(f"there are two logs of {new} entries with different roots")
        return
    # The lowest hash is a part of both trees; it is the whole old tree when the proof does not give it.
    given = list(zip(path, proof, strict=True))
    if path[0][1] == old:
        (_, seen), given = given[0], given[1:]
    else:
        seen = old_root
    before = after = seen
    for (start, _), sibling in given:
        if start < old:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
        else:
            after = node_hash(after, sibling)
    if before != old_root or after != new_root:
        raise _wrong(f"the log of {new} entries does not go on from the one of {old}: what was logged was changed")
