"""`distribution.credentials` and the challenge parser."""

import base64
import json
from pathlib import Path

import pytest

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.distribution import credentials
from tidewaiter.distribution.challenge import Challenge, parse_challenge
from tidewaiter.distribution.credentials import Credential


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_entries_of_docker_and_skopeo_are_read(tmp_path: Path) -> None:
    """`auth` and plain fields work; Docker Hub's several names mean one host; unknown keys do not disturb."""
    auth = base64.b64encode(b"me:a:b").decode()
    path = write(
        tmp_path / "config.json",
        {
            "auths": {
                "https://index.docker.io/v1/": {"auth": auth},
                "Registry.example:5000": {"username": "u", "password": "p", "email": "x"},
                "helper.example": {},
            },
            "credsStore": "desktop",
        },
    )
    assert credentials.load(path).stored == {
        "docker.io": Credential("me", "a:b"),
        "registry.example:5000": Credential("u", "p"),
    }


def test_no_file_means_no_credentials(tmp_path: Path) -> None:
    """Somebody who never logged in is anonymous."""
    assert credentials.load(tmp_path / "none.json").stored == {}


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"auths": 1}', b'{"auths":{"h":{"auth":"c2VjcmV0"}}}', b"[" * 5000])
def test_malformed_files_are_bad_input(tmp_path: Path, content: bytes) -> None:
    """A file that is not Docker's is refused, and no secret stands in the message."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        credentials.load(path)
    assert "secret" not in str(caught.value)


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CREDENTIALS_FILE_BYTES holds from both sides."""
    path = write(tmp_path / "config.json", {"auths": {}})
    monkeypatch.setattr(limits, "CREDENTIALS_FILE_BYTES", path.stat().st_size)
    assert credentials.load(path).stored == {}
    monkeypatch.setattr(limits, "CREDENTIALS_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(InputError):
        credentials.load(path)


def test_a_password_is_not_shown() -> None:
    """A credential that lands in a log does not betray the password."""
    assert "hidden" not in repr(Credential("me", "hidden"))


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ("", None),
        ("Negotiate", None),
        ('Basic realm="x"', Challenge("basic", {"realm": "x"})),
        (
            'Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull,push"',
            Challenge(
                "bearer", {"realm": "https://auth.example/token", "service": "r", "scope": "repository:a/b:pull,push"}
            ),
        ),
        ("bearer realm=https://h/t , service=s", Challenge("bearer", {"realm": "https://h/t", "service": "s"})),
    ],
)
def test_challenges_are_parsed(header: str, challenge: Challenge | None) -> None:
    """Quoted values keep their commas; schemes and names are case-insensitive."""
    assert parse_challenge(header) == challenge
