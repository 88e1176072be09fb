"""`base.lock`: made from an archive, written, read, and found stale."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from little_archive import Archive, Keyring, deb, little_packages, little_recipe
from servers import Serve, Tool
from tidewaiter.assembly import base_lock
from tidewaiter.assembly.base_lock import BaseLock
from tidewaiter.assembly.recipe import SYSTEM, Recipe
from tidewaiter.core import limits
from tidewaiter.core import settings as settings_module
from tidewaiter.core.errors import InputError, LimitError, NotFoundError, NotVerifiedError, StaleLockError
from tidewaiter.core.progress import SILENT
from tidewaiter.transport.client import Client


@pytest.fixture(scope="module")
def keyring(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyring]:
    tool("gpg")
    made = Keyring(tmp_path_factory.mktemp("keyring"))
    yield made
    made.close()


@pytest.fixture
def lock(keyring: Keyring, serve: Serve, tmp_path: Path) -> BaseLock:
    """A lock resolved from the little archive."""
    little = Archive(keyring)
    little.publish("stable", little_packages())
    return _resolve(little, serve, tmp_path)


def _resolve(
    little: Archive,
    serve: Serve,
    home: Path,
    *,
    recipe: Recipe | None = None,
    architecture: str | None = None,
    system: tuple[str, ...] = (),
    snapshots: str = "",
) -> BaseLock:
    settings = settings_module.load(
        {
            "TIDEWAITER_HOME": str(home),
            "TIDEWAITER_DEBIAN_MIRROR": serve(little.answer),
            "TIDEWAITER_DEBIAN_SNAPSHOT": snapshots,
        }
    )
    with Client() as client:
        return base_lock.resolve(
            recipe or little_recipe(),
            client,
            settings,
            SILENT,
            architecture=architecture,
            system=system,
            key_folder=little.keyring.folder,
        )


def test_a_lock_names_every_package_exactly(lock: BaseLock) -> None:
    """Version, size, SHA-256, path and group of each package are in the lock, and the suite's date."""
    one, two = lock.packages
    assert (one.name, one.version, one.group, one.path) == ("libone", "1.0-1", "system", "pool/main/libone.deb")
    assert two.group == "tools"
    assert one.size == len(little_packages()["libone"])
    assert lock.suites[0].date == "2026-07-11T10:16:37Z"
    assert lock.suite(one).archive == "debian"


def test_a_dropped_package_is_not_locked(keyring: Keyring, serve: Serve, tmp_path: Path) -> None:
    """What the recipe drops does not come in, even when the archive offers it."""
    little = Archive(keyring)
    little.publish("stable", {**little_packages(), "dpkg": deb("dpkg", "1.21.22")})
    assert [package.name for package in _resolve(little, serve, tmp_path).packages] == ["libone", "two"]


def test_a_written_lock_reads_back(lock: BaseLock, tmp_path: Path) -> None:
    """Writing and reading give the same lock, the same bytes and the same digest, whatever the order."""
    path = tmp_path / "base.lock"
    base_lock.write(path, lock)
    first = path.read_bytes()
    assert base_lock.read(path) == lock
    shuffled = msgspec.structs.replace(lock, packages=tuple(reversed(lock.packages)))
    base_lock.write(path, shuffled)
    assert path.read_bytes() == first
    assert shuffled.digest == lock.digest


def test_what_a_lock_was_read_as_is_known_the_next_time(
    lock: BaseLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second reading is the first one's answer; a damaged memory and another lock are seen."""
    path, memory = tmp_path / "base.lock", tmp_path / "memory"
    base_lock.write(path, lock)
    assert base_lock.read(path, known=memory) == lock
    (note,) = memory.iterdir()

    def forbidden(*_: object) -> None:
        raise AssertionError("the document is read again")

    with monkeypatch.context() as patched:
        patched.setattr(base_lock, "_parse", forbidden)
        assert base_lock.read(path, known=memory) == lock
        note.write_bytes(note.read_bytes().replace(b"1.0-1", b"9.0-1"))
        with pytest.raises(AssertionError, match="read again"):
            base_lock.read(path, known=memory)
    assert base_lock.read(path, known=memory) == lock
    path.write_text(path.read_text().replace("1.0-1", "9.0-1"))
    assert base_lock.read(path, known=memory) == base_lock.read(path) != lock
    path.write_text("format = ")
    with pytest.raises(InputError, match="not TOML"):
        base_lock.read(path, known=memory)


def test_a_missing_lock_names_the_command(tmp_path: Path) -> None:
    """Without a lock the next step is the command that writes it."""
    with pytest.raises(NotFoundError) as caught:
        base_lock.read(tmp_path / "base.lock")
    assert "tidewaiter base update" in caught.value.next_step


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("format = 1", "format = 2", "its format is 2"),
        ("format = 1", "format = ", "not TOML"),
        ("format = 1", "fromat = 1", "fromat"),
        ('sha256 = "', 'sha256 = "x', "SHA-256 or size"),
        ("size = ", "size = -", "SHA-256 or size"),
        ("pool/main/two", "../two", "would leave its folder"),
        ("pool/main/two", "pool/a b", "is malformed"),
        ('name = "two"', 'name = "libone"', "comes twice"),
        ('name = "two"', 'name = "../two"', "is malformed"),
        ('version = "1.0-1"', 'version = "one two"', "not a Debian version"),
        ('suite = "stable"', 'suite = "other"', "does not list"),
        ("2026-07-11T10:16:37Z", "2026-07-11", "no time zone"),
        ('archive = "debian"', 'archive = "http://evil?"', "is malformed"),
        ("sha256:", "md5:", "matching regex"),
    ],
)
def test_a_lock_that_is_wrong_is_refused(lock: BaseLock, tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """Every value is checked, and the error says what is wrong and how to write the lock anew."""
    path = tmp_path / "base.lock"
    base_lock.write(path, lock)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=complaint):
        base_lock.read(path)


def test_a_huge_lock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: BaseLock) -> None:
    """A lock at the limit is read, one byte more is not."""
    path = tmp_path / "base.lock"
    base_lock.write(path, lock)
    monkeypatch.setattr(limits, "LOCK_FILE_BYTES", path.stat().st_size)
    assert base_lock.read(path) == lock
    monkeypatch.setattr(limits, "LOCK_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(LimitError):
        base_lock.read(path)


def test_a_lock_of_another_recipe_is_stale(lock: BaseLock) -> None:
    """A recipe that changed, another recipe, or a package taken out makes the lock stale; the command is named."""
    base_lock.require_fresh(lock, little_recipe())
    changed = little_recipe(**{"not in an image": "other reason"})
    renamed = msgspec.structs.replace(lock, recipe="other")
    shortened = msgspec.structs.replace(lock, packages=lock.packages[1:])
    for stale, recipe in ((lock, changed), (renamed, little_recipe()), (shortened, little_recipe())):
        with pytest.raises(StaleLockError) as caught:
            base_lock.require_fresh(stale, recipe)
        assert "tidewaiter base update PROJECT" in caught.value.next_step


# What a project adds, architectures, snapshots


def _more(keyring: Keyring) -> Archive:
    little = Archive(keyring)
    extra = {
        "three": deb("three", files={"usr/bin/three": b"3"}, fields={"Depends": "libone, libfour, dpkg"}),
        "libfour": deb("libfour", files={"usr/lib/libfour.so": b"4"}),
        "dpkg": deb("dpkg", files={"usr/bin/dpkg": b"d"}),
    }
    little.publish("stable", {**little_packages(), **extra})
    return little


def test_packages_of_the_project_are_a_group_of_their_own(keyring: Keyring, serve: Serve, tmp_path: Path) -> None:
    """They and what only they need are locked beside the recipe's, whose own packages stay as they were."""
    plain = _resolve(_more(keyring), serve, tmp_path)
    locked = _resolve(_more(keyring), serve, tmp_path, system=("three", "two"))
    assert [one.name for one in locked.group(SYSTEM)] == ["libfour", "three"]
    assert locked.system == ("three", "two")
    assert locked.alone == plain
    base_lock.write(tmp_path / "base.lock", locked)
    assert base_lock.read(tmp_path / "base.lock") == locked
    base_lock.require_fresh(locked, little_recipe(), ("two", "three"))


@pytest.mark.parametrize("asked", [(), ("three",), ("libfour", "two"), ("three", "two", "libone")])
def test_another_list_of_packages_makes_the_lock_stale(
    keyring: Keyring, serve: Serve, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    """The lock belongs to exactly the packages that the project asked for."""
    locked = _resolve(_more(keyring), serve, tmp_path, system=("three", "two"))
    with pytest.raises(StaleLockError, match=r"was made for \[system\] packages = \[three, two\]"):
        base_lock.require_fresh(locked, little_recipe(), asked)


def test_a_library_that_the_recipe_drops_comes_when_the_project_needs_it(
    keyring: Keyring, serve: Serve, tmp_path: Path
) -> None:
    """The recipe's own packages do without it, and say why; tools of package management stay out."""
    dropping = little_recipe('\n[[drops]]\npackage = "libfour"\nreason = "nobody here needs it"\n')
    locked = _resolve(_more(keyring), serve, tmp_path, recipe=dropping, system=("three",))
    assert [one.name for one in locked.group(SYSTEM)] == ["libfour", "three"]


def test_an_unknown_package_of_the_project_is_named(keyring: Keyring, serve: Serve, tmp_path: Path) -> None:
    """The error names the package and says where it stands."""
    with pytest.raises(InputError, match="the package nowhere is in none") as caught:
        _resolve(_more(keyring), serve, tmp_path, system=("nowhere",))
    assert "[system] packages" in caught.value.next_step


def test_a_lock_names_its_architecture(keyring: Keyring, serve: Serve, tmp_path: Path) -> None:
    """Packages of the architecture asked for are locked, and a build for another one is told."""
    little = Archive(keyring)
    packages = {name: deb(name, architecture="arm64") for name in ("libone", "two")}
    little.publish("stable", packages, architecture="arm64")
    locked = _resolve(little, serve, tmp_path, architecture="arm64")
    assert {one.architecture for one in locked.packages} == {"arm64"}
    assert locked.platform == "arm64"
    base_lock.require_fresh(locked, little_recipe(), architecture="arm64")
    with pytest.raises(StaleLockError, match="the lock is for arm64, but amd64 is built"):
        base_lock.require_fresh(locked, little_recipe(), architecture="amd64")


def test_a_lock_without_an_architecture_is_for_amd64(lock: BaseLock, tmp_path: Path) -> None:
    """Locks of older versions are read as they were meant, and keep their bytes and digest."""
    old = msgspec.structs.replace(lock, architecture="")
    base_lock.write(tmp_path / "base.lock", old)
    assert "\narchitecture" not in (tmp_path / "base.lock").read_text().partition("[[packages]]")[0]
    assert base_lock.read(tmp_path / "base.lock").platform == "amd64"
    assert old.digest != lock.digest


SNAPSHOT = "20260712T000000Z"


def _frozen(value: str) -> Recipe:
    return little_recipe(**{'name = "little"': f'name = "little"\nsnapshot = "{value}"'})


def test_a_recipe_with_a_snapshot_is_resolved_there(keyring: Keyring, serve: Serve, tmp_path: Path) -> None:
    """Release file and index are those of the snapshot, though they are no longer valid now, and the lock says so."""
    little = Archive(keyring)
    until = {"Valid-Until": "Sun, 19 Jul 2026 00:00:00 UTC"}
    little.publish("stable", little_packages(), release=until)
    little.files = {path.replace("/debian/", f"/debian/{SNAPSHOT}/", 1): data for path, data in little.files.items()}
    locked = _resolve(little, serve, tmp_path, recipe=_frozen(SNAPSHOT), snapshots=serve(little.answer))
    assert locked.snapshot == SNAPSHOT
    assert len(locked.packages) == 2
    late = Archive(keyring)
    late.publish("stable", little_packages(), release=until)
    with pytest.raises(NotVerifiedError, match="was valid until"):
        _resolve(late, serve, tmp_path)


def test_a_frozen_archive_may_be_named_by_its_address(keyring: Keyring, serve: Serve, tmp_path: Path) -> None:
    """A company's own frozen archive is read like the mirror, whatever its release file's end."""
    little = Archive(keyring)
    little.publish("stable", little_packages(), release={"Valid-Until": "Sun, 19 Jul 2026 00:00:00 UTC"})
    assert len(_resolve(Archive(keyring), serve, tmp_path, recipe=_frozen(serve(little.answer))).packages) == 2


def test_a_snapshot_that_is_gone_is_said_to_be(keyring: Keyring, serve: Serve, tmp_path: Path) -> None:
    """It is neither guessed nor replaced by the mirror; turned off is another error."""
    little = Archive(keyring)
    little.publish("stable", little_packages())
    address = serve(Archive(keyring).answer)
    with pytest.raises(NotFoundError, match=f"the snapshot {SNAPSHOT} is gone") as caught:
        _resolve(little, serve, tmp_path, recipe=_frozen(SNAPSHOT), snapshots=address)
    assert caught.value.code == "snapshot_gone"
    with pytest.raises(NotFoundError, match=f"the snapshot {address} is gone"):
        _resolve(little, serve, tmp_path, recipe=_frozen(address))
    with pytest.raises(InputError, match="TIDEWAITER_DEBIAN_SNAPSHOT is empty"):
        _resolve(little, serve, tmp_path, recipe=_frozen(SNAPSHOT))
    with pytest.raises(InputError, match="20261399T000000Z is no time"):
        _resolve(little, serve, tmp_path, recipe=_frozen("20261399T000000Z"), snapshots=address)
