"""Real registries on free loopback ports, and what each of them can do."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from servers import Tool

# bcrypt of PASSWORD at its lowest cost
PASSWORD = "tide-Water:1"
HTPASSWD = "captain:$2b$04$2TeyYC4HoBnq7TkeNUvV5egONLic57/CEPRDuiZf96GkauMnnMinK\n"

DOCKER = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: {delete}}}}}
http: {{addr: '{host}'{http}}}
"""


class RealRegistry(msgspec.Struct, frozen=True):
    """A running registry and what it can do, as far as tests expect different things of it."""

    name: str
    host: str
    referrers: bool
    """Answers the referrers API; elsewhere the fallback tag is used."""
    mounts: bool
    """Takes a blob over from a sister repository."""
    sha512_manifests: bool
    """Keeps a manifest under its sha512 digest; blobs under such digests all of these take."""
    deletes_tags: bool
    """Deletes a tag and leaves the manifest."""
    digest_takes_tags: bool
    """Deleting a manifest deletes its tags."""
    pages_catalog: bool


def free_port() -> int:
    """A port of the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(host: str) -> bool:
    name, _, port = host.partition(":")
    try:
        with socket.create_connection((name, int(port)), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def running(command: Callable[[str], Sequence[str]], folder: Path) -> Iterator[str]:
    """HOST:PORT of the server that `command(host)` starts; its output goes to `folder/log`."""
    for _ in range(3):  # another process may take the port before the server does
        host = f"127.0.0.1:{free_port()}"
        arguments = command(host)
        with (folder / "log").open("wb") as log:
            # distribution v3 would send traces to a collector.
            environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
            process = subprocess.Popen(arguments, stdout=log, stderr=log, env=environment, cwd=folder)
        try:
            deadline = time.monotonic() + 20
            while process.poll() is None and time.monotonic() < deadline:
                if _listens(host):
                    yield host
                    return
                time.sleep(0.02)
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()  # crane waits for idle connections for ever
                process.wait(timeout=5)
    pytest.fail(f"{arguments[0]} did not start: {(folder / 'log').read_text()[-2000:]}")


@contextmanager
def docker_registry(
    program: str, folder: Path, *, more: str = "", http: str = "", delete: bool = True
) -> Iterator[str]:
    """Debian's docker-registry 2.8 or, with another `program`, distribution v3."""

    def command(host: str) -> Sequence[str]:
        config = folder / "config.yml"
        text = DOCKER.format(folder=folder, host=host, http=http and f", {http}", delete=str(delete).lower())
        config.write_text(text + more)
        return [program, "serve", str(config)]

    with running(command, folder) as host:
        yield host


@contextmanager
def start(name: str, tool: Tool, folder: Path) -> Iterator[RealRegistry]:
    """The registry `name` of `NAMES`, empty and open to everybody."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in DISTRIBUTION:
        with docker_registry(tool(DISTRIBUTION[name]), folder) as host:
            yield RealRegistry(
                name=name,
                host=host,
                referrers=False,
                mounts=True,
                sha512_manifests=False,
                deletes_tags=name == "distribution v3",
                digest_takes_tags=True,
                pages_catalog=True,
            )
        return
    crane, referrers = tool("crane"), name == "go-containerregistry with referrers"
    program = tool("referrers-registry") if referrers else crane
    arguments = [program] if referrers else [crane, "registry", "serve", "--address"]
    with running(lambda host: [*arguments, host], folder) as host:
        yield RealRegistry(
            name=name,
            host=host,
            referrers=referrers,
            mounts=False,
            sha512_manifests=True,
            deletes_tags=True,
            digest_takes_tags=False,
            pages_catalog=False,
        )


DISTRIBUTION = {"docker-registry 2.8": "docker-registry", "distribution v3": "registry3"}
NAMES = (*DISTRIBUTION, "crane registry", "go-containerregistry with referrers")


# Asking a registry directly, past our client


def ask(
    url: str, *, method: str = "GET", headers: dict[str, str] | None = None, data: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-case) and body of one plain request."""
    request = urllib.request.Request(url, method=method, headers=headers or {}, data=data)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()
