"""Paths of a layer, small enough to keep for every layer that was ever seen.

Overlaying layers asks only "does this layer have that path, and is it a directory?". So a layer's paths are
kept as one sorted array of 64-bit numbers, 8 bytes each: 63 bits of BLAKE2b of the path, and one that is set
for a directory.
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from heapq import merge
from itertools import groupby, pairwise
from typing import Literal

_RUN = 1 << 19
"""Numbers that are sorted at once."""


def readable(path: str) -> str:
    """`path` so that it can be stored as UTF-8 and printed; different paths stay different.

    Bytes that are not UTF-8, control characters and backslashes become escapes.
    """
    if path.isprintable() and "\\" not in path:
        return path
    escaped = path.replace("\\", "\\\\")
    decoded = escaped.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in decoded
    )


def number(path: str) -> int:
    """The even number that stands for `path` (a `readable` one)."""
    return int.from_bytes(blake2b(path.encode(), digest_size=8).digest(), "little") & ~1


def ancestors(path: str) -> list[str]:
    """Directories above `path`, nearest last: `a`, `a/b` for `a/b/c`."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


class PathSet:
    """Paths with one bit each: directory or not. Filled by `add`, then read."""

    def __init__(self, packed: bytes = b"") -> None:
        self._numbers = array("Q")
        self._numbers.frombytes(packed)
        if sys.byteorder == "big":
            self._numbers.byteswap()
        self._packed = False
        self.repeats = False
        """Whether a path was added twice, as the same or not; known once it is packed."""

    def __len__(self) -> int:
        return len(self._numbers)

    def as_files(self) -> "array[int]":
        """The numbers of all paths, as if none was a directory."""
        return array("Q", (one & ~1 for one in self._numbers))

    def add(self, path: str, *, directory: bool) -> None:
        """Take a path; `pack` before asking for it."""
        self._numbers.append(number(path) | directory)
        self._packed = False

    def add_all(self, paths: Iterable[str], directories: Iterable[bool]) -> None:
        """Take many paths, in their order, and whether each is a directory."""
        digests = b"".join([blake2b(path.encode(), digest_size=8).digest() for path in paths])
        numbers = array("Q")
        numbers.frombytes(digests)
        if sys.byteorder == "big":
            numbers.byteswap()
        self._numbers.extend([one & ~1 | kind for one, kind in zip(numbers, directories, strict=True)])
        self._packed = False

    def pack(self) -> bytes:
        """All paths, sorted, as little-endian bytes for the constructor."""
        if not self._packed:
            self._sort()
        packed = array("Q", self._numbers)
        if sys.byteorder == "big":
            packed.byteswap()
        return packed.tobytes()

    def _sort(self) -> None:
        added = self._numbers
        # Python's own integers take five times the room, so few of them exist at a time.
        runs = [
            array("Q", sorted(set(self._numbers[start : start + _RUN]))) for start in range(0, len(self._numbers), _RUN)
        ]
        if len(runs) > 1:
            self._numbers = array("Q", (number for number, _ in groupby(merge(*runs))))
        elif runs:
            self._numbers = runs[0]
        self._forget_earlier(added)
        self.repeats |= len(self._numbers) < len(added)
        self._packed = True

    def files_among(self, directories: "PathSet") -> bool:
        """Whether one of `directories` is something else here. Both are packed."""
        return any(self.kind(one) == "file" for one in directories.as_files())

    def _forget_earlier(self, added: "array[int]") -> None:
        """Keep the last of paths that were added as a directory and as something else, as unpacking does."""
        both = {one for one, other in pairwise(self._numbers) if other == one + 1 and not one & 1}
        if both:
            last = {one & ~1: one for one in added if one & ~1 in both}
            self._numbers = array("Q", (one for one in self._numbers if last.get(one & ~1, one) == one))

    def kind(self, path_number: int) -> Literal["file", "directory"] | None:
        """What the path with this `number` is; `file` means anything but a directory."""
        place = bisect_left(self._numbers, path_number)
        if place == len(self._numbers):
            return None
        found = self._numbers[place]
        if found == path_number:
            return "file"
        return "directory" if found == path_number + 1 else None
