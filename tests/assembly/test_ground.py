"""What an image that exists holds, and fitting layers onto it."""

import io
import os
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.assembly.ground import Ground, Listings, listings_of
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError
from tidewaiter.oci import rootfs
from tidewaiter.oci.layer import Entry, read_layer, write_layer
from tidewaiter.oci.layout import Layout

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(PATHS, PATHS.map("/{}".format), PATHS.map("../{}".format), st.just("."))
ENTRIES = st.one_of(
    st.builds(
        lambda path, mode: Entry(path=path, kind="directory", mode=mode), PATHS, st.sampled_from([0o755, 0o1777])
    ),
    st.builds(lambda path: Entry(path=path, kind="file"), PATHS),
    st.builds(lambda path, target: Entry(path=path, kind="symlink", target=target), PATHS, TARGETS),
    st.builds(lambda path, target: Entry(path=path, kind="hardlink", target=target), PATHS, PATHS),
    PATHS.map(lambda path: Entry(path="/".join([*path.split("/")[:-1], f".wh.{path.split('/')[-1]}"]), kind="file")),
    PATHS.map(lambda path: Entry(path=f"{path}/.wh..wh..opq", kind="file")),
)


def _tar(entries: list[Entry]) -> bytes:
    tar = Tar()
    for entry in entries:
        if entry.kind == "file":
            tar.file(entry.path)
        elif entry.kind == "directory":
            tar.directory(entry.path, mode=entry.mode)
        elif entry.kind == "symlink":
            tar.symlink(entry.path, entry.target)
        else:
            tar.hardlink(entry.path, entry.target)
    return tar.bytes()


def _found(root: Path) -> dict[str, tuple[str, str | int]]:
    found: dict[str, tuple[str, str | int]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            mode = path.lstat().st_mode
            inner = path.relative_to(root).as_posix()
            if stat.S_ISLNK(mode):
                found[inner] = ("symlink", str(path.readlink()))
            else:
                found[inner] = ("directory", mode & 0o7777) if stat.S_ISDIR(mode) else ("file", 0)
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(ENTRIES, max_size=8), min_size=1, max_size=3))
def test_what_is_listed_is_what_unpacking_gives(layers: list[list[Entry]]) -> None:
    """Whiteouts, links on the way, folders over files and implied folders: the view is the unpacked tree."""
    tars = [_tar(entries) for entries in layers]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        try:
            rootfs.unpack([lambda tar=tar: io.BytesIO(tar) for tar in tars], root)  # type: ignore[misc]  # a default argument binds the loop's value
        except InputError:
            return  # a layer that no runtime unpacks; the view may say anything
        ground = Ground([entry for entry, _ in read_layer(io.BytesIO(tar))] for tar in tars)
        seen: dict[str, tuple[str, str | int]] = {}
        for entry in ground.below(""):
            what: dict[str, str | int] = {"symlink": entry.target, "directory": entry.mode & 0o1777 | 0o700, "file": 0}
            seen[entry.path] = (entry.kind, what[entry.kind])
        assert seen == _found(root)


def _has_whiteouts(layers: list[list[Entry]]) -> bool:
    return any(".wh." in entry.path for entries in layers for entry in entries)


@pytest.mark.interop
def test_umoci_leaves_the_same_tree(tool: Tool) -> None:
    """Of images that both take. A whiteout in a folder that is not there makes that folder here, as in containerd."""
    umoci = tool("umoci")
    compared = 0

    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.lists(ENTRIES, max_size=8), min_size=1, max_size=3))
    def compare(layers: list[list[Entry]]) -> None:
        nonlocal compared
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            image = put_image(Layout(folder / "layout"), map(_tar, layers), name="x")
            command = [umoci, "raw", "unpack", "--rootless", "--image", f"{folder}/layout:x", str(folder / "theirs")]
            if subprocess.run(command, capture_output=True, check=False).returncode:
                return
            try:
                rootfs.unpack_image(image, folder / "ours")
            except InputError as error:
                refused = str(error)
            else:
                refused = ""
            if refused:  # umoci ignores a whiteout below a file
                assert "which is no folder" in refused
                assert _has_whiteouts(layers)
                return
            ours, theirs = _found(folder / "ours"), _found(folder / "theirs")
            if _has_whiteouts(layers):
                ours = {path: one for path, one in ours.items() if one[0] != "directory" or path in theirs}
            assert ours == theirs
            compared += bool(theirs)

    compare()
    assert compared > 20


def test_paths_are_followed_as_in_a_container() -> None:
    """Links are walked on every level, absolute ones from the image's root, and a loop or nothing leads nowhere."""
    ground = _base()
    ground.add([Entry(path="usr/lib/x", kind="file"), Entry(path="mnt/x/loop", kind="symlink", target="loop")])
    ground.add([Entry(path="usr/lib/up", kind="symlink", target="../../lib/./x")])
    assert [ground.resolve(path) for path in ("lib/x", "/lib/up", "data", "data/..", "nothing", "mnt/x/loop")] == [
        "usr/lib/x",
        "usr/lib/x",
        "mnt/x",
        "mnt",
        None,
        None,
    ]
    assert ground.names("lib") == ["up", "x"]
    assert ground.names("usr/lib/x") == []


def _base() -> Ground:
    tar = Tar().directory("usr").directory("usr/lib", mode=0o2775).symlink("lib", "usr/lib").symlink("data", "/mnt/x")
    tar.directory("mnt").directory("mnt/x", mode=0o700).file("etc", b"")
    return Ground([[entry for entry, _ in read_layer(io.BytesIO(tar.bytes()))]])


def _written(ground: Ground, *entries: Entry) -> list[tarfile.TarInfo]:
    sink = io.BytesIO()
    write_layer(sink, ground.fit((entry, b"") for entry in entries))
    sink.seek(0)
    with tarfile.open(fileobj=sink) as read:
        return read.getmembers()


def test_links_to_folders_stay_and_folders_keep_their_attributes() -> None:
    """A file below a linked folder is written below the real one, whose mode is repeated as the base has it."""
    members = _written(
        _base(),
        Entry(path="lib/x.so", kind="file"),
        Entry(path="lib", kind="directory"),
        Entry(path="data/sub/y", kind="file"),
        Entry(path="new/z", kind="file"),
        Entry(path="lib/alias", kind="hardlink", target="lib/x.so"),
    )
    assert {(one.name, one.mode if one.isdir() else one.linkname) for one in members} == {
        ("usr", 0o755),
        ("usr/lib", 0o2775),
        ("usr/lib/x.so", ""),
        ("usr/lib/alias", "usr/lib/x.so"),
        ("mnt", 0o755),
        ("mnt/x", 0o700),
        ("mnt/x/sub", 0o755),
        ("mnt/x/sub/y", ""),
        ("new", 0o755),
        ("new/z", ""),
    }


def test_what_is_in_the_way_is_named() -> None:
    """A file of ours where the base has a folder, or below a file of the base, is an error."""
    with pytest.raises(InputError, match="/usr/lib would be a file and is a folder"):
        _written(_base(), Entry(path="usr/lib", kind="file"))
    with pytest.raises(InputError, match="/etc of the base is no folder"):
        _written(_base(), Entry(path="etc/app.conf", kind="file"))


def test_identity_follows_what_the_files_touch() -> None:
    """The name of the ground under some paths changes with a folder on their way, and with nothing else."""
    before = _base().identity(["lib/x"])
    changed = _base()
    changed.add([Entry(path="mnt/other", kind="file")])
    assert changed.identity(["lib/x"]) == before
    changed.add([Entry(path="usr/lib", kind="directory", mode=0o755)])
    assert changed.identity(["lib/x"]) != before


def test_listings_are_kept_and_proven(tmp_path: Path) -> None:
    """A second look reads no layer; a damaged listing is made again; a layer with other bytes is refused."""
    layout = Layout(tmp_path / "image")
    image = put_image(layout, [Tar().file("a", b"1").bytes()])
    kept = Listings(tmp_path / "listings")
    first = listings_of(image, kept)
    assert [entry.path for entry in first[0].entries] == ["a"]
    blob = layout.blob_path(image.manifest.layers[0].digest)
    held = blob.read_bytes()
    blob.unlink()
    assert listings_of(image, kept) == first
    (file,) = (path for path in (tmp_path / "listings").rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    blob.write_bytes(held)
    assert listings_of(image, kept) == first
    file.unlink()
    blob.write_bytes(held[:-1] + b"x")
    with pytest.raises(IntegrityError):
        listings_of(image, kept)


def test_too_many_and_too_deep_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base over the bound of entries, or nested deeper than folders are followed, is refused; one at it is not."""
    monkeypatch.setattr(limits, "BASE_ENTRIES", 2)
    monkeypatch.setattr(limits, "FOLDER_DEPTH", 3)
    fine = put_image(Layout(tmp_path / "1"), [Tar().file("a/b/c").file("x").bytes()])
    assert len(listings_of(fine, Listings(tmp_path / "l"))) == 1
    many = put_image(Layout(tmp_path / "2"), [Tar().file("a").file("b").file("c").bytes()])
    with pytest.raises(LimitError, match="over 2 entries"):
        listings_of(many, Listings(tmp_path / "l"))
    deep = put_image(Layout(tmp_path / "3"), [Tar().file("a/b/c/d").bytes()])
    with pytest.raises(LimitError, match="3 folders deep"):
        listings_of(deep, Listings(tmp_path / "l"))
    with pytest.raises(LimitError, match="over 2 files and folders"):
        Ground([[Entry(path=name, kind="file") for name in "abc"]])
