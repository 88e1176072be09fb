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
        self._numbers: dict[str, int] = {}

    def _number(self, path: str) -> int:
        found = self._numbers.get(path)
        if found is None:
            found = self._numbers[path] = number(path)
        return found

    def _hides(self, index: int, path: str, above: list[str]) -> bool:
        """Whether layer `index`, which does not have `path` itself, hides it in the layers below."""
        whiteouts, opaque, paths = self._whiteouts[index], self._opaque[index], self._paths[index]
        if whiteouts and (path in whiteouts or not whiteouts.isdisjoint(above)):
            return True
        if opaque and ("" in opaque or not opaque.isdisjoint(above)):
            return True
        return any(paths.kind(self._number(folder)) == "file" for folder in above)

    def history(self, path: str) -> Iterator[tuple[int, Kind]]:
        """Layers that have `path`, topmost first, down to the one below which it is hidden.

        The first is what a container sees; the others are what it replaced.
        """
        above = ancestors(path)
        for index in range(len(self._layers) - 1, -1, -1):
            kind = self._paths[index].kind(self._number(path))
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
