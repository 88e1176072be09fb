"""The tree of an image's contents: sizes, order, layers, bounds."""

from pathlib import Path

import pytest

from image_builder import Tar, put_image
from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError, NotFoundError
from tidewaiter.inspection import image as inspection
from tidewaiter.inspection.stack import Stack
from tidewaiter.inspection.tree import Node, tree
from tidewaiter.oci.layout import Layout


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    base = Tar().directory("usr").directory("usr/lib").file("usr/lib/a", b"1" * 100).file("usr/lib/b", b"2" * 20)
    base.directory("etc").file("etc/x", b"3").symlink("lib", "usr/lib").hardlink("etc/y", "usr/lib/a")
    top = Tar().file("usr/lib/b", b"4" * 3000).file("usr/lib/deep/er/c", b"5" * 7).file("etc/.wh.x")
    return inspection.read(put_image(Layout(tmp_path), [base.bytes(), top.bytes()]))


def flat(nodes: tuple[Node, ...]) -> list[tuple[str, str, int, int]]:
    return [(node.path, node.kind, node.size, node.files) for node in nodes]


def test_a_tree_adds_up(stack: Stack) -> None:
    """Each folder counts what a container sees in it, largest first; deeper levels count in the last one shown."""
    assert flat(tree(stack, "", 2)) == [
        ("", "directory", 3107, 3),
        ("usr", "directory", 3107, 3),
        ("usr/lib", "directory", 3107, 3),
        ("etc", "directory", 0, 0),
        ("etc/y", "hardlink", 0, 0),
        ("lib", "symlink", 0, 0),
    ]
    assert flat(tree(stack, "", 0)) == [("", "directory", 3107, 3)]


def test_a_tree_begins_where_it_is_told(stack: Stack) -> None:
    """Below a folder there is only what lies in it; a file is a tree of its own; links tell where they lead."""
    assert flat(tree(stack, "usr/lib", 9)) == [
        ("usr/lib", "directory", 3107, 3),
        ("usr/lib/b", "file", 3000, 1),
        ("usr/lib/a", "file", 100, 1),
        ("usr/lib/deep", "directory", 7, 1),
        ("usr/lib/deep/er", "directory", 7, 1),
        ("usr/lib/deep/er/c", "file", 7, 1),
    ]
    assert flat(tree(stack, "usr/lib/b", 3)) == [("usr/lib/b", "file", 3000, 1)]
    assert [node.target for node in tree(stack, "", 2)[-2:]] == ["usr/lib/a", "usr/lib"]


def test_layers_of_origin_are_told(stack: Stack) -> None:
    """A file comes from one layer, a folder from all that bring something; hidden copies do not count."""
    base, top = (diff_id for _, diff_id in stack.items)
    nodes = {node.path: node for node in tree(stack, "usr", 2)}
    assert [(share.layer, share.size, share.files) for share in nodes["usr/lib"].layers] == [
        (base, 100, 1),
        (top, 3007, 2),
    ]
    assert [share.layer for share in nodes["usr/lib/b"].layers] == [top]


@pytest.mark.parametrize("path", ["etc/x", "no", "usr/lib/a/b"])
def test_what_is_not_there_is_not_found(stack: Stack, path: str) -> None:
    """A deleted path, one that never was, and one below a file give an error, not an empty tree."""
    with pytest.raises(NotFoundError):
        tree(stack, path, 2)


def test_a_tree_is_bounded(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many nodes as the bound are shown, one more is refused."""
    monkeypatch.setattr(limits, "TREE_NODES", 9)
    assert len(tree(stack, "", 3)) == 9
    monkeypatch.setattr(limits, "TREE_NODES", 8)
    with pytest.raises(LimitError, match="more than 8"):
        tree(stack, "", 3)


def test_a_hard_link_that_outlives_its_file_is_the_file(tmp_path: Path) -> None:
    """When the name that carries the bytes is deleted, the first link counts as the file, once; others lead to it."""
    base = Tar().file("a", b"1" * 100).hardlink("b", "a").hardlink("c", "a")
    stack = inspection.read(put_image(Layout(tmp_path), [base.bytes(), Tar().file(".wh.a").hardlink("d", "b").bytes()]))
    nodes = tree(stack, "", 1)
    assert flat(nodes)[1:] == [("b", "file", 100, 1), ("c", "hardlink", 0, 0), ("d", "hardlink", 0, 0)]
    assert [node.target for node in nodes[1:]] == ["", "b", "b"]


def test_an_image_without_files_is_an_empty_root(tmp_path: Path) -> None:
    """The root of an image is always there."""
    assert flat(tree(inspection.read(put_image(Layout(tmp_path), [])), "", 2)) == [("", "directory", 0, 0)]
