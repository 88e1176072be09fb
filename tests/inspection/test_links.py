from collections.abc import Callable
from pathlib import Path

import pytest

from image_builder import Tar
from servers import Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError
from tidewaiter.inspection.layer_facts import UNREAD_LINK
from unpacked_tree import Said, deb, metadata, ours, said, unpacked

Layers = Callable[[], list[Tar]]

STATUS = "var/lib/dpkg/status"
META, OTHER, THIRD = "s/a-1.dist-info/METADATA", "t/a-1.dist-info/METADATA", "u/a-1.dist-info/METADATA"
RELEASE = "ID=debian\nVERSION_ID=12\n"
LIB_RELEASE, ETC_RELEASE = "usr/lib/os-release", "etc/os-release"


def two() -> Tar:
    """The distribution `a` under two names."""
    return Tar().file(META, metadata("a")).hardlink(OTHER, META)


def one() -> Tar:
    """The distribution `a`."""
    return Tar().file(META, metadata("a"))


def shell() -> Tar:
    """A program that runs as root."""
    return Tar().file("o/x", "#!", mode=0o4755)


ALIKE: dict[str, Layers] = {
    "first name deleted above": lambda: [two(), Tar().file("s/a-1.dist-info/.wh.METADATA")],
    "folder of the first name deleted above": lambda: [two(), Tar().file(".wh.s")],
    "first name replaced above": lambda: [two(), Tar().file(META, metadata("b"))],
    "first name replaced in the layer": lambda: [two().file(META, metadata("b"))],
    "first name becomes a link in the layer": lambda: [two().symlink(META, "/nowhere/METADATA")],
    "link to a link, both others replaced": lambda: [
        two().hardlink(THIRD, OTHER).file(META, metadata("b")).file(OTHER, metadata("c"))
    ],
    "link replaced": lambda: [two().file(OTHER, metadata("b"))],
    "to a layer below": lambda: [one(), Tar().hardlink(OTHER, META)],
    "to a layer below, where it is deleted": lambda: [
        one(),
        Tar().hardlink(OTHER, META).file("s/a-1.dist-info/.wh.METADATA"),
    ],
    "to a layer below, and deleted above": lambda: [one(), Tar().hardlink(OTHER, META), Tar().file(".wh.s")],
    "to a layer below, and replaced": lambda: [
        one(),
        Tar().hardlink(OTHER, META).file(META, metadata("b")).hardlink(THIRD, META),
    ],
    "link to a link to a layer below": lambda: [
        one(),
        Tar().hardlink(OTHER, META).hardlink(THIRD, OTHER).file("s/.wh.a-1.dist-info"),
    ],
    "to a link of a layer below": lambda: [
        one(),
        Tar().hardlink(OTHER, META),
        Tar().file(".wh.s").hardlink(THIRD, OTHER),
    ],
    "to a layer below through a linked folder": lambda: [
        Tar().file(f"usr/{META}", metadata("a")).symlink("s", "usr/s"),
        Tar().hardlink(OTHER, META),
    ],
    "to a layer below, then replaced by a file": lambda: [
        one(),
        Tar().hardlink(OTHER, META).file(OTHER, metadata("b")),
    ],
    "to a layer below, then deleted above": lambda: [one(), Tar().hardlink(OTHER, META), Tar().file(".wh.t")],
    "status under a name that is none of dpkg's": lambda: [
        Tar().file(STATUS, deb("a")).hardlink("o/status", STATUS).file(STATUS, deb("b"))
    ],
    "status deleted, the other name stays": lambda: [
        Tar().file(STATUS, deb("a")).hardlink("o/status", STATUS),
        Tar().file("var/lib/dpkg/.wh.status"),
    ],
    "release": lambda: [
        Tar().file(LIB_RELEASE, RELEASE).hardlink(ETC_RELEASE, LIB_RELEASE),
        Tar().file(LIB_RELEASE, "ID=alpine\n"),
    ],
    "release of a layer below": lambda: [
        Tar().file(LIB_RELEASE, RELEASE),
        Tar().hardlink(ETC_RELEASE, LIB_RELEASE).file(LIB_RELEASE, "ID=alpine\n"),
    ],
    "model": lambda: [
        Tar().file("m/1/saved_model.pb").hardlink("n/2/saved_model.pb", "m/1/saved_model.pb"),
        Tar().file(".wh.m"),
    ],
    "editable": lambda: [
        two()
        .file("s/a-1.dist-info/direct_url.json", '{"dir_info": {"editable": true}, "url": "file:///x"}')
        .hardlink("t/a-1.dist-info/direct_url.json", "s/a-1.dist-info/direct_url.json"),
        Tar().file(".wh.s"),
    ],
    "permissions": lambda: [shell().hardlink("bin/x", "o/x", mode=0o644), Tar().file(".wh.o")],
    "permissions of a layer below": lambda: [shell(), Tar().hardlink("bin/x", "o/x", mode=0o644).file(".wh.o")],
    "shell of a layer below": lambda: [shell(), Tar().hardlink("bin/sh", "o/x"), Tar().file(".wh.o")],
}
"""Links whose names are read alike: nothing is missing."""

ODD: dict[str, Layers] = {
    "first name deleted above": lambda: [
        Tar().file("o/x", deb("a")).hardlink(STATUS, "o/x"),
        Tar().file("o/.wh.x"),
    ],
    "first name replaced": lambda: [Tar().file("o/x", deb("a")).hardlink(STATUS, "o/x").file("o/x", deb("b"))],
    "of a layer below": lambda: [Tar().file("o/x", deb("a")), Tar().hardlink(STATUS, "o/x")],
    "in the place of a file": lambda: [Tar().file(STATUS, deb("a")).file("o/x", deb("b")).hardlink(STATUS, "o/x")],
    "through another link": lambda: [
        Tar().file(STATUS, deb("a")),
        Tar().hardlink("o/x", STATUS).hardlink("var/lib/dpkg/status.d/x", "o/x"),
    ],
    "release": lambda: [Tar().file("o/x", RELEASE).hardlink(ETC_RELEASE, "o/x")],
    "archive": lambda: [Tar().file("o/x", "PK").hardlink("lib/a-1.0.jar", "o/x")],
}
"""Links whose first name tells nobody to read the file."""


def parted(table: dict[str, Layers]) -> list[object]:
    """A parameter for each."""
    return [pytest.param(layers, id=name) for name, layers in table.items()]


@pytest.mark.interop
@pytest.mark.parametrize("layers", parted(ALIKE))
def test_facts_of_links_are_those_of_what_umoci_unpacks(tmp_path: Path, tool: Tool, layers: Layers) -> None:
    """Packages, release, permissions and programs are those of the files in the container, under all their names."""
    tree, _ = unpacked(tool("umoci"), tmp_path, layers())
    assert said(ours(tmp_path / "ours", layers())) == said(tree)


@pytest.mark.interop
@pytest.mark.parametrize("layers", parted(ODD))
def test_a_link_to_a_file_that_nobody_read_is_said(tmp_path: Path, tool: Tool, layers: Layers) -> None:
    """Where facts lack something that umoci's tree has, they say that they do."""
    found = said(ours(tmp_path / "ours", layers()))
    tree = said(unpacked(tool("umoci"), tmp_path, layers())[0])
    assert any(note.endswith(UNREAD_LINK) for note in found.unread)
    assert set(found.packages) <= set(tree.packages)


def test_a_link_to_a_lower_layer_says_what_that_says(tmp_path: Path) -> None:
    """Though nothing of it is in the link's own layer, and the first name is gone."""
    layers = [one(), Tar().hardlink(OTHER, META), Tar().file(".wh.s")]
    assert said(ours(tmp_path, layers)) == Said([("pkg:pypi/a@1", OTHER)], "", [], [], [])


def test_a_link_to_nothing_is_said(tmp_path: Path) -> None:
    """No runtime unpacks it."""
    assert said(ours(tmp_path, [Tar().hardlink(OTHER, META)])).unread == [f"{OTHER}: {UNREAD_LINK}"]


def test_a_secret_is_told_once(tmp_path: Path) -> None:
    """Under the name where it was read."""
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\n" + "QUJD" * 40 + "\n-----END OPENSSH PRIVATE KEY-----\n"
    facts = ours(tmp_path, [Tar().file("app/key", key, mode=0o666).hardlink("app/again", "app/key", mode=0o666)])
    assert [(found.path, found.kind) for found in facts.exposed] == [
        ("app/again", "world_writable"),
        ("app/key", "secret"),
        ("app/key", "world_writable"),
    ]


def test_what_links_take_over_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many links to one file of a lower layer that says much are refused."""
    links = Tar()
    for number in range(10):
        links.hardlink(f"{number}/a-1.dist-info/METADATA", META)
    layers = [one(), links]
    assert len(said(ours(tmp_path / "few", layers)).packages) == 11
    monkeypatch.setattr(limits, "COMPONENTS", 9)
    with pytest.raises(LimitError, match="links to"):
        ours(tmp_path / "many", [one(), links])
