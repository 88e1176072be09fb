"""A wheel's files where they lie in the image: PyPA's installation rules into fixed paths, nothing unpacked to disk.

The same wheel gives the same files whoever installs it: fixed folders, a fixed interpreter in scripts, a sorted
RECORD, no address and no time of the installation. Nothing of the wheel is run.
"""

import base64
import configparser
import csv
import hashlib
import io
import posixpath
import re
from collections.abc import Iterator, Mapping
from email.parser import HeaderParser
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import installer
import msgspec
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import Hash, RecordEntry
from installer.scripts import Script
from installer.sources import WheelContentElement, WheelSource
from installer.utils import Scheme
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tidewaiter.assembly.bytecode import Source, bytecode_path
from tidewaiter.assembly.installation import site_packages
from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.wheel_archive import Advance, Member, WheelArchive
from tidewaiter.core.errors import InputError, IntegrityError
from tidewaiter.oci.layer import Content, Entry, Opener, check_path

_INSTALLER = {"INSTALLER": b"tidewaiter\n"}
# Written by whoever installs, or signing a RECORD that is written anew.
_LEFT_OUT = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws", "RECORD.p7s"})
_SCRIPT_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*"
_PYTHON_SHEBANG = b"#!python"


class InstalledFile(msgspec.Struct, frozen=True):
    """A file of the image: its entry, its bytes or where to get them, and its hash as RECORD writes it."""

    entry: Entry
    content: Member | bytes
    record_hash: str


def _record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


class _Unread(io.BytesIO):
    """Carries a member through `installer` without reading it."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.member = member


class _Source(WheelSource):
    """What `installer` asks of a wheel, answered from the archive."""

    def __init__(self, archive: WheelArchive) -> None:
        distribution, _, version = archive.dist_info.removesuffix(".dist-info").rpartition("-")
        super().__init__(distribution, version)
        self._archive = archive

    @property
    def dist_info_filenames(self) -> list[str]:
        prefix = self._archive.dist_info + "/"
        return [name.removeprefix(prefix) for name in self._archive.members if name.startswith(prefix)]

    def read_dist_info(self, filename: str) -> str:
        member = self._archive.members.get(f"{self._archive.dist_info}/{filename}")
        if member is None:
            raise self._archive.refuse(f"it has no {filename}")
        return self._archive.read_text(member)

    def get_contents(self) -> Iterator[WheelContentElement]:
        left_out = {f"{self._archive.dist_info}/{name}" for name in _LEFT_OUT}
        for name, member in self._archive.members.items():
            # Bytecode that comes with a wheel would be believed by the interpreter, whatever its source says.
            if name in left_out or "__pycache__" in name.split("/")[:-1]:
                continue
            recorded = member.record_hash if member.algorithm else ""
            yield (name, recorded, str(member.size)), _Unread(member), member.executable


class _Destination(WheelDestination):
    """Notes where `installer` wants files, instead of writing them."""

    def __init__(self, archive: WheelArchive, python: str, executable: str, site: str) -> None:
        self._archive = archive
        self._executable = executable
        self.files: dict[str, InstalledFile] = {}
        self._folders = {
            "purelib": site,
            "platlib": site,
            "scripts": "usr/local/bin",
            "data": "usr/local",
            "headers": f"usr/local/include/python{python}/{archive.distribution}",
        }

    def _add(self, scheme: str, path: str, content: Member | bytes, *, executable: bool) -> RecordEntry:
        where = check_path(f"{self._folders[scheme]}/{path}", source=self._archive.filename)
        if where in self.files:
            raise self._archive.refuse(f"two of its files are installed as /{where}")
        if isinstance(content, Member):
            size, recorded = content.size, content.record_hash
        else:
            size, recorded = len(content), _record_hash(content)
        entry = Entry(path=where, kind="file", mode=0o755 if executable else 0o644, size=size)
        self.files[where] = InstalledFile(entry, content, recorded)
        return RecordEntry(path, Hash.parse(recorded), size)

    def write_script(self, name: str, module: str, attr: str, section: object) -> RecordEntry:
        if not re.fullmatch(_SCRIPT_NAME, name):
            raise self._archive.refuse(f"its entry point {name[:100]!r} is not a plain file name", code="unsafe_path")
        kind: Literal["gui", "console"] = "gui" if section == "gui" else "console"
        _, data = Script(name, module, attr, kind).generate(self._executable, "posix")
        return self._add("scripts", name, data, executable=True)

    def write_file(self, scheme: Scheme, path: object, stream: BinaryIO, is_executable: bool) -> RecordEntry:  # noqa: FBT001  # installer's signature
        name = str(path)
        if not isinstance(stream, _Unread):
            return self._add(scheme, name, stream.read(), executable=is_executable)
        member = stream.member
        if scheme != "scripts":
            return self._add(scheme, name, member, executable=is_executable)
        with self._archive.open(member) as head:
            shebang = head.read(len(_PYTHON_SHEBANG))
        if shebang != _PYTHON_SHEBANG:
            return self._add(scheme, name, member, executable=True)
        _, _, rest = self._archive.read(member).partition(b"\n")
        return self._add(scheme, name, f"#!{self._executable}\n".encode() + rest, executable=True)

    def finalize_installation(self, scheme: Scheme, record_file_path: object, records: object) -> None:
        """RECORD is written by `Wheel.items`, which also knows the bytecode."""


class Wheel:
    """An opened wheel and the files that it becomes. Use as a context manager.

    Raises (from the constructor):
        InputError, IntegrityError, LimitError: the wheel is malformed, hostile, over the limits, or not what the
            lock calls it.
    """

    def __init__(
        self, path: Path, locked: LockedWheel, *, python: str, executable: str, site: str | None = None
    ) -> None:
        self.locked = locked
        self._site = site or site_packages(python)
        self._python = python
        self._archive = WheelArchive(path, locked.filename)
        try:
            self._check_identity()
            self.files = self._plan(executable)
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def _check_identity(self) -> None:
        member = self._archive.members.get(f"{self._archive.dist_info}/METADATA")
        if member is None:
            raise self._archive.refuse("it has no METADATA")
        headers = HeaderParser().parsestr(self._archive.read_text(member))
        name, version = str(headers["Name"]), str(headers["Version"])
        try:
            same = canonicalize_name(name) == self.locked.name and Version(version) == Version(self.locked.version)
        except InvalidVersion:
            same = False
        folder = canonicalize_name(self._archive.distribution)
        if not same or folder != self.locked.name:
            raise IntegrityError(
                f"{self.locked.filename} says that it is {name[:100]} {version[:100]}, the lock says {self.locked}",
                next_step="Do not use this wheel: it is broken or hostile. Choose another release.",
            )

    def _plan(self, executable: str) -> dict[str, InstalledFile]:
        destination = _Destination(self._archive, self._python, executable, self._site)
        try:
            installer.install(_Source(self._archive), destination, _INSTALLER)
        except (configparser.Error, AssertionError) as error:  # installer asserts the form of an entry point
            raise self._archive.refuse(f"its entry_points.txt is malformed: {error}".rstrip(": ")) from error
        except (InstallerError, ValueError) as error:
            raise self._archive.refuse(f"it cannot be installed: {error}") from error
        require_folders(destination.files, self._archive.filename)
        return destination.files

    @property
    def record_path(self) -> str:
        """Where RECORD lies, relative to the root."""
        return f"{self._site}/{self._archive.dist_info}/RECORD"

    def sources(self) -> Iterator[tuple[str, Source]]:
        """Python modules to compile: absolute path in the image, and how to read them."""
        prefix = self._site + "/"
        for path, file in self.files.items():
            if path.startswith(prefix) and path.endswith(".py"):
                yield f"/{path}", self._reader(file.content)

    def _reader(self, content: Member | bytes) -> Source:
        return content if isinstance(content, bytes) else lambda: self._archive.read(content)

    def items(
        self, bytecode: Mapping[str, tuple[int, Opener]], advance: Advance | None = None
    ) -> Iterator[tuple[Entry, Content]]:
        """Everything to write into a layer; `bytecode` gives size and content by absolute path.

        `advance` hears of the packed bytes taken from the wheel.
        """
        rows = [(path, file.record_hash, str(file.entry.size)) for path, file in self.files.items()]
        for path, file in self.files.items():
            yield file.entry, self._content(file.content, advance)
            where = bytecode_path(path, self._python) if path.endswith(".py") else ""
            if where and (compiled := bytecode.get("/" + where)) is not None:
                size, opener = compiled
                yield Entry(path=where, kind="file", size=size), opener
                rows.append((where, "", ""))  # as pip does: bytecode may be made again at any time
        data = self._record([*rows, (self.record_path, "", "")])
        yield Entry(path=self.record_path, kind="file", size=len(data)), data

    def _content(self, content: Member | bytes, advance: Advance | None) -> Content:
        return content if isinstance(content, bytes) else self._archive.content(content, advance)

    def _record(self, rows: list[tuple[str, str, str]]) -> bytes:
        site = self._site + "/"
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        relative = [
            (path.removeprefix(site) if path.startswith(site) else posixpath.relpath(f"/{path}", f"/{site}"), *rest)
            for path, *rest in rows
        ]
        for row in sorted(relative, key=lambda row: row[0].encode()):
            writer.writerow(row)
        return text.getvalue().encode()


def require_folders(paths: Mapping[str, object], source: str) -> None:
    """Raise `InputError` when one of `paths` would have to be a file and a folder at once."""
    folders = set[str]()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    both = sorted(folders & paths.keys())
    if both:
        raise InputError(
            f"{source}: /{both[0]} would be a file and a folder at once",
            next_step="Do not use this wheel: it is broken. Choose another release.",
        )
