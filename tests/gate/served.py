"""`tidewaiter serve` as a process, with a token, for tests that need real sockets or real clients."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gate_place import Answer
from tidewaiter.access import tokens
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings as all_settings
from workplace import command, environment

SETTINGS = """\
requests_per_second = 0

[[repository]]
names = ["open/**", "conformance/**"]
open = true

[[environment]]
name = "staging"
repositories = ["team/**"]
"""


class Served(NamedTuple):
    """A running server."""

    process: "subprocess.Popen[str]"
    host: str
    """HOST:PORT."""
    token: str

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, seconds: float = 60
    ) -> Answer:
        """The answer to one request behind `/v2`."""
        connection = http.client.HTTPConnection(self.host, timeout=seconds)
        try:
            given = {"Authorization": f"Bearer {self.token}", **(headers or {})}
            connection.request(method, "/v2" + path, body, given)
            found = connection.getresponse()
            return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()

    def kill(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)


def prepare(home: Path) -> str:
    """Settings and a catalog for the home, and the secret of a token that may all that a maintainer may."""
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text(SETTINGS)
    with Catalog.open(all_settings.load({"TIDEWAITER_HOME": str(home)})) as catalog:
        return tokens.create(catalog, "robot", days=1, most_days=365, only_role="maintainer").secret


@contextmanager
def serving(home: Path, token: str) -> Iterator[Served]:
    """A server on a free port until the block ends."""
    with (home / "serve.log").open("a") as log:
        process = subprocess.Popen(
            command("serve", "--port", "0"),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**environment(home), "PYTHONUNBUFFERED": "1"},
        )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), (home / "serve.log").read_text()[-2000:]
        yield Served(process, address.removeprefix("http://").rstrip("/"), token)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)
        process.communicate()


def resident(process: int) -> int:
    """Bytes of memory that the process has now."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def until(question: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait until `question` answers yes."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.05)
