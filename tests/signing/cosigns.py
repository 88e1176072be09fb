"""The real cosign in both its lines, and a real registry that lists referrers."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers import Tool

PASSWORD = "pass word"
OFFLINE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:1")
"""Environment in which nothing but this machine can be reached over HTTP: nothing listens there."""
Done = subprocess.CompletedProcess[str]


class Cosign:
    """One of the programs, with a home of its own, offline: no transparency log, no keys of Sigstore's own service."""

    def __init__(self, tool: Tool, home: Path, *, line: int = 3) -> None:
        self._program = tool("cosign" if line == 3 else "cosign2")
        self._home = home
        self.line = line
        self._root = home / "trusted-root.json"
        self._root.write_text('{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}')

    def __call__(self, *arguments: str) -> Done:
        environment = {**os.environ, **OFFLINE, "HOME": str(self._home), "COSIGN_PASSWORD": PASSWORD}
        return subprocess.run(
            [self._program, *arguments],
            capture_output=True,
            text=True,
            cwd=self._home,
            env=environment,
            timeout=120,
            check=False,
        )

    def key_pair(self, name: str) -> Path:
        """Make `NAME.key` and `NAME.pub` in the home; the path of the public one."""
        done = self("generate-key-pair", "--output-key-prefix", name)
        assert done.returncode == 0, done.stderr
        return self._home / f"{name}.pub"

    def sign(self, image: str, key: str, *, bundle: bool, annotations: Mapping[str, str] | None = None) -> Done:
        """Sign `HOST/REPO@DIGEST`."""
        return self("sign", *self._signing(key, bundle), *_annotations(annotations or {}), image)

    def attest(self, image: str, key: str, kind: str, predicate: Mapping[str, object], *, bundle: bool) -> Done:
        """Attest a predicate of the type that cosign calls `kind`."""
        file = self._home / f"{self.line}-{kind}.json"
        file.write_text(json.dumps(predicate))
        return self("attest", *self._signing(key, bundle), "--type", kind, "--predicate", str(file), image)

    def verify(self, image: str, public: Path, annotations: Mapping[str, str] | None = None) -> Done:
        """Verify an image signature of whichever format there is; bundles go first."""
        return self("verify", *self._verifying(public), *_annotations(annotations or {}), image)

    def verify_attestation(self, image: str, public: Path, kind: str) -> Done:
        """Verify an attestation of whichever format there is; bundles go first."""
        return self("verify-attestation", *self._verifying(public), "--type", kind, image)

    def _signing(self, key: str, bundle: bool) -> list[str]:
        common = ["--key", key, "--tlog-upload=false", "--allow-insecure-registry", "-y"]
        # Cosign 3 would sign as Sigstore's service tells it to.
        offline = ["--use-signing-config=false"] if self.line == 3 else []
        return [*common, *offline, f"--new-bundle-format={str(bundle).lower()}"]

    def _verifying(self, public: Path) -> list[str]:
        common = ["--key", str(public), "--insecure-ignore-tlog=true", "--allow-insecure-registry"]
        # Cosign 2 wants roots for bundles even when a key is named, and would fetch them.
        return [*common, *(["--trusted-root", str(self._root)] if self.line == 2 else [])]


def _annotations(given: Mapping[str, str]) -> list[str]:
    """Flags; each value is a line of CSV."""
    fields = ['"' + f"{name}={value}".replace('"', '""') + '"' for name, value in given.items()]
    return [part for field in fields for part in ("-a", field)]


@contextmanager
def referrers_registry(tool: Tool, folder: Path) -> Iterator[str]:
    """HOST:PORT of go-containerregistry's registry, which lists referrers itself."""
    program = tool("referrers-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, host], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            if _answers(host):
                yield host
                return
            time.sleep(0.05)
        pytest.fail(f"referrers-registry did not start: {log.read_text()[-2000:]}")
    finally:
        process.kill()  # it would wait for idle connections
        process.wait(timeout=20)


def _answers(host: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}/v2/", timeout=1):
            return True
    except OSError:
        return False
