"""What lies in an image as a tree by size, and which layers it came from."""

from collections.abc import Iterator

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError, NotFoundError
from tidewaiter.inspection.listing import Kind
from tidewaiter.inspection.stack import Stack


class Share(msgspec.Struct, frozen=True):
    """What one layer (a diff ID) brings of something."""

    layer: str
    size: int
    files: int


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file, or a folder with all that lies in it, whether it is shown or not."""

    path: str
    kind: str
    """`file`, `directory`, `symlink` or `hardlink`."""
    size: int
    """Bytes of regular files; those of a hard link are counted where its file is."""
    files: int
    """Regular files."""
    layers: tuple[Share, ...]
    """Base first. A folder comes from all that list it or bring something in it."""
    target: str = ""
    """Of a link."""


class _Sum:
    def __init__(self) -> None:
        self.kind = Kind.DIRECTORY
        self.target = ""
        self.shares: dict[int, list[int]] = {}

    def add(self, layer: int, size: int, files: int) -> None:
        share = self.shares.setdefault(layer, [0, 0])
        share[0] += size
        share[1] += files


def _bounded(sums: dict[str, _Sum], path: str) -> _Sum:
    """The sum of `path`, made when it is missing; raises `LimitError` when there are too many."""
    found = sums.get(path)
    if found is None:
        if len(sums) >= limits.TREE_NODES:
            raise LimitError(
                f"the tree has more than {limits.TREE_NODES} files and folders",
                next_step="Ask for fewer levels (--depth), or for a folder: `tidewaiter contents IMAGE PATH`.",
            )
        found = sums[path] = _Sum()
    return found


def _collect(stack: Stack, root: str, depth: int) -> dict[str, _Sum]:
    """Sums by path, for `root` and `depth` levels below it; what lies deeper counts in the last of them."""
    sums: dict[str, _Sum] = {}
    level = root.count("/") + 1 if root else 0
    below = f"{root}/" if root else ""
    for index in range(len(stack.items)):
        for seen in stack.seen(index):
            path = seen.path
            if path != root and not path.startswith(below):
                continue
            shown = "/".join(path.split("/", level + depth)[: level + depth]) if depth or path == root else root
            found = _bounded(sums, shown)
            if shown == path:
                found.kind, found.target = seen.kind, seen.target
            found.add(index, seen.size, int(seen.kind is Kind.FILE))
    return sums


def _with_folders(sums: dict[str, _Sum], root: str) -> dict[str, _Sum]:
    """Sums with what lies in a folder counted in it, up to `root`; folders that no layer lists are added."""
    whole: dict[str, _Sum] = {}
    for path, own in sums.items():
        same = _bounded(whole, path)
        same.kind, same.target = own.kind, own.target
        here = path
        while True:
            total = _bounded(whole, here)
            for layer, (size, files) in own.shares.items():
                total.add(layer, size, files)
            if here == root:
                break
            here = here.rpartition("/")[0]
    return whole


def tree(stack: Stack, path: str, depth: int) -> tuple[Node, ...]:
    """`path` (empty for the root) and `depth` levels below it, each folder before what lies in it, the largest first.

    Raises:
        NotFoundError: a container sees nothing at `path`.
        LimitError: there are more than `limits.TREE_NODES`.
        UndeterminedError: what is known of a layer is lost.
    """
    whole = _with_folders(_collect(stack, path, depth), path)
    if not whole and not path:
        whole[path] = _Sum()  # an image without files
    if not whole:
        raise NotFoundError(
            f"the image has nothing at /{path}", next_step="Look from the root: `tidewaiter contents IMAGE`."
        )
    children: dict[str, list[str]] = {}
    for one in whole:
        if one != path:
            children.setdefault(one.rpartition("/")[0], []).append(one)
    sizes = {one: sum(size for size, _ in total.shares.values()) for one, total in whole.items()}

    def walk() -> Iterator[Node]:
        left = [path]
        while left:
            here = left.pop()
            total = whole[here]
            shares = [Share(stack.items[at][1], size, files) for at, (size, files) in sorted(total.shares.items())]
            yield Node(
                path=here,
                kind=total.kind.name.lower(),
                size=sizes[here],
                files=sum(share.files for share in shares),
                layers=tuple(shares),
                target=total.target,
            )
            left.extend(sorted(children.get(here, ()), key=lambda one: (-sizes[one], one), reverse=True))

    return tuple(walk())
