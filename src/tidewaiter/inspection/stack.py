"""The layers of an image with all that is known of each: facts, listing, what the others hide of it."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from tidewaiter.core.errors import UndeterminedError
from tidewaiter.inspection import hidden, listing
from tidewaiter.inspection.hidden import Hidden, Sight
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.inspection.layer_facts import LayerFacts, Measured
from tidewaiter.inspection.listing import Kind
from tidewaiter.oci.digest import Digest

Item = tuple[Digest, Digest]
"""Blob digest and diff ID of a layer."""


class Seen(NamedTuple):
    """An entry that a container sees."""

    path: str
    kind: Kind
    permissions: int
    size: int
    target: str
    """Of a symlink as written, of a hard link the path of the file."""


def _kept(data: bytes, unseen: Hidden) -> dict[str, str]:
    """Files that hard links keep in sight, with the first of these."""
    found: dict[str, str] = {}
    sight = Sight(unseen)
    for rows in listing.rows(data):
        for place, target in rows.targets.items():
            if not sight.fate(rows.paths[place]):
                found.setdefault(target, rows.paths[place])
    return found


class Stack:
    """Layers, base first. Listings come from `cache`, those that are not there from `listings`."""

    def __init__(
        self,
        items: Sequence[Item],
        facts: Mapping[Item, LayerFacts],
        *,
        cache: LayerFactsCache | None,
        listings: Mapping[Item, bytes],
    ) -> None:
        self.items = tuple(items)
        self.facts = self._own = [facts[item] for item in items]
        if any(layer.linked for layer in self._own):
            from tidewaiter.inspection import links  # hardly any layer has such

            self.facts = links.resolved(self._own)
        self._cache = cache
        self._listings = listings

    @cached_property
    def hidden(self) -> list[Hidden]:
        """For each layer, what those above hide of it."""
        return hidden.of(self.facts)

    def _listing(self, index: int) -> bytes:
        item = self.items[index]
        found = self._listings.get(item)
        if found is None and self._cache is not None:
            found = self._cache.listing(*item)
        if found is None:
            if self._cache is not None:
                self._cache.forget(*item)
            raise UndeterminedError(
                f"the listing of layer {item[0]} has gone from the cache, or is damaged",
                next_step="Run the command again: the layer is then read anew.",
            )
        return found

    def seen(self, index: int) -> Iterator[Seen]:
        """What a container sees of a layer; raises `UndeterminedError` when its listing is lost.

        A file that is hidden under its own name, but not under that of a hard link, is seen as the first such link,
        to which the others lead then.
        """
        data = self._listing(index)
        unseen = self.hidden[index]
        links = self.facts[index].links
        kept = _kept(data, unseen) if unseen else {}
        sight = Sight(unseen)
        renamed: dict[str, str] = {}
        for rows in listing.rows(data):
            for place, path in enumerate(rows.paths):
                kind, name = rows.kind(place), path
                if unseen and sight.fate(path):
                    if kind is not Kind.FILE or path not in kept:
                        continue
                    name = renamed[path] = kept[path]
                target = links.get(path, "")
                if kind is Kind.HARDLINK:
                    target = renamed.get(rows.targets[place], rows.targets[place])
                    if renamed and target == path:
                        continue  # it has been seen as the file itself
                yield Seen(name, kind, rows.permissions(place), rows.sizes[place], target)

    def measured(self) -> list[Measured]:
        """The layers weighed, each less what is hidden of it.

        Raises:
            UndeterminedError: a listing is lost.
            StorageError: the cache cannot be written.
        """
        return [self._measured(index) for index in range(len(self.items))]

    def _measured(self, index: int) -> Measured:
        unseen, facts, item = self.hidden[index], self._own[index], self.items[index]
        if not unseen:
            return facts.measured
        name = unseen.digest
        known = None if self._cache is None else self._cache.measured(*item, name)
        if known is None:
            from tidewaiter.inspection import waste

            known = waste.measure(self._listing(index), facts.packages, unseen)
            if self._cache is not None:
                self._cache.put_measured(*item, name, known)
        return known
