"""Following the frames of a zstd stream (RFC 8878, section 3.1) to know whether it ends where one ends.

The library that inflates does not tell an end in the middle from a proper one; Go's, which unpacks images, refuses it.
"""

from typing import IO

_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""Behind a byte from 0x50 to 0x5f."""
_RLE = 1
_DICTIONARY = (0, 1, 2, 4)
_CONTENT = (0, 2, 4, 8)


class Frames:
    """The bytes of `source` on their way to whoever inflates them."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._head = b""  # of a frame or block, as far as it is there
        self._wanted = 5  # bytes of it
        self._skip = 0  # bytes that say nothing of where the frame ends
        self._inside = False  # a frame, at one of its blocks
        self._checksum = 0
        self._known = True

    @property
    def whole(self) -> bool:
        """Whether all that was read so far are whole frames, or nothing that is known here."""
        return not self._known or not (self._inside or self._skip or self._head)

    def read(self, size: int = -1) -> bytes:
        """As `source` gives them."""
        data = self._source.read(size)
        at = 0
        while self._known and at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
            else:
                step = self._wanted - len(self._head)
                self._head += data[at : at + step]
                if len(self._head) == self._wanted:
                    self._block() if self._inside else self._frame()
            at += step
        return data

    def _expect(self, wanted: int, *, skip: int) -> None:
        self._head, self._wanted, self._skip = b"", wanted, skip

    def _frame(self) -> None:
        head = self._head
        if head[1:4] == _SKIPPABLE and head[0] & 0xF0 == 0x50:
            if len(head) < 8:
                self._wanted = 8
            else:
                self._expect(5, skip=int.from_bytes(head[4:], "little"))
        elif head[:4] == _MAGIC:
            flags = head[4]
            single = bool(flags & 0x20)
            content = _CONTENT[flags >> 6] or int(single)
            self._checksum = 4 if flags & 0x04 else 0
            self._inside = True
            self._expect(3, skip=(not single) + _DICTIONARY[flags & 3] + content)
        else:
            self._known = False  # whoever inflates says so

    def _block(self) -> None:
        head = int.from_bytes(self._head, "little")
        size = 1 if head >> 1 & 3 == _RLE else head >> 3
        last = bool(head & 1)
        self._inside = not last
        self._expect(5 if last else 3, skip=size + (self._checksum if last else 0))


class Inflated:
    """What `inflater` makes of `frames`."""

    def __init__(self, inflater: IO[bytes], frames: Frames) -> None:
        self._inflater = inflater
        self._frames = frames

    def read(self, size: int) -> bytes:
        """The next bytes; raises `EOFError` when the stream has ended in the middle of a frame."""
        data = self._inflater.read(size)
        if not data and not self._frames.whole:
            raise EOFError("the zstd stream ends in the middle of a frame")
        return data
