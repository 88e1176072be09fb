"""Hard links: what is known of a file under one name, said of it under another.

A file of a layer is read once, under its first name. Where a link is read alike, what was found holds for it, too;
it stays when a later entry or layer deletes or replaces the first name. The file may be one of a layer below: then what
that layer says is taken over when layers are stacked.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError
from tidewaiter.inspection.catalogers import models
from tidewaiter.inspection.layer_facts import (
    UNREAD_LINK,
    Collector,
    Exposure,
    FoundBuild,
    FoundLink,
    FoundModel,
    FoundPackage,
    LayerFacts,
    Unread,
)
from tidewaiter.inspection.overlay import Overlay


def _at(said: Any, path: str) -> Any:  # noqa: ANN401  # whatever catalogers say of a file
    """What is `said` of a file, said of the same file under the name `path`."""
    if isinstance(said, FoundPackage):
        return msgspec.structs.replace(said, location=path)
    if isinstance(said, FoundModel):
        return models.named(said, path)
    if isinstance(said, FoundBuild | Exposure | Unread):
        return msgspec.structs.replace(said, path=path)
    if isinstance(said, tuple):
        return tuple(_at(one, path) for one in said)
    return said


def say(collector: Collector, path: str, target: str, *, alike: bool) -> None:
    """Say of `path`, a hard link, what was said of `target` so far: all of it when both are read alike.

    Else only what the permissions of a file allow, which all of its names share.
    """
    for one in collector.exposures.get(target, ()):
        same = _at(one, path)
        if one.kind != "secret" and same not in collector.exposures.get(path, ()):
            collector.add_exposure(same)
    if not alike:
        return
    if target in collector.packages:
        collector.add_packages(path, _at(collector.packages[target], path))
    for said in collector.of_content:
        if target in said:
            collector.keep(path, repr(said[target]))
            said[path] = _at(said[target], path)
    if target in collector.editable:
        collector.keep(path)
        collector.editable.add(path)


_TABLES = ("links", "copyrights", "develop", "archives", "os_releases", "users")
_FOUND = ("packages", "builds", "models", "unread", "exposures")


class _Said:
    """What a layer says, by path."""

    def __init__(self, layer: LayerFacts) -> None:
        self.layer = layer
        self.found: dict[str, dict[str, list[Any]]] = {}
        for name in _FOUND:
            table = self.found[name] = {}
            for one in getattr(layer, name):
                table.setdefault(one.location if isinstance(one, FoundPackage) else one.path, []).append(one)


class _Taking:
    """A layer that takes over what others say."""

    def __init__(self, layer: LayerFacts) -> None:
        self._layer = layer
        self._tables: dict[str, dict[str, Any]] = {name: dict(getattr(layer, name)) for name in _TABLES}
        self._found: dict[str, list[Any]] = {name: list(getattr(layer, name)) for name in _FOUND}
        self._editable = set(layer.editable)
        self._count = 0

    def _add(self, name: str, said: Any) -> None:  # noqa: ANN401  # whatever catalogers say of a file
        self._count += 1
        if self._count > limits.COMPONENTS:
            raise LimitError(
                f"what a layer links to in layers below says more than {limits.COMPONENTS} things",
                next_step="Do not use this image.",
            )
        self._found[name].append(said)

    def lost(self, link: FoundLink) -> None:
        """Its file is nowhere."""
        self._add("unread", Unread(link.path, UNREAD_LINK))

    def take(self, link: FoundLink, target: str, source: _Said) -> None:
        """Take over what `source` says of `target`."""
        for name in _FOUND:
            for one in source.found[name].get(target, ()):
                if (link.alike or name == "exposures") and (name != "exposures" or one.kind != "secret"):
                    self._add(name, _at(one, link.path))
        if not link.alike:
            return
        for name in _TABLES:
            table = getattr(source.layer, name)
            if target in table:
                self._tables[name][link.path] = table[target]
        if target in source.layer.editable:
            self._editable.add(link.path)

    def layer(self) -> LayerFacts:
        """With all that was taken over."""
        found = {name: tuple(said) for name, said in self._found.items()}
        for name in ("unread", "exposures"):
            found[name] = tuple(sorted(set(found[name])))
        return msgspec.structs.replace(self._layer, editable=tuple(sorted(self._editable)), **self._tables, **found)


def resolved(layers: Sequence[LayerFacts]) -> list[LayerFacts]:
    """The layers of an image, base first, each with what those below it say of the files that it has links to.

    Raises:
        LimitError: that is more than `limits.COMPONENTS` things.
    """
    done: list[LayerFacts] = []
    for layer in layers:
        if not layer.linked:
            done.append(layer)
            continue
        taking, below, said = _Taking(layer), Overlay(done), dict[int, _Said]()
        for link in layer.linked:
            target = link.target if below.top(link.target) is not None else below.resolve(link.target)
            top = None if target is None else below.top(target)
            if target is None or top is None:
                taking.lost(link)
                continue
            source = said.get(top[0]) or said.setdefault(top[0], _Said(done[top[0]]))
            taking.take(link, target, source)
        done.append(taking.layer())
    return done
