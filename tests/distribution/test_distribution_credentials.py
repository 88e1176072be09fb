"""`distribution.credentials` and the challenge parser."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from servers import StartRegistry
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import InputError, NetworkError
from tidewaiter.distribution import credentials
from tidewaiter.distribution.challenge import Challenge, parse_challenge
from tidewaiter.distribution.credentials import Credential
from tidewaiter.distribution.registry import Registry
from tidewaiter.transport.client import Client

HTPASSWD = "captain:$2b$04$2TeyYC4HoBnq7TkeNUvV5egONLic57/CEPRDuiZf96GkauMnnMinK\n"  # tide-Water:1


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


def test_a_login_for_some_repositories_is_not_used_for_the_whole_host(tmp_path: Path) -> None:
    """podman keys entries by namespace too; Docker's old keys with a scheme or `/v1/` mean the host."""
    entry = {"username": "u", "password": "p"}
    keys = ("a.example/team", "b.example/v1/", "https://c.example/registry/", "d.example/", "e.example")
    path = write(tmp_path / "auth.json", {"auths": dict.fromkeys(keys, entry)})
    assert set(credentials.load(path).stored) == {"b.example", "c.example", "d.example", "e.example"}


def test_the_first_file_that_knows_the_host_is_used(tmp_path: Path) -> None:
    """Files are read when a registry asks, in order, once; one that is malformed is said when it is reached."""
    first = write(tmp_path / "config.json", {"auths": {"a": {"username": "1", "password": "x"}, "empty": {}}})
    second = tmp_path / "auth.json"
    logins = credentials.Logins([tmp_path / "none.json", first, second])
    second.write_text("{")
    assert logins.get("a") == Credential("1", "x")
    with pytest.raises(InputError):
        logins.get("b")
    entry = {"username": "2", "password": "y"}
    write(second, {"auths": {"a": entry, "b": entry, "empty": entry}})
    assert logins.get("b") == logins.get("empty") == Credential("2", "y")
    first.unlink()
    assert logins.get("a") == Credential("1", "x")


def test_login_files_are_those_of_docker_and_podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's first, then podman's of this session and of this user; REGISTRY_AUTH_FILE replaces them all."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.login_files() == (
        tmp_path / ".docker" / "config.json",
        Path(f"/run/containers/{os.getuid()}/auth.json"),
        tmp_path / ".config" / "containers" / "auth.json",
    )
    monkeypatch.setenv("DOCKER_CONFIG", "/docker")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg")
    expected = ("/docker/config.json", "/run/user/7/containers/auth.json", "/xdg/containers/auth.json")
    assert settings.login_files() == tuple(map(Path, expected))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "~/logins.json")
    assert settings.login_files() == (tmp_path / "logins.json",)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_what_skopeo_login_writes_opens_the_registry(
    tmp_path: Path, start_docker_registry: StartRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One `skopeo login` into the file of REGISTRY_AUTH_FILE is enough, for skopeo's own file of this session too."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    (tmp_path / "run").mkdir()
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    with start_docker_registry(f"auth: {{htpasswd: {{realm: here, path: {tmp_path / 'htpasswd'}}}}}\n") as host:

        def ping() -> None:
            with Client() as client:
                known = credentials.Logins(settings.login_files())
                Registry(client, host, plain_http=frozenset({host}), credentials=known).ping()

        def log_in() -> None:
            words = ["skopeo", "login", "--tls-verify=false", "-u", "captain", "--password-stdin", host]
            subprocess.run(words, input="tide-Water:1", text=True, check=True, capture_output=True)

        with pytest.raises(NetworkError):
            ping()
        log_in()
        assert (tmp_path / "run/containers/auth.json").is_file()
        ping()
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "own.json"))
        with pytest.raises(NetworkError):
            ping()
        log_in()
        ping()


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
