"""Our signatures for the real cosign, and cosign's for us, through Debian's docker-registry."""

import os
import subprocess
from pathlib import Path

import pytest

from images import make_image
from servers import Tool
from tidewaiter.core.errors import NotVerifiedError
from tidewaiter.distribution import attached
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.signing import cosign, keys, simple_signing
from tidewaiter.signing.verify import Requirements, verify
from tidewaiter.transport.client import Client

pytestmark = pytest.mark.interop

OFFLINE = ["--insecure-ignore-tlog=true", "--allow-insecure-registry", "--new-bundle-format=false"]


class Cosign:
    """The real program, with a home and a password of its own."""

    def __init__(self, program: str, home: Path) -> None:
        self._program = program
        self._home = home

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(self._home), "COSIGN_PASSWORD": "pass word"}
        return subprocess.run(
            [self._program, *arguments],
            capture_output=True,
            text=True,
            cwd=self._home,
            env=environment,
            timeout=120,
            check=False,
        )


@pytest.fixture
def real(tool: Tool, tmp_path: Path) -> Cosign:
    return Cosign(tool("cosign"), tmp_path)


def pushed(client: Client, host: str, name: str, folder: Path) -> tuple[Layout, Descriptor, Repository]:
    layout, image = make_image(folder, sizes=(10,))
    repository = Registry(client, host, plain_http=frozenset({host})).repository(name)
    push(layout, image, repository, tags=["1"])
    return layout, image, repository


def test_cosign_verifies_our_signature(tmp_path: Path, docker_registry: str, real: Cosign) -> None:
    """Signed by us with a key made by us, pushed under cosign's tag: cosign accepts it, and not with another key."""
    ours = keys.generate(tmp_path, "ours", b"pass word", builder="local")
    other = keys.generate(tmp_path, "other", b"pass word", builder="local")
    key = keys.load_private(ours.private, b"pass word")
    with Client() as client:
        layout, image, repository = pushed(client, docker_registry, "cosign/ours", tmp_path / "store")
        notes = {"team": "vision <&> é"}
        signature = cosign.sign(layout, image.digest, repository_identity=str(repository), key=key, annotations=notes)
        push(layout, signature, repository, tags=[attached.tag(image.digest, "sig")])
    name = f"{repository}@{image.digest}"
    accepted = real("verify", "--key", str(ours.public), "-a", "team=vision <&> é", *OFFLINE, name)
    assert accepted.returncode == 0, accepted.stderr
    refused = real("verify", "--key", str(other.public), *OFFLINE, name)
    assert refused.returncode != 0


def test_cosign_opens_our_private_key(tmp_path: Path, real: Cosign) -> None:
    """cosign derives the same public key from our sealed file."""
    ours = keys.generate(tmp_path, "ours", b"pass word", builder="local")
    shown = real("public-key", "--key", str(ours.private))
    assert shown.returncode == 0, shown.stderr
    assert keys.parse_public(shown.stdout.encode(), source="cosign") == keys.load_public(ours.public)


def test_we_verify_a_signature_that_cosign_made(tmp_path: Path, docker_registry: str, real: Cosign) -> None:
    """Signed by cosign with its own key and annotations: we open the key, and verify from the registry."""
    made = real("generate-key-pair", "--output-key-prefix", "theirs")
    assert made.returncode == 0, made.stderr
    theirs = keys.load_private(tmp_path / "theirs.key", b"pass word")
    public = keys.load_public(tmp_path / "theirs.pub")
    assert theirs.public == public
    stranger = keys.create().public
    with Client() as client:
        _, image, repository = pushed(client, docker_registry, "cosign/theirs", tmp_path / "store")
        assert attached.find(repository, image.digest, "sig") is None
        done = real(
            *("sign", "--key", "theirs.key", "--use-signing-config=false", "--tlog-upload=false", "-y"),
            *("--new-bundle-format=false", "--allow-insecure-registry", "-a", "team=a<b"),
            f"{repository}@{image.digest}",
        )
        assert done.returncode == 0, done.stderr
        signature = attached.find(repository, image.digest, "sig")
        found = verify(
            repository,
            image.digest,
            signature,
            [stranger, public],
            requirements=Requirements(annotations={"team": "a<b"}),
        )
        assert found.fingerprint == public.fingerprint
        with pytest.raises(NotVerifiedError) as caught:
            verify(repository, image.digest, signature, [stranger])
        assert caught.value.code == "signature_invalid"


def test_our_second_signature_joins_cosigns(tmp_path: Path, docker_registry: str, real: Cosign) -> None:
    """A signature added to a manifest that cosign wrote leaves cosign's valid, for cosign too."""
    assert real("generate-key-pair", "--output-key-prefix", "theirs").returncode == 0
    ours = keys.create()
    (tmp_path / "ours.pub").write_bytes(ours.public.pem)
    with Client() as client:
        layout, image, repository = pushed(client, docker_registry, "cosign/both", tmp_path / "store")
        done = real(
            *("sign", "--key", "theirs.key", "--use-signing-config=false", "--tlog-upload=false", "-y"),
            *("--new-bundle-format=false", "--allow-insecure-registry", f"{repository}@{image.digest}"),
        )
        assert done.returncode == 0, done.stderr
        existing = attached.find(repository, image.digest, "sig")
        assert existing is not None
        for blob in cosign.read_manifest(repository, existing).layers:
            layout.put(repository.read(blob.digest))
        layout.put(repository.read(existing.digest))
        both = cosign.sign(layout, image.digest, repository_identity=str(repository), key=ours, existing=existing)
        push(layout, both, repository, tags=[attached.tag(image.digest, "sig")])
    for public in ("theirs.pub", "ours.pub"):
        accepted = real("verify", "--key", public, *OFFLINE, f"{repository}@{image.digest}")
        assert accepted.returncode == 0, accepted.stderr


def test_the_payload_equals_cosigns_to_the_byte(tmp_path: Path, docker_registry: str, real: Cosign) -> None:
    """`cosign generate` prints the same bytes, with and without annotations that Go escapes."""
    with Client() as client:
        _, image, repository = pushed(client, docker_registry, "cosign/bytes", tmp_path / "store")
    for notes in ({}, {"z": "<&>", "a": 'é"\\/\t\u2028\x7f'}):
        # The flag is a line of CSV.
        fields = ['"' + f"{name}={value}".replace('"', '""') + '"' for name, value in notes.items()]
        flags = [part for field in fields for part in ("-a", field)]
        made = real("generate", "--allow-insecure-registry", *flags, f"{repository}@{image.digest}")
        assert made.returncode == 0, made.stderr
        assert simple_signing.encode(str(repository), image.digest, notes) == made.stdout.encode().rstrip(b"\n")
