"""Key files for the real cosign, and cosign's for us: made, imported, sealed with odd passwords, signed with."""

import base64
import datetime as dt
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from servers import Tool
from tidewaiter.core.errors import InputError
from tidewaiter.signing import key_changes, key_sources, keys

pytestmark = pytest.mark.interop

Cosign = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cosign(tool: Tool, tmp_path: Path) -> Cosign:
    """The real program, offline, in the test's folder."""
    program = tool("cosign")

    def run(*arguments: str, password: str = "pass word") -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "HOME": str(tmp_path), "COSIGN_PASSWORD": password}
        return subprocess.run(
            [program, *arguments], capture_output=True, text=True, cwd=tmp_path, env=variables, timeout=120, check=False
        )

    return run


def signed(cosign: Cosign, key: str, password: str) -> subprocess.CompletedProcess[str]:
    """Cosign signs the file `blob` offline."""
    offline = ("--use-signing-config=false", "--tlog-upload=false", "-y", "--bundle", "bundle.json")
    return cosign("sign-blob", "--key", key, *offline, "blob", password=password)


def verified(cosign: Cosign, key: Path) -> bool:
    line = ("verify-blob", "--key", str(key), "--bundle", "bundle.json", "--insecure-ignore-tlog=true", "blob")
    return cosign(*line).returncode == 0


@pytest.mark.parametrize("password", ["", "pass word", "päss\"'$ \\ 密"])
def test_cosign_signs_with_our_key(tmp_path: Path, cosign: Cosign, password: str) -> None:
    """Whatever the password, and after a rotation with the new and the old key, under the names that they have then."""
    home = tmp_path / "keys"
    key_changes.generate(home, "ours", password.encode())
    (tmp_path / "blob").write_bytes(b"data")
    done = signed(cosign, str(home / "ours.key"), password)
    assert done.returncode == 0, done.stderr
    assert verified(cosign, home / "ours.pub")
    key_changes.rotate(home, "ours", password.encode(), overlap=dt.timedelta(days=1))
    assert verified(cosign, home / "ours.1.pub")
    assert not verified(cosign, home / "ours.pub")
    for name in ("ours", "ours.1"):
        done = signed(cosign, str(home / f"{name}.key"), password)
        assert done.returncode == 0, done.stderr
        assert verified(cosign, home / f"{name}.pub")


@pytest.mark.parametrize("password", ["", "pass word", "päss\"'$ \\ 密"])
def test_we_sign_with_cosigns_key(tmp_path: Path, cosign: Cosign, password: str) -> None:
    """A pair that cosign generated opens, and its halves belong together."""
    made = cosign("generate-key-pair", "--output-key-prefix", "theirs", password=password)
    assert made.returncode == 0, made.stderr
    opened = key_sources.open_key(str(tmp_path / "theirs.key"), tmp_path / "keys", password.encode)
    assert opened.signer.public == keys.load_public(tmp_path / "theirs.pub")
    assert opened.signer.public.holds(opened.signer.sign(b"data"), b"data")


@pytest.mark.parametrize("form", ["sec1", "pkcs8"])
def test_we_sign_with_a_key_that_cosign_imported(tmp_path: Path, cosign: Cosign, tool: Tool, form: str) -> None:
    """A P-256 key of openssl, imported with cosign, opens with us."""
    openssl = tool("openssl")
    line = [openssl, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "plain.pem"]
    subprocess.run(line, cwd=tmp_path, check=True)
    if form == "pkcs8":
        line = [openssl, "pkcs8", "-topk8", "-nocrypt", "-in", "plain.pem", "-out", "pkcs8.pem"]
        subprocess.run(line, cwd=tmp_path, check=True)
    source = {"sec1": "plain.pem", "pkcs8": "pkcs8.pem"}[form]
    imported = cosign("import-key-pair", "--key", source, "--output-key-prefix", "imported", "-y")
    assert imported.returncode == 0, imported.stderr
    private = keys.load_private(tmp_path / "imported.key", b"pass word")
    assert private.public == keys.load_public(tmp_path / "imported.pub")


@pytest.mark.parametrize("kind", ["rsa:2048", "ed25519"])
def test_other_kinds_of_keys_are_refused(tmp_path: Path, cosign: Cosign, tool: Tool, kind: str) -> None:
    """Cosign imports RSA and Ed25519 too; the house signs with ECDSA P-256 only, and says so for both halves."""
    algorithm, _, bits = kind.partition(":")
    options = ["-pkeyopt", f"rsa_keygen_bits:{bits}"] if bits else []
    line = [tool("openssl"), "genpkey", "-algorithm", algorithm, *options, "-out", "plain.pem"]
    subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    imported = cosign("import-key-pair", "--key", "plain.pem", "--output-key-prefix", "imported", "-y")
    assert imported.returncode == 0, imported.stderr
    with pytest.raises(InputError, match="P-256"):
        keys.load_private(tmp_path / "imported.key", b"pass word")
    with pytest.raises(InputError, match="P-256"):
        keys.load_public(tmp_path / "imported.pub")


def test_cosign_verifies_what_a_hook_signed(tmp_path: Path, cosign: Cosign, tool: Tool) -> None:
    """A key that only openssl holds signs through a hook; cosign accepts it, and not for other bytes."""
    line = [tool("openssl"), "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "plain.pem"]
    subprocess.run(line, cwd=tmp_path, check=True)
    (tmp_path / "kms.toml").write_text(
        'sign = ["openssl", "pkeyutl", "-sign", "-inkey", "plain.pem"]\n'
        'public_key = ["openssl", "ec", "-in", "plain.pem", "-pubout"]\n'
    )
    opened = key_sources.open_key(f"hook:{tmp_path}/kms.toml", tmp_path / "keys", bytes)
    (tmp_path / "kms.pub").write_bytes(opened.signer.public.pem)
    (tmp_path / "blob").write_bytes(b"data")
    (tmp_path / "other").write_bytes(b"datum")
    (tmp_path / "blob.sig").write_bytes(base64.b64encode(opened.signer.sign(b"data")))
    check = ("verify-blob", "--key", "kms.pub", "--signature", "blob.sig", "--insecure-ignore-tlog=true")
    accepted = cosign(*check, "blob")
    assert accepted.returncode == 0, accepted.stderr
    assert cosign(*check, "other").returncode != 0
