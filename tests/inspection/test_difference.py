"""What changed between two images."""

from pathlib import Path

import pytest

from image_builder import Tar, put_image
from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError
from tidewaiter.inspection import image as inspection
from tidewaiter.inspection.difference import Difference, FileChange, compare
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

SITE = "usr/lib/python3/dist-packages"


def between(folder: Path, before: list[Tar], after: list[Tar], *runs: RunConfig) -> Difference:
    """The difference of two images of the layers given."""
    layout = Layout(folder)
    known = []
    for tars, run in zip((before, after), runs or (None, None), strict=True):
        image = put_image(layout, [tar.bytes() for tar in tars], run=run)
        stack = inspection.read(image)
        known.append((inspection.describe(image, stack, reference="it"), stack))
    return compare(known[0], known[1])


def distribution(name: str, version: str, size: int) -> Tar:
    folder = f"{SITE}/{name}-{version}.dist-info"
    tar = Tar().file(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n")
    return tar.file(f"{folder}/RECORD", f"{name}.py,,\n").file(f"{SITE}/{name}.py", b"x" * size)


def told(change: FileChange) -> tuple[str, str | None, str | None]:
    sides = [None if side is None else f"{side.kind} {side.size} {side.mode}" for side in (change.before, change.after)]
    return change.path, sides[0], sides[1]


def base() -> Tar:
    return Tar().file("a", b"1" * 100).file("b", b"2" * 20).symlink("s", "a").file("gone", b"3" * 9)


def test_files_that_changed_are_named(tmp_path: Path) -> None:
    """Added, removed, grown, chmodded and re-linked files are told, the greatest change first; others are not."""
    top = (
        Tar()
        .file("b", b"2" * 3000)
        .file("a", b"1" * 100, mode=0o755)
        .symlink("s", "b")
        .file(".wh.gone")
        .file("new", b"n")
    )
    found = between(tmp_path, [base()], [base(), top])
    assert [told(change) for change in found.files] == [
        ("b", "file 20 0644", "file 3000 0644"),
        ("gone", "file 9 0644", None),
        ("new", None, "file 1 0644"),
        ("a", "file 100 0644", "file 100 0755"),
        ("s", "symlink 0 0777", "symlink 0 0777"),
    ]
    assert [change.growth for change in found.files] == [2980, -9, 1, 0, 0]
    assert (found.shared_layers, found.contents_not_compared) == (1, 0)
    sizes = {one.what: (one.before, one.after) for one in found.sizes}
    assert sizes["visible"] == (129, 3101)
    assert sizes["wasted: replaced"] == (0, 120)
    assert sizes["wasted: deleted"] == (0, 9)


def test_bytes_that_were_not_compared_are_counted(tmp_path: Path) -> None:
    """Files of one size in different layers are neither called equal nor different; those of one layer are equal."""
    found = between(tmp_path, [base(), Tar().file("x", b"old")], [base(), Tar().file("x", b"new")])
    assert not found.differs
    assert found.contents_not_compared == 1
    same = between(tmp_path, [base(), Tar().file("x", b"old")], [base(), Tar().file("x", b"old")])
    assert not same.differs
    assert same.contents_not_compared == 0


def test_a_shared_layer_counts_as_it_is_seen(tmp_path: Path) -> None:
    """What another layer hides of a layer that both images have is a difference."""
    found = between(tmp_path, [base(), Tar().file(".wh.a")], [base(), Tar().file(".wh.b")])
    assert [told(change) for change in found.files] == [("a", None, "file 100 0644"), ("b", "file 20 0644", None)]


def test_packages_and_facts_that_changed_are_named(tmp_path: Path) -> None:
    """Packages with versions and sizes, and facts with both values; what is equal is left out."""
    runs = RunConfig(user="1", env=["A=1", "B=2"]), RunConfig(user="2", env=["A=1", "C=3"])
    shell = Tar().file("bin/sh", b"elf", mode=0o755)
    found = between(
        tmp_path,
        [distribution("a", "1", 10), distribution("b", "1", 5)],
        [distribution("a", "2", 700), distribution("c", "1", 6), shell],
        *runs,
    )
    assert [(one.name, one.before, one.after, one.size_before, one.size_after) for one in found.packages] == [
        ("a", ("1",), ("2",), 10, 700),
        ("b", ("1",), (), 5, 0),
        ("c", (), ("1",), 0, 6),
    ]
    assert {one.name: (one.before, one.after) for one in found.facts} == {
        "user": ("1", "2"),
        "env.B": ("2", None),
        "env.C": (None, "3"),
        "programs.shell": ([], ["bin/sh"]),
    }


def test_comparing_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many files as the bound are compared, one more is refused; shared layers cost nothing."""
    monkeypatch.setattr(limits, "COMPARED_FILES", 2)
    sides = [Tar().file("x", b"1")], [Tar().file("x", b"22")]
    assert len(between(tmp_path, *sides).files) == 1
    assert not between(tmp_path, [base()], [base()]).differs
    monkeypatch.setattr(limits, "COMPARED_FILES", 1)
    with pytest.raises(LimitError, match="more than 1 files"):
        between(tmp_path, [Tar().file("x", b"1")], [Tar().file("x", b"22")])
