"""Zip archives, read by their directory (APPNOTE.TXT 4.3): each member unpacked under a bound, nothing else."""

import struct
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.text import clean

_END = b"PK\x05\x06"
_END_BYTES = 22
_COMMENT_BYTES = 65_535
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")


class Broken(Exception):  # noqa: N818  callers make a note of it
    """The archive, or the member that was asked for, cannot be read."""


class Member(NamedTuple):
    """An entry of the directory."""

    name: str
    method: int
    packed: int
    size: int
    at: int


def members(file: IO[bytes], size: int) -> Iterator[Member]:
    """Members of the archive of `size` bytes; raises `Broken` when the directory is none that can be read."""
    tail_at = max(0, size - _END_BYTES - _COMMENT_BYTES)
    file.seek(tail_at)
    tail = file.read(_END_BYTES + _COMMENT_BYTES)
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < _END_BYTES:
        raise Broken("it is no zip archive")
    count, length, start = struct.unpack_from("<HII", tail, end + 10)
    if count == 0xFFFF or start == 0xFFFFFFFF:
        raise Broken("it is a zip64 archive")
    # What was put before the archive (a launch script) moves everything.
    shift = tail_at + end - length - start
    if shift < 0 or length > limits.JAR_DIRECTORY_BYTES:
        raise Broken("its directory is malformed, or too large")
    file.seek(start + shift)
    directory = file.read(length)
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise Broken("its directory is cut off")
        fields = _CENTRAL.unpack_from(directory, at)
        if fields[0] != b"PK\x01\x02":
            raise Broken("its directory is malformed")
        name_bytes, extra, comment = fields[10:13]
        name_at = at + _CENTRAL.size
        name = directory[name_at : name_at + name_bytes].decode("utf-8", "replace")
        at = name_at + name_bytes + extra + comment
        yield Member(name, fields[4], fields[8], fields[9], fields[16] + shift)


def content(file: IO[bytes], member: Member, limit: int) -> bytes:
    """A member's bytes; raises `Broken` when there are more than `limit`, or when they cannot be unpacked."""
    file.seek(member.at)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise Broken(f"{clean(member.name, 100)!r} is not where its directory says")
    name_bytes, extra = _LOCAL.unpack(header)[9:11]
    file.seek(name_bytes + extra, 1)
    if max(member.size, member.packed if member.method == 0 else 0) > limit or member.packed > limit + 1024:
        raise Broken(f"{clean(member.name, 100)!r} has more than {limit} bytes")
    packed = file.read(member.packed)
    if member.method == 0:
        return packed
    if member.method != 8:  # deflate
        raise Broken(f"{clean(member.name, 100)!r} is packed in a way that is not read")
    unpacker = zlib.decompressobj(-15)
    try:
        data = unpacker.decompress(packed, limit + 1)
    except zlib.error as error:
        raise Broken(f"{clean(member.name, 100)!r} is damaged") from error
    if len(data) > limit:
        raise Broken(f"{clean(member.name, 100)!r} has more than {limit} bytes")
    return data
