"""One path of a layer, and its tar header as we write it: ustar where that can say it, PAX only where it must.

Headers are put together by hand, because a layer has tens of thousands of them; the bytes are those that the standard
library writes.
"""

from functools import lru_cache
from typing import Literal

import msgspec

MTIME = 315_532_800
"""1980-01-01, the time of every entry that we write: the oldest that zip files can hold."""

Kind = Literal["file", "directory", "symlink", "hardlink"]

_TYPES = {"file": b"0", "directory": b"5", "symlink": b"2", "hardlink": b"1"}
_NAME = 100
_PREFIX = 155
_NUMBER = 0o7777777
_SIZE = 0o77777777777


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One path of a layer: relative, no leading or trailing slash, no `.` or `..`."""

    path: str
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = MTIME
    size: int = 0
    target: str = ""
    """Target of a symlink as written, or path of a hard link's target inside the layer."""


@lru_cache(maxsize=64)  # entries differ in name and size, hardly ever in these
def _attributes(mode: int, uid: int, gid: int) -> bytes:
    return b"%07o\0%07o\0%07o\0" % (mode, uid, gid)


def header(entry: Entry) -> bytes:
    """The header of `entry`; ustar with empty owner names and device numbers where that can say it, else PAX."""
    name, prefix = entry.path + ("/" if entry.kind == "directory" else ""), ""
    if len(name) > _NAME:  # folders may stand in a field of their own, as few of them as will do
        cut = name.find("/", len(name) - _NAME - 1)
        if 0 < cut <= _PREFIX and cut < len(name) - 1:
            prefix, name = name[:cut], name[cut + 1 :]
    mode = 0o777 if entry.kind == "symlink" else entry.mode  # what every file system reports
    size = entry.size if entry.kind == "file" else 0
    if not (
        len(name) <= _NAME
        and len(entry.target) <= _NAME
        and name.isascii()
        and prefix.isascii()
        and entry.target.isascii()
        and min(mode, entry.uid, entry.gid) >= 0
        and max(mode, entry.uid, entry.gid) <= _NUMBER
        and 0 <= size <= _SIZE
        and 0 <= entry.mtime <= _SIZE
    ):
        return _pax_header(entry, mode, size)
    written = b"".join(
        (
            name.encode().ljust(_NAME, b"\0"),
            _attributes(mode, entry.uid, entry.gid),
            b"%011o\0%011o\0        " % (size, entry.mtime),
            _TYPES[entry.kind],
            entry.target.encode().ljust(_NAME, b"\0"),
            b"ustar\x0000" + bytes(80),
            prefix.encode().ljust(_PREFIX + 12, b"\0"),
        )
    )
    return b"%b%06o\0 %b" % (written[:148], sum(written), written[156:])


def _pax_header(entry: Entry, mode: int, size: int) -> bytes:
    import tarfile  # few entries need it, and readers of layers none

    info = tarfile.TarInfo(entry.path + ("/" if entry.kind == "directory" else ""))
    info.type = _TYPES[entry.kind]
    info.mode, info.uid, info.gid, info.mtime = mode, entry.uid, entry.gid, entry.mtime
    info.size = size
    info.linkname = entry.target
    if info.name.isascii() and info.linkname.isascii():
        try:
            return info.tobuf(tarfile.USTAR_FORMAT)
        except ValueError:
            pass  # too long or too large for ustar
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
