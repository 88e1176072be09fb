"""A BuildKit daemon of a test's own, which needs root."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers import Tool

_RUNC = """\
#!{python}
import json, os, sys
for option, value in zip(sys.argv, sys.argv[1:]):
    if option == "--bundle":
        path = os.path.join(value, "config.json")
        with open(path) as file:
            config = json.load(file)
        config["linux"].pop("seccomp", None)  # this runc is built without it
        with open(path, "w") as file:
            json.dump(config, file)
os.execv("{runc}", ["runc", *sys.argv[1:]])
"""


@contextmanager
def buildkit_daemon(tool: Tool, folder: Path) -> Iterator[str]:
    """Address of a daemon that keeps everything in `folder`; skips where it cannot run."""
    buildctl, buildkitd, runc = tool("buildctl"), tool("buildkitd"), tool("runc")
    if os.geteuid() != 0:
        pytest.skip("buildkitd needs root here")
    (folder / "runc").write_text(_RUNC.format(python=sys.executable, runc=runc))
    (folder / "runc").chmod(0o755)
    address = f"unix://{folder}/socket"
    line = [buildkitd, "--root", f"{folder}/root", "--addr", address, "--oci-worker-snapshotter=native"]
    line += ["--oci-worker-net=host", f"--oci-worker-binary={folder}/runc", "--containerd-worker=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        asked = [buildctl, "--addr", address, "debug", "workers"]
        while subprocess.run(asked, capture_output=True, check=False).returncode:
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)
