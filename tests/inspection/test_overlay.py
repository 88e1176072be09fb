import io
import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_builder import Tar
from tidewaiter.inspection import paths as paths_module
from tidewaiter.inspection.layer import _take
from tidewaiter.inspection.layer_facts import Collector, LayerFacts
from tidewaiter.inspection.overlay import Overlay
from tidewaiter.inspection.paths import PathSet, ancestors, number, readable
from tidewaiter.oci import digest as digests
from tidewaiter.oci.layer import read_layer
from tidewaiter.oci.rootfs import unpack


def facts(tar: bytes) -> LayerFacts:
    collector = Collector()
    for entry, file in read_layer(io.BytesIO(tar)):
        _take(entry, file, collector)
    return collector.facts(digests.of(tar), len(tar))


_names = st.sampled_from(["a", "b", "c"])
_paths = st.lists(_names, min_size=1, max_size=3).map("/".join)


@st.composite
def _layers(draw: st.DrawFn) -> list[bytes]:
    """Up to four layers over few names, so that they collide: files, folders, whiteouts, opaque folders."""
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        tar = Tar()
        files: set[str] = set()
        folders: set[str] = set()
        for path in draw(st.lists(_paths, max_size=4)):
            above = set(ancestors(path))
            if path in files | folders or above & files:
                continue  # a layer that contradicts itself is another matter
            folders |= above
            kind = draw(st.sampled_from(["file", "directory", "whiteout", "opaque"]))
            folder, _, name = path.rpartition("/")
            for parent in ancestors(path):
                tar.directory(parent)
            if kind == "file":
                tar.file(path, b"x")
                files.add(path)
            elif kind == "directory":
                tar.directory(path)
                folders.add(path)
            elif kind == "whiteout":
                tar.file(f"{folder}/.wh.{name}" if folder else f".wh.{name}")
            else:
                tar.directory(path).file(f"{path}/.wh..wh..opq")
                folders.add(path)
        layers.append(tar.bytes())
    return layers


@given(_layers())
@settings(max_examples=200, deadline=None)
def test_the_view_is_what_unpacking_gives(layers: list[bytes]) -> None:
    """Whatever layers do to each other, a path is in the computed view if and only if unpacking puts it on disk."""
    overlay = Overlay([facts(layer) for layer in layers])
    with TemporaryDirectory() as folder:
        unpack([partial(io.BytesIO, layer) for layer in layers], Path(folder))
        for first in "abc":
            for path in (
                first,
                *(f"{first}/{two}" for two in "abc"),
                *(f"{first}/{x}/{y}" for x in "abc" for y in "abc"),
            ):
                found = overlay.top(path)
                on_disk = Path(folder, path)
                kind = "file" if on_disk.is_file() else "directory" if on_disk.is_dir() else None
                assert (found[1] if found else None) == kind, path
                assert (overlay.resolve(path) is not None) == on_disk.is_file()


def test_links_are_followed_as_a_container_follows_them() -> None:
    """Relative, absolute, climbing and chained links lead to the file; `..` leaves the folder a link led to."""
    tar = (
        Tar()
        .file("usr/lib/x/file", b"1")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib/x")
        .symlink("up", "../../../lib/x")
    )
    tar.symlink("chain", "lib/../../abs").symlink("dot", "./usr/./lib//x/").symlink("loop", "loop").symlink(
        "gone", "lib/none"
    )
    data = tar.bytes()
    overlay = Overlay([facts(data)])
    for start in ("lib/x", "abs", "chain", "dot", "up", "usr/lib/x", "usr/../lib/x"):
        assert overlay.resolve(f"{start}/file") == "usr/lib/x/file", start
    for path in ("loop/file", "gone", "usr/lib/x", "lib", "usr/lib/x/file/below", "none", "", "/"):
        assert overlay.resolve(path) is None, path


def test_a_path_set_knows_its_paths_and_kinds() -> None:
    """Files, folders and absent paths are told apart, also after packing."""
    paths = PathSet()
    paths.add("a", directory=True)
    paths.add("a/b", directory=False)
    paths.add("a/b", directory=False)
    again = PathSet(paths.pack())
    assert len(again) == 2
    assert [again.kind(number(path)) for path in ("a", "a/b", "c")] == ["directory", "file", None]


def test_many_paths_taken_at_once_are_those_taken_one_by_one() -> None:
    """Order counts where a path is named twice, and a name may have any character."""
    paths = [("a", True), ("a/b", False), ("c", False), ("c", True), ("\u00e4\u4e2d", False), ("a/b", False)]
    single, together = PathSet(), PathSet()
    for path, directory in paths:
        single.add(path, directory=directory)
    together.add_all([path for path, _ in paths[:2]], [directory for _, directory in paths[:2]])
    together.add_all([path for path, _ in paths[2:]], [directory for _, directory in paths[2:]])
    packed = together.pack()
    assert packed == single.pack()
    assert len(PathSet(packed)) == 4


def test_the_last_of_two_kinds_counts() -> None:
    """A layer that lists a path as a file and as a folder is read as unpacking reads it: by the later one."""
    paths = PathSet()
    for path, kinds in (("a", (False, True)), ("b", (True, False)), ("c", (False, True, False))):
        for directory in kinds:
            paths.add(path, directory=directory)
    again = PathSet(paths.pack())
    assert len(again) == 3
    assert [again.kind(number(path)) for path in "abc"] == ["directory", "file", "file"]


def test_a_file_that_becomes_a_folder_hides_nothing_below() -> None:
    """What a lower layer has in a folder stays seen when a layer lists the folder's name as a file first."""
    below = facts(Tar().directory("d").file("d/shell", b"x").bytes())
    above = facts(Tar().file("d", b"x").directory("d").bytes())
    assert Overlay([below, above]).top("d/shell") == (0, "file")


def test_a_path_set_of_many_runs_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few numbers are sorted at once, the packed set is that of all of them, each once."""
    names = [f"folder/{number % 700}" for number in range(1000)]

    def packed() -> bytes:
        paths = PathSet()
        for name in names:
            paths.add(name, directory=False)
        return paths.pack()

    whole = packed()
    monkeypatch.setattr(paths_module, "_RUN", 64)
    assert packed() == whole
    assert len(PathSet(whole)) == 700


@given(st.lists(st.text(max_size=20), unique=True, max_size=20))
def test_readable_paths_stay_apart_and_print(texts: list[str]) -> None:
    """Escaping never makes two paths one, and the result is printable UTF-8."""
    paths = {os.fsdecode(text.encode(errors="surrogatepass")) for text in texts} | set()
    shown = [readable(path) for path in paths]
    assert len(set(shown)) == len(paths)
    assert all(text.isprintable() and text.encode() is not None for text in shown)
