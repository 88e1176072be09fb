"""Whose the bytes of an image are, and which of them nobody needs."""

import io
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from image_builder import Tar, put_image
from servers import Tool
from tidewaiter.core.errors import InputError
from tidewaiter.inspection import hidden as hidden_module
from tidewaiter.inspection import image as inspection
from tidewaiter.inspection import waste
from tidewaiter.inspection.facts import ImageFacts, Waste
from tidewaiter.inspection.layer import read
from tidewaiter.inspection.layer_cache import LayerFactsCache
from tidewaiter.inspection.paths import ancestors
from tidewaiter.inspection.stack import Stack
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.oci.rootfs import unpack

SITE = "usr/lib/python3/dist-packages"


class _Bytes:
    """A source of blobs in memory."""

    def __init__(self, blobs: list[bytes]) -> None:
        self._blobs = {digests.of(blob): blob for blob in blobs}

    def open(self, digest: Digest) -> IO[bytes]:
        return io.BytesIO(self._blobs[digest])

    def read(self, digest: Digest, *, limit: int = 0) -> bytes:
        return self._blobs[digest][: limit or None]


def stack_of(*tars: bytes) -> Stack:
    """Layers that were just read; they are not packed."""
    items, facts, listings = [], {}, {}
    for tar in tars:
        digest = digests.of(tar)
        kept: list[bytes] = []
        blob = Descriptor(media_type=documents.LAYER, digest=digest, size=len(tar))
        facts[digest, digest] = read(_Bytes([tar]), blob, digest, keep=kept.append)
        listings[digest, digest] = kept[0]
        items.append((digest, digest))
    return Stack(items, facts, cache=None, listings=listings)


def facts_of(folder: Path, *tars: Tar) -> ImageFacts:
    return inspection.inspect(put_image(Layout(folder), [tar.bytes() for tar in tars]), reference="it:1")


def wasted(facts: ImageFacts, kind: str) -> Waste | None:
    return next((one for one in facts.wasted if one.kind == kind), None)


def on_disk(root: Path) -> dict[str, int]:
    """Bytes of every regular file below `root`, by path; a file with several names has its bytes under the first."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(folder, name)
            status = path.lstat()
            if not path.is_symlink():
                found[str(path.relative_to(root))] = 0 if status.st_ino in seen else status.st_size
                seen.add(status.st_ino)
    return found


def seen_in(stack: Stack) -> Iterator[tuple[str, int]]:
    for index in range(len(stack.items)):
        for one in stack.seen(index):
            if one.kind.name in {"FILE", "HARDLINK"}:
                yield one.path, one.size


_paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


_kinds = st.sampled_from(["file", "file", "link", "directory", "whiteout", "opaque"])
_layers = st.lists(
    st.tuples(st.booleans(), st.lists(st.tuples(_paths, _kinds, st.integers(0, 5000)), max_size=5)),
    min_size=1,
    max_size=4,
)


def packed(listed: bool, wanted: list[tuple[str, str, int]]) -> bytes:
    """A layer: files, links to one before, folders (`listed` or not), whiteouts, opaque folders."""
    tar = Tar()
    files: list[str] = []
    taken: set[str] = set()
    folders: set[str] = set()
    for path, kind, size in wanted:
        above = set(ancestors(path))
        if path in taken | folders or above & taken:
            continue  # a layer that contradicts itself is another matter
        folder, _, name = path.rpartition("/")
        for parent in ancestors(path):
            if listed:
                tar.directory(parent)
        folders |= above
        if kind == "link" and files:
            tar.hardlink(path, files[size % len(files)])
            taken.add(path)
        elif kind in {"file", "link"}:
            tar.file(path, b"x" * size)
            files.append(path)
            taken.add(path)
        elif kind == "directory":
            tar.directory(path)
            folders.add(path)
        elif kind == "whiteout":
            tar.file(f"{folder}/.wh.{name}" if folder else f".wh.{name}")
        else:
            tar.directory(path).file(f"{path}/.wh..wh..opq")
            folders.add(path)
    return tar.bytes()


@given(_layers, st.sampled_from([1, 1 << 18]))
@settings(max_examples=100, deadline=None)
def test_what_is_seen_is_what_unpacking_leaves(
    drawn: list[tuple[bool, list[tuple[str, str, int]]]], numbers_at_once: int
) -> None:
    """Whatever layers do to each other, the files seen and their bytes are those of the unpacked tree."""
    layers = [packed(*layer) for layer in drawn]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(hidden_module, "_RANGE", numbers_at_once)
        root = Path(folder, "root")
        try:
            unpack([partial(io.BytesIO, layer) for layer in layers], root)
        except InputError:
            reject()  # a folder that no layer lists where another has a file: no runtime unpacks that
        stack = stack_of(*layers)
        expected = on_disk(root)
        found = list(seen_in(stack))
        assert {path for path, _ in found} == expected.keys()
        weights = waste.weigh(stack.measured())
        assert weights.visible[0] == sum(size for _, size in found) == sum(expected.values())
        hidden = sum(weights.hidden)
        assert hidden + weights.visible[0] == sum(facts.file_bytes for facts in stack.facts)


@pytest.mark.interop
def test_sizes_are_those_that_umoci_unpacks(tmp_path: Path, tool: Tool) -> None:
    """An image with whiteouts, an opaque folder, replaced files and hard links weighs what umoci's tree weighs."""
    base = Tar().directory("a").file("a/one", b"1" * 10_000).file("a/two", b"2" * 20_000).hardlink("a/again", "a/two")
    base.directory("b").file("b/x", b"x" * 3000).directory("b/c").file("b/c/y", b"y" * 4000)
    base.directory("d").file("d/old", b"o" * 5000).directory("e").file("e/f", b"f" * 700).symlink("s", "a/one")
    middle = Tar().directory("a").file("a/.wh.two").file("a/one", b"1" * 100).file("b", b"now a file")
    middle.directory("d").file("d/.wh..wh..opq").file("d/new", b"n" * 60)
    top = Tar().file(".wh.e").directory("d").file("d/last", b"l" * 9)
    layout = Layout(tmp_path / "layout")
    image = put_image(layout, [tar.bytes() for tar in (base, middle, top)], name="x")
    bundle = tmp_path / "bundle"
    command = [tool("umoci"), "raw", "unpack", "--rootless", "--image", f"{tmp_path}/layout:x", str(bundle)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    expected = on_disk(bundle)
    facts = inspection.inspect(image, reference="x")
    assert facts.visible_size == sum(expected.values()) == 20_000 + 100 + 10 + 60 + 9
    assert {path for path, _ in seen_in(inspection.read(image))} == expected.keys()
    replaced, deleted = wasted(facts, "replaced"), wasted(facts, "deleted")
    assert replaced is not None
    assert deleted is not None
    assert (replaced.size, deleted.size) == (10_000 + 3000 + 4000, 5000 + 700)
    assert [layer.hidden_size for layer in facts.layers] == [22_700, 0, 0]


def test_packages_weigh_what_their_files_weigh(tmp_path: Path) -> None:
    """dpkg's lists (merged folders), status.d, RECORD (bytecode and scripts too), apk, conda and npm name owners."""
    base = Tar().file("var/lib/dpkg/status", "Package: libx\nVersion: 1\nArchitecture: amd64\n\n")
    base.file("var/lib/dpkg/info/libx:amd64.list", "/.\n/lib\n/lib/libx.so.1\n/usr/share/doc/libx\n/etc/gone\n")
    base.file("usr/lib/libx.so.1", b"x" * 1000).symlink("lib", "usr/lib").file("usr/nobody", b"n" * 11)
    base.file("var/lib/dpkg/status.d/liby", "Package: liby\nVersion: 1\nArchitecture: amd64\n")
    base.file("var/lib/dpkg/status.d/liby.md5sums", "d41d8cd98f00b204e9800998ecf8427e  usr/lib/liby.so.1\n")
    base.file("usr/lib/liby.so.1", b"y" * 2000)
    python = Tar().file(f"{SITE}/a-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: a\nVersion: 1\n\n")
    python.file(f"{SITE}/a/__init__.py", b"p" * 30).file(f"{SITE}/a/__pycache__/__init__.cpython-311.pyc", b"c" * 40)
    python.file(f'{SITE}/a/q,"u.py', b"q" * 500).file("usr/bin/a", b"b" * 6000)
    record = 'a/__init__.py,sha256=x,30\n"a/q,""u.py",,\n../../../bin/a,,\n../../../../../../../etc/shadow,,\n'
    python.file(f"{SITE}/a-1.dist-info/RECORD", record)
    other = Tar().file("lib/apk/db/installed", "P:z\nV:1-r0\nF:usr/z\nR:one\nR:two\nF:\nR:root-file\n\n")
    other.file("usr/z/one", b"1" * 7).file("usr/z/two", b"2" * 8).file("root-file", b"r" * 9)
    other.file("opt/env/conda-meta/k-1-0.json", '{"name": "k", "version": "1", "files": ["lib/k.py", "../../../out"]}')
    other.file("opt/env/lib/k.py", b"k" * 70).file("out", b"o" * 3)
    module = "srv/node_modules/@s/m"
    other.file(f"{module}/package.json", '{"name": "@s/m", "version": "1.0.0"}').file(f"{module}/lib/i.js", b"i" * 80)
    facts = facts_of(tmp_path, base, python, other)
    found = {component.name: (component.size, component.files) for component in facts.components}
    metadata = len('{"name": "@s/m", "version": "1.0.0"}')
    assert found == {
        "libx": (1000, 1),
        "liby": (2000, 1),
        "a": (30 + 40 + 500 + 6000, 4),
        "z": (24, 3),
        "k": (70, 1),
        "@s/m": (80 + metadata, 2),
    }
    assert facts.visible_size - facts.unowned_size == sum(size for size, _ in found.values())


def test_a_package_loses_the_files_that_a_later_layer_takes(tmp_path: Path) -> None:
    """Files that are hidden count for no package, and those that stay are counted once."""
    tar = Tar().file(f"{SITE}/a-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: a\nVersion: 1\n\n")
    tar.file(f"{SITE}/a-1.dist-info/RECORD", "a/one.py,,\na/two.py,,\na/three.py,,\n")
    tar.file(f"{SITE}/a/one.py", b"1" * 10).file(f"{SITE}/a/two.py", b"2" * 200).hardlink(
        f"{SITE}/a/three.py", f"{SITE}/a/two.py"
    )
    (component,) = facts_of(tmp_path, tar, Tar().file(f"{SITE}/a/.wh.one.py").file(f"{SITE}/a/.wh.two.py")).components
    assert (component.size, component.files) == (200, 1)


def test_caches_tests_and_double_libraries_are_told(tmp_path: Path) -> None:
    """Each kind of waste has bytes, number and its largest files; what only looks like it is not counted."""
    tar = (
        Tar().file("var/lib/apt/lists/deb.debian.org_Packages", b"l" * 1000).file("root/.cache/pip/http/a", b"p" * 500)
    )
    tar.file("home/me/.npm/_cacache/x", b"n" * 30).file("opt/miniconda3/pkgs/k.conda", b"k" * 4)
    tar.file("srv/pkgs/mine", b"m").file("root/.cache/mine", b"m").file("home/me/tests/t.py", b"t")
    tar.file(f"{SITE}/a/tests/t.py", b"t" * 70).file("usr/lib/python3.11/test/x.py", b"x" * 6)
    tar.file(f"{SITE}/a/testing/real.py", b"r")
    size = 300 << 10
    tar.file("usr/local/cuda-12/lib64/libcudart.so.12.4.127", b"c" * size)
    wheel = Tar().file(f"{SITE}/nvidia/cuda_runtime/lib/libcudart.so.12", b"c" * (size + 1))
    wheel.file(f"{SITE}/scipy.libs/libgfortran-040039e1.so.5.0.0", b"f" * size).file(
        f"{SITE}/numpy.libs/libgfortran-0a1b2c3d.so.5", b"f" * size
    )
    wheel.file("usr/lib/libcudart.so.11.0", b"1" * size).file("usr/lib32/libcudart.so.12", b"2" * size)
    wheel.file("usr/lib/p/libplugin.so", b"3" * size).file("usr/lib/q/libplugin.so", b"4" * (size + 1))
    wheel.file("usr/lib/small/libcudart.so.12", b"s")
    facts = facts_of(tmp_path, tar, wheel)
    cache, tests, double = wasted(facts, "package_cache"), wasted(facts, "tests"), wasted(facts, "duplicate_library")
    assert cache is not None
    assert tests is not None
    assert double is not None
    assert (cache.size, cache.files) == (1534, 4)
    assert cache.examples[0].path == "var/lib/apt/lists/deb.debian.org_Packages"
    assert (tests.size, tests.files) == (76, 2)
    assert sorted(one.path for one in double.examples) == [
        "usr/lib/python3/dist-packages/scipy.libs/libgfortran-040039e1.so.5.0.0",
        "usr/local/cuda-12/lib64/libcudart.so.12.4.127",
    ]
    assert [one.kind for one in facts.wasted] == ["duplicate_library", "package_cache", "tests"]


def test_the_measure_below_other_layers_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer of which others hide some is weighed once; another set of hidden files is another measure."""
    layout, cache = Layout(tmp_path / "layout"), LayerFactsCache(tmp_path / "cache")
    base = Tar().file("a", b"1" * 100).file("b", b"2" * 20).bytes()
    image = put_image(layout, [base, Tar().file(".wh.a").bytes()])
    first = inspection.inspect(image, reference="x", cache=cache)
    monkeypatch.setattr(waste, "measure", lambda *_: pytest.fail("weighed again"))
    assert inspection.inspect(image, reference="x", cache=cache) == first
    assert first.visible_size == 20
    monkeypatch.undo()
    other = put_image(layout, [base, Tar().file(".wh.b").bytes()])
    assert inspection.inspect(other, reference="x", cache=cache).visible_size == 100
