"""Another base below an image: what fits, what is refused, and what the new image says."""

from pathlib import Path

import msgspec
import pytest

from image_builder import Tar, put_image
from tidewaiter.assembly import elf, rebase
from tidewaiter.assembly.foundation import NOT_FOR_PRODUCTION
from tidewaiter.assembly.ground import Ground, Listings, listings_of
from tidewaiter.assembly.rebase import Side
from tidewaiter.assembly.unpacked_image import UnpackedImage
from tidewaiter.core.errors import RefusedError
from tidewaiter.oci import image as images
from tidewaiter.oci import rootfs
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

LIBRARIES = "usr/lib/x86_64-linux-gnu"
SITE = "usr/local/lib/python3.11/dist-packages"


def _host(name: str) -> Path:
    """A program or library of this machine."""
    found = next(
        (path for path in (Path("/usr/bin") / name, *Path("/usr/lib").glob(f"*-linux-gnu/{name}")) if path.exists()),
        None,
    )
    if found is None:
        pytest.skip(f"this machine has no {name} where Debian has it")
    return found.resolve()


def _base(*, python: str = "3.11", release: str = "12", user: str = "nonroot") -> Tar:
    made = (
        Tar().directory("usr").directory("usr/bin").directory("usr/lib").directory(LIBRARIES).symlink("lib", "usr/lib")
    )
    made.directory("etc").file("etc/os-release", f'ID=debian\nVERSION_ID="{release}"\n')
    made.file("etc/passwd", f"{user}:x:65532:65532::/:/x\n")
    if python:
        made.file(f"usr/bin/python{python}", b"python", mode=0o755)
        made.directory("usr/local").directory("usr/local/lib").directory(f"usr/local/lib/python{python}")
        made.directory(f"usr/local/lib/python{python}/dist-packages")
    return made


def _own() -> Tar:
    return Tar().file(f"{SITE}/six.py", b"x = 1\n").directory("app").file("app/main.py", b"import six\n")


class Place:
    """A layout with an image on an old base, and what is needed to look into images."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = Layout(folder / "store")
        self.asked = 0

    def image(self, *tars: Tar, run: RunConfig | None = None, architecture: str = "amd64") -> Image:
        return put_image(self.layout, [tar.bytes() for tar in tars], run=run, architecture=architecture)

    def files(self, image: Image) -> UnpackedImage:
        root = self.folder / "files" / image.manifest.layers[-1].digest[7:] / str(len(image.layers))
        if not root.exists():
            root.parent.mkdir(parents=True, exist_ok=True)
            rootfs.unpack_image(image, root)
        listed = listings_of(image, Listings(self.folder / "listings"))
        return UnpackedImage(Ground(one.entries for one in listed), root, [])

    def fit(self, image: Image, new: Image) -> None:
        lower = rebase.lower(image, 1)
        own = listings_of(image, Listings(self.folder / "listings"))[1:]

        def whole() -> UnpackedImage:
            self.asked += 1
            return self.files(image)

        rebase.require_fit(image, own, Side("old", lower, self.files(lower)), Side("new", new, self.files(new)), whole)

    def refused(self, image: Image, new: Image) -> str:
        with pytest.raises(RefusedError, match="cannot stand on new") as caught:
            self.fit(image, new)
        assert (caught.value.code, caught.value.exit_code) == ("does_not_fit", 1)
        return caught.value.message


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_base_that_offers_the_same_fits(place: Place) -> None:
    """A newer build of the same base fits, and nothing of the image itself is looked into."""
    image = place.image(_base(), _own())
    place.fit(image, place.image(_base().file("etc/newer", b"x")))
    assert place.asked == 0


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (
            _base(python="3.13"),
            "needs Python 3.11 at /usr/bin/python3.11, and the base has 3.13 at /usr/bin/python3.13",
        ),
        (_base(python=""), "needs Python 3.11 at /usr/bin/python3.11, and the base has none"),
        (_base().symlink("app", "usr/lib"), "have a folder /app, which is a symlink in the base"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(place: Place, new: Tar, reason: str) -> None:
    """Another Python, none at all, or something in the way of a folder."""
    assert reason in place.refused(place.image(_base(), _own()), place.image(new))


def test_an_image_without_python_files_needs_no_python(place: Place) -> None:
    """A program that only lay on a base with Python may stand on one without."""
    place.fit(place.image(_base(), Tar().directory("app").file("app/data", b"x")), place.image(_base(python="")))


def test_another_platform_is_refused(place: Place) -> None:
    """amd64 layers do not run on an arm64 base."""
    message = place.refused(place.image(_base(), _own()), place.image(_base(), architecture="arm64"))
    assert "it is for linux/amd64, the base for linux/arm64" in message


def test_debian_packages_stay_on_their_release(place: Place) -> None:
    """Packages that a project added were made for one release of Debian."""
    own = _own().file("var/lib/dpkg/status.d/libgomp1", b"Package: libgomp1\n")
    image = place.image(_base(), own)
    message = place.refused(image, place.image(_base(release="13")))
    assert "packages of debian 12 (libgomp1), and the base is debian 13" in message
    place.fit(image, place.image(_base().file("etc/newer", b"x")))


def test_a_user_by_name_must_be_in_the_base(place: Place) -> None:
    """A name needs its account; a number needs none."""
    other = place.image(_base(user="someone"))
    message = place.refused(place.image(_base(), _own(), run=RunConfig(user="nonroot")), other)
    assert "runs as 'nonroot', an account that the base has not" in message
    place.fit(place.image(_base(), _own(), run=RunConfig(user="65532")), other)


def _with_c(content: bytes) -> Tar:
    return _base().file(f"{LIBRARIES}/libc.so.6", content, mode=0o755)


def test_a_library_that_is_needed_and_missing_is_named(place: Place) -> None:
    """A real program needs its C library: gone, the base is refused; unneeded, it does not matter."""
    program = Tar().directory("app").file("app/server", _host("ls").read_bytes(), mode=0o755)
    old, bare = _with_c(_host("libc.so.6").read_bytes()), place.image(_base())
    message = place.refused(place.image(old, program), bare)
    assert "/app/server needs libc.so.6, which the base has not" in message
    assert place.asked == 1
    other = Tar().directory("app").file("app/data", b"x")
    place.fit(place.image(_with_c(_host("libc.so.6").read_bytes()), other), bare)


def test_a_library_that_is_too_old_is_named_with_the_version(place: Place) -> None:
    """A C library that lacks a symbol version which a program asks for is refused; one it does not ask for is not."""
    library, program = _host("libc.so.6").read_bytes(), _host("ls").read_bytes()
    asked = (elf.read(_host("ls")) or pytest.fail("ls is no ELF file")).requires["libc.so.6"]
    needed = max(asked, key=len).encode()
    own = Tar().directory("app").file("app/server", program, mode=0o755)
    image = place.image(_with_c(library), own)
    older = library.replace(needed + b"\0", needed[:-1] + b"x\0")
    message = place.refused(image, place.image(_with_c(older)))
    assert f"/app/server needs libc.so.6 with {needed.decode()}, which that of the base does not define" in message
    defined = (elf.read(_host("libc.so.6")) or pytest.fail("libc is no ELF file")).defines
    unasked = max(one for one in defined if one not in asked and one.startswith("GLIBC_2.")).encode()
    place.fit(image, place.image(_with_c(library.replace(unasked + b"\0", unasked[:-1] + b"x\0"))))


def test_a_library_that_the_image_brings_itself_is_not_missed(place: Place) -> None:
    """What lies in the image's own layers does not come from the base."""
    library = _host("libc.so.6").read_bytes()
    own = Tar().directory("app").file("app/server", _host("ls").read_bytes()).file("app/libc.so.6", library)
    own.file("app/libselinux.so.1", b"")
    place.fit(place.image(_with_c(library), own), place.image(_base()))


def _written(place: Place, image: Image, new: Image, old: RunConfig) -> Image:
    return images.load(place.layout, rebase.write(image, 1, new, old_config=old, name="new-base", store=place.layout))


def test_own_layers_stay_and_the_bases_are_swapped(place: Place) -> None:
    """Layers and diff IDs are those of the new base, then the image's own; the same input gives the same digest."""
    image = place.image(_base(), _own(), Tar().file("app/more", b"more"))
    new = place.image(_base().file("etc/newer", b"x"), Tar().file("etc/second", b"x"))
    made = _written(place, image, new, RunConfig())
    assert made.layers == [*new.layers, *image.layers[1:]]
    assert sum(not entry.empty_layer for entry in made.config.history) == 4
    assert made.annotations["org.opencontainers.image.base.name"] == "new-base"
    assert made.annotations["org.opencontainers.image.base.digest"] == new.digest
    assert made.config.created == image.config.created
    assert _written(place, image, new, RunConfig()).digest == made.digest


def test_what_the_base_said_is_replaced_and_what_the_image_says_stays(place: Place) -> None:
    """Variables and user of the old base become those of the new one; the image's own are kept."""
    old = RunConfig(user="65532", env=["PATH=/old", "CERT=/old", "MODE=base"])
    run = RunConfig(user="65532", env=["PATH=/old", "CERT=/old", "MODE=own", "APP=1"], entrypoint=["python"])
    fresh = RunConfig(user="1000", env=["PATH=/new", "MODE=new", "LANG=C"])
    image, new = place.image(_base(), _own(), run=run), place.image(_base(), run=fresh)
    made = _written(place, image, new, old).config.config
    assert made.env == ["PATH=/new", "LANG=C", "MODE=own", "APP=1"]
    assert (made.user, made.entrypoint) == ("1000", ["python"])
    unknown = _written(place, image, new, RunConfig()).config.config
    assert unknown.env == ["LANG=C", *(run.env or [])]
    assert unknown.user == "65532"


def test_the_mark_of_the_base_goes_with_the_base(place: Place) -> None:
    """An image on a base that is not for production is marked, and no longer when it is moved off it."""
    image, plain = place.image(_base(), _own()), place.image(_base())
    marked = msgspec.structs.replace(
        plain, manifest=msgspec.structs.replace(plain.manifest, annotations={NOT_FOR_PRODUCTION: "false"})
    )
    once = _written(place, image, marked, RunConfig())
    assert once.annotations[NOT_FOR_PRODUCTION] == "false"
    assert NOT_FOR_PRODUCTION not in _written(place, once, plain, RunConfig()).annotations
