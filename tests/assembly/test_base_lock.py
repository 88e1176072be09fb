"""`base.lock`: made from an archive, written, read, and found stale."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from little_archive import Archive, Keyring, deb, little_packages, little_recipe
from servers import Serve, Tool
from tidewaiter.assembly import base_lock
from tidewaiter.assembly.base_lock import BaseLock
from tidewaiter.core import limits
from tidewaiter.core import settings as settings_module
from tidewaiter.core.errors import InputError, LimitError, NotFoundError, StaleLockError
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


def _resolve(little: Archive, serve: Serve, home: Path) -> BaseLock:
    settings = settings_module.load(
        {
            "TIDEWAITER_HOME": str(home),
            "TIDEWAITER_DEBIAN_MIRROR": serve(little.answer),
            "TIDEWAITER_DEBIAN_SNAPSHOT": "",
        }
    )
    with Client() as client:
        return base_lock.resolve(little_recipe(), client, settings, SILENT, key_folder=little.keyring.folder)


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
