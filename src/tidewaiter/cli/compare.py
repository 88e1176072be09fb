"""`contents`, `diff`: what lies in an image, by size, and what changed between two."""

from collections.abc import Sequence
from typing import Annotated

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_json, size
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.inspection.difference import Difference, FileChange, PackageChange, Side
from tidewaiter.inspection.tree import Node
from tidewaiter.pipelines import comparing, images


def _check(option: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise InputError(f"{option} is {value}", next_step=f"Give a number from 0 to {most}.")


def contents(
    image: str,
    path: str = "",
    /,
    *,
    depth: int = 2,
    top: int = 15,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Show the files of an image as a tree by size, and the layers that they came from.

    A folder's size is that of all regular files that a container sees in it; a hard link adds nothing.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        path: the folder or file to begin with; the root when it is not given.
        depth: levels of folders to show below it.
        top: entries to show of each folder, the largest; 0 shows all. JSON always has all.
        output: text or json.
    """
    _check("--depth", depth, limits.FOLDER_DEPTH)
    _check("--top", top, limits.TREE_NODES)
    with workshop(looking=True) as shop:
        found = comparing.contents(shop, images.open_named(shop, image), path, depth)
    if output == "json":
        emit_json(found)
        return 0
    emit(f"{found.reference}  {found.digest}")
    for index, layer in enumerate(found.layers, 1):
        emit(f"  layer {index:<3} {layer[7:19]}")
    emit()
    numbers = {layer: index for index, layer in enumerate(found.layers, 1)}
    console.table(("size", "files", "layers", "path"), _rows(found.entries, numbers, top))
    return 0


def _ranges(numbers: Sequence[int]) -> str:
    """`1-3,5` for 1, 2, 3, 5."""
    parts: list[tuple[int, int]] = []
    for one in numbers:
        if parts and parts[-1][1] == one - 1:
            parts[-1] = (parts[-1][0], one)
        else:
            parts.append((one, one))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _rows(nodes: Sequence[Node], numbers: dict[str, int], top: int) -> list[tuple[str, str, str, str]]:
    """Lines of the tree; the smallest entries of a folder become one line."""
    children: dict[str, list[Node]] = {}
    for node in nodes[1:]:
        children.setdefault(node.path.rpartition("/")[0], []).append(node)
    rows: list[tuple[str, str, str, str]] = []
    left: list[tuple[int, list[Node]]] = [(0, [nodes[0]])]
    while left:
        depth, these = left.pop()
        indent = "  " * depth
        if len(these) > 1:  # what was left out of a folder
            total, files = sum(node.size for node in these), sum(node.files for node in these)
            rows.append((size(total), str(files), "", f"{indent}({len(these)} more)"))
            continue
        node = these[0]
        name = node.path.rpartition("/")[2] if depth else f"/{node.path}"
        ending = "/" if node.kind == "directory" and name != "/" else f" -> {node.target}" if node.target else ""
        layers = [numbers[share.layer] for share in node.layers if share.files or len(node.layers) == 1]
        rows.append((size(node.size), str(node.files), _ranges(layers), f"{indent}{name}{ending}"))
        inside = children.get(node.path, [])
        shown = len(inside) if not top or len(inside) == top + 1 else top
        if inside[shown:]:
            left.append((depth + 1, inside[shown:]))
        left.extend((depth + 1, [one]) for one in reversed(inside[:shown]))
    return rows


def diff(
    before: str,
    after: str,
    /,
    *,
    top: int = 20,
    exit_code: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Show what changed between two images: packages, files, size, facts.

    Files are compared by kind, size, mode and target. Of files that are equal in these and lie in different layers
    it is said how many there are: their bytes are not compared.

    Args:
        before: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        after: the other image, named in one of the same ways.
        top: files to show, those whose size changed most; 0 shows all. JSON always has all.
        exit_code: exit with 1 when facts, packages or files differ; without it the answer is 0 either way.
        output: text or json.
    """
    _check("--top", top, limits.COMPARED_FILES)
    with workshop(looking=True) as shop:
        found = comparing.diff(shop, images.open_named(shop, before), images.open_named(shop, after))
    if output == "json":
        emit_json(found)
    else:
        _show(before, after, found, top)
    return 1 if exit_code and found.differs else 0


def _show(before: str, after: str, found: Difference, top: int) -> None:
    emit(f"from  {before}  {found.before}")
    emit(f"to    {after}  {found.after}")
    emit(f"  {found.shared_layers} layers are the same")
    emit()
    console.table(
        ("size", "before", "after", "change"),
        [(one.what, size(one.before), size(one.after), _signed(one.after - one.before)) for one in found.sizes],
    )
    if found.facts:
        emit()
        console.table(
            ("fact", "before", "after"), [(one.name, _said(one.before), _said(one.after)) for one in found.facts]
        )
    if found.packages:
        emit()
        console.table(("package", "kind", "before", "after", "change"), map(_package, found.packages))
    if found.files:
        emit()
        shown = found.files[:top] if top else found.files
        console.table(("change", "before", "after", "path"), map(_file, shown))
        if len(shown) < len(found.files):
            emit(f"{len(found.files) - len(shown)} more files differ; `--top 0` shows them")
    if not found.differs:
        emit("  no fact, package or file is known to differ")
    if found.contents_not_compared:
        emit()
        emit(f"not compared: the bytes of {found.contents_not_compared} files of equal size and mode in other layers")


def _signed(amount: int) -> str:
    return f"{'-' if amount < 0 else '+'}{size(abs(amount))}" if amount else "0"


def _said(value: object) -> str:
    """A fact in one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not value:
        return "none"
    if isinstance(value, (list, tuple)):
        parts = [str(one) for one in value]
        return " ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
    if hasattr(value, "__struct_fields__"):
        fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return ", ".join(f"{name} {_said(one)}" for name, one in fields if one)
    return str(value)[:100]


def _package(change: PackageChange) -> tuple[str, ...]:
    before, after = ", ".join(change.before) or "none", ", ".join(change.after) or "none"
    return change.name, change.kind, before, after, _signed(change.size_after - change.size_before)


def _file(change: FileChange) -> tuple[str, ...]:
    return _signed(change.growth), _side(change.before), _side(change.after), f"/{change.path}"


def _side(side: Side | None) -> str:
    if side is None:
        return "none"
    return f"{side.mode} {size(side.size)}" if side.kind == "file" else f"{side.kind} to {side.target}"
