"""What changed between two images: packages, files, sizes, facts."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.inspection.listing import Kind
from tidewaiter.inspection.stack import Stack
from tidewaiter.sbom.component import Component

_FIELDS = (
    *("os", "architecture", "operating_system", "user", "runs_as_root", "entrypoint", "cmd", "working_dir"),
    *("exposed_ports", "volumes", "created", "framework"),
)
_MAPPINGS = ("env", "labels", "annotations")


class Sizes(msgspec.Struct, frozen=True):
    """Bytes of both images."""

    what: str
    before: int
    after: int


class PackageChange(msgspec.Struct, frozen=True, kw_only=True):
    """A package that is in one of the images only, or in another version; sizes are those of its files."""

    kind: str
    name: str
    before: tuple[str, ...]
    """Versions; empty when the package was not there."""
    after: tuple[str, ...]
    size_before: int
    size_after: int


class Side(msgspec.Struct, frozen=True):
    """A file or link in one of the images."""

    kind: str
    size: int
    mode: str
    """Octal."""
    target: str
    layer: str
    """Diff ID."""


class FileChange(msgspec.Struct, frozen=True):
    """A path that is in one of the images only, or differs in kind, size, mode or target."""

    path: str
    before: Side | None
    after: Side | None

    @property
    def growth(self) -> int:
        """Bytes that the second image has more."""
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)


class FactChange(msgspec.Struct, frozen=True):
    """A fact with other values."""

    name: str
    before: Any
    after: Any


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What changed from the first image to the second."""

    before: str
    """Digest of the first."""
    after: str
    shared_layers: int
    """Layers with the same content in both."""
    sizes: tuple[Sizes, ...]
    facts: tuple[FactChange, ...]
    packages: tuple[PackageChange, ...]
    files: tuple[FileChange, ...]
    """Greatest change of size first."""
    contents_not_compared: int
    """Files of equal size and mode in different layers: whether their bytes differ is not known."""

    @property
    def differs(self) -> bool:
        """Whether anything is known to differ but the digest."""
        return bool(self.facts or self.packages or self.files)


def _sizes(before: ImageFacts, after: ImageFacts) -> Iterator[Sizes]:
    yield Sizes("compressed", before.size, after.size)
    yield Sizes("unpacked", before.unpacked_size, after.unpacked_size)
    yield Sizes("visible", before.visible_size, after.visible_size)
    yield Sizes("unowned", before.unowned_size, after.unowned_size)
    wasted = [{one.kind: one.size for one in facts.wasted} for facts in (before, after)]
    for kind in sorted(wasted[0].keys() | wasted[1].keys()):
        yield Sizes(f"wasted: {kind}", wasted[0].get(kind, 0), wasted[1].get(kind, 0))


def _facts(before: ImageFacts, after: ImageFacts) -> Iterator[FactChange]:
    for name in _FIELDS:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield FactChange(name, old, new)
    for name in _MAPPINGS:
        old, new = getattr(before, name), getattr(after, name)
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield FactChange(f"{name}.{key}", old.get(key), new.get(key))
    for old, new, what in (
        (
            {(one.kind, one.path) for one in before.programs},
            {(one.kind, one.path) for one in after.programs},
            "programs",
        ),
        ({(one.kind, one.path) for one in before.exposed}, {(one.kind, one.path) for one in after.exposed}, "exposed"),
    ):
        for kind in sorted({kind for kind, _ in old ^ new}):
            gone, come = (sorted(path for which, path in one if which == kind) for one in (old - new, new - old))
            yield FactChange(f"{what}.{kind}", gone, come)


def _packages(before: ImageFacts, after: ImageFacts) -> Iterator[PackageChange]:
    named: dict[tuple[str, str], tuple[list[Component], list[Component]]] = {}
    for side, facts in enumerate((before, after)):
        for component in facts.components:
            named.setdefault((component.kind, component.name), ([], []))[side].append(component)
    for (kind, name), sides in sorted(named.items()):
        old, new = (sorted(component.version for component in side) for side in sides)
        if old != new:
            yield PackageChange(
                kind=kind,
                name=name,
                before=tuple(old),
                after=tuple(new),
                size_before=sum(component.size for component in sides[0]),
                size_after=sum(component.size for component in sides[1]),
            )


def _same_layers(before: Stack, after: Stack) -> tuple[set[int], set[int]]:
    """Layers of either image of which a container of the other one sees exactly the same."""
    other = {(diff_id, unseen.digest) for (_, diff_id), unseen in zip(after.items, after.hidden, strict=True)}
    both = {
        key
        for (_, diff_id), unseen in zip(before.items, before.hidden, strict=True)
        if (key := (diff_id, unseen.digest)) in other
    }

    def of(stack: Stack) -> set[int]:
        return {at for at, (_, diff_id) in enumerate(stack.items) if (diff_id, stack.hidden[at].digest) in both}

    return of(before), of(after)


def _sides(stack: Stack, passed_over: set[int], room: int) -> dict[str, Side]:
    """Files and links that a container sees, by path, of the layers that are not passed over."""
    found: dict[str, Side] = {}
    for index, (_, diff_id) in enumerate(stack.items):
        if index in passed_over:
            continue
        for seen in stack.seen(index):
            if seen.kind is Kind.DIRECTORY:
                continue
            found[seen.path] = Side(seen.kind.name.lower(), seen.size, f"{seen.permissions:04o}", seen.target, diff_id)
            if len(found) > room:
                raise LimitError(
                    f"the images differ in layers with more than {limits.COMPARED_FILES} files",
                    next_step="Compare images that share layers, or compare their packages (`tidewaiter sbom`).",
                )
    return found


def _files(before: Stack, after: Stack) -> tuple[list[FileChange], int]:
    """Changes, and how many files could differ in their bytes only."""
    same = _same_layers(before, after)
    old = _sides(before, same[0], limits.COMPARED_FILES)
    new = _sides(after, same[1], limits.COMPARED_FILES - len(old))
    unknown = 0
    changes = []
    for path in old.keys() | new.keys():
        one, other = old.get(path), new.get(path)
        if one is None or other is None or one != msgspec.structs.replace(other, layer=one.layer):
            changes.append(FileChange(path, one, other))
        elif one.layer != other.layer and one.kind == "file" and one.size:
            unknown += 1
    return sorted(changes, key=lambda change: (-abs(change.growth), change.path)), unknown


def compare(before: tuple[ImageFacts, Stack], after: tuple[ImageFacts, Stack]) -> Difference:
    """What changed from one image to the other.

    Raises:
        LimitError: more than `limits.COMPARED_FILES` would have to be compared.
        UndeterminedError: what is known of a layer is lost.
    """
    files, unknown = _files(before[1], after[1])
    shared = {diff_id for _, diff_id in before[1].items} & {diff_id for _, diff_id in after[1].items}
    return Difference(
        before=before[0].digest,
        after=after[0].digest,
        shared_layers=len(shared),
        sizes=tuple(_sizes(before[0], after[0])),
        facts=tuple(_facts(before[0], after[0])),
        packages=tuple(_packages(before[0], after[0])),
        files=tuple(files),
        contents_not_compared=unknown,
    )
