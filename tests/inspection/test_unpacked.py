from collections.abc import Callable
from pathlib import Path

import pytest

from image_builder import Tar
from servers import Tool
from unpacked_tree import deb, metadata, ours, said, unpacked

Layers = Callable[[], list[Tar]]

STATUS = "var/lib/dpkg/status"
INFO = "s/a-1.dist-info"
META = f"{INFO}/METADATA"
A, B, C = ("pkg:pypi/a@1", META), ("pkg:pypi/b@1", META), ("pkg:pypi/c@1", META)
DEB_A, DEB_B = ("pkg:deb/a@1", STATUS), ("pkg:deb/b@1", STATUS)


def listed() -> Tar:
    """The distribution `a` in folders that the layer lists."""
    return Tar().directory("s").directory(INFO).file(META, metadata("a"))


def linked() -> Tar:
    """A base whose `lib` is a link."""
    return Tar().directory("usr").directory("usr/lib").symlink("lib", "usr/lib")


LAYOUTS: dict[str, tuple[Layers, list[tuple[str, str]]]] = {
    "status twice": (lambda: [Tar().file(STATUS, deb("a")).file(STATUS, deb("b"))], [DEB_B]),
    "status, then an empty one": (lambda: [Tar().file(STATUS, deb("a")).file(STATUS)], []),
    "status under two spellings": (
        lambda: [Tar().file(STATUS, deb("a")).file("./var//lib/dpkg/status", deb("b"))],
        [DEB_B],
    ),
    "metadata twice": (lambda: [Tar().file(META, metadata("a")).file(META, metadata("b"))], [B]),
    "metadata, then some that says nothing, then more": (
        lambda: [Tar().file(META, metadata("a")).file(META, "x").file(META, metadata("c"))],
        [C],
    ),
    "file, then link": (lambda: [Tar().file(META, metadata("a")).symlink(META, "/nowhere/METADATA")], []),
    "link, then file": (lambda: [Tar().symlink(META, "/nowhere/METADATA").file(META, metadata("a"))], [A]),
    "file, then folder": (lambda: [Tar().file(META, metadata("a")).directory(META)], []),
    "file, then its own whiteout": (lambda: [Tar().file(META, metadata("a")).file(f"{INFO}/.wh.METADATA")], [A]),
    "whiteout, then the file": (lambda: [Tar().file(f"{INFO}/.wh.METADATA").file(META, metadata("a"))], [A]),
    "file over one below, then its whiteout": (
        lambda: [listed(), Tar().file(META, metadata("b")).file(f"{INFO}/.wh.METADATA")],
        [B],
    ),
    "whiteout of the folder, then a file in it": (
        lambda: [Tar().file(STATUS, deb("a")), Tar().file("var/lib/.wh.dpkg").file(STATUS, deb("b"))],
        [DEB_B],
    ),
    "file, then its folder made opaque": (
        lambda: [listed(), Tar().file(META, metadata("b")).file(f"{INFO}/.wh..wh..opq")],
        [B],
    ),
    "folder, then file": (lambda: [listed().file(INFO, "a file")], []),
    "folder, then link": (lambda: [listed().symlink(INFO, "/elsewhere")], []),
    "folder above, then file": (lambda: [listed().file("s", "a file")], []),
    "folder, then file, then folder": (lambda: [listed().file(INFO, "a file").directory(INFO)], []),
    "folder, then file, then folder with a file": (
        lambda: [listed().file(INFO, "a file").directory(INFO).file(META, metadata("b"))],
        [B],
    ),
    "folder twice": (lambda: [listed().directory(INFO).file("s/x", "1")], [A]),
    "link over what a folder in a layer below holds": (lambda: [listed(), Tar().symlink("s", "elsewhere")], []),
    "folder over a link, then a link again": (
        lambda: [linked(), Tar().directory("lib").file(f"lib/{META}", metadata("a")), Tar().symlink("lib", "usr/lib")],
        [],
    ),
    "first name replaced, second stays": (
        lambda: [Tar().file("x", "1" * 50).hardlink("y", "x").hardlink("z", "y").file("x", "22").file("y", "333")],
        [],
    ),
    "first name becomes a folder, second stays": (
        lambda: [Tar().file("x", "1" * 50).hardlink("y", "x").hardlink("z", "x").directory("x").file("x/in", "22")],
        [],
    ),
}
"""Layers that say something of a path twice, and the packages in the container."""

PARTED = [pytest.param(layers, packages, id=name) for name, (layers, packages) in LAYOUTS.items()]


@pytest.mark.parametrize(("layers", "packages"), PARTED)
def test_the_last_of_a_path_counts(tmp_path: Path, layers: Layers, packages: list[tuple[str, str]]) -> None:
    """Packages are those of the files that unpacking leaves."""
    assert said(ours(tmp_path, layers())).packages == packages


def test_what_could_not_be_read_is_forgotten_with_its_file(tmp_path: Path) -> None:
    """Metadata that says nothing leaves no note when other metadata takes its place."""
    assert said(ours(tmp_path, [Tar().file(META, "x").file(META, metadata("c"))])).unread == []


@pytest.mark.interop
@pytest.mark.parametrize(("layers", "packages"), PARTED)
def test_umoci_leaves_the_same(tmp_path: Path, tool: Tool, layers: Layers, packages: list[tuple[str, str]]) -> None:
    """Facts and bytes are those of the tree that umoci unpacks."""
    facts = ours(tmp_path / "ours", layers())
    tree, size = unpacked(tool("umoci"), tmp_path, layers())
    assert said(facts) == said(tree)
    assert (said(tree).packages, facts.visible_size) == (packages, size)


def through() -> Tar:
    """The distribution `a` in a folder that is a link below."""
    return Tar().file(f"lib/{META}", metadata("a"))


@pytest.mark.interop
@pytest.mark.parametrize(
    "layers",
    [
        pytest.param(lambda: [linked(), through(), Tar().symlink("lib", "usr/lib")], id="above"),
        pytest.param(lambda: [linked(), through().symlink("lib", "usr/lib")], id="same layer"),
        pytest.param(lambda: [linked().file(f"lib/{META}", metadata("a")).symlink("lib", "usr/lib")], id="one layer"),
    ],
)
def test_what_went_through_a_link_stays_when_the_link_is_listed_again(
    tmp_path: Path, tool: Tool, layers: Layers
) -> None:
    """The file lies where the link leads; facts name it by the path in its layer."""
    tree, _ = unpacked(tool("umoci"), tmp_path, layers())
    assert said(tree).packages == [("pkg:pypi/a@1", f"usr/lib/{META}")]
    assert said(ours(tmp_path / "ours", layers())).packages == [("pkg:pypi/a@1", f"lib/{META}")]


def test_what_lies_in_a_folder_that_is_not_listed_is_never_taken_for_gone(tmp_path: Path) -> None:
    """The folder may be a link of a layer below that leads elsewhere."""
    found = ours(tmp_path, [Tar().file(META, metadata("a")).file(INFO, "a file")])
    assert said(found).packages == [A]


def test_files_are_counted_once(tmp_path: Path) -> None:
    """A layer's number of files and their bytes are those that are left."""
    facts = ours(tmp_path, [Tar().file("a", "1" * 100).file("a", "22").file("b", "3").hardlink("c", "b")])
    assert (facts.layers[0].files, facts.visible_size) == (2, 3)
