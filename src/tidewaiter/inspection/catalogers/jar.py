"""Java archives: `pom.properties` of what Maven built, else the manifest; archives inside archives too.

The archive's directory stands at its end, so an archive is held while it is read: in memory while it is small, else in
a temporary file. Only members that are wanted are unpacked, each under a bound.
"""

import re
import struct
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundPackage
from tidewaiter.oci.layer import Entry

_SUFFIXES = (".jar", ".war", ".ear", ".jpi", ".hpi")
_IN_MEMORY = 8 * limits.MIB
_CHUNK = 1 << 20
_END = b"PK\x05\x06"
_END_BYTES = 22
_COMMENT_BYTES = 65_535
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_POM = re.compile(r"META-INF/maven/[^/]+/[^/]+/pom\.properties")
_MANIFEST = "META-INF/MANIFEST.MF"
_TEXT_BYTES = 256 * limits.KIB
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~\-]{0,199}")
_FILE = re.compile(r"(?P<name>.+?)-(?P<version>\d[A-Za-z0-9_.+~\-]*)\.[a-z]+")


class _Broken(Exception):  # noqa: N818  a signal inside this module
    pass


class _Member(NamedTuple):
    name: str
    method: int
    packed: int
    size: int
    at: int


def wants(path: str) -> bool:
    """A Java archive by its name."""
    return path.endswith(_SUFFIXES)


def _members(file: IO[bytes], size: int) -> Iterator[_Member]:
    """Members by the archive's directory (APPNOTE.TXT 4.3.12)."""
    tail_at = max(0, size - _END_BYTES - _COMMENT_BYTES)
    file.seek(tail_at)
    tail = file.read(_END_BYTES + _COMMENT_BYTES)
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < _END_BYTES:
        raise _Broken("it is no zip archive")
    count, length, start = struct.unpack_from("<HII", tail, end + 10)
    if count == 0xFFFF or start == 0xFFFFFFFF:
        raise _Broken("it is a zip64 archive")
    # What was put before the archive (a launch script) moves everything.
    shift = tail_at + end - length - start
    if shift < 0 or length > limits.JAR_DIRECTORY_BYTES:
        raise _Broken("its directory is malformed, or too large")
    file.seek(start + shift)
    directory = file.read(length)
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise _Broken("its directory is cut off")
        fields = _CENTRAL.unpack_from(directory, at)
        if fields[0] != b"PK\x01\x02":
            raise _Broken("its directory is malformed")
        name_bytes, extra, comment = fields[10:13]
        name_at = at + _CENTRAL.size
        name = directory[name_at : name_at + name_bytes].decode("utf-8", "replace")
        at = name_at + name_bytes + extra + comment
        yield _Member(name, fields[4], fields[8], fields[9], fields[16] + shift)


def _content(file: IO[bytes], member: _Member, limit: int) -> bytes:
    """A member's bytes; raises `_Broken` when there are more than `limit`, or when they cannot be unpacked."""
    file.seek(member.at)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
        raise _Broken(f"{clean(member.name, 100)!r} is not where its directory says")
    name_bytes, extra = _LOCAL.unpack(header)[9:11]
    file.seek(name_bytes + extra, 1)
    if max(member.size, member.packed if member.method == 0 else 0) > limit or member.packed > limit + 1024:
        raise _Broken(f"{clean(member.name, 100)!r} has more than {limit} bytes")
    packed = file.read(member.packed)
    if member.method == 0:
        return packed
    if member.method != 8:  # deflate
        raise _Broken(f"{clean(member.name, 100)!r} is packed in a way that is not read")
    unpacker = zlib.decompressobj(-15)
    try:
        data = unpacker.decompress(packed, limit + 1)
    except zlib.error as error:
        raise _Broken(f"{clean(member.name, 100)!r} is damaged") from error
    if len(data) > limit:
        raise _Broken(f"{clean(member.name, 100)!r} has more than {limit} bytes")
    return data


def properties(data: bytes) -> dict[str, str]:
    """Lines `key=value` of a properties file, or `Key: value` of a manifest's main section, folded ones joined."""
    fields: dict[str, str] = {}
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\n ", "")
    for line in text.split("\n"):
        if not line and fields:
            break
        match = re.match(r"([A-Za-z0-9_.\-]+)\s*[:=]\s*(.*)", line)
        if match:
            fields.setdefault(match[1], match[2].strip())
    return fields


def _package(path: str, group: str, artifact: str, version: str) -> FoundPackage | None:
    if not _WORD.fullmatch(artifact) or not _VERSION.fullmatch(version) or (group and not _WORD.fullmatch(group)):
        return None
    return FoundPackage(kind="maven", name=f"{group}:{artifact}" if group else artifact, version=version, location=path)


def _of_manifest(path: str, name: str, manifest: dict[str, str]) -> FoundPackage | None:
    """The package that an archive without `pom.properties` is, as far as its manifest and its name tell."""
    file = _FILE.fullmatch(name.rpartition("/")[2])
    own = name.rpartition("/")[2].rpartition(".")[0]
    artifact = file["name"] if file else manifest.get("Implementation-Title", "") or own
    version = (
        (file["version"] if file else "")
        or manifest.get("Implementation-Version", "")
        or manifest.get("Bundle-Version", "")
        or manifest.get("Specification-Version", "")
    )
    group = manifest.get("Implementation-Vendor-Id", "")
    return _package(path, group if _WORD.fullmatch(group) else "", artifact.replace(" ", "-"), version)


def _artifact(name: str) -> str:
    """The artifact in a package's name, spelled so that file names and coordinates can be compared."""
    return name.rpartition(":")[2].lower().replace("_", "-")


class _Walk:
    """One archive and those inside it, with what is left of the bounds that they share."""

    def __init__(self, path: str, collector: Collector) -> None:
        self._path = path
        self._collector = collector
        self._budget = limits.JAR_NESTED_BYTES
        self.packages: dict[tuple[str, str], FoundPackage] = {}

    def _take(self, package: FoundPackage | None) -> bool:
        if package is not None:
            self.packages[package.name, package.version] = package
        return package is not None

    def archive(self, file: IO[bytes], size: int, name: str, depth: int) -> None:
        """Packages of the archive `name`; whatever cannot be read is noted."""
        manifest: dict[str, str] = {}
        found = False
        try:
            members = [member for member in _members(file, size) if self._wanted(member)]
            for member in members:
                if member.name.endswith(_SUFFIXES):
                    self._nested(file, member, depth)
                    continue
                fields = properties(_content(file, member, _TEXT_BYTES))
                if member.name == _MANIFEST:
                    manifest = fields
                else:
                    found |= self._take(
                        _package(
                            self._path,
                            fields.get("groupId", ""),
                            fields.get("artifactId", ""),
                            fields.get("version", ""),
                        )
                    )
        except _Broken as error:
            self._collector.note(self._path, f"{clean(name.rpartition('/')[2], 100)}: {error}")
        own = _of_manifest(self._path, name, manifest)
        # What was packed into an archive may name itself while the archive does not: guice.jar holds cglib's file.
        known = {_artifact(package) for package, _ in self.packages}
        stem = name.rpartition("/")[2].rpartition(".")[0]
        if own is not None and known.isdisjoint({_artifact(own.name), _artifact(stem)}):
            self._take(own)
        if own is None and not found:
            self._collector.note(self._path, f"{clean(name.rpartition('/')[2], 100)}: it does not state its version")

    def _wanted(self, member: _Member) -> bool:
        return member.name == _MANIFEST or member.name.endswith(_SUFFIXES) or _POM.fullmatch(member.name) is not None

    def _nested(self, file: IO[bytes], member: _Member, depth: int) -> None:
        if depth >= limits.JAR_DEPTH or member.size > self._budget:
            self._collector.note(self._path, f"{clean(member.name, 100)}: archives inside it are too deep or too large")
            return
        data = _content(file, member, min(self._budget, limits.JAR_MEMBER_BYTES))
        self._budget -= len(data)
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as inner:
            inner.write(data)
            size = len(data)
            del data
            self.archive(inner, size, member.name, depth + 1)


def read(path: str, entry: Entry, file: IO[bytes], collector: Collector) -> None:
    """Record the packages that the archive is or holds."""
    if entry.size > limits.JAR_BYTES:
        collector.note(path, f"an archive of {entry.size} bytes is not read")
        return
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as held:
        while data := file.read(_CHUNK):
            held.write(data)
        walk = _Walk(path, collector)
        walk.archive(held, entry.size, path, 0)
    collector.add_packages(path, tuple(package for _, package in sorted(walk.packages.items())))
