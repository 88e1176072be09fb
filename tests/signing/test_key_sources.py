"""`signing.key_sources`: a key that signs, from the home, a file, the environment or a command."""

import datetime as dt
import hashlib
from pathlib import Path
from typing import NoReturn

import pytest

from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.signing import key_changes, key_sources, keys
from tidewaiter.signing.key_changes import Terms


@pytest.fixture(autouse=True)
def quick_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes passwords cheap to try; their cost is not what is tested."""
    monkeypatch.setattr(hashlib, "scrypt", lambda password, *, salt, **_: hashlib.sha256(salt + password).digest())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A home's folder of keys with the key `release`, whose password is `pw`."""
    key_changes.generate(tmp_path / "keys", "release", b"pw", Terms(builder="gitlab"))
    return tmp_path / "keys"


def password() -> bytes:
    return b"pw"


def nobody_asks() -> NoReturn:
    raise AssertionError


def test_a_name_is_a_key_of_the_home(folder: Path) -> None:
    """It signs, and has the marks of the home."""
    opened = key_sources.open_key("release", folder, password)
    assert opened.signer.public == keys.load_public(folder / "release.pub")
    assert opened.signer.public.holds(opened.signer.sign(b"data"), b"data")
    assert (opened.trusted.name, opened.trusted.builder) == ("release", "gitlab")


def test_a_name_that_is_not_there_is_not_found(folder: Path) -> None:
    """Neither a name nor a path nor a variable that does not exist; nobody is asked for a password for a name."""
    with pytest.raises(NotFoundError, match="no key 'other'"):
        key_sources.open_key("other", folder, nobody_asks)
    with pytest.raises(NotFoundError):
        key_sources.open_key(str(folder / "other.key"), folder, password)
    with pytest.raises(NotFoundError, match="TEST_KEY_THAT_IS_NOT_SET is not set"):
        key_sources.open_key("env://TEST_KEY_THAT_IS_NOT_SET", folder, password)


def test_a_wrong_password_has_its_own_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the sealed key comes from."""
    monkeypatch.setenv("TEST_KEY", (folder / "release.key").read_text())
    for text in ("release", str(folder / "release.key"), "env://TEST_KEY"):
        with pytest.raises(InputError) as caught:
            key_sources.open_key(text, folder, lambda: b"wrong")
        assert caught.value.code == "wrong_password"


@pytest.mark.parametrize("name", ["cosign.key", "./x", "Key"])
def test_a_file_is_a_key_that_the_home_does_not_know(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By a path, or a bare name that is no key's name; its builder is `local` and it has no limits."""
    stranger = keys.create()
    (tmp_path / name).write_bytes(stranger.seal(b"pw"))
    monkeypatch.chdir(tmp_path)
    opened = key_sources.open_key(name, folder, password)
    assert opened.signer.public == stranger.public == opened.trusted.public
    assert (opened.trusted.builder, opened.trusted.state(clock.now())) == ("local", "in_force")


@pytest.mark.parametrize("separator", ["\n", "\r\n", " "])
def test_a_variable_holds_a_key(folder: Path, monkeypatch: pytest.MonkeyPatch, separator: str) -> None:
    """Cosign's PEM, with whatever a CI system made of its line ends."""
    stranger = keys.create()
    monkeypatch.setenv("TEST_KEY", stranger.seal(b"pw").decode().replace("\n", separator))
    assert key_sources.open_key("env://TEST_KEY", folder, password).signer.public == stranger.public


@pytest.mark.parametrize("text", ["env://", "env://A=B", "env://a b", "env://1"])
def test_what_is_no_variable_is_bad_input(folder: Path, text: str) -> None:
    """Nothing but the name of a variable follows `env://`."""
    with pytest.raises(InputError, match="no variable"):
        key_sources.open_key(text, folder, password)


def test_a_variable_without_a_key_is_bad_input_and_not_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a secret that is no key, nor one over the bound, stands in the message."""
    for value in ("hunter2", "", "hunter2" * limits.KEY_FILE_BYTES):
        monkeypatch.setenv("TEST_KEY", value)
        with pytest.raises(InputError) as caught:
            key_sources.open_key("env://TEST_KEY", folder, password)
        assert "hunter2" not in caught.value.message


def test_a_key_that_the_home_knows_keeps_its_terms(folder: Path, tmp_path: Path) -> None:
    """A copy of a revoked key in a file is revoked, and one of an imported key is its builder's."""
    (tmp_path / "copy.key").write_bytes((folder / "release.key").read_bytes())
    key_changes.revoke(folder, "release", "lost")
    opened = key_sources.open_key(str(tmp_path / "copy.key"), folder, password)
    assert (opened.trusted.name, opened.trusted.state(clock.now())) == ("release", "revoked")
    theirs = keys.create()
    (tmp_path / "theirs.key").write_bytes(theirs.seal(b"pw"))
    key_changes.bring_in(folder, "ci", theirs.public, Terms(builder="jenkins"))
    assert key_sources.open_key(str(tmp_path / "theirs.key"), folder, password).trusted.builder == "jenkins"


def test_a_retired_key_signs_until_its_private_half_is_gone(folder: Path) -> None:
    """By its new name, which holds for a consumer that does not know the new key yet."""
    old = keys.load_public(folder / "release.pub")
    key_changes.rotate(folder, "release", b"pw", overlap=dt.timedelta(days=1))
    assert key_sources.open_key("release.1", folder, password).signer.public == old
    assert key_sources.open_key("release", folder, password).signer.public != old


def test_halves_of_two_keys_are_refused(folder: Path) -> None:
    """A private file that was swapped would sign what nobody verifies with the public one."""
    (folder / "release.key").write_bytes(keys.create().seal(b"pw"))
    with pytest.raises(InputError, match="does not belong"):
        key_sources.open_key("release", folder, password)


def test_a_public_key_comes_from_a_file(folder: Path, tmp_path: Path) -> None:
    """A path as the user wrote it; a missing file is not found."""
    assert key_sources.public_key(str(folder / "release.pub")) == keys.load_public(folder / "release.pub")
    with pytest.raises(NotFoundError):
        key_sources.public_key(str(tmp_path / "none.pub"))
