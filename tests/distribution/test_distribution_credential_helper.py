"""`distribution.credential_helper` and the order in which Docker's config.json is asked, with real subprocesses."""

import json
import time
from pathlib import Path

import pytest

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, MissingToolError, UndeterminedError
from tidewaiter.distribution import credential_helper, credentials
from tidewaiter.distribution.credentials import Credential


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH for helpers."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_helper_is_asked_for_the_server(helpers: Path, tmp_path: Path) -> None:
    """The address goes to standard input, the user and secret come back."""
    helper(
        helpers,
        "keys",
        f'echo "$1 $(cat)" >> {tmp_path}/asked; echo \'{{"ServerURL":"x","Username":"me","Secret":"s"}}\'',
    )
    assert credential_helper.get("keys", "registry.example:5000") == credential_helper.Secret("me", "s")
    assert (tmp_path / "asked").read_text() == "get registry.example:5000\n"


def test_a_helper_may_have_nothing(helpers: Path) -> None:
    """The helpers' own words for "not found" mean nobody is logged in, any other failure does not."""
    helper(helpers, "empty", "echo credentials not found in native keychain; exit 1")
    assert credential_helper.get("empty", "host") is None
    helper(helpers, "locked", "echo the keychain is locked; exit 1")
    with pytest.raises(UndeterminedError, match="exit code 1") as caught:
        credential_helper.get("locked", "host")
    assert caught.value.code == "credential_helper"


@pytest.mark.parametrize("script", ["echo secret-not-json", 'echo \'{"Secret":"secret"}\'', ":"])
def test_a_strange_answer_is_not_shown(helpers: Path, script: str) -> None:
    """Something else than the protocol is an error that does not repeat it."""
    helper(helpers, "strange", script)
    with pytest.raises(UndeterminedError) as caught:
        credential_helper.get("strange", "host")
    assert "secret" not in str(caught.value)


def test_a_helper_is_bounded_in_time_and_output(helpers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs is ended at its deadline, one that floods at its limit."""
    helper(helpers, "flood", "yes")
    with pytest.raises(UndeterminedError, match="more than"):
        credential_helper.get("flood", "host")
    monkeypatch.setattr(limits, "CREDENTIAL_HELPER_SECONDS", 0.3)
    helper(helpers, "hang", "exec sleep 20")
    start = time.monotonic()
    with pytest.raises(UndeterminedError, match="did not answer"):
        credential_helper.get("hang", "host")
    assert time.monotonic() - start < 5


def test_a_missing_or_odd_helper_is_named(helpers: Path) -> None:
    """A helper that is not installed is a missing tool; a name with a path in it is never started."""
    helper(helpers, "evil", "touch started")
    with pytest.raises(MissingToolError, match="docker-credential-absent"):
        credential_helper.get("absent", "host")
    for name in ("../bin/docker-credential-evil", "", "a b", "-x"):
        with pytest.raises(InputError):
            credential_helper.get(name, "host")


def test_the_most_exact_source_of_a_password_wins(helpers: Path, tmp_path: Path) -> None:
    """`credHelpers` before `credsStore` before `auths`; each helper is asked once, and only when wanted."""
    helper(helpers, "store", f"echo $(cat) >> {tmp_path}/asked; echo credentials not found; exit 1")
    helper(helpers, "exact", 'echo \'{"Username":"<token>","Secret":"identity"}\'')
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "auths": {"fallback.example": {"username": "u", "password": "p"}, "exact.example": {"auth": "eDp5"}},
                "credsStore": "store",
                "credHelpers": {"exact.example": "exact"},
            }
        )
    )
    known = credentials.load(config)
    assert not (tmp_path / "asked").exists()
    assert known.get("exact.example") == Credential("", "", identity_token="identity")
    assert known.get("fallback.example") == Credential("u", "p")
    assert known.get("docker.io") is None
    assert known.get("docker.io") is None
    assert (tmp_path / "asked").read_text().split() == ["fallback.example", "https://index.docker.io/v1/"]


def test_tokens_in_the_file_are_read(tmp_path: Path) -> None:
    """`identitytoken` and `registrytoken` of an entry are kept apart from passwords."""
    config = tmp_path / "config.json"
    config.write_text('{"auths": {"a": {"identitytoken": "i"}, "b": {"registrytoken": "r"}}}')
    known = credentials.load(config)
    assert known.get("a") == Credential("", "", identity_token="i")
    assert known.get("b") == Credential("", "", registry_token="r")
