"""An image that is signed with a key in a real PKCS#11 token."""

from pathlib import Path

import pytest
import small_image
from small_image import NAME

from servers import Tool
from softhsm import PIN, Token

pytestmark = pytest.mark.interop


def test_an_image_is_signed_with_a_token(
    tmp_path: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the command line, without a password; who has the public half verifies it, and a revoked key signs no more."""
    (tmp_path / "template").mkdir()
    home = small_image.use(small_image.make(tmp_path / "template"), tmp_path / "work", monkeypatch, capsys)
    monkeypatch.delenv("COSIGN_PASSWORD")
    (tmp_path / "token").mkdir()
    uri = Token(tmp_path / "token", tool, monkeypatch).put("P-256")
    assert home.run("key", "import", "hsm", uri, "--builder", "ci")[0] == 0
    code, said = home.run("sign", NAME, "--key", uri, "--format", "json")
    assert code == 0, said
    code, said = home.run("verify", NAME, "--key", tmp_path / "token/P-256.pub")
    assert code == 0, said
    assert home.run("verify", NAME, "--key", home.keys / "tidewaiter.pub")[0] == 1
    assert home.run("key", "revoke", "hsm", "--reason", "lost")[0] == 0
    code, said = home.run("sign", NAME, "--key", uri, "--format", "json")
    assert (code, said["error"]["code"]) == (1, "key_not_in_force")
    logged = home.run("audit", "list", "--format", "json")[1]
    assert PIN not in str(logged)
