"""The commands of docs/guide/verify-with-cosign.md, as they stand there, for an image with everything beside it."""

import datetime as dt
import os
import re
import subprocess
from pathlib import Path

import pytest
import tag_format
from cosigns import OFFLINE, PASSWORD, Cosign

from images import make_image
from servers import Tool
from tidewaiter.distribution import attached
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry
from tidewaiter.signing import bundle, cosign, keys, predicates, statement
from tidewaiter.signing.statement import Statement
from tidewaiter.transport.client import Client

pytestmark = pytest.mark.interop

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "verify-with-cosign.md"
KINDS = (predicates.SPDX, predicates.CYCLONEDX, predicates.PROVENANCE, predicates.VULNERABILITIES, predicates.VERDICT)


def commands() -> list[tuple[int, str]]:
    """Every command, with the line of cosign that it is for; but for those before the sections, which set variables."""
    found: list[tuple[int, str]] = []
    for section in re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)[1:]:
        line = 2 if section.startswith("Cosign 2") else 3
        for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
            found += [(line, command) for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE)]
    return found


def types() -> list[str]:
    """The types in the guide's table."""
    rows = re.findall(r"^\| (`[^-].*?) \|", GUIDE.read_text(), re.MULTILINE)
    return [kind for row in rows for kind in re.findall(r"`([^`]+)`", row)]


def test_every_command_works(tool: Tool, tmp_path: Path, docker_registry: str) -> None:
    """Each exits with 0, with the cosign that it is for and without a network; so does every type of the table."""
    program = Cosign(tool, tmp_path)
    program.key_pair("cosign")
    key = keys.create()
    (tmp_path / "ours.pub").write_bytes(key.public.pem)
    (tmp_path / "sbom.json").write_text('{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    with Client() as client:
        layout, image = make_image(tmp_path / "store", sizes=(10,))
        repository = Registry(client, docker_registry, plain_http=frozenset({docker_registry})).repository("guide")
        push(layout, image, repository, tags=["1"])
        subject = statement.about("guide", image.digest)
        att, notes = None, {"team": "vision"}
        for said in (
            statement.image_signature("guide", image.digest, notes),
            *(Statement((subject,), kind, {"a": 1}) for kind in KINDS),
        ):
            envelope = statement.attest(said, key)
            data = bundle.encode(envelope, key.public)
            at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
            push(layout, cosign.bundle(layout, image, data, said.predicate_type, at), repository)
            if said.predicate_type != predicates.SIGNATURE:
                att = tag_format.attest(layout, image.digest, envelope, said.predicate_type, att)
        signature = tag_format.sign(layout, image.digest, repository_identity="guide", key=key, annotations=notes)
        assert att is not None
        push(layout, signature, repository, tags=[attached.tag(image.digest, "sig")])
        push(layout, att, repository, tags=[attached.tag(image.digest, "att")])
    lines = commands()
    verify_attestation = next(text for line, text in lines if line == 3 and "--type spdxjson" in text)
    lines += [(3, verify_attestation.replace("spdxjson", kind)) for kind in types()]
    assert [line for line, text in lines if text.startswith("cosign")] == [3] * 4 + [2] * 2 + [3] * (2 + len(types()))
    wrong = []
    for line, text in lines:
        (tmp_path / f"line{line}").mkdir(exist_ok=True)
        link = tmp_path / f"line{line}" / "cosign"
        if not link.exists():
            link.symlink_to(tool("cosign" if line == 3 else "cosign2"))
        environment = {
            **os.environ,
            **OFFLINE,
            "PATH": f"{link.parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "COSIGN_PASSWORD": PASSWORD,
            "KEY": "ours.pub",
            "IMAGE": f"{repository}@{image.digest}",
        }
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            wrong.append((text, done.stderr[-500:]))
    assert wrong == []
