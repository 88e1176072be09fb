import hashlib
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewaiter.oci.hasher import Hasher


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=200), max_size=12))
def test_the_digest_is_that_of_all_blocks(blocks: list[bytes]) -> None:
    """However the bytes are cut, the digest is that of all of them, and asking for it in the middle changes nothing."""
    hasher = Hasher("sha256")
    for index, block in enumerate(blocks):
        hasher.update(block)
        if index % 3 == 0:
            assert hasher.digest() == "sha256:" + hashlib.sha256(b"".join(blocks[: index + 1])).hexdigest()
    assert hasher.digest() == "sha256:" + hashlib.sha256(b"".join(blocks)).hexdigest()


def test_a_single_block_starts_no_thread() -> None:
    """Small layers are hashed where they are read."""
    before = threading.active_count()
    hasher = Hasher("sha512")
    hasher.update(b"one")
    hasher.update(b"")
    assert threading.active_count() == before
    assert hasher.digest() == "sha512:" + hashlib.sha512(b"one").hexdigest()


def test_the_thread_ends_with_the_hasher() -> None:
    """A walk that is given up in the middle leaves no thread behind."""
    before = set(threading.enumerate())
    hasher = Hasher("sha256")
    for _ in range(5):
        hasher.update(bytes(1 << 20))
    started = set(threading.enumerate()) - before
    assert len(started) == 1
    del hasher
    thread = started.pop()
    thread.join(10)
    assert not thread.is_alive()


def test_an_unknown_algorithm_is_refused() -> None:
    """Only what `hashlib` knows can be computed."""
    with pytest.raises(ValueError, match="unsupported"):
        Hasher("no such")
