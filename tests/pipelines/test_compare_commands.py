"""`contents`, `diff` and what `inspect` says of sizes, as a user calls them."""

import json
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from tidewaiter.oci.layout import Layout
from workplace import run

SITE = "usr/lib/python3/dist-packages"
HOSTILE = "evil\x1b[2J\nname"


@pytest.fixture
def images(tmp_path: Path) -> tuple[str, str]:
    """Two images in a layout, the second with a layer more."""
    base = Tar().file("etc/os-release", "ID=debian\n").file(f"app/{HOSTILE}", b"e" * 5000)
    base.file(f"{SITE}/a-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: a\nVersion: 1\n\n")
    base.file(f"{SITE}/a-1.dist-info/RECORD", "a/__init__.py,,\n").file(f"{SITE}/a/__init__.py", b"p" * 70_000)
    base.file("var/lib/apt/lists/x_Packages", b"l" * 9_000)
    for number in range(5):
        base.file(f"srv/{number}", b"s" * (number + 1))
    top = Tar().file("var/lib/apt/lists/.wh.x_Packages").file("srv/4", b"s" * 2000).file("bin/sh", b"elf", mode=0o755)
    layout = Layout(tmp_path / "images")
    put_image(layout, [base.bytes()], name="one")
    put_image(layout, [base.bytes(), top.bytes()], name="two")
    return f"oci:{tmp_path}/images:one", f"oci:{tmp_path}/images:two"


def test_inspect_tells_what_is_heavy_and_what_is_wasted(tmp_path: Path, images: tuple[str, str]) -> None:
    """The heaviest packages and each kind of waste stand in the text, with bytes and the largest file."""
    told = run(tmp_path / "home", "inspect", images[1])
    assert told.code == 0, told.err
    assert "  heaviest  a 70.0 kB\n" in told.out
    assert (
        "  wasted    9.0 kB in 1 files that later layers delete, the largest /var/lib/apt/lists/x_Packages\n"
        in told.out
    )
    assert "  wasted    5 B in 1 files that later layers replace, the largest /srv/4\n" in told.out
    first = run(tmp_path / "home", "inspect", images[0])
    assert "  wasted    9.0 kB in 1 files of package caches, the largest /var/lib/apt/lists/x_Packages\n" in first.out


def test_contents_is_a_tree_that_a_terminal_survives(tmp_path: Path, images: tuple[str, str]) -> None:
    """The tree is indented and cut where asked; names of files never reach the terminal as they are."""
    told = run(tmp_path / "home", "contents", images[1], "--top", "2", "--depth", "1")
    assert told.code == 0, told.err
    lines = told.out.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("size"))
    paths = lines[start].index("path")
    assert [line[paths:] for line in lines[start + 1 :]] == ["/", "  usr/", "  app/", "  (3 more)"]
    inside = run(tmp_path / "home", "contents", images[1], "/app")
    assert "\x1b" not in inside.out
    assert "5.0 kB  1      1       /app/\n" in inside.out
    assert "evil\\x1b[2J\\nname" in inside.out
    named = run(tmp_path / "home", "contents", images[1], f"app/{HOSTILE}")
    assert named.code == 0, named.err


def test_contents_in_json_has_all_of_it(tmp_path: Path, images: tuple[str, str]) -> None:
    """JSON has every entry down to the depth, with bytes, files and layers."""
    told = run(tmp_path / "home", "contents", images[1], "srv/", "--top", "1", "--format", "json")
    found = json.loads(told.out)
    assert [entry["path"] for entry in found["entries"]] == ["srv", "srv/4", "srv/3", "srv/2", "srv/1", "srv/0"]
    assert found["entries"][1]["layers"] == [{"layer": found["layers"][1], "size": 2000, "files": 1}]
    assert (found["entries"][0]["size"], found["entries"][0]["files"]) == (2010, 5)


@pytest.mark.parametrize(
    ("arguments", "code"), [(("nothing",), 2), (("../etc",), 2), (("--depth", "-1"), 2), (("--depth", "257"), 2)]
)
def test_contents_says_what_it_cannot_do(
    tmp_path: Path, images: tuple[str, str], arguments: tuple[str, ...], code: int
) -> None:
    """A path that is not there or leads out, and a depth out of bounds, are errors of the call."""
    assert run(tmp_path / "home", "contents", images[0], *arguments).code == code


def test_diff_tells_and_exits_as_it_is_asked(tmp_path: Path, images: tuple[str, str]) -> None:
    """Differences are told with exit code 0; with --exit-code it is 1, and 0 for an image and itself."""
    home = tmp_path / "home"
    told = run(home, "diff", *images)
    assert told.code == 0, told.err
    assert "1 layers are the same" in told.out
    assert "/srv/4" in told.out
    assert "/var/lib/apt/lists/x_Packages" in told.out
    assert "programs.shell  none    bin/sh" in told.out
    assert run(home, "diff", *images, "--exit-code").code == 1
    same = run(home, "diff", images[0], images[0], "--exit-code")
    assert same.code == 0
    assert "no fact, package or file is known to differ" in same.out
    found = json.loads(run(home, "diff", *images, "--format", "json").out)
    assert [change["path"] for change in found["files"]] == ["var/lib/apt/lists/x_Packages", "srv/4", "bin/sh"]
    assert found["files"][0]["after"] is None
