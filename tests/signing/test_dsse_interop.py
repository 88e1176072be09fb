"""Our attestations for the real cosign, and cosign's for us."""

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from servers import Tool
from tidewaiter.core.errors import NotVerifiedError
from tidewaiter.oci import digest as digests
from tidewaiter.signing import keys, statement
from tidewaiter.signing.statement import Statement

pytestmark = pytest.mark.interop

KIND = "https://tidewaiter.dev/layer/v1"


def cosign(program: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run cosign offline with the password `x`."""
    variables = {**os.environ, "HOME": str(home), "COSIGN_PASSWORD": "x"}
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, cwd=home, env=variables, timeout=120, check=False
    )


def test_cosign_verifies_our_attestation(tmp_path: Path, tool: Tool) -> None:
    """Inside a bundle, cosign accepts our envelope for its blob and type, and not for another blob or type."""
    ours = keys.generate(tmp_path, "ours", b"x", builder="local")
    key = keys.load_private(ours.private, b"x")
    (tmp_path / "layer").write_bytes(b"the bytes of a layer")
    digest = digests.of(b"the bytes of a layer")
    envelope = statement.attest(Statement((statement.about("layer", digest),), KIND, {"madeOf": {"a": 1}}), key)
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": {"hint": base64.b64encode(hashlib.sha256(key.public.der).digest()).decode()}
        },
        "dsseEnvelope": json.loads(envelope),
    }
    (tmp_path / "bundle.json").write_text(json.dumps(bundle))
    (tmp_path / "other").write_bytes(b"other bytes")

    def check(blob: str, kind: str) -> int:
        line = ["verify-blob-attestation", "--bundle", "bundle.json", "--key", str(ours.public), "--type", kind]
        return cosign(tool("cosign"), tmp_path, *line, "--insecure-ignore-tlog=true", blob).returncode

    assert check("layer", KIND) == 0
    assert check("layer", "https://tidewaiter.dev/layer/v2") != 0
    assert check("other", KIND) != 0


def test_we_verify_cosigns_attestation(tmp_path: Path, tool: Tool) -> None:
    """What cosign attests of a blob holds for us, with its predicate, and not under another key."""
    program = tool("cosign")
    assert cosign(program, tmp_path, "generate-key-pair").returncode == 0
    (tmp_path / "layer").write_bytes(b"bytes")
    (tmp_path / "predicate.json").write_text('{"madeOf": {"a": [1, "ä"]}}')
    line = ["attest-blob", "--key", "cosign.key", "--predicate", "predicate.json", "--type", KIND, "-y"]
    offline = ["--tlog-upload=false", "--use-signing-config=false", "--bundle", "bundle.json"]
    done = cosign(program, tmp_path, *line, *offline, "layer")
    assert done.returncode == 0, done.stderr
    envelope = json.dumps(json.loads((tmp_path / "bundle.json").read_text())["dsseEnvelope"]).encode()
    public = keys.load_public(tmp_path / "cosign.pub")
    digest = digests.of(b"bytes")
    found = statement.verify(envelope, [public], predicate_type=KIND, subject=digest)
    assert found.statement.predicate == {"madeOf": {"a": [1, "ä"]}}
    with pytest.raises(NotVerifiedError):
        statement.verify(envelope, [keys.create().public], predicate_type=KIND, subject=digest)
