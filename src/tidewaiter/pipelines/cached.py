"""What lies in a home's cache: entries that can be had again, each with its size and its last use."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from tidewaiter.core.leases import Uses
from tidewaiter.core.settings import Home
from tidewaiter.oci.digest import Digest

_FOLDERS = ("wheels", "rootfs", "images", "sources")
"""Sections whose entries are folders; who uses one claims it."""
_FILES = (
    *("debs", "wheel-files", "layer-facts", "blob-places", "own-wheels", "layer-listings", "known-locks"),
    "index-answers",
)
"""Sections whose entries are files: claimed, or read at once and missed without harm."""
_WHOLE = ("buildah",)
"""Sections that another program keeps in its own order: claimed, and removed, as a whole."""
LAYERS = "layers"
"""The section of records that say which blob of the store is which layer."""
WORK = "work"
LOCKS = ("locks", "signing")
PARTIAL = re.compile(r"sha(?:256|512)-[0-9a-f]{64,128}\.partial")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be removed by itself."""

    section: str
    paths: tuple[Path, ...]
    """What is removed: the thing first, then what belongs to it."""
    size: int
    """Bytes."""
    used: float
    """Unix time of the last use, or of its making when no use is known."""
    in_use: bool
    """By a process that lives."""


class Found(msgspec.Struct, frozen=True):
    """Something that was seen in a section; its size is known before the gate is taken, since that takes time."""

    section: str
    path: Path
    size: int
    changed: float
    known: bool
    """Whether users of this section claim what they use; otherwise nothing is removed while anybody works."""

    def entry(self, home: Home, uses: Uses) -> Entry:
        """The entry, with what is known of its use."""
        name = self.path.relative_to(home.path).as_posix()
        stamp = self.path.with_name(f"{self.path.name}.stamp")
        return Entry(
            section=self.section,
            paths=(self.path, stamp) if self.section == "rootfs" else (self.path,),
            size=self.size,
            used=max(self.changed, uses.last.get(name, 0.0)),
            in_use=name in uses.claimed or (not self.known and uses.running > 0),
        )


class Record(msgspec.Struct, frozen=True):
    """A record of the layer cache."""

    path: Path
    digest: Digest
    """The blob that it names."""


class _LayerDigest(msgspec.Struct):
    digest: Digest


class _LayerRecord(msgspec.Struct):
    info: _LayerDigest


def seen(home: Home) -> list[Found]:
    """Everything in the cache but locks, layer records and what is being made."""
    found: list[Found] = []
    for section in _children(home.cache):
        if not section.is_dir(follow_symlinks=False) or section.name in {LAYERS, WORK, *LOCKS}:
            continue
        known = section.name in {*_FOLDERS, *_FILES, *_WHOLE}
        for path in _entries(Path(section)):
            if path.name.startswith(".") or path.suffix in {".lock", ".stamp"}:
                continue
            try:
                status = path.lstat()
                size = _size(path)
            except FileNotFoundError:
                continue  # finished by its owner meanwhile
            found.append(Found(section.name, path, size, status.st_mtime, known))
    for partial in _children(home.store / ".ingest"):
        if PARTIAL.fullmatch(partial.name):
            status = partial.stat(follow_symlinks=False)
            found.append(Found("downloads", Path(partial), status.st_size, status.st_mtime, known=False))
    return found


def _entries(section: Path) -> Iterable[Path]:
    if section.name in _FILES:
        return _files(section)
    if section.name in _FOLDERS:
        return map(Path, _children(section))
    return (section,)  # nobody here knows how its parts hang together


def records(home: Home) -> list[Record]:
    """The records of the layer cache; a damaged one names no blob."""
    found = []
    for path in (home.cache / LAYERS).glob("*.json"):
        try:
            digest = msgspec.json.decode(path.read_bytes(), type=_LayerRecord).info.digest
        except FileNotFoundError:
            continue
        except (ValueError, RecursionError):
            digest = Digest("")
        found.append(Record(path, digest))
    return found


def locks(home: Home) -> Iterator[Path]:
    """Lock files in the cache; those that nobody holds can go."""
    for section in _children(home.cache):
        if section.is_dir(follow_symlinks=False):
            yield from Path(section).glob("*.lock")


def leftovers(home: Home) -> Iterator[Path]:
    """What a process makes before it has a name, or moved away to remove it: garbage when nobody works."""
    yield from map(Path, _children(home.cache / WORK))
    yield from (Path(one) for one in _children(home.store / ".ingest") if not PARTIAL.fullmatch(one.name))
    for folder in (home.cache, *(Path(one) for one in _children(home.cache) if one.is_dir(follow_symlinks=False))):
        yield from (Path(one) for one in _children(folder) if one.name.startswith("."))


def _children(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; one with several names counts once."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    found = {}
    for parent, _, names in os.walk(path):
        for name in names:
            status = os.lstat(os.path.join(parent, name))  # noqa: PTH118  # tens of thousands of files
            found[status.st_ino] = status.st_size
    return sum(found.values())
