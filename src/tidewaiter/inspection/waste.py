"""How many bytes of a layer belong to which package, and which of them nobody needs.

Counted are bytes of regular files that a container sees; a hard link adds none to the file that it leads to. What a
layer above replaces or deletes is waste; so are package managers' caches, tests inside packages, and shared libraries
that lie in the image twice.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress, pairwise, repeat

import msgspec

from tidewaiter.inspection import listing
from tidewaiter.inspection.facts import Waste, WasteExample, WasteKind
from tidewaiter.inspection.hidden import NOTHING, Hidden, Sight
from tidewaiter.inspection.layer_facts import FoundPackage, Measured, Pile
from tidewaiter.inspection.paths import number
from tidewaiter.sbom.component import Component

EXAMPLES = 5
"""Largest files that are named of each kind of waste."""
_LIBRARY_BYTES = 256 << 10
_LIBRARIES = 2000
"""Libraries of one layer that are compared with those of others, largest first."""
# lib/NAME.so.1.2, and the eight characters by which auditwheel tells copies apart: libgfortran-040039e1.so.5.0.0
_LIBRARY = re.compile(r"(lib[^/]{1,120}?)(?:-[0-9a-f]{8})?\.so(?:\.(\d{1,9}))?(?:\.\d{1,9}){0,4}")
_CACHES_AT = (
    *("var/lib/apt/lists/", "var/cache/apt/", "var/cache/apk/", "var/cache/dnf/", "var/cache/libdnf5/"),
    *("var/cache/yum/", "var/cache/zypp/", "etc/apk/cache/"),
)
_CACHE = re.compile(
    r"(?:root|home/[^/]+)/(?:\.cache/(?:pip|uv|pipenv|pypoetry|conda|yarn|pnpm|npm|node|go-build|bazel)/"
    r"|\.npm/_cacache/|\.yarn/cache/|\.conda/pkgs/|\.cargo/registry/|\.m2/repository/|\.gradle/caches/|go/pkg/mod/cache/)"
)
_CONDA = re.compile(r"conda|mamba|forge")
# Two searches, because paths are hostile: one pattern with two gaps would look at each of them over and over.
_PACKAGES = re.compile(r"(?:^|/)(?:site-packages|dist-packages|node_modules|lib/python3\.\d+)/")
_TESTS = re.compile(r"/(?:tests?|idle_test)/")
_BYTECODE = re.compile(r"(.*/)?__pycache__/([^/]+?)\.[a-z]+-\d+(?:\.opt-[12])?\.pyc")
_MODULES = "node_modules/"
_ARCHITECTURE = re.compile(r"[?&]arch=([^&#]+)")


def is_cache(path: str) -> bool:
    """Whether a package manager keeps the file, which no package calls its own, only to be faster next time."""
    if path.startswith(_CACHES_AT):
        return True
    if path.startswith(("root/", "home/")) and _CACHE.match(path):
        return True
    if "/pkgs/" not in path:
        return False
    folders = path.split("/")
    return any(below == "pkgs" and _CONDA.search(folder) for folder, below in pairwise(folders[:-1]))


def is_test(path: str) -> bool:
    """Whether the file belongs to the tests of an installed package, or of Python itself."""
    packages = _PACKAGES.search(path)
    return packages is not None and _TESTS.search(path, packages.end() - 1) is not None


def owner_keys(component: Component) -> tuple[str, ...]:
    """Names under which the component's files are claimed, likeliest first.

    Databases of whole distributions name packages; of the others the place of their metadata is the name.
    """
    if component.kind == "deb":
        architecture = _ARCHITECTURE.search(component.purl)
        plain = f"deb {component.name}"
        return (f"{plain}:{architecture[1]}", plain) if architecture else (plain,)
    if component.kind in {"apk", "rpm"}:
        return (f"{component.kind} {component.name}",)
    return (component.location,)


class _Owners:
    """Who owns a file of the layer."""

    def __init__(self, data: bytes, packages: Iterable[FoundPackage]) -> None:
        self._claims: dict[str, str] = {}
        for claim in listing.claims(data):
            self._claims.update(zip(claim.paths(), repeat(claim.owner)))
        self._modules = {package.location for package in packages if package.kind == "npm"}

    def of_all(self, paths: list[str]) -> list[str | None]:
        """Owners by what packages say."""
        return list(map(self._claims.get, paths))

    def by_place(self, path: str) -> str | None:
        """Owner of a file that no package names: bytecode belongs to its source, a module's files lie in its folder."""
        if path.endswith(".pyc"):
            source = _BYTECODE.fullmatch(path)
            if source:
                return self._claims.get(f"{source[1] or ''}{source[2]}.py")
        if self._modules and _MODULES in path:
            start = path.rindex(_MODULES) + len(_MODULES)
            end = path.find("/", start)
            if end > 0 and path[start] == "@":
                end = path.find("/", end + 1)
            if end > 0 and f"{path[:end]}/package.json" in self._modules:
                return f"{path[:end]}/package.json"
        return None


class _Heap:
    """A pile in the making."""

    def __init__(self) -> None:
        self._size = 0
        self._files = 0
        self._largest: list[tuple[int, str]] = []
        self._least = -1

    def add(self, path: str, size: int) -> None:
        self._size += size
        self._files += 1
        if size > self._least:
            self._largest = sorted([*self._largest, (size, path)], key=lambda one: (-one[0], one[1]))[:EXAMPLES]
            self._least = self._largest[-1][0] if len(self._largest) == EXAMPLES else -1

    def pile(self) -> Pile:
        return Pile(self._size, self._files, tuple((path, size) for size, path in self._largest))


def _kept_by_links(data: bytes, sight: Sight) -> frozenset[int]:
    """Files that are hidden under their own name and seen under that of a hard link."""
    found = set()
    for rows in listing.rows(data):
        for index, target in rows.targets.items():
            if not sight.fate(rows.paths[index]):
                found.add(number(target))
    return frozenset(found)


class _Scale:
    """Weighs the rows of one layer."""

    def __init__(self, owners: _Owners) -> None:
        self._owners = owners
        self.owned: dict[str, list[int]] = {}
        self.unowned = [0, 0]
        self.heaps: dict[WasteKind, _Heap] = {}
        self.libraries: list[tuple[int, str]] = []

    def waste(self, path: str, size: int, kind: WasteKind) -> None:
        """Take a wasted file."""
        self.heaps.setdefault(kind, _Heap()).add(path, size)

    def add(self, rows: listing.Rows, seen: Sequence[bool] | None) -> None:
        """Take rows; `seen` says which of them are seen when not all are."""
        paths, sizes, modes = rows.paths, rows.sizes, rows.modes
        if seen is not None:
            paths = list(compress(paths, seen))
            sizes, modes = array("Q", compress(sizes, seen)), array("H", compress(modes, seen))
        # Files of one package mostly come in a row, and an owner is the same object in all of them.
        last: str | None = None
        total = self.unowned
        orphans = []
        for index, (owner, size, mode) in enumerate(zip(self._owners.of_all(paths), sizes, modes, strict=True)):
            if mode >= listing.FILES_BELOW:
                continue
            who = owner or self._owners.by_place(paths[index])
            if who is not last:
                total = self.owned.setdefault(who, [0, 0]) if who else self.unowned
                last = who
            if who is None:
                orphans.append(index)
            total[0] += size
            total[1] += 1
        self._judge(paths, sizes, modes, orphans)

    def _judge(self, paths: list[str], sizes: "array[int]", modes: "array[int]", orphans: list[int]) -> None:
        """Tell waste, and libraries that may be, by their paths; `orphans` are files that no package calls its own."""
        caches = {index for index in orphans if is_cache(paths[index])}
        for index in caches:
            self.waste(paths[index], sizes[index], "package_cache")
        for index, path in enumerate(paths):
            if "test" in path and modes[index] < listing.FILES_BELOW and index not in caches and is_test(path):
                self.waste(path, sizes[index], "tests")
        for index, size in enumerate(sizes):
            if size >= _LIBRARY_BYTES and ".so" in paths[index]:
                self.libraries.append((size, paths[index]))

    def measured(self) -> Measured:
        libraries = sorted(self.libraries, key=lambda one: (-one[0], one[1]))[:_LIBRARIES]
        return Measured(
            owned={owner: (size, files) for owner, (size, files) in sorted(self.owned.items())},
            visible=(
                self.unowned[0] + sum(size for size, _ in self.owned.values()),
                self.unowned[1] + sum(files for _, files in self.owned.values()),
            ),
            unowned=(self.unowned[0], self.unowned[1]),
            piles={kind: heap.pile() for kind, heap in sorted(self.heaps.items())},
            libraries=tuple((path, size) for size, path in libraries),
        )


def measure(data: bytes, packages: Iterable[FoundPackage], hidden: Hidden = NOTHING) -> Measured:
    """The layer with the listing `data` weighed, less what is `hidden` of it.

    Raises:
        UndeterminedError: the listing is damaged.
    """
    scale = _Scale(_Owners(data, packages))
    if not hidden:
        for rows in listing.rows(data):
            scale.add(rows, None)
        return scale.measured()
    kept = _kept_by_links(data, Sight(hidden))
    sight = Sight(hidden)
    for rows in listing.rows(data):
        seen = []
        for path, size, mode in zip(rows.paths, rows.sizes, rows.modes, strict=True):
            fate = sight.fate(path)
            if fate and mode < listing.FILES_BELOW and kept and number(path) in kept:
                fate = ""
            seen.append(not fate)
            if fate and mode < listing.FILES_BELOW:
                scale.waste(path, size, fate)
        scale.add(rows, seen)
    return scale.measured()


class Weights(msgspec.Struct, frozen=True):
    """The bytes of an image: whose they are, and which are wasted."""

    visible: tuple[int, int]
    """Bytes and number of the regular files that a container sees."""
    unowned: tuple[int, int]
    """Those of them that no package calls its own."""
    owned: dict[str, tuple[int, int]]
    """Bytes and number by `owner_keys`."""
    wasted: tuple[Waste, ...]
    """Most bytes first."""
    hidden: tuple[int, ...]
    """By layer: bytes that layers above replace or delete."""

    def sized(self, component: Component) -> Component:
        """The component with bytes and number of its files."""
        size, files = next((self.owned[key] for key in owner_keys(component) if key in self.owned), (0, 0))
        return msgspec.structs.replace(component, size=size, files=files) if files else component


def _copies_of(path: str, size: int) -> tuple[str, int] | None:
    """What a library has in common with its copies: the name that the loader looks for, as the file's name tells it.

    Without a version in it, also the size. None for what is no library, or is one for another architecture.
    """
    match = _LIBRARY.fullmatch(path.rpartition("/")[2])
    if match is None or "lib32/" in path or "/i386-linux-gnu/" in path:
        return None
    return (f"{match[1]}.so.{match[2]}", 0) if match[2] else (f"{match[1]}.so", size)


def _duplicates(libraries: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Libraries that another one of the same name, at least as large, makes superfluous."""
    named: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for path, size in libraries:
        name = _copies_of(path, size)
        if name is not None:
            named.setdefault(name, []).append((-size, path))
    for copies in named.values():
        folders = {path.rpartition("/")[0] for _, path in copies}
        if len(folders) > 1:
            yield from ((path, -size) for size, path in sorted(copies)[1:])


def weigh(measured: Sequence[Measured]) -> Weights:
    """The layers of an image together, each weighed less what those above hide of it."""
    owned: dict[str, tuple[int, int]] = {}
    piles: dict[WasteKind, list[Pile]] = {}
    libraries: list[tuple[str, int]] = []
    for layer in measured:
        for owner, (size, files) in layer.owned.items():
            before = owned.get(owner, (0, 0))
            owned[owner] = before[0] + size, before[1] + files
        for kind, pile in layer.piles.items():
            piles.setdefault(kind, []).append(pile)
        libraries.extend(layer.libraries)
    double = _Heap()
    for path, size in _duplicates(libraries):
        double.add(path, size)
    if double.pile().files:
        piles["duplicate_library"] = [double.pile()]
    return Weights(
        visible=(sum(one.visible[0] for one in measured), sum(one.visible[1] for one in measured)),
        unowned=(sum(one.unowned[0] for one in measured), sum(one.unowned[1] for one in measured)),
        owned=owned,
        wasted=_wastes(piles),
        hidden=tuple(
            sum(layer.piles[kind].size for kind in ("replaced", "deleted") if kind in layer.piles) for layer in measured
        ),
    )


def _wastes(piles: Mapping[WasteKind, list[Pile]]) -> tuple[Waste, ...]:
    found = []
    for kind, parts in piles.items():
        largest = sorted((one for pile in parts for one in pile.examples), key=lambda one: (-one[1], one[0]))
        found.append(
            Waste(
                kind=kind,
                size=sum(pile.size for pile in parts),
                files=sum(pile.files for pile in parts),
                examples=tuple(WasteExample(path, size) for path, size in largest[:EXAMPLES]),
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.size, one.kind)))
