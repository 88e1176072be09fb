"""Reading a `.deb` (deb(5)): an ar archive that holds `control.tar` and `data.tar`. Nothing of it is run.

Both tars are walked front to back under limits. Paths that would leave the root, whiteouts, devices and pipes
are refused; set-uid and set-gid bits and owners are not kept, since nothing in the image runs as root.
"""

import gzip
import io
import lzma
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import msgspec
import zstandard

from tidewaiter.assembly.debian import control
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.oci.layer import Entry, check_path
from tidewaiter.oci.plain_tar import Info

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_MEMBERS = 16
_SCRIPTS = frozenset({"preinst", "postinst", "prerm", "postrm", "config", "triggers"})
_NEXT = "Remove it and fetch it again; if it stays so, do not use this package."


class Control(msgspec.Struct, frozen=True):
    """What `control.tar` says."""

    paragraph: bytes
    """The file `control` as it is, which is what `dpkg-deb --field` prints."""
    fields: dict[str, str]
    md5sums: dict[str, str]
    """MD5 by path."""
    scripts: dict[str, bytes]
    """Maintainer scripts and `triggers`, by file name."""


class _Bounded(io.RawIOBase):
    """A part of a file, or the output of a decompressor, of at most `limit` bytes."""

    def __init__(self, source: IO[bytes], limit: int, *, exact: bool, name: str) -> None:
        self._source = source
        self._left = limit
        self._exact = exact
        self._name = name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # typeshed's Buffer needs Python 3.12
        data = self._source.read(min(len(buffer), self._left) if self._exact else len(buffer))
        if self._exact and not data and self._left and len(buffer):
            raise IntegrityError(f"{self._name} ends {self._left} bytes early", next_step=_NEXT)
        self._left -= len(data)
        if self._left < 0:
            raise LimitError(
                f"{self._name} unpacks to more than it may: over {limits.DEB_UNPACKED_BYTES} bytes, or its control "
                f"files over {limits.DEB_CONTROL_BYTES}",
                next_step="Do not use this package: it may be a bomb.",
            )
        buffer[: len(data)] = data
        return len(data)


class _Xz(io.RawIOBase):
    """Unpacks xz; unlike `lzma.open` it bounds the memory that a file may ask for."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.XZ_MEMORY_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # typeshed's Buffer needs Python 3.12
        while not self._unpacker.eof:
            data = self._source.read(1 << 18) if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not data:
                raise EOFError("the xz stream ends in the middle")
            out = self._unpacker.decompress(data, len(buffer))
            if out:
                buffer[: len(out)] = out
                return len(out)
        return 0


@contextmanager
def readable(source: str) -> Iterator[None]:
    """Around reading a package's contents: damage becomes an `InputError` that names `source`."""
    try:
        yield
    except (
        tarfile.TarError,
        lzma.LZMAError,
        zstandard.ZstdError,
        gzip.BadGzipFile,
        EOFError,
        ValueError,
        OverflowError,
    ) as error:
        raise InputError(f"{source} is not a readable Debian package: {error}", next_step=_NEXT) from error


@contextmanager
def _member(path: Path, wanted: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and bytes of the first ar member whose name begins with `wanted`."""
    source = path.name
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise InputError(f"{source} is not a Debian package: it is no ar archive", next_step=_NEXT)
        for position in range(_MEMBERS):
            header = file.read(_HEADER_BYTES)
            if not header:
                break
            size_text = header[48:58].strip()
            if len(header) != _HEADER_BYTES or header[58:] != b"`\n" or not size_text.isdigit():
                raise InputError(f"{source} is not a Debian package: member {position} is damaged", next_step=_NEXT)
            size = int(size_text)
            name = header[:16].decode("ascii", "replace").strip().rstrip("/")
            if position == 0 and (name != "debian-binary" or not file.read(size).startswith(b"2.")):
                raise InputError(f"{source} is not a Debian package of format 2", next_step=_NEXT)
            if name.startswith(wanted):
                yield name, cast("IO[bytes]", _Bounded(file, size, exact=True, name=source))
                return
            if position:
                file.seek(size, io.SEEK_CUR)
            if size % 2:
                file.seek(1, io.SEEK_CUR)
    raise InputError(f"{source} is not a Debian package: it has no {wanted}", next_step=_NEXT)


def _unpacked(name: str, member: IO[bytes], source: str) -> IO[bytes]:
    kind = name.rpartition(".tar")[2]
    buffered = io.BufferedReader(cast("io.RawIOBase", member), 1 << 18)
    if kind == ".xz":
        return cast("IO[bytes]", _Xz(buffered))
    if kind == ".zst":
        return zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(buffered, read_across_frames=True)
    if kind == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    if not kind:
        return buffered
    raise InputError(f"{source}: {name} is packed in a way that is not read here", next_step=_NEXT)


def _walk(path: Path, wanted: str, limit: int) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    count = 0
    with _member(path, wanted) as (name, member), readable(path.name):
        bounded = _Bounded(_unpacked(name, member, path.name), limit, exact=False, name=path.name)
        stream = cast("BinaryIO", io.BufferedReader(bounded, 1 << 18))
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=Info, errorlevel=1, encoding="utf-8") as tar:
            for info in tar:
                tar.members = []  # type: ignore[attr-defined]  # tarfile remembers every member otherwise
                count += 1
                if count > limits.DEB_MEMBERS:
                    raise LimitError(
                        f"{path.name} has more than {limits.DEB_MEMBERS} files", next_step="Do not use this package."
                    )
                yield info, tar.extractfile(info) if info.isreg() else None
        while stream.read(1 << 18):
            pass  # the rest of the stream, so that a cut one is noticed


def read_control(path: Path) -> Control:
    """The control files of the package in `path`.

    Raises:
        InputError: it is no Debian package, or a control file is malformed.
        LimitError: the control files are larger than accepted.
    """
    found: dict[str, bytes] = {}
    with readable(path.name):
        for info, file in _walk(path, "control.tar", limits.DEB_CONTROL_BYTES):
            if file is not None:
                found[info.name.removeprefix("./")] = file.read()
    if "control" not in found:
        raise InputError(f"{path.name} has no control file", next_step=_NEXT)
    try:
        text = found["control"].decode()
        sums = found.get("md5sums", b"").decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the control files of {path.name} are not UTF-8", next_step=_NEXT) from error
    lines = [line.partition("  ") for line in sums.splitlines() if line]
    return Control(
        paragraph=found["control"],
        fields=control.paragraph(text, source=path.name),
        md5sums={name: md5 for md5, _, name in lines},
        scripts={name: content for name, content in found.items() if name in _SCRIPTS},
    )


def walk_data(path: Path) -> Iterator[tuple[Entry, IO[bytes] | None]]:
    """Files, folders and links of the package in `path`.

    A file's content is valid until the next step, and is read inside `readable`.

    Raises:
        InputError: it is damaged, or a member is unsafe: outside the root, a whiteout, a device.
        LimitError: it unpacks to more than is accepted.
    """
    for info, file in _walk(path, "data.tar", limits.DEB_UNPACKED_BYTES):
        name = info.name.removeprefix("./").rstrip("/")
        if info.isdir() and name in {"", "."}:
            continue
        check_path(name, source=path.name)
        # Set-uid and set-gid bits are left behind here.
        mode = stat.S_IMODE(info.mode) & 0o777
        if info.isreg() and not info.issparse():
            yield Entry(path=name, kind="file", mode=mode, size=info.size), file
        elif info.isdir():
            yield Entry(path=name, kind="directory"), None
        elif info.issym():
            yield Entry(path=name, kind="symlink", target=info.linkname), None
        elif info.islnk():
            target = check_path(info.linkname.removeprefix("./"), source=path.name)
            yield Entry(path=name, kind="hardlink", mode=mode, target=target), None
        else:
            raise InputError(
                f"{path.name}: {name!r} is a device, a pipe or a sparse file",
                next_step="Do not use this package: an image holds files, folders and links only.",
                code="unsafe_path",
            )
