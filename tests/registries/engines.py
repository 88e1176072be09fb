"""Real container engines of their own: containerd and a Docker daemon on sockets in a test's folder."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from servers import Tool


class Engine(msgspec.Struct, frozen=True):
    """A running Docker daemon and the containerd under it."""

    docker: tuple[str, ...]
    """Command line of its client."""
    ctr: tuple[str, ...]

    def run(self, *arguments: str | Path) -> str:
        """What a client prints; a failure ends the test."""
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout


def _wait(command: tuple[str, ...], log: Path) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run(command, capture_output=True, check=False, timeout=60).returncode:
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


@contextmanager
def engine(tool: Tool, folder: Path) -> Iterator[Engine]:
    """A Docker daemon without network, with its data in `folder`; needs root."""
    if os.geteuid() != 0:
        pytest.skip("a Docker daemon of its own needs root")
    containerd, dockerd = tool("containerd"), tool("dockerd")
    config = folder / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{folder}/c.sock"\n'
    )
    client = Engine(
        docker=(tool("docker"), "--host", f"unix://{folder}/d.sock"), ctr=(tool("ctr"), "--address", f"{folder}/c.sock")
    )
    log = folder / "log"
    # The runc that stands beside BuildKit has no seccomp, which Docker asks for: let them find their own.
    variables = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    started: list[subprocess.Popen[bytes]] = []
    with log.open("wb") as output:
        try:
            started.append(subprocess.Popen([containerd, "-c", config], stdout=output, stderr=output, env=variables))
            _wait((*client.ctr, "version"), log)
            options = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
            options += [f"--host=unix://{folder}/d.sock", f"--containerd={folder}/c.sock"]
            options += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
            started.append(subprocess.Popen([dockerd, *options], stdout=output, stderr=output, env=variables))
            _wait((*client.docker, "version"), log)
            yield client
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(timeout=60)
