"""The files of a wheel (PEP 427), read out of a hostile zip one at a time and held against RECORD.

1. The central directory is read under limits; names that could leave their folder, links, duplicates, encryption
   and unknown compression are refused.
2. Every file must stand in RECORD with a strong hash and its size.
3. A file's bytes are compared with both while they are read; the last piece is handed over only when they agree.
   Where the deflate data is wanted too, it must be exactly the file's, with nothing behind it.
"""

import base64
import csv
import hashlib
import io
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

import msgspec
from isal import isal_zlib

from tidewaiter.assembly.installation import distribution
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.oci.layer import Content, Deflated, check_path

_CHUNK = 1 << 18
_PIECE = 1 << 20
_InflateError = cast("type[Exception]", isal_zlib.error)  # the stub calls the class an instance
_HASHES = {"sha256": 44, "sha384": 64, "sha512": 88}
_BROKEN = "Do not use this wheel: it is broken or hostile. Choose another release, or ask its publisher."
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_UNSAFE = re.compile(r"[\x00-\x1f\\]")
_ENCRYPTED = 0x1
_UTF8_NAME = 0x800

Advance = Callable[[int], None]


class Member(msgspec.Struct, frozen=True):
    """One file of a wheel as zip and RECORD describe it."""

    name: str
    header_offset: int
    packed: int
    size: int
    deflated: bool
    executable: bool
    utf8: bool
    algorithm: str
    """`sha256`, `sha384` or `sha512`; empty for RECORD itself."""
    hash: str
    """URL-safe base64 without padding, as RECORD writes it."""

    @property
    def record_hash(self) -> str:
        """Second column of RECORD."""
        return f"{self.algorithm}={self.hash}"


class _BoundedFile(io.FileIO):
    """Refuses to read a central directory into memory that is too large for any wheel."""

    def read(self, size: int | None = -1, /) -> bytes:
        limit = limits.WHEEL_DIRECTORY_BYTES
        if size is not None and size > limit:
            raise LimitError(
                f"{Path(os.fsdecode(cast('str', self.name))).name}: its directory claims {size} bytes",
                next_step=_BROKEN,
            )
        data = super().read(limit if size is None or size < 0 else size)
        return b"" if data is None else data


class _Stream(io.RawIOBase):
    """One member's bytes, inflated and verified as they are read."""

    def __init__(self, archive: "WheelArchive", member: Member, advance: Advance | None) -> None:
        self._archive = archive
        self._member = member
        self._advance = advance
        self._at = archive.data_offset(member)
        self._end = self._at + member.packed
        self._left = member.size
        self._hash = hashlib.new(member.algorithm) if member.algorithm else None
        self._inflate = isal_zlib.decompressobj(-15) if member.deflated else None
        self._packed = b""
        if not self._left:
            self._verify()

    def readable(self) -> bool:
        return True

    def _next(self, size: int) -> bytes:
        while True:
            if not self._packed and self._at < self._end:
                self._packed = os.pread(self._archive.descriptor, min(_CHUNK, self._end - self._at), self._at)
                if not self._packed:
                    raise self._broken("is cut")
                self._at += len(self._packed)
                if self._advance:
                    self._advance(len(self._packed))
            if self._inflate is None:
                data, self._packed = self._packed[:size], self._packed[size:]
                return data
            if self._inflate.eof:
                return b""
            exhausted = not self._packed
            try:
                data = self._inflate.decompress(self._packed, size)
            except _InflateError as error:
                raise self._broken(f"does not inflate: {error}") from error
            self._packed = self._inflate.unconsumed_tail
            if data or exhausted:
                return data

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; raises `IntegrityError` when the file is not what RECORD says."""
        wanted = self._left if size < 0 else min(size, self._left)
        pieces = []
        while wanted:
            data = self._next(wanted)
            if not data:
                raise self._broken(f"ends {self._left} bytes early")
            wanted -= len(data)
            self._left -= len(data)
            if self._hash is not None:
                self._hash.update(data)
            pieces.append(data)
            if not self._left:
                self._verify()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _verify(self) -> None:
        if self._next(1):
            raise self._broken(f"is longer than {self._member.size} bytes")
        self._archive.require_hash(self._member, self._hash)

    def _broken(self, what: str) -> IntegrityError:
        return self._archive.broken(self._member, what)


class WheelArchive:
    """An opened wheel. Its streams may be read from many threads; close it after the last of them.

    Raises (from the constructor):
        InputError, IntegrityError, LimitError: the zip is malformed, hostile or over the limits.
    """

    def __init__(self, path: Path, filename: str) -> None:
        self.filename = filename
        self.descriptor = os.open(path, os.O_RDONLY)
        try:
            infos = self._directory(path)
            self.dist_info = self._find_dist_info(infos)
            self.members = self._members(infos)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        os.close(self.descriptor)

    @property
    def distribution(self) -> str:
        """Name of the package as its .dist-info folder spells it."""
        return distribution(self.dist_info)

    def refuse(self, reason: str, *, code: str | None = None) -> InputError:
        """The error to raise when this wheel cannot be accepted because of `reason`."""
        return InputError(f"{self.filename}: {reason}", next_step=_BROKEN, code=code)

    def broken(self, member: Member, what: str) -> IntegrityError:
        """The error to raise when `member` is not what zip or RECORD says; `what` goes on after its name."""
        return IntegrityError(f"{self.filename}: {member.name} {what}", next_step=_BROKEN)

    def require_hash(self, member: Member, found: "hashlib._Hash | None") -> None:
        """Raise `IntegrityError` unless RECORD says `found` of `member`."""
        if found is None:
            return
        actual = base64.urlsafe_b64encode(found.digest()).decode().rstrip("=")
        if actual != member.hash:
            raise self.broken(member, f"has {member.algorithm} {actual} instead of {member.hash} as RECORD says")

    # 1. The zip's directory

    def _directory(self, path: Path) -> dict[str, zipfile.ZipInfo]:
        try:
            with _BoundedFile(path) as file, zipfile.ZipFile(cast("IO[bytes]", file)) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError) as error:
            raise self.refuse(f"not a readable zip: {error}") from error
        if len(infos) > limits.WHEEL_MEMBERS:
            raise LimitError(f"{self.filename} has {len(infos)} members", next_step=_BROKEN)
        if sum(info.file_size for info in infos) > limits.WHEEL_UNPACKED_BYTES:
            raise LimitError(
                f"{self.filename} unpacks to more than {limits.WHEEL_UNPACKED_BYTES} bytes", next_step=_BROKEN
            )
        found: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = self._checked_name(info)
            if name in found:
                raise self.refuse(f"{name!r} stands in it twice")
            found[name] = info
        return {name: info for name, info in found.items() if not info.is_dir()}

    def _checked_name(self, info: zipfile.ZipInfo) -> str:
        name = info.orig_filename
        if _UNSAFE.search(name):
            raise self.refuse(f"the path {name[:200]!r} holds a backslash or control character", code="unsafe_path")
        check_path(name.removesuffix("/"), source=self.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        expected = stat.S_IFDIR if info.is_dir() else stat.S_IFREG
        if kind not in {0, expected}:
            raise self.refuse(f"{name!r} is a link or a special file", code="unsafe_path")
        if info.header_offset < 0:
            raise self.refuse(f"{name!r} lies before the beginning of the file")
        if info.flag_bits & _ENCRYPTED:
            raise self.refuse(f"{name!r} is encrypted")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise self.refuse(f"{name!r} is compressed by method {info.compress_type}, which wheels may not use")
        return name

    def _find_dist_info(self, infos: dict[str, zipfile.ZipInfo]) -> str:
        folders = sorted({name.partition("/")[0] for name in infos if "/" in name})
        found = [folder for folder in folders if folder.endswith(".dist-info")]
        if len(found) != 1:
            raise self.refuse(f"it has {len(found)} .dist-info folders instead of one")
        return found[0]

    # 2. RECORD

    def _members(self, infos: dict[str, zipfile.ZipInfo]) -> dict[str, Member]:
        record = f"{self.dist_info}/RECORD"
        if record not in infos:
            raise self.refuse("it has no RECORD, so that its files cannot be verified")
        rows = self._record_rows(_member(record, infos[record], "", ""))
        unlisted = {record, *(f"{self.dist_info}/{name}" for name in _SIGNATURES)}
        members: dict[str, Member] = {}
        for name, info in infos.items():
            if name in unlisted:
                members[name] = _member(name, info, "", "")
                continue
            if name not in rows:
                raise IntegrityError(f"{self.filename}: {name} is not in RECORD", next_step=_BROKEN)
            algorithm, digest, size = rows[name]
            if len(digest) + (-len(digest) % 4) != _HASHES.get(algorithm):
                raise IntegrityError(f"{self.filename}: RECORD has no strong hash of {name}", next_step=_BROKEN)
            if size and size != str(info.file_size):
                raise IntegrityError(
                    f"{self.filename}: {name} has {info.file_size} bytes instead of {size[:20]} as RECORD says",
                    next_step=_BROKEN,
                )
            members[name] = _member(name, info, algorithm, digest)
        return members

    def _record_rows(self, record: Member) -> dict[str, tuple[str, str, str]]:
        text = self.read_text(record)
        rows: dict[str, tuple[str, str, str]] = {}
        try:
            for row in csv.reader(io.StringIO(text, newline="")):
                if len(row) != 3:
                    raise self.refuse(f"a row of RECORD has {len(row)} columns")
                algorithm, _, digest = row[1].partition("=")
                if row[0] in rows and rows[row[0]] != (algorithm, digest.rstrip("="), row[2]):
                    raise self.refuse(f"RECORD contradicts itself about {row[0][:200]!r}")
                rows[row[0]] = (algorithm, digest.rstrip("="), row[2])
        except csv.Error as error:
            raise self.refuse(f"RECORD is malformed: {error}") from error
        return rows

    # 3. Contents

    def data_offset(self, member: Member) -> int:
        """Where the member's data starts in the file."""
        expected = member.name.encode("utf-8" if member.utf8 else "cp437", "replace")
        head = os.pread(self.descriptor, 30 + len(expected), member.header_offset)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise self.refuse(f"the local header of {member.name} is missing")
        name_size, extra_size = (int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
        if name_size != len(expected) or head[30:] != expected:
            raise self.refuse(f"the local header of {member.name} names another file")
        return member.header_offset + 30 + name_size + extra_size

    def open(self, member: Member, advance: Advance | None = None) -> IO[bytes]:
        """The member's bytes, verified as they are read; `advance` hears of the packed bytes taken."""
        return cast("IO[bytes]", _Stream(self, member, advance))

    def content(self, member: Member, advance: Advance | None = None) -> Content:
        """The member for a layer: as `open`, with its deflate data where it is deflated."""
        opener = partial(self.open, member, advance)
        if not member.deflated:
            return opener
        return Deflated(size=member.packed, open=opener, pieces=partial(self._pieces, member, advance))

    def _pieces(self, member: Member, advance: Advance | None) -> Iterator[tuple[bytes, bytes]]:
        """All of a deflated member's packed bytes beside all of its bytes, verified as those of a stream."""
        at = self.data_offset(member)
        end, left = at + member.packed, member.size
        found = hashlib.new(member.algorithm) if member.algorithm else None
        inflate = isal_zlib.decompressobj(-15)
        while not inflate.eof:
            packed = os.pread(self.descriptor, min(_CHUNK, end - at), at)
            if not packed:
                raise self.broken(member, "is cut")
            at += len(packed)
            if advance:
                advance(len(packed))
            for data in self._inflated(member, inflate, packed):
                left -= len(data)
                if found is not None:
                    found.update(data)
                if left < 0 or (left and inflate.eof):
                    raise self.broken(member, f"does not have {member.size} bytes")
                if inflate.eof:
                    if at != end or inflate.unused_data:
                        raise self.broken(member, "has data behind its end")
                    self.require_hash(member, found)
                yield packed, data
                packed = b""

    def _inflated(self, member: Member, inflate: isal_zlib.Decompress, packed: bytes) -> Iterator[bytes]:
        """What `packed` adds, in bounded pieces."""
        data = b""
        while not inflate.eof and (packed or len(data) == _PIECE):
            try:
                data = inflate.decompress(packed, _PIECE)
            except _InflateError as error:
                raise self.broken(member, f"does not inflate: {error}") from error
            packed = inflate.unconsumed_tail
            yield data

    def read(self, member: Member) -> bytes:
        """A small member whole; raises `LimitError` over `WHEEL_METADATA_BYTES`."""
        if member.size > limits.WHEEL_METADATA_BYTES:
            raise LimitError(f"{self.filename}: {member.name} has {member.size} bytes", next_step=_BROKEN)
        with self.open(member) as stream:
            return stream.read()

    def read_text(self, member: Member) -> str:
        """A small member as UTF-8; raises `InputError` when it is something else."""
        try:
            return self.read(member).decode()
        except UnicodeDecodeError as error:
            raise self.refuse(f"{member.name} is not UTF-8") from error


def _member(name: str, info: zipfile.ZipInfo, algorithm: str, digest: str) -> Member:
    mode = info.external_attr >> 16
    return Member(
        name=name,
        header_offset=info.header_offset,
        packed=info.compress_size,
        size=info.file_size,
        deflated=info.compress_type == zipfile.ZIP_DEFLATED,
        executable=stat.S_ISREG(mode) and bool(mode & 0o111),
        utf8=bool(info.flag_bits & _UTF8_NAME),
        algorithm=algorithm,
        hash=digest,
    )
