"""Bundles of log entries (C2SP tlog-tiles): up to 256 entries, each after its length in two bytes."""

from collections.abc import Iterable

from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, LimitError


def encode(entries: Iterable[bytes]) -> bytes:
    """The bundle of these entries; raises `LimitError` for an entry over 65,535 bytes."""
    parts = []
    for entry in entries:
        if len(entry) > limits.LOG_ENTRY_BYTES:
            raise LimitError(
                f"a log entry has {len(entry)} bytes, over {limits.LOG_ENTRY_BYTES}",
                next_step="Log the digest of what is larger.",
            )
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def parse(data: bytes, width: int) -> list[bytes]:
    """The `width` entries of a bundle; raises `IntegrityError` when it has fewer, more, or half of one."""
    entries, at = [], 0
    for _ in range(width):
        length = int.from_bytes(data[at : at + 2], "big")
        start, at = at + 2, at + 2 + length
        entries.append(data[start:at])
    if at != len(data):
        raise IntegrityError(
            f"a bundle is not {width} log entries",
            next_step="Restore the log's entries from a copy, and find out who changed them.",
        )
    return entries
