"""Headers in `rpmdb.sqlite` (rpm 4.16 and later): the blobs of its table `Packages`.

The file is read by its published format (https://www.sqlite.org/fileformat2.html), not by SQLite: nothing that a schema
says is executed, no second copy of the file is needed, and one damaged page does not hide the rest.
"""

from collections.abc import Iterator
from itertools import islice

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.rpm import Damaged

MAGIC = b"SQLite format 3\0"
_FILE_HEADER = 100
_INTERIOR, _LEAF = 0x05, 0x0D
_SCHEMA_NAME, _SCHEMA_ROOT = 1, 3
_BLOB = 1
"""Columns: `sqlite_schema(type, name, tbl_name, rootpage, sql)`, `Packages(hnum INTEGER PRIMARY KEY, blob BLOB)`."""
_NUMBER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8}
"""By serial type; 7 is a float."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of one to nine bytes at `at`, and where it ends."""
    value = 0
    for index in range(at, at + 8):
        byte = data[index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, index + 1
    return value << 8 | data[at + 8], at + 9


def _column(record: bytes, wanted: int) -> bytes | int | None:
    """One column of a record; None when it is neither text nor blob nor integer, or the record ends before it."""
    view = memoryview(record)
    try:
        content, at = _varint(view, 0)
        stop = content
        for column in range(wanted + 1):
            if at >= stop:
                return None
            serial, at = _varint(view, at)
            size = (serial - 12) // 2 if serial >= 12 else _NUMBER_BYTES.get(serial, 0)
            if column < wanted:
                content += size
    except IndexError:
        return None
    value = record[content : content + size]
    if len(value) < size:
        return None
    if serial >= 12:
        return value
    return int.from_bytes(value, "big") if 1 <= serial <= 6 else None


class _Database:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        size = int.from_bytes(data[16:18], "big")
        self._size = 65536 if size == 1 else size
        self._usable = self._size - (data[20] if len(data) > _FILE_HEADER else 0)
        if len(data) < _FILE_HEADER or self._size < 512 or self._size & (self._size - 1) or self._usable < 480:
            raise Damaged("the file has no SQLite header")
        self._taken = bytearray(len(data) // self._size + 1)

    def _take(self, number: int) -> int:
        """`number`, when the file has such a page and nobody has asked for it before."""
        if not 0 < number < len(self._taken):
            raise Damaged("a page is missing")
        if self._taken[number]:
            raise Damaged("a page is used twice")
        self._taken[number] = 1
        return number

    def _page(self, number: int) -> memoryview:
        return self._data[(number - 1) * self._size : (number - 1) * self._size + self._usable]

    def _payload(self, page: memoryview, at: int) -> bytes:
        """The record of the leaf cell at `at`, put together from the page and its overflow pages."""
        total, at = _varint(page, at)
        _, at = _varint(page, at)
        if total > limits.RPM_HEADER_BYTES:
            raise Damaged("a header is larger than any that is read")
        local = total
        if total > self._usable - 35:
            least = (self._usable - 12) * 32 // 255 - 23
            local = least + (total - least) % (self._usable - 4)
            if local > self._usable - 35:
                local = least
        parts = [page[at : at + local]]
        missing = total - len(parts[0])
        if len(parts[0]) < local:
            raise Damaged("a record leaves its page")
        following = int.from_bytes(page[at + local : at + local + 4], "big") if missing else 0
        while missing:
            overflow = self._page(self._take(following))
            following = int.from_bytes(overflow[:4], "big")
            parts.append(overflow[4 : 4 + missing])
            missing -= len(parts[-1])
        return b"".join(parts)

    def _children(self, page: memoryview, begin: int, cells: list[int]) -> Iterator[int | Damaged]:
        """Pages below an interior page, the last one first."""
        for place in (begin + 8, *reversed(cells)):
            try:
                yield self._take(int.from_bytes(page[place : place + 4], "big"))
            except Damaged as damage:
                yield damage

    def rows(self, root: int) -> Iterator[bytes | Damaged]:
        """The records of the table whose tree begins at page `root`, by row number."""
        waiting = [self._take(root)]
        while waiting:
            number = waiting.pop()
            page = self._page(number)
            begin = _FILE_HEADER if number == 1 else 0
            kind, count = page[begin], int.from_bytes(page[begin + 3 : begin + 5], "big")
            if kind not in {_INTERIOR, _LEAF}:
                yield Damaged("a page is not of a table")
                continue
            first = begin + (12 if kind == _INTERIOR else 8)
            stop = min(first + 2 * count, len(page))
            cells = [int.from_bytes(page[place : place + 2], "big") for place in range(first, stop, 2)]
            if kind == _INTERIOR:
                for child in self._children(page, begin, cells):
                    if isinstance(child, Damaged):
                        yield child
                    else:
                        waiting.append(child)
                continue
            for cell in cells:
                try:
                    yield self._payload(page, cell)
                except Damaged as damage:
                    yield damage
                except IndexError:
                    yield Damaged("a record leaves its page")

    def table(self, name: bytes) -> int:
        """The first page of the table `name`."""
        for record in islice(self.rows(1), limits.RPM_RECORDS):
            if isinstance(record, bytes) and _column(record, _SCHEMA_NAME) == name:
                root = _column(record, _SCHEMA_ROOT)
                if isinstance(root, int):
                    return root
        raise Damaged("it has no table of packages")


def headers(data: bytes) -> Iterator[bytes | Damaged]:
    """Every header of the database, or why it cannot be read.

    Raises:
        Damaged: it is no such database.
    """
    database = _Database(data)
    for record in database.rows(database.table(b"Packages")):
        blob = _column(record, _BLOB) if isinstance(record, bytes) else None
        if isinstance(blob, bytes):
            yield blob
        else:
            yield record if isinstance(record, Damaged) else Damaged("a row of the table of packages holds no header")
