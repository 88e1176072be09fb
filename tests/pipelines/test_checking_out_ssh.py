"""Fetching by ssh, from a real OpenSSH server."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from git_server import commit
from tidewaiter.catalog.runs.records import Source
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import NetworkError, UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.sources.checking_out import checkout

pytestmark = pytest.mark.interop


class Place(NamedTuple):
    """A server, its keys, and a repository."""

    folder: Path
    port: int
    url: str
    commit: str

    def settings(self, *, key: str = "mine", known: str = "known", more: str = "") -> Settings:
        """With that key, and those keys of the server."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        (home / "settings.toml").write_text(
            f'[[source]]\nname = "a"\nurl = "{self.url}"\ncredential = "file:{self.folder}/{key}"\n'
            f'known_hosts = "{self.folder}/{known}"\n{more}'
        )
        return all_settings.load({"TIDEWAITER_HOME": str(home)})

    def out(self, settings: Settings) -> str:
        """What the file in the commit says."""
        source = Source(repository=self.url, commit=self.commit)
        return (checkout(settings, source, self.folder / "x", lambda _: None).folder / "a.txt").read_text()


def _key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """sshd of whoever runs the tests, for one key."""
    program = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        reason = "sshd is not installed (Debian's package openssh-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as its service does; it drops what it may in there
    wanted = commit(tmp_path / "a", {"a.txt": "by ssh"})
    host, mine = _key(tmp_path / "host"), _key(tmp_path / "mine")
    _key(tmp_path / "other")
    (tmp_path / "authorized").write_text(f"{mine}\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, key in (("known", host), ("wrong", mine)):
        kind, value, *_ = key.split()
        (tmp_path / name).write_text(f"[127.0.0.1]:{port} {kind} {value}\n")
    (tmp_path / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n"
    )
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", tmp_path / "config"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        yield Place(tmp_path, port, f"ssh://{user}@127.0.0.1:{port}{tmp_path}/a/.git", wanted)
    finally:
        server.terminate()
        server.wait(20)


def test_a_commit_is_fetched_with_a_key(place: Place) -> None:
    """The key comes from where the settings say; no agent is left behind, and no copy of the key."""
    assert place.out(place.settings()) == "by ssh"
    secret = (place.folder / "mine").read_bytes().splitlines()[2]
    for folder in (place.folder / "home", place.folder / "x"):
        assert not any(secret in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "ssh-agent -D -a" not in listed


def test_another_key_is_not_let_in(place: Place) -> None:
    """Who has the wrong key is told so."""
    with pytest.raises(NetworkError) as caught:
        place.out(place.settings(key="other"))
    assert caught.value.code == "source_credential"


def test_another_server_is_not_trusted(place: Place) -> None:
    """A server with another key than the one that is known, or one that nobody knows, gets nothing."""
    with pytest.raises(NetworkError, match="not let in"):
        place.out(place.settings(known="wrong"))
    (place.folder / "empty").write_text("")
    with pytest.raises(NetworkError, match="not let in"):
        place.out(place.settings(known="empty"))


def test_what_is_no_key_is_said(place: Place) -> None:
    """A file that is something else is a mistake in the settings; what is in it is not shown."""
    (place.folder / "text").write_text("hunter2-is-no-key")
    with pytest.raises(UndeterminedError) as caught:
        place.out(place.settings(key="text"))
    assert "hunter2" not in caught.value.message
