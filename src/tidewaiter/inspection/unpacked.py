"""What is left of a layer's entries once they are unpacked one after the other.

Hardly any layer says something of a path twice. Where one does, the last entry counts, and what is no folder takes away
the folder that was there with all that lay in it; the content of a file stays under the names that were linked to it.
Runtimes do so (containerd, Docker, umoci), and so must facts. Where a folder is not listed it may be a link of a layer
below that leads elsewhere: then nothing is known to be gone, and what was found stays.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tidewaiter.inspection import listing
from tidewaiter.inspection.listing import Writer
from tidewaiter.inspection.paths import PathSet, ancestors, number
from tidewaiter.oci.layer import Entry


class _Row(NamedTuple):
    path: str
    entry: Entry
    target: str
    """Of a hard link: the path of the file."""


class Left(NamedTuple):
    """What is left."""

    listing: Writer
    gone: list[str]
    """Paths that were taken away with a folder, and not written again."""
    files: int
    """Regular files."""
    file_bytes: int


def _rows(data: bytes) -> Iterator[_Row]:
    for rows in listing.rows(data):
        for place, path in enumerate(rows.paths):
            kind = rows.kind(place).name.lower()
            entry = Entry(path=path, kind=kind, mode=rows.permissions(place), size=rows.sizes[place])  # type: ignore[arg-type]  # the names are the same
            yield _Row(path, entry, rows.targets.get(place, ""))


def _named_twice(data: bytes, implied: PathSet) -> set[int]:
    """Numbers of the paths of which something is said twice; that something lies in them is one such thing."""
    numbers = implied.as_files()
    for rows in listing.rows(data):
        numbers.extend(map(number, rows.paths))
    return {one for one, other in pairwise(sorted(numbers)) if one == other}


def linked_below(data: bytes) -> dict[str, str]:
    """Hard links whose file does not stand before them in the layer, with the path of that file in a layer below.

    A link to such a link is one, too.
    """
    targets = {target for rows in listing.rows(data) for target in rows.targets.values()}
    there: set[str] = set()
    found: dict[str, str] = {}
    for rows in listing.rows(data):
        for place, path in enumerate(rows.paths):
            target = rows.targets.get(place)
            if target is None or (target in there and target not in found):
                found.pop(path, None)
            else:
                found[path] = found.get(target, target)
            if path in targets:
                there.add(path)
    return found


class _Orphans:
    """Content of files that are gone, for the links that come after them."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._names: dict[str, str] = {}

    def lose(self, row: _Row) -> None:
        """The file, or a link to it, is gone."""
        self._names.pop(row.path, None)
        if row.entry.kind == "file":
            self._sizes[row.path] = row.entry.size
        elif row.entry.kind == "hardlink" and row.target in self._sizes:
            self._sizes[row.path] = self._sizes[row.target]

    def keep(self, row: _Row) -> _Row:
        """The row, as the file itself where that is gone and this is the first link to it."""
        self._sizes.pop(row.path, None)
        self._names.pop(row.path, None)
        if row.entry.kind != "hardlink":
            return row
        if row.target in self._names:
            return row._replace(target=self._names[row.target])
        size = self._sizes.get(row.target)
        if size is None:
            return row
        self._names[row.target] = row.path
        entry = Entry(path=row.path, kind="file", mode=row.entry.mode, size=size)
        return row._replace(entry=entry, target="")


class _Replaced:
    """Which entries are replaced by later ones of their layer."""

    def __init__(self, data: bytes, implied: PathSet) -> None:
        twice = _named_twice(data, implied)
        self._last: dict[str, int] = {}
        self._closed: dict[str, int] = {}  # where paths were last something else than a folder
        self._folders: set[str] = set()  # listed, and not replaced by something else so far
        for at, row in enumerate(_rows(data)):
            if number(row.path) in twice:
                self._last[row.path] = at
                if row.entry.kind != "directory":
                    self._closed[row.path] = at

    def passed(self, row: _Row) -> None:
        """To be told of every entry, in their order."""
        if self._closed:
            (self._folders.add if row.entry.kind == "directory" else self._folders.discard)(row.path)

    def again(self, row: _Row, at: int) -> bool:
        """Whether the path of the entry `at` this place is listed again."""
        return self._last.get(row.path, at) != at

    def taken(self, row: _Row, at: int) -> bool:
        """Whether the entry is taken away with its folder."""
        if self._closed:
            for above in reversed(ancestors(row.path)):
                if above not in self._folders:
                    break
                if self._closed.get(above, -1) > at:
                    return True
        return False


def settled(data: bytes, implied: PathSet) -> Left:
    """What is left of the layer with the listing `data`, in which folders of `implied` are not listed."""
    replaced, orphans = _Replaced(data, implied), _Orphans()
    left = Writer()
    gone: list[str] = []
    files = size = 0
    for at, row in enumerate(_rows(data)):
        again, taken = replaced.again(row, at), replaced.taken(row, at)
        replaced.passed(row)
        if again or taken:
            orphans.lose(row)
            if not again:
                gone.append(row.path)
            continue
        kept = orphans.keep(row)
        left.add(kept.path, kept.entry, kept.target)
        if kept.entry.kind == "file":
            files += 1
            size += kept.entry.size
    for claim in listing.claims(data):
        left.claim(claim.owner, claim.folder, claim.names)
    return Left(left, gone, files, size)
