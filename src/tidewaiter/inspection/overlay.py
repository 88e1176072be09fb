"""Layers stacked into one view (image-spec `layer.md`, "Applying Changesets").

Only what is asked for is computed: for a path, which layer provides it, and what it is there.
"""

import posixpath
from collections.abc import Iterator, Sequence
from typing import Literal

from tidewaiter.core import limits
from tidewaiter.inspection.layer_facts import LayerFacts
from tidewaiter.inspection.paths import PathSet, ancestors, number

Kind = Literal["file", "directory", "link"]


class Overlay:
    """The view of an image's layers, base first."""

    def __init__(self, layers: Sequence[LayerFacts]) -> None:
        self._layers = layers
        self._paths = [PathSet(layer.paths) for layer in layers]
        self._whiteouts = [frozenset(layer.whiteouts) for layer in layers]
        self._opaque = [frozenset(layer.opaque) for layer in layers]
        self._blocks: dict[str, int] = {}

    def _blocked(self, folder: str) -> int:
        """The topmost layer in which `folder` is no folder, so that nothing below is seen in it; -1 when there is none.

        Many paths share their folders.
        """
        found = self._blocks.get(folder)
        if found is None:
            wanted = number(folder)
            indexes = range(len(self._paths) - 1, -1, -1)
            found = next((index for index in indexes if self._paths[index].kind(wanted) == "file"), -1)
            while found > 0 and folder in self._layers[found].links and (lower := self._link_below(found, folder)) >= 0:
                found = lower
            self._blocks[folder] = found
        return found

    def _link_below(self, index: int, folder: str) -> int:
        """The layer whose link `folder` a link of layer `index` has replaced; -1 when it replaced anything else.

        What layers between the two put into the folder went to where the link leads, and is not hidden by another link.
        """
        wanted, above = number(folder), ancestors(folder)
        for lower in range(index - 1, -1, -1):
            if self._hides(lower + 1, folder, above):
                return -1
            if self._paths[lower].kind(wanted) is not None:
                return lower if folder in self._layers[lower].links else -1
        return -1

    def _hides(self, index: int, path: str, above: list[str]) -> bool:
        """Whether layer `index` removes `path`, or a folder that it lies in, from the layers below."""
        whiteouts, opaque = self._whiteouts[index], self._opaque[index]
        if whiteouts and (path in whiteouts or not whiteouts.isdisjoint(above)):
            return True
        return bool(opaque) and ("" in opaque or not opaque.isdisjoint(above))

    def history(self, path: str) -> Iterator[tuple[int, Kind]]:
        """Layers that have `path`, topmost first, down to the one below which it is hidden.

        The first is what a container sees; the others are what it replaced.
        """
        above = ancestors(path)
        wanted = number(path)
        lowest = max(map(self._blocked, above), default=-1)
        for index in range(len(self._layers) - 1, max(lowest, 0) - 1, -1):
            kind = self._paths[index].kind(wanted)
            if kind is not None:
                yield index, "link" if path in self._layers[index].links else kind
            if self._hides(index, path, above):
                return

    def top(self, path: str) -> tuple[int, Kind] | None:
        """Layer and kind of what a container sees at `path`, without following a symlink there."""
        return next(self.history(path), None)

    def resolve(self, path: str) -> str | None:
        """The path of the file that a container opens for `path`, symlinks followed on every level.

        None when there is nothing there, or a loop. Folders that no layer lists are taken to exist.
        """
        left = [part for part in reversed(path.split("/")) if part]
        done: list[str] = []
        followed = 0
        while left:
            part = left.pop()
            if part == ".":
                continue
            if part == "..":
                done = done[:-1]
                continue
            here = "/".join([*done, part])
            found = self.top(here)
            if found is not None and found[1] == "link":
                followed += 1
                if followed > limits.LINKS_FOLLOWED:
                    return None
                target = self._layers[found[0]].links[here]
                if target.startswith("/"):
                    done = []
                left.extend(step for step in reversed(target.split("/")) if step)
                continue
            if not left and (found is None or found[1] != "file"):
                return None
            done.append(part)
        return posixpath.join(*done) if done else None
