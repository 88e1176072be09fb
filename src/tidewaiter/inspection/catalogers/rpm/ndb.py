"""Headers in `Packages.db`, rpm's own "new database" (SUSE): slots that say in which blocks a header lies.

Little-endian. The first slot page begins with the file's header of 32 bytes; a slot has 16 bytes, a block too. A blob
stands between a head (magic, package, generation, length) and, at the end of its last block, a tail (checksum, length,
magic). rpm's `lib/backend/ndb/rpmpkg.c` is the only description of the format.
"""

import struct
import zlib
from collections.abc import Iterator

from tidewaiter.inspection.catalogers.rpm import Damaged

MAGIC = b"RpmP"
_HEAD = struct.Struct("<4sIII")
"""Of the file: magic, version, generation, slot pages. Of a slot: magic, package, block, blocks. Of a blob: above."""
_TAIL = struct.Struct("<I4x4s")
_FILE_HEADER = 32
_SLOT_PAGE = 4096
_BLOCK = 16


def _blob(data: bytes, package: int, start: int, end: int) -> bytes:
    """The header of `package` in the blocks from `start` to `end`."""
    if end > len(data) or end - start < _HEAD.size + _TAIL.size:
        raise Damaged("a header is missing")
    magic, owner, _, length = _HEAD.unpack_from(data, start)
    checksum, last = _TAIL.unpack_from(data, end - _TAIL.size)
    if (magic, owner, last) != (b"BlbS", package, b"BlbE") or start + _HEAD.size + length > end - _TAIL.size:
        raise Damaged("a slot does not lead to its header")
    if zlib.adler32(memoryview(data)[start : end - _TAIL.size]) != checksum:
        raise Damaged("a header does not match its checksum")
    return data[start + _HEAD.size : start + _HEAD.size + length]


def headers(data: bytes) -> Iterator[bytes | Damaged]:
    """Every header of the database, or why it cannot be read.

    Raises:
        Damaged: it is no such database.
    """
    if len(data) < _SLOT_PAGE:
        raise Damaged("the file has no slots")
    _, version, _, pages = _HEAD.unpack_from(data)
    if version != 0:
        raise Damaged("it is of a version that is not known")
    end = pages * _SLOT_PAGE
    if end > len(data):
        yield Damaged("slots are missing")
        end = len(data) // _SLOT_PAGE * _SLOT_PAGE
    unread = len(data)
    for magic, package, block, blocks in _HEAD.iter_unpack(memoryview(data)[_FILE_HEADER:end]):
        if magic != b"Slot":
            yield Damaged("a slot is damaged")
        elif package:
            unread -= blocks * _BLOCK
            if unread < 0:
                yield Damaged("headers overlap")
                return
            try:
                yield _blob(data, package, block * _BLOCK, (block + blocks) * _BLOCK)
            except Damaged as damage:
                yield damage
