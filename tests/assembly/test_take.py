"""Files out of one image onto another: Debian's own Python, its libraries and loader, run in the result."""

import gzip
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest

from image_builder import Tar
from tidewaiter.assembly import elf, execution, foreign, take
from tidewaiter.assembly.foundation import Foundation, stacked
from tidewaiter.assembly.ground import Listings
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import DEFAULT
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import InputError, NotFoundError, TidewaiterError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.project import TakeSection
from tidewaiter.core.settings import Settings
from tidewaiter.inspection import image as inspection
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, ImageConfig, Manifest, RootFS, RunConfig

PYTHON = "/usr/bin/python3.11"
LIBRARY = "/usr/lib/python3.11"
FOLDER = "usr/lib/x86_64-linux-gnu"


class Place(msgspec.Struct):
    """A store with Debian's layers, and what building in it needs."""

    store: Layout
    settings: Settings
    debian: Image

    def image(self, *layers: int | bytes, env: list[str] | None = None) -> Image:
        """An image of layers of the Debian one, by number, and of further tars."""
        descriptors, diff_ids = [], []
        for one in layers:
            if isinstance(one, int):
                descriptor, diff_id = self.debian.layers[one]
            else:
                data = gzip.compress(one, 1, mtime=0)
                diff_id = digests.of(one)
                descriptor = Descriptor(media_type=documents.LAYER_GZIP, digest=self.store.put(data), size=len(data))
            descriptors.append(descriptor)
            diff_ids.append(diff_id)
        config = documents.encode(
            ImageConfig(
                architecture="amd64",
                os="linux",
                rootfs=RootFS(type="layers", diff_ids=diff_ids),
                config=RunConfig(env=env),
            )
        )
        manifest = documents.encode(
            Manifest(
                schema_version=2,
                media_type=documents.MANIFEST,
                config=Descriptor(media_type=documents.CONFIG, digest=self.store.put(config), size=len(config)),
                layers=descriptors,
            )
        )
        found = Descriptor(media_type=documents.MANIFEST, digest=self.store.put(manifest), size=len(manifest))
        return images.load(self.store, found)

    def whole(self, *more: bytes) -> Image:
        """Debian with its Python."""
        return self.image(*range(self.python + 1), *more)

    @property
    def python(self) -> int:
        """Number of the layer that holds Python."""
        titles = [entry.created_by or "" for entry in self.debian.config.history]
        return next(number for number, title in enumerate(titles) if "Python" in title)

    def base(self, image: Image) -> Foundation:
        return foreign.foundation(image, "base", wanted=DEFAULT, listings=self.listings, progress=SILENT)

    @property
    def listings(self) -> Listings:
        return Listings(self.settings.home.cache / "layer-listings")

    def take(self, below: Foundation, image: Image, *paths: str) -> Foundation:
        layers = LayerCache(self.store, self.settings.home.cache / "layers", SILENT)
        return take.onto(
            below,
            TakeSection(image="registry.example/x", paths=paths),
            image,
            "registry.example/x",
            layers=layers,
            listings=self.listings,
            settings=self.settings,
            progress=SILENT,
        )

    def run(self, made: Foundation, *command: str) -> subprocess.CompletedProcess[str]:
        root = execution.unpacked(stacked(made, self.store), self.settings.home.cache, SILENT)
        line = ["bwrap", "--unshare-all", "--clearenv", "--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev"]
        return subprocess.run([*line, "--", *command], capture_output=True, text=True, check=False, timeout=60)

    def file(self, path: str) -> bytes:
        """A file of Debian with Python."""
        root = execution.unpacked(self.whole(), self.settings.home.cache, SILENT)
        return (root / path).resolve().read_bytes()


@pytest.fixture(scope="module")
def place(warm_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with the layers of the warm home's image, for all tests here: what one unpacks, the next one finds."""
    home = tmp_path_factory.mktemp("take")
    warm, store = Layout(warm_home / "store"), Layout(home / "store")
    store.create()
    debian = images.load(warm, warm.resolve(warm.tags()[0]))
    for descriptor, _ in debian.layers:
        with store.writer() as writer, warm.open(descriptor.digest) as blob:
            while data := blob.read(1 << 20):
                writer.write(data)
            writer.commit(descriptor.digest)
    return Place(store, all_settings.load({"TIDEWAITER_HOME": str(home)}), debian)


def _taken(made: Foundation) -> set[str]:
    return set(made.parts[-1].contents)


@pytest.mark.thorough
def test_a_program_comes_with_the_libraries_that_the_base_lacks(place: Place) -> None:
    """Python onto Debian's system libraries starts, modules of C too; libraries of the base are not taken again."""
    base = place.base(place.image(0))
    made = place.take(base, place.whole(), PYTHON, LIBRARY)
    done = place.run(made, PYTHON, "-c", "import ssl, ctypes, pyexpat; print(ssl.OPENSSL_VERSION)")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OpenSSL 3")
    taken = _taken(made)
    assert PYTHON in taken
    assert any(path.startswith(f"/{FOLDER}/libexpat.so.1") for path in taken)
    assert any(path.startswith(f"/{FOLDER}/libffi.so") for path in taken)
    assert not any("libc.so" in path or "libz.so" in path or "libssl" in path for path in taken)
    again = place.take(base, place.whole(), PYTHON, LIBRARY)
    assert again.parts[-1].reused
    assert again.parts[-1].info == made.parts[-1].info
    assert made.images == (("base", base.image.digest), ("registry.example/x", place.whole().digest))


def test_onto_an_empty_base_the_loader_comes_along(place: Place) -> None:
    """Without a C library in the base the image's own is taken with its loader, and the program starts."""
    base = place.base(place.image(Tar().directory("etc").bytes()))
    made = place.take(base, place.whole(), PYTHON, LIBRARY)
    done = place.run(made, PYTHON, "-c", "import zlib, pyexpat; print(zlib.crc32(b'x'))")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "2363233923\n")
    assert {"/lib64/ld-linux-x86-64.so.2", f"/{FOLDER}/libc.so.6", f"/{FOLDER}/libz.so.1"} <= _taken(made)


def test_packages_of_what_was_taken_are_seen(place: Place) -> None:
    """Inspection lists the Debian packages whose files were taken, with their licences, and no other."""
    base = place.base(place.image(0))
    below = {one.name for one in inspection.inspect(stacked(base, place.store), reference="x").components}
    made = place.take(base, place.whole(), PYTHON)
    facts = inspection.inspect(stacked(made, place.store), reference="x")
    added = {one.name: one for one in facts.components if one.name not in below}
    assert set(added) == {"python3.11-minimal", "libexpat1"}
    assert all(one.licenses for one in added.values())
    assert facts.unread == ()
    with place.store.open(made.parts[-1].info.digest) as blob, tarfile.open(fileobj=blob) as read:
        sums = read.extractfile("var/lib/dpkg/status.d/python3.11-minimal.md5sums")
        assert sums is not None
        assert sums.read().decode().split()[1] == PYTHON.lstrip("/")


def test_a_missing_library_is_named(place: Place) -> None:
    """When the image itself lacks a library, the error names it and the file that needs it."""
    without = Tar().file(f"{FOLDER}/.wh.libexpat.so.1").bytes()
    with pytest.raises(InputError, match=r"libexpat\.so\.1, which /usr/bin/python3\.11 needs") as caught:
        place.take(place.base(place.image(0)), place.whole(without), PYTHON)
    assert caught.value.code == "missing_library"


def test_a_base_that_is_too_old_is_named(place: Place, tmp_path: Path) -> None:
    """A C library that does not define a symbol version which is asked of it is refused, with the version."""
    (tmp_path / "python").write_bytes(place.file(PYTHON.lstrip("/")))
    program = elf.read(tmp_path / "python")
    assert program is not None
    version = max(program.requires["libc.so.6"], key=lambda name: [int(part) for part in name[6:].split(".")])
    library = place.file(f"{FOLDER}/libc.so.6")
    old = library.replace(f"\0{version}\0".encode(), f"\0{version[:-2]}__\0".encode())
    assert old != library
    base = place.base(place.image(0, Tar().file(f"{FOLDER}/libc.so.6", old, mode=0o755).bytes()))
    with pytest.raises(InputError, match=rf"libc\.so\.6 with {version}, which .* is too old"):
        place.take(base, place.whole(), PYTHON)


def test_a_library_in_a_folder_of_its_own_is_found(place: Place) -> None:
    """What the image's loader finds by ld.so.conf alone gets a link where the base's loader looks by itself."""
    library = place.file(f"{FOLDER}/libexpat.so.1")
    moved = Tar().file(f"{FOLDER}/.wh.libexpat.so.1").file("opt/xml/libexpat.so.1", library)
    moved.file("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n").file("etc/ld.so.conf.d/xml.conf", "/opt/xml\n")
    made = place.take(place.base(place.image(0)), place.whole(moved.bytes()), PYTHON)
    assert "/opt/xml/libexpat.so.1" in _taken(made)
    done = place.run(made, PYTHON, "-S", "-c", "pass")
    assert "libexpat" not in done.stderr


def test_links_lead_to_what_they_lead_to(place: Place) -> None:
    """A link that is named comes with its target, a folder with the targets of the links that leave it."""
    more = Tar().file("srv/data/x", b"x").directory("opt/app").symlink("opt/app/data", "../../srv/data")
    more.symlink("opt/app/self", ".").symlink("opt/app/gone", "/nowhere").symlink("usr/bin/app", "../../opt/app/run")
    more.file("opt/app/run", b"plain", mode=0o4750)
    made = place.take(place.base(place.image(0)), place.whole(more.bytes()), "/usr/bin/app", "/opt/app")
    assert {"/usr/bin/app", "/opt/app/run", "/opt/app/data", "/opt/app/gone", "/srv/data/x"} <= _taken(made)
    assert made.ground is not None
    assert made.ground.resolve("usr/bin/app") == "opt/app/run"
    assert made.ground.resolve("opt/app/data/x") == "srv/data/x"
    entry = made.ground.get("opt/app/run")
    assert entry is not None
    assert entry.mode == 0o4750


def test_a_folder_does_not_replace_libraries_of_the_base(place: Place) -> None:
    """Of a folder full of libraries those that the base has stay the base's; damaged ones in it are data."""
    more = Tar().file(f"{FOLDER}/libz.so.1.2.13", b"not this one").file(f"{FOLDER}/data.so", b"\x7fELFdata")
    made = place.take(place.base(place.image(0)), place.whole(more.bytes()), f"/{FOLDER}")
    taken = _taken(made)
    assert f"/{FOLDER}/data.so" in taken
    assert not any(name in path for path in taken for name in ("libz.so", "libc.so", "libssl"))
    assert any("libexpat.so" in path for path in taken)


def test_a_script_needs_its_program(place: Place) -> None:
    """A script whose shell is not in the base is refused with the shell's name; with it, it is taken."""
    more = (
        Tar().file("usr/bin/tool", "#!/bin/sh\nexit 0\n", mode=0o755).file("usr/bin/pip", f"#!{PYTHON}\n", mode=0o755)
    )
    image = place.whole(more.bytes())
    with pytest.raises(InputError, match=r"/bin/sh, which runs /usr/bin/tool"):
        place.take(place.base(place.image(0)), image, "/usr/bin/tool")
    made = place.take(place.base(place.image(0)), image, "/usr/bin/pip", PYTHON)
    assert "/usr/bin/pip" in _taken(made)


def test_a_second_take_stands_on_the_first(place: Place) -> None:
    """Libraries that an earlier one brought are used, not taken again."""
    first = place.take(place.base(place.image(0)), place.whole(), PYTHON)
    second = place.take(first, place.whole(), f"{LIBRARY}/lib-dynload")
    assert not any("libexpat" in path for path in _taken(second))
    assert any("libffi" in path for path in _taken(second))


@pytest.mark.parametrize(
    ("path", "error"), [("/usr/bin/absent", NotFoundError), ("/etc/ssl", InputError), ("/loop", NotFoundError)]
)
def test_what_cannot_be_taken_is_named(place: Place, path: str, error: type[TidewaiterError]) -> None:
    """A path that is not there, one whose kind differs from the base's, and a loop of links."""
    more = Tar().file(".wh.nothing").file("etc/.wh.ssl").symlink("loop", "loop").file("etc/ssl", b"")
    with pytest.raises(error, match=path.rpartition("/")[2]):
        place.take(place.base(place.image(0)), place.whole(more.bytes()), path)


def test_the_layer_is_the_same_every_time(place: Place, tmp_path: Path) -> None:
    """The bytes depend on the two images and the paths: another home gives the same layer."""
    first = place.take(place.base(place.image(0)), place.whole(), PYTHON)
    moved = all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "other")})
    (tmp_path / "other/cache").mkdir(parents=True)
    again = msgspec.structs.replace(place, settings=moved)
    second = again.take(again.base(again.image(0)), again.whole(), PYTHON)
    assert not second.parts[-1].reused
    assert second.parts[-1].info == first.parts[-1].info
