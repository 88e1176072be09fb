"""Signatures, release files and package indexes, against an archive of our own signed by real gpg."""

import datetime as dt
import lzma
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from little_archive import KEY_NAME, Archive, Keyring, little_packages
from servers import Serve, Tool
from tidewaiter.assembly.debian import archive, signature
from tidewaiter.assembly.debian.archive import Mirror, Release
from tidewaiter.assembly.recipe import Suite
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import (
    InputError,
    IntegrityError,
    LimitError,
    MissingToolError,
    NotFoundError,
    NotVerifiedError,
)
from tidewaiter.core.progress import SILENT
from tidewaiter.transport.client import Client

SUITE = Suite(name="stable", archive="debian", keys=(KEY_NAME,))
INRELEASE = "/debian/dists/stable/InRelease"
INDEX = "/debian/dists/stable/main/binary-amd64/Packages.xz"


@pytest.fixture(scope="module")
def keyring(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyring]:
    tool("gpg")
    made = Keyring(tmp_path_factory.mktemp("keyring"))
    yield made
    made.close()


@pytest.fixture
def little(keyring: Keyring) -> Archive:
    return Archive(keyring)


@pytest.fixture(params=["gpgv", "sequoia"])
def checker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What checks signatures: gpgv, and what stands in where it is not installed."""
    if request.param == "sequoia":
        monkeypatch.setattr("shutil.which", lambda _: None)
    return str(request.param)


def _release(little: Archive, serve: Serve) -> Release:
    with Client() as client:
        return archive.fetch_release(SUITE, client, Mirror(serve(little.answer)), key_folder=little.keyring.folder)


def _index(little: Archive, serve: Serve) -> list[bytes]:
    mirror = Mirror(serve(little.answer))
    with Client() as client:
        release = archive.fetch_release(SUITE, client, mirror, key_folder=little.keyring.folder)
        return list(archive.fetch_index(release, "amd64", client, mirror, SILENT))


@pytest.mark.usefixtures("checker")
def test_a_signed_suite_is_read(little: Archive, serve: Serve) -> None:
    """Date and packages of a suite come out of what the trusted key signed."""
    little.publish("stable", little_packages())
    assert _release(little, serve).date == dt.datetime(2026, 7, 11, 10, 16, 37, tzinfo=dt.UTC)
    packages = [archive.package(paragraph, SUITE) for paragraph in _index(little, serve)]
    assert [package.name for package in packages] == ["libone", "two"]
    assert packages[1].depends[0][0].name == "libone"


def test_an_index_is_fetched_by_hash(little: Archive, serve: Serve) -> None:
    """Where the archive offers it, the index is fetched under its hash, so that an update in between cannot mix."""
    little.publish("stable", little_packages(), by_hash=True)
    assert len(_index(little, serve)) == 2
    assert any("/by-hash/SHA256/" in path for path in little.requests)


def test_an_archive_without_the_hash_path_is_read_by_name(little: Archive, serve: Serve) -> None:
    """A mirror that promises by-hash but lacks the file still serves the index by its name."""
    little.publish("stable", little_packages(), by_hash=True)
    path = next(path for path in little.files if "/by-hash/" in path)
    little.files[INDEX] = little.files.pop(path)
    assert len(_index(little, serve)) == 2


@pytest.mark.usefixtures("checker")
def test_changed_text_is_not_verified(little: Archive, serve: Serve) -> None:
    """A release file whose text was changed after signing is refused."""
    little.publish("stable", little_packages())
    assert b"Origin: Little" in little.files[INRELEASE]
    little.files[INRELEASE] = little.files[INRELEASE].replace(b"Origin: Little", b"Origin: Others")
    with pytest.raises(NotVerifiedError, match="is not signed by little"):
        _release(little, serve)


@pytest.mark.usefixtures("checker")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"-----BEGIN PGP SIGNED MESSAGE-----", b"-----BEGIN PGP UNSIGNED TEXT-----"),
        (b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN PGP NOTHING-----"),
        (b"-----END PGP SIGNATURE-----", b"-----END PGP SIGNATURE-----\nCodename: other"),
        (b"-----BEGIN PGP SIGNED MESSAGE-----", b"Codename: other\n\n-----BEGIN PGP SIGNED MESSAGE-----"),
    ],
)
def test_anything_but_one_clear_signed_text_is_refused(little: Archive, serve: Serve, old: bytes, new: bytes) -> None:
    """Text around the signed part, and odd armour that gpgv would forgive, are refused."""
    little.publish("stable", little_packages())
    assert old in little.files[INRELEASE]
    little.files[INRELEASE] = little.files[INRELEASE].replace(old, new)
    with pytest.raises(NotVerifiedError, match="is not one clear-signed text"):
        _release(little, serve)


@pytest.mark.usefixtures("checker")
def test_two_signed_texts_in_one_file_are_refused(little: Archive, serve: Serve) -> None:
    """A second message signed by the same key cannot ride along."""
    little.publish("stable", little_packages())
    little.files[INRELEASE] += little.keyring.sign(b"Codename: other\n")
    with pytest.raises(NotVerifiedError, match="is not one clear-signed text"):
        _release(little, serve)


@pytest.mark.usefixtures("checker")
def test_another_key_is_not_trusted(little: Archive, serve: Serve, tmp_path: Path) -> None:
    """A good signature by a key that the suite does not name is refused."""
    other = Keyring(tmp_path)
    try:
        strange = Archive(other)
        strange.publish("stable", little_packages())
        strange.keyring = little.keyring
        with pytest.raises(NotVerifiedError):
            _release(strange, serve)
    finally:
        other.close()


@pytest.mark.usefixtures("checker")
def test_a_keyring_does_not_stand_for_its_fingerprint(little: Archive, serve: Serve, tmp_path: Path) -> None:
    """A key file whose key has another fingerprint than the one written down is not trusted."""
    little.publish("stable", little_packages())
    for file in little.keyring.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "keys.toml").write_text(f'[{KEY_NAME}]\nfingerprint = "{"0" * 40}"\nowner = "test"\n')
    with Client() as client, pytest.raises(NotVerifiedError):
        archive.fetch_release(SUITE, client, Mirror(serve(little.answer)), key_folder=tmp_path)


def test_another_suite_under_this_name_is_refused(little: Archive, serve: Serve) -> None:
    """A mirror cannot serve an older suite, signed by the same key, in place of the one asked for."""
    little.publish("stable", little_packages(), release={"Codename": "oldstable"})
    with pytest.raises(InputError, match="'oldstable', not of 'stable'"):
        _release(little, serve)


def test_a_release_file_expires(little: Archive, serve: Serve) -> None:
    """A release file is accepted until Valid-Until and refused after it."""
    day = dt.timedelta(days=1)
    form = "%a, %d %b %Y %H:%M:%S UTC"
    little.publish("stable", little_packages(), release={"Valid-Until": (clock.now() + day).strftime(form)})
    assert _release(little, serve).suite == SUITE
    little.publish("stable", little_packages(), release={"Valid-Until": (clock.now() - day).strftime(form)})
    with pytest.raises(NotVerifiedError, match="was valid until"):
        _release(little, serve)


@pytest.mark.parametrize("fields", [{"Date": ""}, {"Date": "yesterday"}, {"Valid-Until": "soon"}])
def test_a_malformed_release_file_is_refused(little: Archive, serve: Serve, fields: dict[str, str]) -> None:
    """Signed nonsense is an error, not a guess."""
    little.publish("stable", little_packages(), release=fields)
    with pytest.raises(InputError):
        _release(little, serve)


def test_an_index_with_another_hash_is_refused(little: Archive, serve: Serve) -> None:
    """An index of the right length but other bytes is not read."""
    little.publish("stable", little_packages())
    data = bytearray(little.files[INDEX])
    data[-1] ^= 1
    little.files[INDEX] = bytes(data)
    with pytest.raises(IntegrityError, match="is not the file that its release file names"):
        _index(little, serve)


def test_an_index_longer_than_signed_is_refused(little: Archive, serve: Serve) -> None:
    """The download stops at the signed length."""
    little.publish("stable", little_packages())
    little.files[INDEX] += b"more"
    with pytest.raises((IntegrityError, LimitError)):
        _index(little, serve)


def test_a_missing_index_is_named(little: Archive, serve: Serve) -> None:
    """A suite that is signed but whose index is gone is an error that names the address."""
    little.publish("stable", little_packages())
    del little.files[INDEX]
    with pytest.raises(NotFoundError, match=r"Packages\.xz"):
        _index(little, serve)


def test_an_index_may_not_unpack_beyond_the_bound(
    little: Archive, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index at the bound is read, one byte more is not, and neither is an endless paragraph."""
    little.publish("stable", little_packages())
    exact = len(lzma.decompress(little.files[INDEX]))
    monkeypatch.setattr(limits, "PACKAGES_BYTES", exact)
    assert len(_index(little, serve)) == 2
    monkeypatch.setattr(limits, "PACKAGES_BYTES", exact - 1)
    with pytest.raises(LimitError):
        _index(little, serve)
    monkeypatch.undo()
    little.publish("stable", {}, extra="Package: x\nDescription: " + "x" * 5000 + "\n")
    monkeypatch.setattr(limits, "DEB_CONTROL_BYTES", 4000)
    with pytest.raises(LimitError, match="endless"):
        _index(little, serve)


def test_without_gpgv_nothing_is_trusted(
    little: Archive, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the signature cannot be checked, the answer is that it could not be, naming the program."""
    little.publish("stable", little_packages())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pysequoia", None)
    with pytest.raises(MissingToolError, match="gpgv"):
        _release(little, serve)


@pytest.mark.parametrize(
    "paragraph",
    [
        "Package: ../x\nVersion: 1\nArchitecture: all\nFilename: a.deb\nSize: 1\nSHA256: " + "0" * 64,
        "Package: ok\nVersion: 1 2\nArchitecture: all\nFilename: a.deb\nSize: 1\nSHA256: " + "0" * 64,
        "Package: ok\nVersion: 1\nArchitecture: all\nFilename: ../a.deb\nSize: 1\nSHA256: " + "0" * 64,
        "Package: ok\nVersion: 1\nArchitecture: all\nFilename: a.deb\nSize: -1\nSHA256: " + "0" * 64,
        "Package: ok\nVersion: 1\nArchitecture: all\nFilename: a.deb\nSize: 1\nSHA256: short",
        "Package: ok\nVersion: 1\nArchitecture: all\nFilename: a.deb\nSize: 1",
        "Package: ok\nPackage: other",
        "no field",
        "Package: ok\nVersion: 1\nArchitecture: all\nFilename: a\nSize: 1\nDepends: x (? 1)\nSHA256: " + "0" * 64,
    ],
)
def test_a_malformed_paragraph_is_refused(paragraph: str) -> None:
    """A package whose index entry is malformed cannot be chosen."""
    with pytest.raises(InputError):
        archive.package(paragraph.encode(), SUITE)


def test_shipped_keys_have_the_fingerprints_written_beside_them(tool: Tool, tmp_path: Path) -> None:
    """Each shipped keyring holds exactly the primary key that `keys.toml` names, as gpg reads it."""
    gpg = tool("gpg")
    tmp_path.chmod(0o700)
    folder = Path(archive.__file__).parent / "keys"
    known = tomllib.loads((folder / "keys.toml").read_text())
    assert sorted(known) == sorted(path.stem for path in folder.glob("*.gpg"))
    for key in signature.keys(sorted(known)):
        command = [gpg, f"--homedir={tmp_path}", "--batch", "--with-colons", "--show-keys", str(key.keyring)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert sum(line.startswith("pub:") for line in lines) == 1
        assert next(line for line in lines if line.startswith("fpr:")).split(":")[9] == key.fingerprint


def test_an_unknown_key_name_is_refused() -> None:
    """A recipe that names a key we do not have is told which there are."""
    with pytest.raises(InputError, match="no archive key 'other'"):
        signature.keys(["other"])


def test_both_checkers_read_the_same_text(little: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text that Sequoia gives is, to the byte, the one that gpgv gives."""
    little.publish("stable", little_packages())
    trusted = signature.keys([KEY_NAME], little.keyring.folder)
    by_gpgv = signature.verify(little.files[INRELEASE], trusted, source="x")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert signature.verify(little.files[INRELEASE], trusted, source="x") == by_gpgv
