"""The Python of an image that was not made here: which one, which wheels fit it, what it replaces."""

from pathlib import Path

import msgspec
import pytest

from image_builder import Tar, put_image
from tidewaiter.assembly import foreign, foreign_python
from tidewaiter.assembly.foundation import Foundation
from tidewaiter.assembly.ground import Listings
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import DEFAULT
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, MissingToolError
from tidewaiter.core.progress import SILENT
from tidewaiter.oci import image as images
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import read_layer
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

SITE = "usr/local/lib/python3.11/dist-packages"


class Bench:
    """Builds on images of a store."""

    def __init__(self, store: Layout, home: Path) -> None:
        self.store = store
        self.cache = all_settings.load({"TIDEWAITER_HOME": str(home)}).home.cache
        self.layers = LayerCache(store, self.cache / "layers", SILENT)

    def base(self, image: Image) -> Foundation:
        listings = Listings(self.cache / "listings")
        return foreign.foundation(image, "base", wanted=DEFAULT, listings=listings, progress=SILENT)

    def find(self, image: Image, version: str, *wheels: str) -> Foundation:
        return foreign_python.find(
            self.base(image), version, wheels, layers=self.layers, cache=self.cache, progress=SILENT
        )


@pytest.fixture(scope="module")
def debian(warm_home: Path) -> Image:
    """Debian with Python 3.11 and six 1.17.0."""
    store = Layout(warm_home / "store")
    return images.load(store, store.resolve(store.tags()[0]))


@pytest.fixture(scope="module")
def bench(debian: Image, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A store of its own with the layers of Debian."""
    home = tmp_path_factory.mktemp("foreign")
    store = Layout(home / "store")
    store.create()
    for descriptor in debian.manifest.layers:
        store.put(debian.source.read(descriptor.digest, limit=descriptor.size))
    return Bench(store, home)


def test_the_program_and_its_folder_are_found(bench: Bench, debian: Image) -> None:
    """The interpreter is the one on the image's PATH, and says itself where modules lie."""
    found = bench.find(debian, "3.11", "six-1.16.0-py2.py3-none-any.whl").interpreter
    assert found is not None
    assert (found.executable, found.site_packages, found.foreign) == ("/usr/bin/python3.11", SITE, True)


@pytest.mark.parametrize(
    ("version", "wheel", "what"),
    [
        ("3.12", "a-1-py3-none-any.whl", r"no program python3\.12"),
        ("3.11", "a-1-cp311-cp311-manylinux_2_99_x86_64.whl", r"needs the GNU C library 2\.99, base has 2\.36"),
    ],
)
def test_what_does_not_fit_is_refused(bench: Bench, debian: Image, version: str, wheel: str, what: str) -> None:
    """Another minor version, and a wheel for a newer C library, are named."""
    with pytest.raises(InputError, match=what):
        bench.find(debian, version, wheel)


def test_a_wheel_of_several_tags_counts_by_the_oldest(bench: Bench, debian: Image) -> None:
    """A wheel that says manylinux2014 and a newer policy fits what the older one fits."""
    names = ("a-1-cp311-cp311-manylinux_2_99_x86_64.manylinux2014_x86_64.whl", "b-1-cp311-cp311-manylinux1_x86_64.whl")
    assert bench.find(debian, "3.11", *names).interpreter is not None


def test_a_script_in_the_place_of_python_is_passed_over(tmp_path: Path) -> None:
    """A file that is no program is not run to find out what it is."""
    layout = Layout(tmp_path / "image")
    tar = Tar().file("usr/bin/python3.11", "#!/bin/sh\ntouch /ran\n", mode=0o755)
    image = put_image(layout, [tar.bytes()], run=RunConfig(env=["PATH=/usr/bin"]))
    with pytest.raises(InputError, match=r"has no program python3\.11"):
        Bench(layout, tmp_path / "home").find(image, "3.11")


def test_without_a_sandbox_nothing_is_run(bench: Bench, debian: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bwrap is missing, the image's interpreter is not started at all."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingToolError, match="bwrap is not installed"):
        bench.find(debian, "3.11")


def test_packages_are_taken_out_by_their_record(bench: Bench, debian: Image) -> None:
    """Only what RECORD names, bytecode and metadata are hidden; names that are not there make no layer."""
    found = bench.find(debian, "3.11")
    assert foreign_python.without(found, ["absent"], wanted=DEFAULT, layers=bench.layers, progress=SILENT) is found
    below = foreign_python.without(found, ["six"], wanted=DEFAULT, layers=bench.layers, progress=SILENT)
    with bench.store.open(below.parts[-1].info.digest) as blob:
        files = [entry.path for entry, _ in read_layer(blob) if entry.kind == "file"]
    assert files == [
        f"{SITE}/.wh.six-1.17.0.dist-info",
        f"{SITE}/.wh.six.py",
        f"{SITE}/__pycache__/.wh.six.cpython-311.pyc",
    ]
    assert below.ground is not None
    assert below.ground.resolve(f"{SITE}/six.py") is None


def test_a_package_without_record_cannot_be_taken_out(bench: Bench, debian: Image) -> None:
    """What no installer recorded is refused by name instead of being left beside the new one."""
    more = Tar().file(f"{SITE}/six-1.17.0.dist-info/.wh.RECORD").bytes()
    stack = put_image(Layout(bench.cache / "x"), [more])
    layers = [*debian.manifest.layers, *stack.manifest.layers]
    diff_ids = [*debian.config.rootfs.diff_ids, *stack.config.rootfs.diff_ids]
    for descriptor in stack.manifest.layers:
        bench.store.put(stack.source.read(descriptor.digest))
    image = msgspec.structs.replace(
        debian,
        source=bench.store,
        manifest=msgspec.structs.replace(debian.manifest, layers=layers),
        config=msgspec.structs.replace(
            debian.config, rootfs=msgspec.structs.replace(debian.config.rootfs, diff_ids=diff_ids)
        ),
    )
    found = bench.find(image, "3.11")
    with pytest.raises(InputError, match="without RECORD"):
        foreign_python.without(found, ["six"], wanted=DEFAULT, layers=bench.layers, progress=SILENT)
