"""Executables: what Go and Rust write into the programs that they link.

An ELF file is read front to back. Its program headers, which stand at the front, say where the data segment lies,
in which Go puts its build information, and where the loaded part ends, behind which cargo-auditable's section lies.
"""

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.binaries import go, rust
from tidewaiter.inspection.catalogers.stream import Forward
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.oci.layer import Entry

MAGIC = b"\x7fELF"
_SMALLEST = 4096
_HEAD = 64 << 10
_HEADERS = 128
"""Program headers that are looked at; linkers write about a dozen."""
_LOAD = 1
_WRITABLE = 2
_WINDOW = 1 << 18
"""Bytes that are looked at at once: few enough to stay in the processor's cache while they are copied and searched."""


class _Layout(NamedTuple):
    """Where to look in a file: ranges of bytes."""

    data: tuple[tuple[int, int], ...]
    """Writable segments."""
    loaded_end: int
    sections_at: int


def wants(path: str, entry: Entry) -> bool:
    """Programs and shared libraries that are large enough to be one."""
    return entry.size >= _SMALLEST and (entry.mode & 0o111 != 0 or ".so" in path)


def layout(head: bytes) -> _Layout | None:
    """Where the segments lie, from the first 64 KiB of an ELF file; None when it is no such file."""
    if head[:4] != MAGIC or len(head) < 64 or head[4] not in {1, 2} or head[5] not in {1, 2}:
        return None
    order = "<" if head[5] == 1 else ">"
    wide = head[4] == 2
    program_at, sections_at = struct.unpack_from(order + ("QQ" if wide else "II"), head, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    expected = 56 if wide else 32
    if size != expected or count > _HEADERS or program_at + size * count > len(head):
        return None
    data = []
    end = 0
    for index in range(count):
        place = program_at + index * size
        if wide:
            kind, flags, offset, _, _, length = struct.unpack_from(order + "IIQQQQ", head, place)
        else:
            kind, offset, _, _, length, _, flags = struct.unpack_from(order + "IIIIIII", head, place)
        if kind != _LOAD:
            continue
        end = max(end, offset + length)
        if flags & _WRITABLE and length:
            data.append((offset, offset + length))
    return _Layout(tuple(sorted(data)), end, sections_at)


def _windows(file: Forward, end: int, overlap: int) -> Iterator[bytes]:
    """The bytes up to `end` in pieces that overlap, so that a mark that stands across two is seen."""
    kept = b""
    while file.position < end:
        data = file.read(min(_WINDOW, end - file.position))
        if not data:
            return
        yield kept + data
        kept = data[-overlap:]


def _go(file: Forward, ranges: tuple[tuple[int, int], ...]) -> bytes:
    """Go's build information with what follows it; empty when there is none."""
    budget = limits.BINARY_SCAN_BYTES
    for start, end in ranges:
        if not file.skip_to(max(start, file.position)):
            return b""
        stop = min(end, file.position + budget)
        budget -= max(0, stop - file.position)
        for window in _windows(file, stop, go.HEADER_BYTES):
            at = window.find(go.MAGIC)
            while 0 <= at <= len(window) - go.HEADER_BYTES:
                if go.plausible(window[at : at + go.HEADER_BYTES]):
                    blob = window[at : at + go.BLOB_BYTES]
                    return blob + file.read(go.BLOB_BYTES - len(blob))
                at = window.find(go.MAGIC, at + 1)
    return b""


def _rust(file: Forward, start: int, end: int) -> bytes:
    """cargo-auditable's list; empty when there is none."""
    if not file.skip_to(max(start, file.position)):
        return b""
    stop = min(end, file.size, file.position + limits.BINARY_SCAN_BYTES)
    for window in _windows(file, stop, rust.HEAD_BYTES):
        for match in rust.ZLIB.finditer(window):
            head = window[match.start() : match.start() + rust.HEAD_BYTES]
            if len(head) < rust.HEAD_BYTES and file.position < stop:
                break  # the next window begins with it
            if rust.plausible(head):
                return window[match.start() :] + file.read(min(rust.PACKED_BYTES, stop - file.position))
    return b""


def read(path: str, entry: Entry, head: bytes, file: IO[bytes], collector: Collector) -> None:
    """Record the modules and crates that the program says it is made of; `head` was read from `file` before."""
    head += file.read(min(_HEAD, entry.size) - len(head))
    places = layout(head)
    if places is None:
        return
    forward = Forward(file, entry.size, head)
    blob = _go(forward, places.data)
    if blob:
        go.read(path, blob, collector)
        return
    packed = _rust(forward, places.loaded_end, max(places.sections_at, places.loaded_end))
    if packed:
        rust.read(path, packed, collector)
