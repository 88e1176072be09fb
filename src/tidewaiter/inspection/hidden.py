"""What of a layer no container sees, because a layer above replaces or deletes it (image-spec, "Applying Changesets").

Computed for all layers of an image from their sorted path numbers, range by range, so that an image of millions of
files needs little memory. Paths themselves are only looked at where a folder is hidden with all that lies in it.
"""

import hashlib
import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from tidewaiter.inspection.layer_facts import LayerFacts
from tidewaiter.inspection.paths import PathSet, ancestors, number

_RANGE = 1 << 17
"""Path numbers that are compared at once."""

Fate = Literal["", "replaced", "deleted"]
_is_odd = (1).__and__
"""Whether a path number is that of a folder."""


class Hidden(msgspec.Struct, frozen=True):
    """What the layers above hide of one layer. Numbers are those of `paths.number`; false when it is nothing."""

    replaced: frozenset[int] = frozenset()
    """Files of which a layer above has another."""
    deleted: frozenset[int] = frozenset()
    """Files with a whiteout."""
    covered: frozenset[int] = frozenset()
    """Folders where a layer above has a file."""
    folders: frozenset[str] = frozenset()
    """Folders with a whiteout."""
    emptied: frozenset[str] = frozenset()
    """Folders that a layer above has made opaque; the root is empty."""

    def __bool__(self) -> bool:
        return bool(self.replaced or self.deleted or self.covered or self.folders or self.emptied)

    @property
    def digest(self) -> str:
        """Name of this set."""
        found = hashlib.sha256()
        for numbers in (self.replaced, self.deleted, self.covered):
            found.update(array("Q", sorted(numbers)).tobytes() + b"\n")
        for texts in (self.folders, self.emptied):
            found.update("\n".join(sorted(texts)).encode() + b"\n\n")
        return found.hexdigest()


NOTHING = Hidden()


class Sight:
    """Tells of the paths of a layer, best asked in their order, whether a container sees them."""

    def __init__(self, hidden: Hidden) -> None:
        self._hidden = hidden
        self._by_folder = bool(hidden.folders or hidden.emptied or hidden.covered)
        self._by_number = bool(hidden.replaced or hidden.deleted or hidden.covered)
        self._folder = ""
        self._folder_fate: Fate = self._inside("")

    def _inside(self, folder: str) -> Fate:
        """Fate of everything that lies in `folder`."""
        hidden = self._hidden
        above = ["", *ancestors(folder), folder]
        if not hidden.folders.isdisjoint(above) or not hidden.emptied.isdisjoint(above):
            return "deleted"
        if hidden.covered and any(number(one) in hidden.covered for one in above):
            return "replaced"
        return ""

    def fate(self, path: str) -> Fate:
        """What became of `path`; empty when it is seen."""
        hidden = self._hidden
        if self._by_folder:
            folder = path.rpartition("/")[0]
            if folder != self._folder:
                self._folder, self._folder_fate = folder, self._inside(folder)
            if self._folder_fate:
                return self._folder_fate
            if path in hidden.folders:
                return "deleted"
        if self._by_number:
            own = number(path)
            if own in hidden.replaced or own in hidden.covered:
                return "replaced"
            if own in hidden.deleted:
                return "deleted"
        return ""


def _numbers(layer: LayerFacts) -> "array[int]":
    """Of all paths and folders in the layer, sorted."""
    packed = layer.paths + layer.implied
    few = len(packed) <= _RANGE * 8
    found = array("Q")
    found.frombytes(PathSet(packed).pack() if layer.implied and not few else packed)
    if sys.byteorder == "big":
        found.byteswap()
    # Two rows, each sorted, are quickly made one; for very many numbers there is not the room.
    return array("Q", sorted(found)) if layer.implied and few else found


class _Found:
    """What was found for one layer so far."""

    def __init__(self) -> None:
        self.replaced: set[int] = set()
        self.deleted: set[int] = set()
        self.covered: set[int] = set()
        self.folders: set[str] = set()
        self.emptied: set[str] = set()

    def hidden(self) -> Hidden:
        return Hidden(
            frozenset(self.replaced),
            frozenset(self.deleted),
            frozenset(self.covered),
            frozenset(self.folders),
            frozenset(self.emptied),
        )


def _replaced(layers: "list[array[int]]", found: list[_Found]) -> None:
    """Files and folders that a layer above has as well, with one of the two being a file."""
    ranges = max(1, sum(map(len, layers)) // _RANGE)
    for step in range(ranges):
        start, end = step * 2**64 // ranges, (step + 1) * 2**64 // ranges
        parts = [_parted(numbers[bisect_left(numbers, start) : bisect_left(numbers, end)]) for numbers in layers]
        twice = _twice(parts)
        if not twice:
            continue  # most images replace little
        above_files: set[int] = set()
        above_folders: set[int] = set()
        for index in range(len(layers) - 1, -1, -1):
            files, folders = parts[index].files & twice, parts[index].folders & twice
            found[index].replaced.update(files & above_files, files & above_folders)
            found[index].covered.update(folders & above_files)
            above_files |= files
            above_folders |= folders


class _Parted(NamedTuple):
    """Paths of a layer."""

    files: set[int]
    folders: set[int]
    """By the numbers that files of these paths would have."""


def _parted(numbers: "array[int]") -> _Parted:
    files = set(numbers)
    odd = list(filter(_is_odd, files))
    files.difference_update(odd)
    return _Parted(files, {one - 1 for one in odd})


def _twice(parts: Sequence[_Parted]) -> set[int]:
    """Files that are in several layers, and files where another layer has a folder."""
    files: set[int] = set()
    folders: set[int] = set()
    found: set[int] = set()
    for part in parts:
        found |= part.files & files
        files |= part.files
        folders |= part.folders
    return found | files & folders


def _deleted(layers: Sequence[LayerFacts], arrays: "list[array[int]]", found: list[_Found]) -> None:
    """Files and folders for which a layer above has a whiteout, and folders that it makes opaque."""
    whiteouts: dict[int, str] = {}
    opaque: dict[int, str] = {}
    for index in range(len(layers) - 1, -1, -1):
        layer, numbers = layers[index], arrays[index]
        if whiteouts:
            found[index].deleted.update(whiteouts.keys() & numbers)
            found[index].folders.update(whiteouts[one - 1] for one in _odd(whiteouts).intersection(numbers))
        if opaque:
            found[index].emptied.update(opaque[one - 1] for one in _odd(opaque).intersection(numbers))
            if number("") in opaque:
                found[index].emptied.add("")
        whiteouts |= {number(path): path for path in layer.whiteouts}
        opaque |= {number(path): path for path in layer.opaque}


def _odd(numbers: dict[int, str]) -> set[int]:
    return {one + 1 for one in numbers}


def of(layers: Sequence[LayerFacts]) -> list[Hidden]:
    """For each layer of an image, base first, what those above hide of it."""
    arrays = [_numbers(layer) for layer in layers]
    found = [_Found() for _ in layers]
    if len(layers) > 1:
        _replaced(arrays, found)
        _deleted(layers, arrays, found)
    return [one.hidden() for one in found]
