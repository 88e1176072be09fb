"""The file of a backup: a tar packed with zstd, read and written as a stream, verified to its last byte.

1. `backup.json` comes first. It says which release wrote the file, what is in it, and the SHA-256 of each file that is
   no blob of the store.
2. Then these files, then the blobs, whose names are their digests.
3. `end.json` comes last: how many files and bytes there were, and a SHA-256 over the list of all of them.

Nothing but regular files with the names below is written or accepted. The end proves that nothing is missing, and
nothing was added; it is no signature: keep the file where nobody else can write.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

import msgspec
import zstandard

from tidewaiter.core import durable, limits
from tidewaiter.core.errors import InputError, IntegrityError, NotFoundError
from tidewaiter.core.files import open_regular
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.plain_tar import Info
from tidewaiter.oci.unfinished import Unfinished

HEADER = "backup.json"
END = "end.json"
VERSION = 1
BLOBS = "store/blobs/"

_CHUNK = 1 << 20
_LEVEL = 3
_WINDOW = 1 << 27
"""What a reader keeps of what was unpacked, at most."""
_PART = r"[A-Za-z0-9_][A-Za-z0-9._@:+-]{0,199}"
_NAME = re.compile(
    rf"settings\.toml|catalog\.db|advisories\.db|audit/checkpoint|store/(?:oci-layout|index\.json)"
    rf"|keys/{_PART}|recipes/{_PART}|certs\.d/{_PART}/{_PART}"
)
_BLOB = re.compile(r"store/blobs/(sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128})")


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that is no blob."""

    path: str
    """In the home."""
    size: int
    digest: Digest
    secret: bool = False
    """Whether it is for its owner only."""


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backup is of."""

    version: int
    """Of this format."""
    program: str
    schema: str
    """Revision of the catalog."""
    created: str
    """RFC 3339."""
    with_store: bool
    with_keys: bool
    """Whether private keys are in it."""
    files: int
    """All of them, blobs too."""
    bytes: int
    """Of their contents."""
    items: tuple[Item, ...]


class _Version(msgspec.Struct, frozen=True):
    """What a file of any release says first."""

    version: int
    program: str
    schema: str


class _End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: int
    bytes: int
    digest: Digest


def is_name(path: str) -> bool:
    """Whether a file of a home with this path belongs into a backup."""
    return _NAME.fullmatch(path) is not None


def blob_of(path: str) -> Digest | None:
    """Digest of the blob that a path in a backup is of; None when it is of none."""
    found = _BLOB.fullmatch(path)
    return None if found is None else digests.parse(found[1].replace("/", ":"))


def blob_path(digest: Digest) -> str:
    """Path of a blob in a backup."""
    return f"{BLOBS}{digests.algorithm(digest)}/{digests.hexadecimal(digest)}"


class _Sum:
    """What the end says of all files."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self._hash = hashlib.sha256()

    def add(self, path: str, size: int, digest: str) -> None:
        self.files += 1
        self.bytes += size
        self._hash.update(f"{digest} {size} {path}\n".encode())

    def end(self) -> _End:
        return _End(self.files, self.bytes, Digest(f"sha256:{self._hash.hexdigest()}"))


class Writer(Unfinished):
    """A backup on its way to `path`. Use as a context manager; without `commit` nothing remains.

    Every method raises `StorageError` when the disk refuses.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._sum = _Sum()
        super().__init__(path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp"), path)
        try:
            os.fchmod(self._file.fileno(), 0o600)  # keys may be in it, and what the company is vulnerable to
            self._packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(
                self._file, closefd=False
            )
            data = msgspec.json.encode(header)
            self._member(HEADER, len(data))
            self._packed.write(data)
            self._pad(len(data))
        except OSError as error:
            self.__exit__(None, None, None)
            raise durable.storage_error(error, str(path)) from error
        self._sum.add(HEADER, len(data), digests.of(data))

    def _member(self, name: str, size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        self._packed.write(info.tobuf(tarfile.GNU_FORMAT))

    def _pad(self, size: int) -> None:
        self._packed.write(bytes(-size % tarfile.BLOCKSIZE))

    def add(self, path: str, size: int, digest: Digest, pieces: Iterable[bytes]) -> None:
        """Append a file; raises `IntegrityError` when its bytes have another size or digest."""
        found = hashlib.new(digests.algorithm(digest))
        written = 0
        try:
            self._member(path, size)
            for data in pieces:
                written += len(data)
                if written > size:
                    break
                found.update(data)
                self._packed.write(data)
            self._pad(size)
        except OSError as error:
            raise durable.storage_error(error, str(self._path)) from error
        if written != size or found.hexdigest() != digests.hexadecimal(digest):
            raise IntegrityError(
                f"{path} of the home is damaged: it is not {size} bytes of the digest {digest}",
                next_step="Pull or build its image again, or leave the images out with --without-store.",
            )
        self._sum.add(path, size, digest)

    def commit(self) -> Digest:
        """Let the file appear; the digest of all that is in it."""
        end = self._sum.end()
        data = msgspec.json.encode(end)
        try:
            self._member(END, len(data))
            self._packed.write(data)
            self._pad(len(data))
            self._packed.write(bytes(2 * tarfile.BLOCKSIZE))
            self._packed.close()  # type: ignore[no-untyped-call]  # zstandard's stubs leave it out
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self._path)
            durable.sync_directory(self._path.parent)
        except OSError as error:
            raise durable.storage_error(error, str(self._path)) from error
        return end.digest


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of one zstd frame, which must end where the file does."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no length
        while not self._ready:
            if self._frame.eof:
                return 0
            data = self._file.read(_CHUNK // 8)
            if not data:
                raise _refused(self._path, "it ends too early")
            self._ready = memoryview(self._frame.decompress(data))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def require_end(self) -> None:
        """Nothing but the padding of a tar may follow."""
        while rest := self.read(_CHUNK):
            if rest.strip(b"\0"):
                raise _refused(self._path, "something follows its end")
        if self._frame.unused_data or self._file.read(1):
            raise _refused(self._path, "something follows its end")


class File:
    """A file in a backup, to be read once, before the next one."""

    def __init__(self, path: str, size: int, source: BinaryIO, backup: Path) -> None:
        self.path = path
        self.size = size
        self._source, self._backup = source, backup

    def pieces(self) -> Iterator[bytes]:
        """Its bytes."""
        left = self.size
        while left:
            data = self._source.read(min(left, _CHUNK))
            if not data:
                raise _refused(self._backup, f"{self.path} ends too early")
            left -= len(data)
            yield data


class Reader:
    """A backup that is being read. Use as a context manager.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no backup, of a newer release, cut or changed; the code is `bad_backup` or `newer_backup`.
    """

    def __init__(self, path: Path, *, schema: str) -> None:
        """Open it and read what it is of; `schema` is the newest revision of a catalog that can be read."""
        self._path = path
        self._sum = _Sum()
        try:
            self._file = open_regular(path)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no backup {path}", next_step="Name the file of one.") from error
        except OSError as error:
            raise durable.storage_error(error, str(path)) from error
        try:
            self._stream = _Unpacked(self._file, path)
            self._tar = tarfile.open(fileobj=self._stream, mode="r|", bufsize=_CHUNK, tarinfo=Info, errorlevel=1)  # noqa: SIM115  # closed below
            self.header = self._read_header(schema)
        except BaseException as error:
            self._file.close()
            if isinstance(error, (tarfile.TarError, zstandard.ZstdError, ValueError, EOFError)):
                raise _refused(path, f"it is no backup, or damaged: {error}") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _next(self) -> File | None:
        member = self._tar.next()
        self._tar.members = []  # type: ignore[attr-defined]  # tarfile remembers every member otherwise
        if member is None:
            return None
        source = self._tar.extractfile(member) if member.isreg() and not member.issparse() else None
        if source is None:
            raise _refused(self._path, f"{member.name[:80]!r} in it is no regular file")
        return File(member.name, member.size, source, self._path)  # type: ignore[arg-type]  # it reads as one

    def _small(self, file: File | None, name: str) -> bytes:
        if file is None or file.path != name or file.size > limits.BACKUP_HEADER_BYTES:
            raise _refused(self._path, f"it has no {name}")
        return b"".join(file.pieces())

    def _read_header(self, schema: str) -> Header:
        data = self._small(self._next(), HEADER)
        said = msgspec.json.decode(data, type=_Version)
        if said.version > VERSION or said.schema > schema:
            raise InputError(
                f"{self._path} was written by tidewaiter {said.program[:40]}, which is newer than this one",
                next_step="Restore it with that release, or a newer one.",
                code="newer_backup",
            )
        self._sum.add(HEADER, len(data), digests.of(data))
        return msgspec.json.decode(data, type=Header)

    def files(self) -> Iterator[tuple[File, Digest]]:
        """Every file with the digest that it must have, and after the last one the proof that these were all.

        Whoever takes a file reads it whole, and makes sure of its digest.
        """
        expected = {item.path: item for item in self.header.items}
        try:
            while (file := self._next()) is not None and file.path != END:
                item = expected.pop(file.path, None)
                digest = blob_of(file.path)
                if item is not None and is_name(file.path) and item.size == file.size:
                    digest = item.digest
                if digest is None:
                    raise _refused(self._path, f"{file.path[:80]!r} in it is nothing that a backup holds")
                if self._sum.bytes + file.size > self.header.bytes + limits.BACKUP_HEADER_BYTES:
                    raise _refused(self._path, "it holds more than it says")
                yield file, digest
                self._sum.add(file.path, file.size, digest)
            end = msgspec.json.decode(self._small(file, END), type=_End)
            if self._next() is not None:
                raise _refused(self._path, "something follows its end")
            self._stream.require_end()
        except (tarfile.TarError, zstandard.ZstdError, ValueError, EOFError) as error:
            raise _refused(self._path, f"it is damaged: {error}") from error
        if expected or end != self._sum.end() or end.files != self.header.files + 1:
            raise _refused(self._path, "files are missing from it, or were changed")


def damaged(path: Path, name: str) -> InputError:
    """The file `name` in the backup at `path` does not have the digest that it must have."""
    return _refused(path, f"{name} in it was changed")


def _refused(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} cannot be restored: {why}",
        next_step="Take another copy of it, or an older backup; nothing was changed.",
        code="bad_backup",
    )
