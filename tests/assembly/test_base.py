"""Building a base: from the little archive quickly, and from the real Debian, which is then run."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from little_archive import Archive, Keyring, deb, little_packages, little_recipe
from servers import Serve, Tool
from tidewaiter.assembly import base, base_lock, recipe
from tidewaiter.assembly.base import Base
from tidewaiter.assembly.base_lock import BaseLock
from tidewaiter.assembly.foundation import NOT_FOR_PRODUCTION
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.recipe import Recipe
from tidewaiter.core import settings as settings_module
from tidewaiter.core.errors import (
    InputError,
    IntegrityError,
    MissingToolError,
    NetworkError,
    NotFoundError,
    StaleLockError,
)
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Settings
from tidewaiter.oci import image as images
from tidewaiter.oci.layer import read_layer
from tidewaiter.oci.layout import Layout
from tidewaiter.transport.client import Client

SNAPSHOT = "/snapshot/debian/20260712T101637Z/pool/main/two.deb"


@pytest.fixture(scope="module")
def keyring(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyring]:
    tool("gpg")
    made = Keyring(tmp_path_factory.mktemp("keyring"))
    yield made
    made.close()


class Workshop:
    """The little archive on the network, and homes to build in."""

    def __init__(self, keyring: Keyring, serve: Serve, folder: Path) -> None:
        self.archive = Archive(keyring)
        self.archive.publish("stable", little_packages())
        self.mirror = serve(self.archive.answer)
        self.folder = folder
        self.recipe = little_recipe()

    def settings(self, home: str) -> Settings:
        return settings_module.load(
            {
                "TIDEWAITER_HOME": str(self.folder / home),
                "TIDEWAITER_DEBIAN_MIRROR": self.mirror,
                "TIDEWAITER_DEBIAN_SNAPSHOT": f"{self.mirror}/snapshot",
            }
        )

    def lock(self, *system: str) -> BaseLock:
        with Client() as client:
            return base_lock.resolve(
                self.recipe,
                client,
                self.settings("home"),
                SILENT,
                system=system,
                key_folder=self.archive.keyring.folder,
            )

    def build(self, lock: BaseLock, home: str = "home") -> Base:
        return _build(self.recipe, lock, self.settings(home))

    def deb(self, lock: BaseLock, name: str, home: str = "home") -> Path:
        package = next(package for package in lock.packages if package.name == name)
        return self.folder / home / "cache" / "debs" / f"{package.sha256}.deb"


def _build(recipe: Recipe, lock: BaseLock, settings: Settings, *, bytecode: bool = True) -> Base:
    store = Layout(settings.home.store)
    store.create()
    layers = LayerCache(store, settings.home.cache / "layers", SILENT)
    with Client(pause=lambda _: None) as client:
        return base.build(
            recipe, lock, layers=layers, settings=settings, connect=lambda: client, progress=SILENT, bytecode=bytecode
        )


def _rootfs(built: Base) -> Path:
    assert built.interpreter is not None
    return built.interpreter.root()


@pytest.fixture
def workshop(keyring: Keyring, serve: Serve, tmp_path: Path) -> Workshop:
    return Workshop(keyring, serve, tmp_path)


def test_each_group_is_a_layer(workshop: Workshop) -> None:
    """Groups become layers in order, with their packages' files and status in the same layer."""
    built = workshop.build(workshop.lock())
    assert [part.contents for part in built.parts] == [("libone 1.0-1",), ("two 1.0-1",)]
    assert built.environment == ("LANG=C.UTF-8",)
    store = Layout(workshop.folder / "home" / "store")
    with store.open(built.parts[1].info.digest) as blob:
        paths = {entry.path for entry, _ in read_layer(blob)}
    assert {"usr/bin/two", "var/lib/dpkg/status.d/two", "var/lib/dpkg/status.d/two.md5sums"} <= paths
    assert not {path for path in paths if "libone" in path}


def test_two_clean_homes_give_the_same_layers(workshop: Workshop) -> None:
    """The same lock gives the same digests, and a second build in one home makes nothing and fetches nothing."""
    lock = workshop.lock()
    first = workshop.build(lock, "one")
    second = workshop.build(lock, "two")
    assert [part.info for part in first.parts] == [part.info for part in second.parts]
    asked = len(workshop.archive.requests)
    again = workshop.build(lock, "one")
    assert all(part.reused for part in again.parts)
    assert len(workshop.archive.requests) == asked


def test_a_package_with_another_sha256_is_refused(workshop: Workshop) -> None:
    """An archive that serves other bytes under the locked path is not used, whatever their length."""
    lock = workshop.lock()
    path = "/debian/pool/main/two.deb"
    whole = workshop.archive.files[path]
    for bad in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-10], whole + b"more"):
        workshop.archive.files[path] = bad
        with pytest.raises(IntegrityError, match=r"two 1\.0-1") as caught:
            workshop.build(lock)
        assert "tidewaiter base update PROJECT" in caught.value.next_step
        assert not workshop.deb(lock, "two").exists()


def test_a_damaged_cached_package_is_fetched_again(workshop: Workshop) -> None:
    """A cached file whose bytes changed is noticed and replaced."""
    lock = workshop.lock()
    workshop.build(lock)
    path = workshop.deb(lock, "two")
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    shutil.rmtree(workshop.folder / "home" / "cache" / "layers")
    workshop.build(lock)
    assert path.read_bytes() == good


def test_a_dropped_package_comes_from_the_snapshot(workshop: Workshop) -> None:
    """What the archive has dropped is looked up in the snapshot of the locked suite's date."""
    lock = workshop.lock()
    workshop.archive.files[SNAPSHOT] = workshop.archive.files.pop("/debian/pool/main/two.deb")
    assert len(workshop.build(lock).parts) == 2
    assert "/snapshot/debian/20260711T101637Z/pool/main/two.deb" in workshop.archive.requests


def test_a_package_that_is_gone_everywhere_names_the_command(workshop: Workshop) -> None:
    """When no place has a package, the error says how to lock the current one; nothing is left behind."""
    lock = workshop.lock()
    del workshop.archive.files["/debian/pool/main/two.deb"]
    with pytest.raises(NotFoundError, match=r"two 1\.0-1") as caught:
        workshop.build(lock)
    assert "tidewaiter base update PROJECT" in caught.value.next_step
    assert not list((workshop.folder / "home" / "store").glob(".ingest/*"))
    assert not list((workshop.folder / "home" / "cache").glob("work/*"))


def test_without_network_the_answer_is_that_it_is_not_known(workshop: Workshop) -> None:
    """An archive that cannot be reached is another error than a package that is gone."""
    lock = workshop.lock()
    workshop.mirror = "http://127.0.0.1:1"
    with pytest.raises(NetworkError):
        workshop.build(lock)


def test_an_unknown_script_stops_the_build(workshop: Workshop) -> None:
    """A package whose maintainer script is not known is not built into a base."""
    active = deb("two", scripts={"postinst": b"#!/bin/sh\nuseradd evil\n"}, fields={"Depends": "libone"})
    workshop.archive.publish("stable", {**little_packages(), "two": active})
    with pytest.raises(InputError, match="the postinst script of two"):
        workshop.build(workshop.lock())


def test_an_unsafe_package_stops_the_build(workshop: Workshop) -> None:
    """A signed package with a path outside the root is refused all the same, and nothing is written there."""
    bad = deb("two", members=[("../../escape", b"x")], fields={"Depends": "libone"})
    workshop.archive.publish("stable", {**little_packages(), "two": bad})
    with pytest.raises(InputError, match="would leave its folder"):
        workshop.build(workshop.lock())
    assert not list(workshop.folder.rglob("escape"))


def test_two_packages_with_one_file_are_refused(workshop: Workshop) -> None:
    """Packages of one group that ship the same path are an error that names it."""
    both = {
        "libone": deb("libone", files={"usr/bin/x": b"1"}, fields={"Depends": "other"}),
        "other": deb("other", files={"usr/bin/x": b"2"}),
        "two": deb("two"),
    }
    workshop.archive.publish("stable", both)
    with pytest.raises(InputError, match="two files claim the path 'usr/bin/x'"):
        workshop.build(workshop.lock())


def test_a_stale_lock_is_refused(workshop: Workshop) -> None:
    """A lock made from an older recipe is not built."""
    lock = workshop.lock()
    workshop.recipe = little_recipe(**{"Little base": "Larger base"})
    with pytest.raises(StaleLockError):
        workshop.build(lock)


def test_a_damaged_unpacked_base_is_unpacked_again(workshop: Workshop) -> None:
    """The unpacked tree from which the interpreter runs is checked, and made anew when a file changed."""
    lock = workshop.lock()
    root = _rootfs(workshop.build(lock))
    assert (root / "lib/x86_64-linux-gnu/libone.so").read_bytes() == b"\x7fELF one"
    (root / "usr/bin/two").write_bytes(b"tampered")
    (root / "usr/bin/three").write_bytes(b"added")
    again = _rootfs(workshop.build(lock))
    assert again == root
    assert (root / "usr/bin/two").read_bytes() == b"two"
    assert not (root / "usr/bin/three").exists()


def test_nothing_is_unpacked_before_the_interpreter_runs(workshop: Workshop) -> None:
    """A build that compiles nothing leaves the unpacked base alone, whatever is wrong with it; running it mends it."""
    lock = workshop.lock()
    root = _rootfs(workshop.build(lock))
    shutil.rmtree(root)
    built = workshop.build(lock)
    assert not root.exists()
    assert _rootfs(built) == root
    assert (root / "usr/bin/two").read_bytes() == b"two"


def test_only_the_interpreters_packages_name_it() -> None:
    """An update of another library keeps the interpreter's identity; one of Python's packages changes it."""
    shipped = recipe.load("debian12-python3.11")
    names = ("libpython3.11-minimal", "libpython3.11-stdlib", "libssl3", "python3.11-minimal")
    packages = tuple(
        base_lock.LockedPackage(
            name=name, version="1", architecture="amd64", group="python", suite="s", path="p", size=1, sha256=name
        )
        for name in names
    )
    lock = BaseLock(format=1, recipe="", recipe_digest=shipped.digest, suites=(), packages=packages)

    def changed(index: int) -> BaseLock:
        other = [msgspec.structs.replace(one, sha256="new") if at == index else one for at, one in enumerate(packages)]
        return msgspec.structs.replace(lock, packages=tuple(other))

    identity = base.interpreter_identity(shipped, lock)
    assert base.interpreter_identity(shipped, changed(2)) == identity
    assert all(base.interpreter_identity(shipped, changed(index)) != identity for index in (0, 1, 3))


def test_packages_of_the_project_are_a_layer_of_their_own(workshop: Workshop) -> None:
    """What a project adds changes neither the base's layers, nor its image, nor the interpreter's files."""
    more = {"three": deb("three", files={"usr/bin/three": b"3"}, fields={"Depends": "libone"})}
    workshop.archive.publish("stable", {**little_packages(), **more})
    plain, lock = workshop.build(workshop.lock()), workshop.lock("three", "two")
    built = workshop.build(lock)
    assert [part.info for part in built.parts] == [part.info for part in plain.parts]
    assert [part.contents for part in built.system] == [("three 1.0-1",)]
    assert built.interpreter is not None
    assert plain.interpreter is not None
    assert (built.interpreter.rootfs, built.interpreter.identity) == (
        plain.interpreter.rootfs,
        plain.interpreter.identity,
    )
    assert built.lock_digest == plain.lock_digest
    assert not plain.system
    store = Layout(workshop.folder / "home" / "store")
    alone = base.write_image(built, workshop.recipe, lock, store)
    assert alone.manifest == base.write_image(plain, workshop.recipe, lock.alone, store).manifest


def test_packages_that_the_base_has_already_make_no_layer(workshop: Workshop) -> None:
    """A project may name what the recipe brings anyway."""
    assert not workshop.build(workshop.lock("two")).system


def test_a_base_that_is_not_for_production_says_so(workshop: Workshop) -> None:
    """The mark of the recipe becomes an annotation of the base; a base without it has none."""
    store = Layout(workshop.folder / "home" / "store")
    for production in (True, False):
        workshop.recipe = little_recipe(
            **{'name = "little"': f'name = "little"\nproduction = {str(production).lower()}'}
        )
        lock = workshop.lock()
        written = base.write_image(workshop.build(lock), workshop.recipe, lock, store)
        annotations = images.load(store, written.manifest).annotations
        assert (NOT_FOR_PRODUCTION in annotations) == (not production)


def test_without_bytecode_nothing_is_run(workshop: Workshop) -> None:
    """A base for another architecture is built all the same, without the standard library's bytecode."""
    source = {"usr/lib/python3.11/x.py": b"x = 1\n"}
    workshop.archive.publish("stable", {**little_packages(), "two": deb("two", files=source)})
    lock = workshop.lock()
    with pytest.raises(MissingToolError):
        workshop.build(lock)
    built = _build(workshop.recipe, lock, workshop.settings("home"), bytecode=False)
    with Layout(workshop.folder / "home" / "store").open(built.parts[1].info.digest) as blob:
        assert "usr/lib/python3.11/x.py" in {entry.path for entry, _ in read_layer(blob)}


# The real thing


@pytest.fixture(scope="module")
def debian_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of these tests, so that packages are fetched once."""
    return tmp_path_factory.mktemp("debian")


def _real(name: str, home: Path, *system: str, bytecode: bool = True, architecture: str = "amd64") -> tuple[Base, Path]:
    """A shipped recipe built in `home` from Debian's archive, its layers unpacked by tar."""
    settings = msgspec.structs.replace(settings_module.load(), home=settings_module.Home(home))
    shipped = recipe.load(name)
    try:
        with Client() as client:
            lock = base_lock.resolve(shipped, client, settings, SILENT, system=system, architecture=architecture)
    except NetworkError as error:
        pytest.skip(f"the Debian archive cannot be reached: {error}")
    built = _build(shipped, lock, settings, bytecode=bytecode)
    root = home / "roots" / f"{name}-{architecture}"
    root.mkdir(parents=True)
    store = Layout(settings.home.store)
    for part in (*built.parts, *built.system):
        subprocess.run(["tar", "-xf", store.blob_path(part.info.digest), "-C", root, "--no-same-owner"], check=True)
    return built, root


def _in(bwrap: str, root: Path, *command: str, bind: Path | None = None) -> str:
    line = [bwrap, "--ro-bind", str(root), "/", "--unshare-all", "--uid", "65532", "--gid", "65532", "--clearenv"]
    line += ["--setenv", "PATH", "/usr/bin", "--setenv", "LANG", "C.UTF-8", "--proc", "/proc", "--tmpfs", "/tmp"]
    line += ["--ro-bind", str(bind), "/opt"] if bind else []
    done = subprocess.run([*line, *command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.interop
def test_python_313_of_debian_13_runs(debian_home: Path, tool: Tool) -> None:
    """The base of Debian 13 is built from packages that its own keys signed, and its Python has its modules."""
    _, root = _real("debian13-python3.13", debian_home)
    program = _PROGRAM.replace("311", "313").replace("3.11", "3.13")
    assert _in(tool("bwrap"), root, "/usr/bin/python", "-c", program) == "all is well"


@pytest.mark.slow
@pytest.mark.interop
def test_a_static_program_runs_on_the_static_base(debian_home: Path, tmp_path: Path, tool: Tool) -> None:
    """Certificates, time zones, accounts and /tmp are there for a Go program; no program of the base is."""
    _, root = _real("debian12-static", debian_home)
    source = tmp_path / "go"
    source.mkdir()
    (source / "go.mod").write_text("module static\n\ngo 1.19\n")
    (source / "main.go").write_text(_GO)
    go = {
        "CGO_ENABLED": "0",
        "GOCACHE": str(tmp_path / "cache"),
        "GOPATH": str(tmp_path / "path"),
        "GOFLAGS": "-mod=mod",
    }
    build = [tool("go"), "build", "-o", "server", "."]
    subprocess.run(build, cwd=source, check=True, env={**os.environ, **go}, timeout=300)
    zone, certificates, account = _in(tool("bwrap"), root, "/opt/server", bind=source).split()
    assert (zone, account) == ("Asia/Tokyo", "nonroot")
    assert int(certificates) > 100
    assert not [
        path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK)
    ]


_GO = """package main

import (
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"
)

func main() {
	zone, first := time.LoadLocation("Asia/Tokyo")
	bundle, second := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	account, third := user.LookupId("65532")
	fourth := os.WriteFile("/tmp/x", []byte("x"), 0o600)
	if first != nil || second != nil || third != nil || fourth != nil {
		panic(fmt.Sprint(first, second, third, fourth))
	}
	fmt.Println(zone, strings.Count(string(bundle), "BEGIN CERTIFICATE"), account.Username)
}
"""


@pytest.mark.slow
@pytest.mark.interop
def test_common_packages_can_be_added(debian_home: Path, tool: Tool) -> None:
    """Libraries that models ask for load, and the BLAS of highest priority stands in for the reference one."""
    names = ("libglib2.0-0", "libgomp1", "libsndfile1", "libblas3", "libopenblas0")
    built, root = _real("debian12-python3.11-debug", debian_home, *names, bytecode=False)
    assert len(built.system) == 1
    program = (
        "import ctypes, os\n"
        "for name in 'glib-2.0.so.0 gomp.so.1 sndfile.so.1 blas.so.3'.split(): ctypes.CDLL('lib' + name)\n"
        "print(os.path.realpath('/usr/lib/x86_64-linux-gnu/libblas.so.3'))"
    )
    found = _in(tool("bwrap"), root, "/usr/bin/sh", "-c", f'python -c "{program}"')
    assert found == "/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3"


@pytest.mark.slow
@pytest.mark.interop
def test_a_base_for_arm64_is_built_here(debian_home: Path) -> None:
    """Nothing of it is run; its files are those of the architecture."""
    built, root = _real("debian12-python3.11", debian_home, bytecode=False, architecture="arm64")
    assert built.parts
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF":
            assert path.read_bytes()[18:20] == (183).to_bytes(2, "little"), path


_PROGRAM = """
import bz2, ctypes, curses, dbm, decimal, hashlib, json, lzma, os, pwd, readline, socket, sqlite3, ssl, sys, uuid, zlib
import zoneinfo
zoneinfo.ZoneInfo("Asia/Shanghai")
assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
assert len(ssl.create_default_context().get_ca_certs()) > 100
assert hashlib.new("sha3_256", b"").hexdigest()
assert pwd.getpwuid(os.getuid()).pw_name == "nonroot", os.getuid()
assert socket.gethostbyname("localhost") == "127.0.0.1" and socket.getservbyname("https") == 443
assert json.__cached__.endswith("__pycache__/__init__.cpython-311.pyc") and os.path.exists(json.__cached__)
assert "/usr/local/lib/python3.11/dist-packages" in sys.path, sys.path
assert [sys.executable, ctypes.sizeof(ctypes.c_void_p)] == ["/usr/bin/python", 8]
print("all is well")
"""


@pytest.fixture(scope="module")
def debian(debian_home: Path) -> tuple[Base, BaseLock, Path]:
    """The shipped recipe, resolved and built from the real archive, and its layers unpacked by tar."""
    settings = msgspec.structs.replace(settings_module.load(), home=settings_module.Home(debian_home))
    shipped = recipe.load("debian12-python3.11")
    try:
        with Client() as client:
            lock = base_lock.resolve(shipped, client, settings, SILENT)
    except NetworkError as error:
        pytest.skip(f"the Debian archive cannot be reached: {error}")
    built = _build(shipped, lock, settings)
    root = debian_home / "root"
    root.mkdir()
    store = Layout(settings.home.store)
    for part in built.parts:
        subprocess.run(["tar", "-xf", store.blob_path(part.info.digest), "-C", root, "--no-same-owner"], check=True)
    return built, lock, root


@pytest.mark.slow
def test_python_of_the_real_base_runs(debian: tuple[Base, BaseLock, Path], tool: Tool) -> None:
    """In the built base Python runs as 65532 with its modules, certificates, time zones and bytecode."""
    bwrap = tool("bwrap")
    command = [
        bwrap,
        "--ro-bind",
        str(debian[2]),
        "/",
        "--unshare-all",
        "--uid",
        "65532",
        "--gid",
        "65532",
        "--clearenv",
    ]
    for line in debian[0].environment:
        command += ["--setenv", *line.split("=", 1)]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/usr/bin/python", "-c", _PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("all is well\n", "")


@pytest.mark.slow
def test_the_real_base_has_no_shell_and_no_package_manager(debian: tuple[Base, BaseLock, Path]) -> None:
    """No shell, dpkg, apt or Perl is in the base, nothing is set-uid, and the only program is Python."""
    root = debian[2]
    programs = {path.name for folder in ("usr/bin", "usr/sbin") for path in (root / folder).iterdir()}
    assert programs == {"python", "python3", "python3.11"}
    forbidden = {"sh", "dash", "bash", "busybox", "apt", "apt-get", "perl"}
    for path in root.rglob("*"):
        assert path.name not in forbidden or path.is_dir(), path
        assert path.is_symlink() or not path.stat().st_mode & 0o6000, path
    assert not (root / "var/lib/dpkg/status").exists()
    assert "Debian GNU/Linux 12" in (root / "etc/os-release").read_text()


@pytest.mark.slow
def test_status_of_the_real_base_is_true(debian: tuple[Base, BaseLock, Path]) -> None:
    """Every locked package has its paragraph, its licence, and files with the sums that it lists."""
    _, lock, root = debian
    status = root / "var/lib/dpkg/status.d"
    assert {path.name for path in status.iterdir() if path.suffix != ".md5sums"} == {
        package.name for package in lock.packages
    }
    for package in lock.packages:
        paragraph = (status / package.name).read_text()
        assert f"Package: {package.name}\n" in paragraph
        assert f"\nVersion: {package.version}\n" in paragraph
        assert (root / "usr/share/doc" / package.name / "copyright").is_file()
        lines = (status / f"{package.name}.md5sums").read_text().splitlines()
        assert lines
        for line in lines:
            md5, _, path = line.partition("  ")
            assert hashlib.md5((root / path).read_bytes(), usedforsecurity=False).hexdigest() == md5, path


@pytest.mark.slow
def test_every_library_of_the_real_base_finds_what_it_needs(debian: tuple[Base, BaseLock, Path], tool: Tool) -> None:
    """Dropped dependencies leave no program or library with a missing one, and no link leads nowhere."""
    readelf = tool("readelf")
    root = debian[2]
    present = {path.name for path in (root / "usr/lib").rglob("*.so*")}
    for path in root.rglob("*"):
        if path.is_symlink():
            target = path.readlink()
            inside = root / str(target).lstrip("/") if target.is_absolute() else path.parent / target
            assert inside.is_symlink() or inside.exists(), f"{path} -> {target}"
        elif path.is_file() and path.read_bytes().startswith(b"\x7fELF"):
            listing = subprocess.run([readelf, "-d", path], capture_output=True, text=True, check=True).stdout
            needed = {line.partition("[")[2].rstrip("]") for line in listing.splitlines() if "(NEEDED)" in line}
            assert needed <= present, (path, needed - present)
