"""Our attestations of files for the real cosign, and cosign's for us."""

import json
from pathlib import Path

import pytest
from cosigns import Cosign

from servers import Tool
from tidewaiter.core.errors import NotVerifiedError
from tidewaiter.oci import digest as digests
from tidewaiter.signing import bundle, keys, statement
from tidewaiter.signing.statement import Statement

pytestmark = pytest.mark.interop

KIND = "https://tidewaiter.dev/layer/v1"


def test_cosign_verifies_our_attestation(tmp_path: Path, tool: Tool) -> None:
    """Inside a bundle, cosign accepts our envelope for its blob and type, and not for another blob or type."""
    key = keys.create()
    (tmp_path / "ours.pub").write_bytes(key.public.pem)
    (tmp_path / "layer").write_bytes(b"the bytes of a layer")
    (tmp_path / "other").write_bytes(b"other bytes")
    digest = digests.of(b"the bytes of a layer")
    envelope = statement.attest(Statement((statement.about("layer", digest),), KIND, {"madeOf": {"a": 1}}), key)
    (tmp_path / "bundle.json").write_bytes(bundle.encode(envelope, key.public))
    program = Cosign(tool, tmp_path)

    def check(blob: str, kind: str) -> int:
        line = ["verify-blob-attestation", "--bundle", "bundle.json", "--key", "ours.pub", "--type", kind]
        return program(*line, "--insecure-ignore-tlog=true", blob).returncode

    assert check("layer", KIND) == 0
    assert check("layer", "https://tidewaiter.dev/layer/v2") != 0
    assert check("other", KIND) != 0


def test_we_verify_cosigns_attestation(tmp_path: Path, tool: Tool) -> None:
    """What cosign attests of a blob holds for us, with its predicate, and not under another key."""
    program = Cosign(tool, tmp_path)
    public = keys.load_public(program.key_pair("theirs"))
    (tmp_path / "layer").write_bytes(b"bytes")
    (tmp_path / "predicate.json").write_text(json.dumps({"madeOf": {"a": [1, "ä"]}}))
    line = ["attest-blob", "--key", "theirs.key", "--predicate", "predicate.json", "--type", KIND, "-y"]
    offline = ["--tlog-upload=false", "--use-signing-config=false", "--bundle", "bundle.json"]
    done = program(*line, *offline, "layer")
    assert done.returncode == 0, done.stderr
    envelope = bundle.parse((tmp_path / "bundle.json").read_bytes()).envelope
    digest = digests.of(b"bytes")
    found = statement.verify(envelope, [public], predicate_type=KIND, subject=digest)
    assert found.statement.predicate == {"madeOf": {"a": [1, "ä"]}}
    with pytest.raises(NotVerifiedError):
        statement.verify(envelope, [keys.create().public], predicate_type=KIND, subject=digest)
