import io
import threading

import pytest

from tidewaiter.oci.ahead import Ahead


def test_blocks_come_in_order_and_the_end_stays_the_end() -> None:
    """What is read ahead is what the source holds, and asking again after the end does not wait."""
    data = bytes(range(256)) * 40
    with Ahead(io.BytesIO(data), 1000) as ahead:
        blocks = []
        while block := ahead.read(1000):
            blocks.append(block)
        assert ahead.read(1000) == b""
    assert b"".join(blocks) == data
    assert len(blocks) == 11


def test_what_reading_raises_is_raised_where_the_block_is_awaited() -> None:
    """A damaged stream fails in the thread that looks at it, after the blocks before the damage."""

    class Damaged(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 20:
                raise EOFError("cut off")
            return super().read(size)

    with Ahead(Damaged(b"x" * 30), 10) as ahead:
        assert [ahead.read(10), ahead.read(10)] == [b"x" * 10] * 2
        with pytest.raises(EOFError, match="cut off"):
            ahead.read(10)
        assert ahead.read(10) == b""


def test_leaving_early_ends_the_thread() -> None:
    """Who stops in the middle leaves no thread behind, however much the source still has."""
    before = threading.active_count()
    with Ahead(io.BytesIO(bytes(1 << 22)), 1000) as ahead:
        assert len(ahead.read(1000)) == 1000
    assert threading.active_count() == before


def test_no_more_than_a_few_blocks_wait() -> None:
    """Memory is bounded: the thread waits for somebody to take what it has read."""
    source = io.BytesIO(bytes(1 << 22))
    with Ahead(source, 1000) as ahead:
        ahead.read(1000)
        threading.Event().wait(0.2)
        assert source.tell() <= 6000
