"""Keys in a real PKCS#11 token, SoftHSM's: we sign with them, and cosign verifies."""

import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from servers import Tool
from softhsm import PIN, Token
from tidewaiter.cli import app
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.signing import key_sources, keys

pytestmark = pytest.mark.interop

Keys = Callable[[str], str]


@pytest.fixture
def put(tmp_path: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Puts a new key of a curve into a new token; its URI."""
    return Token(tmp_path, tool, monkeypatch).put


def test_cosign_verifies_what_a_token_signed(tmp_path: Path, put: Keys, tool: Tool) -> None:
    """The public half is the one that went in; a signature holds for its bytes and for no others."""
    opened = key_sources.open_key(put("P-256"), tmp_path / "keys", bytes)
    assert opened.signer.public == keys.load_public(tmp_path / "P-256.pub")
    assert (opened.trusted.public, opened.trusted.builder) == (opened.signer.public, "local")
    (tmp_path / "blob").write_bytes(b"data")
    (tmp_path / "other").write_bytes(b"datum")
    (tmp_path / "blob.sig").write_bytes(base64.b64encode(opened.signer.sign(b"data")))
    line = [tool("cosign"), "verify-blob", "--key", "P-256.pub", "--signature", "blob.sig"]
    for blob, expected in (("blob", True), ("other", False)):
        done = subprocess.run(
            [*line, "--insecure-ignore-tlog=true", blob],
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
            timeout=120,
            check=False,
        )
        assert (done.returncode == 0) is expected, done.stderr


def test_a_key_is_found_by_id_and_the_pin_in_a_file(tmp_path: Path, put: Keys) -> None:
    """Instead of its label and a variable; signature after signature holds."""
    (tmp_path / "pin").write_text(f"{PIN}\n")
    uri = put("P-256").replace("object=P-256", "id=%a1").replace("env:TEST_PIN", f"file:{tmp_path}/pin")
    signer = key_sources.open_key(uri, tmp_path / "keys", bytes).signer
    for number in range(5):
        assert signer.public.holds(signer.sign(b"%d" % number), b"%d" % number)


def test_its_public_half_is_brought_in(
    tmp_path: Path, put: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`key import` trusts it on stated terms, which then hold for the token's key; the PIN is in no file and output."""
    monkeypatch.setenv("TIDEWAITER_HOME", str(tmp_path / "home"))
    uri = put("P-256")
    assert app.run(["key", "import", "release", uri, "--builder", "ci"]) == 0
    opened = key_sources.open_key(uri, tmp_path / "home/keys", bytes)
    assert (opened.trusted.name, opened.trusted.builder) == ("release", "ci")
    said = capsys.readouterr()
    written = b"".join(file.read_bytes() for file in (tmp_path / "home").rglob("*") if file.is_file())
    assert PIN not in said.out + said.err
    assert PIN.encode() not in written


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image%20keys", "other", "no token"),
        ("object=P-256", "object=other", "no public EC key"),
        ("object=P-256", "object=P-256;id=%02", "no public EC key"),
        ("env:TEST_PIN", "env:HOME", "PinIncorrect"),
        ("&pin-source=env:TEST_PIN", "", "no private EC key"),
    ],
)
def test_what_the_token_lacks_is_said(tmp_path: Path, put: Keys, old: str, new: str, message: str) -> None:
    """Another token or key, a wrong PIN, or none: nothing is signed, and the reason is in the error."""
    uri = put("P-256")
    assert old in uri
    with pytest.raises(UndeterminedError, match=message) as failed:
        key_sources.open_key(uri.replace(old, new), tmp_path / "keys", bytes).signer.sign(b"data")
    assert failed.value.code == "key_token_failed"


def test_two_keys_of_one_name_are_ambiguous(tmp_path: Path, put: Keys) -> None:
    """None is picked by chance."""
    uri = put("P-256")
    put("P-256")
    with pytest.raises(UndeterminedError, match="several public EC keys"):
        key_sources.open_key(uri, tmp_path / "keys", bytes)


def test_another_curve_is_refused(tmp_path: Path, put: Keys) -> None:
    """The house signs with P-256 only."""
    with pytest.raises(InputError, match="P-256"):
        key_sources.open_key(put("P-384"), tmp_path / "keys", bytes)


def test_a_late_token_is_given_up(tmp_path: Path, put: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that does not come back ends with its process, and with an error that says so."""
    signer = key_sources.open_key(put("P-256"), tmp_path / "keys", bytes).signer
    monkeypatch.setattr(limits, "KEY_HOOK_SECONDS", 0.01)
    with pytest.raises(UndeterminedError, match="not done in time"):
        signer.sign(b"data")
