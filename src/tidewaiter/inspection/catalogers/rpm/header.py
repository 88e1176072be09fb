"""An rpm header as databases keep it: two counts, the index, the data; everything big-endian.

An index entry names a tag, a type, an offset into the data and a count (rpm manual, "RPM v4 package format"; a database
leaves out the magic). Only the few tags that matter here are kept.
"""

import struct

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.rpm import Damaged

NAME = 1000
VERSION = 1001
RELEASE = 1002
EPOCH = 1003
SUMMARY = 1004
VENDOR = 1011
LICENSE = 1014
ARCHITECTURE = 1022
SOURCE = 1044
PROVIDES = 1047
REQUIRES = 1049
_FOLDER_OF_FILE = 1116
_FILE_NAMES = 1117
_FOLDERS = 1118

_INTRO = struct.Struct(">II")
_ENTRY = struct.Struct(">IIII")
_INTEGER = 4
_TEXTS = frozenset({6, 8, 9})
"""A string, an array of strings, and one string per language, the first of which is English."""
_KEPT = {
    **dict.fromkeys(
        (NAME, VERSION, RELEASE, SUMMARY, VENDOR, LICENSE, ARCHITECTURE, SOURCE, PROVIDES, REQUIRES), _TEXTS
    ),
    **dict.fromkeys((_FILE_NAMES, _FOLDERS), _TEXTS),
    **dict.fromkeys((EPOCH, _FOLDER_OF_FILE), frozenset({_INTEGER})),
}
_LONGEST_TEXT = 4096
NAME_ROOM = 64
"""What a short text takes in memory beside its characters."""


class Header:
    """The header in `blob`.

    Raises:
        Damaged: the counts do not fit the bytes.
    """

    def __init__(self, blob: bytes) -> None:
        if len(blob) < _INTRO.size:
            raise Damaged("a header is too short")
        entries, size = _INTRO.unpack_from(blob)
        self._data = _INTRO.size + entries * _ENTRY.size
        self._end = self._data + size
        if entries > limits.RPM_HEADER_ENTRIES or self._end > len(blob):
            raise Damaged("a header does not hold what it counts")
        self._blob = blob
        self._index: dict[int, tuple[int, int]] = {}
        for tag, kind, offset, count in _ENTRY.iter_unpack(memoryview(blob)[_INTRO.size : self._data]):
            # What rpm added at installation follows the package's own entries, and replaces them.
            if tag in _KEPT and kind in _KEPT[tag] and offset < size:
                self._index[tag] = (self._data + offset, count)

    def text(self, tag: int) -> str:
        """The (first) string of `tag`; empty when there is none."""
        return next(iter(self.texts(tag, 1)), "")

    def texts(self, tag: int, most: int) -> list[str]:
        """The strings of `tag`, at most `most`; a string that has no end in the data ends the list."""
        start, count = self._index.get(tag, (0, 0))
        found: list[str] = []
        for _ in range(min(count, most)):
            end = self._blob.find(b"\0", start, self._end)
            if end < 0:
                break
            found.append(self._blob[start : min(end, start + _LONGEST_TEXT)].decode("utf-8", "replace"))
            start = end + 1
        return found

    def _numbers(self, tag: int, most: int) -> tuple[int, ...]:
        """The 32-bit numbers of `tag`, at most `most`."""
        start, count = self._index.get(tag, (0, 0))
        return struct.unpack_from(f">{min(count, most, max(self._end - start, 0) // 4)}I", self._blob, start)

    def number(self, tag: int) -> int | None:
        """The (first) 32-bit number of `tag`."""
        return next(iter(self._numbers(tag, 1)), None)

    def files(self, room: int) -> tuple[list[str], int]:
        """Paths of the package's files and folders, relative to the root, and what is left of `room`.

        Every name takes `NAME_ROOM` of it and every path its characters; what does not fit is left out.
        """
        indexes = self._numbers(_FOLDER_OF_FILE, room // NAME_ROOM)
        names = self.texts(_FILE_NAMES, len(indexes))
        folders = [folder.lstrip("/") for folder in self.texts(_FOLDERS, room // NAME_ROOM)]
        room -= NAME_ROOM * (len(names) + len(folders))
        found = []
        for name, index in zip(names, indexes, strict=False):
            path = f"{folders[index]}{name}" if index < len(folders) else ""
            room -= len(path)
            if room < 0:
                break
            found.append(path)
        return found, max(room, 0)
