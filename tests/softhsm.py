"""A real PKCS#11 token, SoftHSM's, in a folder of its own, into which keys of openssl are put."""

import subprocess
from pathlib import Path

import pytest

from servers import Tool

PIN = "2718 28"
_PLACES = ("/usr/lib/softhsm", "/usr/lib64/softhsm", "/usr/lib/x86_64-linux-gnu/softhsm", "/usr/lib64/pkcs11")


def module() -> str:
    """Where Debian and others put SoftHSM's module."""
    found = (Path(place, "libsofthsm2.so") for place in _PLACES)
    return str(next(path for path in found if path.exists()))


class Token:
    """The token `image keys`; its PIN is in the variable TEST_PIN."""

    def __init__(self, folder: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._util, self._openssl = tool("softhsm2-util"), tool("openssl")
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
        monkeypatch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        monkeypatch.setenv("TEST_PIN", PIN)
        self._run(self._util, "--init-token", "--free", "--label", "image keys", "--pin", PIN, "--so-pin", "so-pin")

    def _run(self, *line: str) -> None:
        subprocess.run(line, cwd=self._folder, check=True, capture_output=True)

    def put(self, curve: str) -> str:
        """Put a new key of that curve into it, under its name; the key's URI. Its public half goes to CURVE.pub."""
        named = ("-pkeyopt", f"ec_paramgen_curve:{curve}")
        self._run(self._openssl, "genpkey", "-algorithm", "EC", *named, "-out", "plain.pem")
        self._run(self._openssl, "pkey", "-in", "plain.pem", "-pubout", "-out", f"{curve}.pub")
        to = ("--token", "image keys", "--label", curve, "--id", "a1", "--pin", PIN, "--force")
        self._run(self._util, "--import", "plain.pem", *to)
        (self._folder / "plain.pem").unlink()
        return f"pkcs11:token=image%20keys;object={curve}?module-path={module()}&pin-source=env:TEST_PIN"
