"""Headers in `Packages`, a Berkeley DB hash file (rpm until 4.15: RHEL 8, Amazon Linux 2 and older ones).

Pages of one size and one byte order. Hash pages hold pairs of items: a key (the package's number) and a value, which
for most headers only names the first of a chain of overflow pages (Berkeley DB's `src/dbinc/db_page.h`).
"""

import struct
from collections.abc import Iterator

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.rpm import Damaged

_MAGIC = (0x061561).to_bytes(4, "little")
_MAGIC_AT = 12
_FILE_HEADER = 72
_PAGE_HEADER = 26
_OVERFLOW = 7
_HASH = frozenset({2, 13})
"""Unsorted pages (before Berkeley DB 4.6) and sorted ones."""
_KEY_DATA, _OFF_PAGE = 1, 3
_NUMBER_OF_NONE = b"\0\0\0\0"
"""Under this key rpm keeps the highest number it has given out."""


def is_one(data: bytes) -> bool:
    """Whether the file is a Berkeley DB hash file of either byte order."""
    magic = data[_MAGIC_AT : _MAGIC_AT + 4]
    return magic in {_MAGIC, _MAGIC[::-1]}


class _Database:
    def __init__(self, data: bytes) -> None:
        if len(data) < _FILE_HEADER:
            raise Damaged("the file is too short")
        order = "<" if data[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC else ">"
        self._number = struct.Struct(f"{order}I")
        self._short = struct.Struct(f"{order}H")
        # Previous and next page, items (of a chain: unused), free space (of a chain: bytes in this page), level, type.
        self._page_header = struct.Struct(f"{order}8x4xIIHHBB")
        self._size: int = self._number.unpack_from(data, 20)[0]
        if not 512 <= self._size <= 65536 or self._size & (self._size - 1):
            raise Damaged("its page size is none of Berkeley DB's")
        if data[24]:
            raise Damaged("it is encrypted")
        self._data = data
        self._pages = len(data) // self._size
        self._taken = bytearray(self._pages)
        self.cut: bool = self._number.unpack_from(data, 32)[0] >= self._pages
        """Whether the last page that the file names is missing."""

    def _chain(self, number: int, size: int) -> bytes:
        """What the overflow pages from `number` on hold together."""
        if size > limits.RPM_HEADER_BYTES:
            raise Damaged("a header is larger than any that is read")
        parts: list[bytes] = []
        while number:
            if number >= self._pages or self._taken[number]:
                raise Damaged("a page is missing or used twice")
            self._taken[number] = 1
            start = number * self._size
            _, number, _, length, _, kind = self._page_header.unpack_from(self._data, start)
            if kind != _OVERFLOW or length > self._size - _PAGE_HEADER:
                raise Damaged("a page is not what it should be")
            parts.append(self._data[start + _PAGE_HEADER : start + _PAGE_HEADER + length])
        found = b"".join(parts)
        if len(found) != size:
            raise Damaged("a header is not as long as it says")
        return found

    def _value(self, item: bytes) -> bytes:
        if item[:1] == bytes([_KEY_DATA]):
            return item[1:]
        if item[:1] == bytes([_OFF_PAGE]) and len(item) >= 12:
            return self._chain(self._number.unpack_from(item, 4)[0], self._number.unpack_from(item, 8)[0])
        raise Damaged("a header lies where it is not looked for")

    def _items(self, start: int, count: int) -> Iterator[bytes]:
        """The items of the hash page at `start`; they fill it from its end, each below the one before."""
        end = self._size
        for index in range(count):
            begin: int = self._short.unpack_from(self._data, start + _PAGE_HEADER + 2 * index)[0]
            if not _PAGE_HEADER + 2 * count <= begin < end:
                raise Damaged("a page is not what it should be")
            yield self._data[start + begin : start + end]
            end = begin

    def _values(self, start: int, count: int) -> Iterator[bytes]:
        """The values of the hash page at `start`, as items, without that of the number that is no package's."""
        if _PAGE_HEADER + 2 * count > self._size:
            raise Damaged("a page is not what it should be")
        items = list(self._items(start, count))
        return (item for key, item in zip(items[::2], items[1::2], strict=False) if key[1:] != _NUMBER_OF_NONE)

    def headers(self) -> Iterator[bytes | Damaged]:
        for start in range(self._size, self._pages * self._size, self._size):
            _, _, count, _, _, kind = self._page_header.unpack_from(self._data, start)
            if kind not in _HASH:
                continue
            try:
                values = self._values(start, count)
            except Damaged as damage:
                yield damage
                continue
            for item in values:
                try:
                    yield self._value(item)
                except Damaged as damage:
                    yield damage


def headers(data: bytes) -> Iterator[bytes | Damaged]:
    """Every header of the database, or why it cannot be read.

    Raises:
        Damaged: it is no such database.
    """
    database = _Database(data)
    if database.cut:
        yield Damaged("pages are missing")
    yield from database.headers()
