"""rpm headers, and databases of the three formats that hold them, for tests; those of SQLite it writes itself."""

import sqlite3
import struct
import zlib
from collections.abc import Iterable

NUMBER, TEXT, TEXTS, TRANSLATED = 4, 6, 8, 9
Entry = tuple[int, int, int | str | list[str] | list[int]]
"""Tag, type, value."""


def blob(entries: Iterable[Entry]) -> bytes:
    """A header as a database keeps it."""
    index, data = b"", b""
    for tag, kind, value in entries:
        values = value if isinstance(value, list) else [value]
        if kind == NUMBER:
            data += bytes(-len(data) % 4)
        index += struct.pack(">IIII", tag, kind, len(data), len(values))
        for one in values:
            data += struct.pack(">I", one) if isinstance(one, int) else one.encode() + b"\0"
    return struct.pack(">II", len(index) // 16, len(data)) + index + data


def package(
    name: str = "demo",
    *,
    version: str = "1.0",
    release: str = "2.el9",
    epoch: int | None = None,
    architecture: str = "x86_64",
    source: str = "",
    requires: Iterable[str] = (),
    provides: Iterable[str] = (),
    files: Iterable[tuple[str, str]] = (),
    filler: int = 0,
) -> bytes:
    """The header of a package; `files` are folder and name, `filler` a number of bytes that say nothing."""
    found: list[Entry] = [
        (1000, TEXT, name),
        (1001, TEXT, version),
        (1002, TEXT, release),
        (1004, TRANSLATED, "What it is for"),
        (1005, TRANSLATED, "x" * filler),
        (1011, TEXT, "Somebody"),
        (1014, TEXT, "MIT"),
        (1022, TEXT, architecture),
        (1044, TEXT, source or f"{name}-{version}-{release}.src.rpm"),
    ]
    if epoch is not None:
        found.append((1003, NUMBER, epoch))
    folders = sorted({folder for folder, _ in files})
    lists: list[tuple[int, int, list[str] | list[int]]] = [
        (1047, TEXTS, list(provides)),
        (1049, TEXTS, list(requires)),
        (1116, NUMBER, [folders.index(folder) for folder, _ in files]),
        (1117, TEXTS, [base for _, base in files]),
        (1118, TEXTS, folders),
    ]
    return blob([*found, *(one for one in lists if one[2])])


def sqlite_of(blobs: Iterable[bytes], *, page: int = 4096, removed: Iterable[int] = ()) -> bytes:
    """`rpmdb.sqlite` with the tables that rpm makes; rows `removed` were there once."""
    with sqlite3.connect(":memory:") as database:
        database.execute(f"PRAGMA page_size = {page}")
        database.execute("CREATE TABLE 'Basenames' (key 'TEXT' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL)")
        database.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL)")
        database.executemany("INSERT INTO Packages (blob) VALUES (?)", [(one,) for one in blobs])
        database.executemany("DELETE FROM Packages WHERE hnum = ?", [(number,) for number in removed])
        database.commit()
        data: bytes = database.serialize()
    database.close()
    return data


def ndb_of(blobs: Iterable[bytes], *, pages: int = 1) -> bytes:
    """`Packages.db`, its slot pages first."""
    slots, content, block = b"", b"", pages * 4096 // 16
    for number, one in enumerate(blobs, 1):
        body = struct.pack("<4sIII", b"BlbS", number, 7, len(one)) + one
        body += bytes(-(len(body) + 12) % 16)
        body += struct.pack("<II4s", zlib.adler32(body), len(one), b"BlbE")
        slots += struct.pack("<4sIII", b"Slot", number, block, len(body) // 16)
        content, block = content + body, block + len(body) // 16
    free = struct.pack("<4sIII", b"Slot", 0, 0, 0)
    head = struct.pack("<4sIIIIIII", b"RpmP", 0, 7, pages, block, 0, 0, 0)
    return (head + slots + free * (pages * 256))[: pages * 4096] + content


def bdb_of(blobs: Iterable[bytes], *, order: str = "<", page: int = 4096, kind: int = 13) -> bytes:
    """`Packages`: a hash page for each two pairs, values over a quarter of a page in chains of overflow pages."""
    values = list(blobs)
    pages: list[bytes] = [b""] * (2 + len(values) // 2)

    def put(number: int, items: int, length: int, of: int, after: int, content: bytes) -> None:
        head = struct.pack(f"{order}8xIIIHHBB", number, 0, after, items, length, 0, of)
        pages[number] = head + content + bytes(page - len(head) - len(content))

    def value(one: bytes) -> bytes:
        if len(one) < page // 4:
            return b"\x01" + one
        room = page - 26
        first = len(pages)
        parts = [one[at : at + room] for at in range(0, len(one), room)]
        pages.extend(b"" for _ in parts)
        for number, part in enumerate(parts, first):
            last = number == first + len(parts) - 1
            put(number, 1, len(part), 7, 0 if last else number + 1, part)
        return struct.pack(f"{order}B3xII", 3, first, len(one))

    pairs = [(b"\x01" + bytes(4), b"\x01" + struct.pack(f"{order}I", 99))]
    pairs += [(b"\x01" + struct.pack(f"{order}I", number), value(one)) for number, one in enumerate(values, 1)]
    for at in range(0, len(pairs), 2):
        items = [item for pair in pairs[at : at + 2] for item in pair]
        ends = [page - sum(map(len, items[: index + 1])) for index in range(len(items))]
        index = struct.pack(f"{order}{len(ends)}H", *ends)
        body = index.ljust(ends[-1] - 26, b"\0") + b"".join(reversed(items))
        put(1 + at // 2, len(items), ends[-1], kind, 0, body)
    head = struct.pack(f"{order}8xIIIIBBBxII", 0, 0x061561, 9, page, 0, 8, 0, 0, len(pages) - 1)
    pages[0] = head + bytes(page - len(head))
    return b"".join(pages)
