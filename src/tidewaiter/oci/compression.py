"""How the tar of a layer is compressed: gzip by isal at level 1, or zstd at level 3.

The same version and tar give the same bytes; isal's differ on processors older than SSE4.2 and on other architectures.

A layer's gzip file may have several members, one after the other (RFC 1952, section 2.2). So a file that is at
hand as raw deflate, as in a wheel, becomes a member of its own and is not compressed a second time.
"""

import struct
from typing import Literal, Protocol

import isal
from isal import isal_zlib

from tidewaiter.core.errors import UndeterminedError

Compression = Literal["gzip", "zstd"]

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, unknown system
_GZIP_LEVEL = 1
_ZSTD_LEVEL = 3


def identity(compression: Compression) -> str:
    """Names the compressor so exactly that the same name and the same input give the same bytes."""
    if compression == "zstd":
        import zstandard  # as below

        version = ".".join(str(part) for part in zstandard.ZSTD_VERSION)
        return f"zstd {version} level {_ZSTD_LEVEL}"
    return f"isal {isal.__version__} level {_GZIP_LEVEL}"


class UnsteadyError(UndeterminedError):
    """The compressor gave two answers for the same bytes; what was written of the layer is of no use."""


class Compressor(Protocol):
    """Turns blocks of a tar stream into bytes of a blob."""

    def block(self, data: bytes) -> bytes:
        """Take the next bytes of the tar."""

    def end(self) -> bytes:
        """What is still to be written after the last block."""


class _Deflate:
    """Raw deflate whose every byte was made twice.

    Rarely, on machines under load, isal misses a match: valid data, but other bytes than the same input gives the next
    time, and so another digest (docs/concepts/reproducibility.md). Nobody but a second run of it can tell.
    """

    def __init__(self) -> None:
        self._first = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, -15)
        self._second = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, -15)

    def compress(self, data: bytes) -> bytes:
        return self._same(self._first.compress(data), self._second.compress(data))

    def flush(self) -> bytes:
        return self._same(self._first.flush(), self._second.flush())

    @staticmethod
    def _same(packed: bytes, again: bytes) -> bytes:
        if packed != again:
            raise UnsteadyError(
                "isal compressed the same bytes in two ways, so that the layer's digest would be a matter of chance",
                next_step="Run the command again; if it says so again, test the machine's memory.",
                code="unsteady_compressor",
            )
        return packed


class Gzip:
    """Members of a gzip file. `block` and `end` raise `UnsteadyError`."""

    def __init__(self) -> None:
        self._crc = 0
        self._size = 0
        self._deflate: _Deflate | None = None

    def block(self, data: bytes) -> bytes:
        """Compress `data` into the open member, or into a new one."""
        if self._deflate is None:
            self._deflate = _Deflate()
            header = _GZIP_HEADER
        else:
            header = b""
        self._count(data)
        return header + self._deflate.compress(data)

    def _count(self, data: bytes) -> None:
        self._crc = isal_zlib.crc32(data, self._crc)
        self._size += len(data)

    def end(self) -> bytes:
        """End the open member, if there is one."""
        if self._deflate is None:
            return b""
        rest = self._deflate.flush()
        self._deflate = None
        return rest + self._trailer()

    def _trailer(self) -> bytes:
        trailer = struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF)
        self._crc = self._size = 0
        return trailer

    # A member that was compressed by somebody else

    def begin_packed(self) -> bytes:
        """End the open member and begin one whose deflate data the caller has."""
        return self.end() + _GZIP_HEADER

    def packed(self, data: bytes) -> None:
        """Take note of the bytes `data` that the caller's deflate data stands for."""
        self._count(data)

    def end_packed(self) -> bytes:
        """End the member."""
        return self._trailer()


class Zstd:
    """One zstd frame."""

    def __init__(self) -> None:
        import zstandard  # gzip, which most images have, does not need it

        self._frame = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def block(self, data: bytes) -> bytes:
        """Compress `data` into the frame."""
        return self._frame.compress(data)

    def end(self) -> bytes:
        """End the frame."""
        return self._frame.flush()
