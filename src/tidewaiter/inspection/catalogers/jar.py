"""Java archives: `pom.properties` of what Maven built, else the manifest; archives inside archives too.

The archive's directory stands at its end, so an archive is held in memory while it is read; larger ones than
`limits.JAR_BYTES` are not. Only members that are wanted are unpacked, each under a bound.
"""

import io
import re
from typing import IO

from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import jar_groups, zips
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, FoundPackage
from tidewaiter.oci.layer import Entry

SUFFIXES = (".jar", ".war", ".ear", ".par", ".jpi", ".hpi")
_POM = re.compile(r"META-INF/maven/[^/]+/[^/]+/pom\.properties")
_MANIFEST = "META-INF/MANIFEST.MF"
_TEXT_BYTES = 256 * limits.KIB
_LINES = 2000
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~\-]{0,199}")
_FILE = re.compile(r"(?P<name>.+?)-(?P<version>\d[A-Za-z0-9_.+~\-]*)\.[a-z]+")


def wants(path: str) -> bool:
    """A Java archive by its name."""
    return path.endswith(SUFFIXES)


def properties(data: bytes) -> dict[str, str]:
    """Lines `key=value` of a properties file, or `Key: value` of a manifest's main section, folded ones joined."""
    fields: dict[str, str] = {}
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\n ", "")
    for line in text.split("\n", _LINES)[:_LINES]:
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
    artifact = artifact.replace(" ", "-")
    return _package(path, jar_groups.group(artifact, manifest), artifact, version)


def _artifact(name: str) -> str:
    """The artifact in a package's name, spelled so that file names and coordinates can be compared."""
    return name.rpartition(":")[2].lower().replace("_", "-")


class _Walk:
    """One archive and those inside it, with what is left of the bounds that they share."""

    def __init__(self, path: str, collector: Collector) -> None:
        self._path = path
        self._collector = collector
        self._budget = limits.JAR_NESTED_BYTES
        self._texts = limits.JAR_TEXT_BYTES
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
            members = [member for member in zips.members(file, size) if self._wanted(member)]
            for member in members:
                if member.name.endswith(SUFFIXES):
                    self._nested(file, member, depth)
                    continue
                fields = properties(self._text(file, member))
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
        except zips.Broken as error:
            self._collector.note(self._path, f"{clean(name.rpartition('/')[2], 100)}: {error}")
        own = _of_manifest(self._path, name, manifest)
        # What was packed into an archive may name itself while the archive does not: guice.jar holds cglib's file.
        known = {_artifact(package) for package, _ in self.packages}
        stem = name.rpartition("/")[2].rpartition(".")[0]
        if own is not None and known.isdisjoint({_artifact(own.name), _artifact(stem)}):
            self._take(own)
        if own is None and not found:
            self._collector.note(self._path, f"{clean(name.rpartition('/')[2], 100)}: it does not state its version")

    def _wanted(self, member: zips.Member) -> bool:
        return member.name == _MANIFEST or member.name.endswith(SUFFIXES) or _POM.fullmatch(member.name) is not None

    def _text(self, file: IO[bytes], member: zips.Member) -> bytes:
        if self._texts <= 0:
            raise zips.Broken(f"the descriptions in it are over {limits.JAR_TEXT_BYTES} bytes")
        data = zips.content(file, member, _TEXT_BYTES)
        self._texts -= len(data) + member.packed
        return data

    def _nested(self, file: IO[bytes], member: zips.Member, depth: int) -> None:
        if depth >= limits.JAR_DEPTH or member.size > self._budget:
            self._collector.note(self._path, f"{clean(member.name, 100)}: archives inside it are too deep or too large")
            return
        data = zips.content(file, member, min(self._budget, limits.JAR_MEMBER_BYTES))
        # Members of an archive may lie over each other, so that a small one holds a bomb of any size.
        self._budget -= len(data) + member.packed
        self.archive(io.BytesIO(data), len(data), member.name, depth + 1)


def read(path: str, entry: Entry, file: IO[bytes], collector: Collector) -> None:
    """Record the packages that the archive is or holds."""
    if entry.size > limits.JAR_BYTES:
        collector.note(path, f"an archive of {entry.size} bytes is not read")
        return
    walk = _Walk(path, collector)
    walk.archive(io.BytesIO(file.read(entry.size)), entry.size, path, 0)
    collector.add_packages(path, tuple(package for _, package in sorted(walk.packages.items())))
