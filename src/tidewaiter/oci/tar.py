"""Reading tar front to back, exactly as the runtimes that unpack images read it.

containerd, Docker, Podman and skopeo use Go's `archive/tar`. Where readers of tar disagree, a hostile layer
could show one thing to us and another to them, so this one follows Go's rules (numbers, prefixes, PAX and GNU
records, the end of the archive) and refuses what Go refuses. What Go reads in a way of its own (GNU headers
with times in the place of the prefix, sparse files, a global header amid records) is refused too.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import IO, NamedTuple, Protocol, cast

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.hasher import Hasher

BLOCK = 512
_CHUNK = 1 << 20
_ZERO = bytes(BLOCK)
_LARGEST = 2**63 - 1
_NEXT = "Push or save the image again."
_BOMB = "Do not use this image: it may be a bomb."

REGULAR, REGULAR_OLD, HARDLINK, SYMLINK, DIRECTORY, CONTIGUOUS = b"0", b"\0", b"1", b"2", b"5", b"7"
_CHARACTER, _BLOCK_DEVICE, _FIFO = b"3", b"4", b"6"
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK, _SPARSE = b"x", b"g", b"L", b"K", b"S"
_WITHOUT_CONTENT = frozenset({HARDLINK, SYMLINK, DIRECTORY, _CHARACTER, _BLOCK_DEVICE, _FIFO})

_RECORD_TYPES = frozenset(_PAX + _PAX_GLOBAL + _LONG_NAME + _LONG_LINK)
"""Headers that describe the next member: the byte at `_TYPE`."""

_FIELDS = struct.Struct("100s24s12s12s8sc100s")
"""Name; mode, uid and gid; size; time; checksum; type; target."""
_unpack = _FIELDS.unpack_from
_adler32 = zlib.adler32
_TYPE = 156
_PREFIX = 345
_LENGTH_DIGITS = 8
_NAMES = frozenset({b"path", b"linkpath", b"uname", b"gname"})
_PAX_TIME = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{0,30})?")
_PAX_NUMBER = re.compile(r"[0-9]{1,19}")


class Malformed(Exception):  # noqa: N818  a signal to `Reader`, which knows where it is and says so
    """The archive is not what Go would read."""


class Member(NamedTuple):
    """One member as its headers describe it; names as written."""

    name: str
    type: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    """Bytes of content that follow; 0 for types that have none."""
    linkname: str


_new_member = cast("Callable[[tuple[object, ...]], Member]", partial(tuple.__new__, Member))
"""As `Member(*values)`, which takes a call of Python's more."""


class Source(Protocol):
    """Where the bytes of a tar come from."""

    def read(self, size: int, /) -> bytes:
        """Some more bytes, about `size` of them; empty at the end."""


class Stream:
    """The bytes of a tar: forward only, counted and hashed, under a limit.

    `packed` says of how many packed bytes those read so far were unpacked. `refused` says what to raise for something
    that `source` has raised, or for an end that comes too early; then nobody gets another byte.
    """

    def __init__(
        self,
        source: Source,
        limit: int,
        algorithm: str,
        packed: Callable[[], int],
        refused: Callable[[Exception], Exception],
    ) -> None:
        self._source = source
        self._limit = limit
        self._packed = packed
        self._refused = refused
        self._failure: Exception | None = None
        self._block = b""
        self._start = 0  # position of the block in the stream
        self._offset = 0  # position inside the block
        self._hasher = Hasher(algorithm)

    @property
    def size(self) -> int:
        """Bytes read from the source so far."""
        return self._start + len(self._block)

    @property
    def digest(self) -> Digest:
        """Digest of all bytes read from the source so far."""
        return self._hasher.digest()

    @property
    def position(self) -> int:
        """Bytes handed out so far."""
        return self._start + self._offset

    def _next_block(self) -> bool:
        self._start += len(self._block)
        self._offset = 0
        self._block = b""
        if self._failure is not None:
            raise self._failure  # whoever met it first may have made light of it
        try:
            data = self._source.read(_CHUNK)
        except Exception as error:
            self._failure = self._refused(error)
            if self._failure is error:
                raise
            raise self._failure from error
        size = self._start + len(data)
        if size > self._limit:
            raise LimitError(f"the layer unpacks to more than {self._limit} bytes", next_step=_BOMB)
        if size > limits.LAYER_RATIO_FREE and size > limits.LAYER_RATIO * self._packed():
            raise LimitError(f"the layer unpacks to over {limits.LAYER_RATIO} times its size", next_step=_BOMB)
        self._hasher.update(data)
        self._block = data
        return bool(data)

    def cut_off(self) -> Exception:
        """What to raise where a file is longer than the rest of the tar, and from now on."""
        self._failure = self._refused(Malformed("it ends inside a file"))
        return self._failure

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        end = self._offset + size
        if end <= len(self._block):
            data = self._block[self._offset : end]
            self._offset = end
            return data
        parts = []
        while size:
            part = self._block[self._offset : self._offset + size]
            self._offset += len(part)
            size -= len(part)
            parts.append(part)
            if size and not self._next_block():
                break
        return b"".join(parts)

    def skip_to(self, position: int) -> bool:
        """Go on to `position`; False when the source ends before it."""
        while position > self._start + len(self._block):
            if not self._next_block():
                return False
        self._offset = position - self._start
        return True

    def drain(self) -> None:
        """Read the source to its end."""
        while self._next_block():
            pass


class _Content:
    """Content of the current member; unusable once the walk has gone on. No more of a file than readers need."""

    __slots__ = ("_at", "_left", "_size", "_stream")

    def __init__(self, stream: Stream, at: int, size: int) -> None:
        self._stream = stream
        self._at = at
        self._size = size
        self._left = size

    def read(self, size: int = -1) -> bytes:
        if self._stream.position != self._at:
            raise ValueError("the walk has gone on; this member's content is gone")
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._stream.read(wanted)
        if len(data) < wanted:
            raise self._stream.cut_off()
        self._left -= wanted
        self._at += wanted
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Pass over `offset` bytes, without a copy of them; forward from here (`SEEK_CUR`) is the only way."""
        if whence != io.SEEK_CUR or offset < 0:
            raise io.UnsupportedOperation("a member is read front to back")
        if self._stream.position != self._at:
            raise ValueError("the walk has gone on; this member's content is gone")
        passed = min(offset, self._left)
        self._left -= passed
        self._at += passed
        if not self._stream.skip_to(self._at):
            raise self._stream.cut_off()
        return self._size - self._left


def _string(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _octal(digits: bytes) -> int:
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass  # an 8 or a 9
    raise Malformed("a header holds something that is no number")


def _number(field: bytes) -> int:
    """An octal or base-256 number of a header (Go: `parseNumeric`)."""
    digits = field[:-1]
    if digits.isdigit() and field[-1] in b"\0 ":  # what everybody writes
        return _octal(digits)
    if field[0] & 0x80:
        negative = field[0] & 0x40
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        value = value - (1 << bits) if negative else value & ~(1 << (bits - 1))
        if abs(value) > _LARGEST:
            raise Malformed("a header holds a number over 63 bits")
        return value
    digits = _string(field.strip(b" \0"))
    if not digits:
        return 0
    return _octal(digits)


_moment = lru_cache(maxsize=512)(_number)
_size = lru_cache(maxsize=4096)(_number)


@lru_cache(maxsize=512)  # members of one archive mostly have the same
def _attributes(field: bytes) -> tuple[int, int, int]:
    """Mode, uid and gid."""
    return _number(field[:8]), _number(field[8:16]), _number(field[16:])


@lru_cache(maxsize=4096)
def _adler(field: bytes) -> int:
    """The low half of the Adler-32 of a header with this checksum field: one more than the sum of all its bytes."""
    return _number(field) + sum(field) - 256 + 1


def _check_sum(block: bytes, field: bytes) -> None:
    stored = _number(field)
    if stored == sum(block) - sum(field) + 256:
        return
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 256
    if stored != signed:
        raise Malformed("a header has a wrong checksum")


def _prefix(block: bytes) -> bytes:
    """The part of the name that a ustar header keeps apart; refused where Go may read something else there."""
    area = block[_PREFIX:500]
    magic = block[257:265]
    if magic[:6] == b"ustar\0":
        if block[508:512] == b"tar\0":
            raise Malformed("a header is of star's own kind")
        return _string(area)
    if magic == b"ustar  \0" and not area[0] & 0x80 and not area[:1].isdigit() and area[:1] != b" ":
        return _string(area)  # archives written by Go before 1.8: a name where GNU has times
    raise Malformed("a header holds times or garbage in the place of a name's prefix")


def _header(block: bytes) -> tuple[bytes, bytes, tuple[int, int, int, int, int], bytes]:
    """Of one header block: name, type, numbers as in `Member`, and target with what fills its field up."""
    name, attributes, size, time, check, kind, target = _unpack(block)
    # Adler-32 counts modulo 65521; the bytes of a header that is ASCII throughout come to less.
    if not block.isascii() or _adler32(block) & 0xFFFF != _adler(check):
        _check_sum(block, check)
    name = name.partition(b"\0")[0]
    if block[_PREFIX]:
        name = _prefix(block) + b"/" + name
    mode, uid, gid = _attributes(attributes)
    return name, kind, (mode, uid, gid, _moment(time), _size(size)), target


@lru_cache(maxsize=256)  # Python's and GNU's differ in nothing but the size, and so in few ways
def _record_size(block: bytes) -> int:
    """Bytes of what a header says of the next member."""
    return _header(block)[2][4]


def _pax_records(data: bytes) -> dict[str, str]:
    """Records of a PAX header (Go: `parsePAX`): the last of a key counts."""
    start = b"%d path=" % len(data)
    if data.startswith(start) and data[-1] == 10 and b"\0" not in data:  # what nearly all of them are
        return {"path": _text(data[len(start) : -1])}
    records: dict[str, str] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + _LENGTH_DIGITS + 1)
        digits = data[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        if not space + 1 < end <= len(data) or data[end - 1] != 10:
            raise Malformed("a PAX record has a wrong length")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        hides = value if key in _NAMES else key
        if not key or not equals or b"\0" in hides:
            raise Malformed("a PAX record is malformed")
        records[_text(key)] = _text(value)
        at = end
    return records


def _pax_number(key: str, value: str) -> int:
    if not _PAX_NUMBER.fullmatch(value) or int(value) > _LARGEST:
        raise Malformed(f"a PAX record has no number as {key}")
    return int(value)


def _pax_time(key: str, value: str) -> int:
    if not _PAX_TIME.fullmatch(value):
        raise Malformed(f"a PAX record has no time as {key}")
    return int(value.partition(".")[0])


_PAX_NUMBERS: dict[str, Callable[[str, str], int]] = {
    **dict.fromkeys(("size", "uid", "gid"), _pax_number),
    **dict.fromkeys(("mtime", "atime", "ctime"), _pax_time),
}


def _apply(member: Member, records: dict[str, str]) -> Member:
    """`member` with its PAX records (Go: `mergePAX`): empty values change nothing."""
    numbers = {}
    for key, value in records.items():
        if key.startswith("GNU.sparse."):
            raise Malformed("it holds a sparse file")
        if value and key in _PAX_NUMBERS:
            numbers[key] = _PAX_NUMBERS[key](key, value)
    given = numbers.get
    return Member(
        records.get("path") or member.name,
        member.type,
        member.mode,
        given("uid", member.uid),
        given("gid", member.gid),
        given("mtime", member.mtime),
        given("size", member.size),
        records.get("linkpath") or member.linkname,
    )


class Walk:
    """Members of the tar in `stream`, in order, with their content."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._records: dict[str, str] | None = None
        self._long_name = b""
        self._long_link = b""

    def _is_end(self, block: bytes) -> bool:
        """Whether the archive ends with this block (two blocks of zeros, or nothing more), which is no header."""
        if not block:
            return True
        if len(block) < BLOCK:
            raise Malformed("it ends inside a header")
        if self._stream.read(BLOCK) not in {_ZERO, b""}:
            raise Malformed("a block of zeros stands between members")
        return True

    def _record(self, kind: bytes, size: int) -> None:
        """Take a header of `kind` that describes the next member; `size` bytes of it follow."""
        if not 0 <= size <= limits.LAYER_HEADER_BYTES:
            raise LimitError(
                f"a header in the layer claims {size} bytes",
                next_step=_BOMB,
            )
        padded = -(-size // BLOCK) * BLOCK
        data = self._stream.read(padded)
        if len(data) < padded:
            raise Malformed("it ends inside a header")
        data = data[:size]
        if kind == _PAX:
            self._records = _pax_records(data)
        elif kind == _LONG_NAME:
            self._long_name = _string(data)
        elif kind == _LONG_LINK:
            self._long_link = _string(data)
        else:
            # Go hands a global header out as a member of its own and forgets what it read for the next one.
            _pax_records(data)
            if self._pending():
                raise Malformed("a global header stands between a member and its records")

    def _pending(self) -> bool:
        return self._records is not None or bool(self._long_name or self._long_link)

    def _finished(self, member: Member) -> Member:
        """`member` with what the headers before it said."""
        if self._records is not None:
            member = _apply(member, self._records)
        if self._long_name:
            member = member._replace(name=_text(self._long_name))
        if self._long_link:
            member = member._replace(linkname=_text(self._long_link))
        self._records, self._long_name, self._long_link = None, b"", b""
        if member.type == REGULAR_OLD:
            member = member._replace(type=DIRECTORY if member.name.endswith("/") else REGULAR)
        if member.type == _SPARSE:
            raise Malformed("it holds a sparse file")
        if member.type in _WITHOUT_CONTENT:
            return member._replace(size=0) if member.size else member
        if member.size < 0:
            raise Malformed("a file claims a negative size")
        return member

    def _member(self, name: bytes, kind: bytes, numbers: tuple[int, int, int, int, int], target: bytes) -> Member:
        """The member of one header, with what the headers before it said."""
        records = self._records
        # What nearly all records are: a name that is too long for the header, whose own name nobody needs then.
        given = records.get("path") if records is not None and len(records) == 1 else None
        if given:
            self._records = None
        member = _new_member(
            (
                given or name.decode("utf-8", "surrogateescape"),
                kind,
                *numbers,
                target.partition(b"\0")[0].decode("utf-8", "surrogateescape") if target[0] else "",
            )
        )
        if kind == REGULAR and member.size >= 0 and not self._pending():
            return member
        return self._finished(member)

    def __iter__(self) -> Iterator[tuple[Member, IO[bytes]]]:
        stream, count = self._stream, 0
        while True:
            block = stream.read(BLOCK)
            if (block == _ZERO or len(block) < BLOCK) and self._is_end(block):
                break
            count += 1
            if count > limits.LAYER_ENTRIES:
                raise LimitError(
                    f"the layer has more than {limits.LAYER_ENTRIES} entries",
                    next_step=_BOMB,
                )
            if block[_TYPE] in _RECORD_TYPES:
                self._record(block[_TYPE : _TYPE + 1], _record_size(block))
                continue
            member = self._member(*_header(block))
            at, size = stream.position, member.size
            yield member, cast("IO[bytes]", _Content(stream, at, size))
            if not stream.skip_to(at - (-size // BLOCK) * BLOCK):
                raise stream.cut_off()
        if self._pending():
            raise Malformed("it ends after the records of a member that does not follow")
        stream.drain()


def unreadable(error: Exception, layer: str) -> InputError:
    """The error that a user sees for a `layer` that cannot be read."""
    return InputError(f"{layer} is not a readable tar: {error}", next_step=_NEXT)
