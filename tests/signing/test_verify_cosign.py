"""What the real cosign says of some of the corpus: where it is as strict, and where we are stricter on purpose."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import tag_format
from cosigns import Cosign
from negative_corpus_world import (
    CI,
    CI_KEY,
    NOW,
    OTHER,
    REPOSITORY,
    SPDX,
    STRANGER,
    b64,
    bundled,
    envelope,
    payload,
    statement,
)

from images import make_image
from servers import Tool
from tidewaiter.core.errors import NotVerifiedError
from tidewaiter.distribution import attached
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.signing import bundle, cosign, predicates, verify
from tidewaiter.signing.keys import PrivateKey
from tidewaiter.transport.client import Client

pytestmark = pytest.mark.interop

KIND = predicates.SIGNATURE
Bodies = Callable[[Digest], bytes]
"""What is signed, by the digest of the image."""


def signed(body: Bodies, key: PrivateKey = CI) -> Bodies:
    """A bundle around a statement."""
    return lambda image: bundled(envelope(body(image), key))


def twice(image: Digest) -> bytes:
    """A bundle with two signatures, of which the first is true."""
    body = statement(KIND, {}, image=image)
    one, other = (envelope(body, key) for key in (CI, STRANGER))
    lists = [text[text.index(b'[{"sig"') + 1 : -2] for text in (one, other)]
    return bundled(one.replace(lists[0], lists[0] + b", " + lists[1]))


def with_a_lie(image: Digest) -> bytes:
    both = {"sha256": digests.hexadecimal(image), "sha512": "0" * 128}
    return statement(KIND, {}, subject=[{"name": "", "digest": both}])


def doubled(image: Digest) -> bytes:
    """A payload that names two images, the other first."""
    field = b'"docker-manifest-digest":'
    return payload(image).replace(field, field + b'"%b",' % OTHER.encode() + field)


BUNDLES: dict[str, tuple[Bodies, bool, bool]] = {
    # what lies there, whether cosign accepts it as a signature, and whether we do
    "a true signature": (signed(lambda image: statement(KIND, {}, image=image)), True, True),
    "an SBOM instead of a signature": (
        signed(lambda image: statement(predicates.SPDX, SPDX, image=image)),
        True,
        False,
    ),
    "a signature of another image": (signed(lambda _: statement(KIND, {}, image=OTHER)), False, False),
    "a signature by a stranger": (signed(lambda image: statement(KIND, {}, image=image), STRANGER), False, False),
    "two signatures": (twice, False, False),
    "a second digest that lies": (signed(with_a_lie), True, False),
    "an unknown field": (signed(lambda image: statement(KIND, {}, image=image, expires="never")), False, False),
}

PAYLOADS: dict[str, tuple[Bodies, bool, bool]] = {
    "a true payload": (payload, True, True),
    "a payload of another image": (lambda _: payload(OTHER), False, False),
    "a payload that names two images": (doubled, True, False),
}


class Place:
    """A repository of the real registry with one image in it, the real program, and a public key in a file."""

    def __init__(self, client: Client, host: str, name: str, program: Cosign, folder: Path) -> None:
        self.repository = Registry(client, host, plain_http=frozenset({host})).repository(f"corpus/{name}")
        self.layout, self.image = make_image(folder / "store", sizes=(10,))
        push(self.layout, self.image, self.repository, tags=["1"])
        self._program = program
        self._public = folder / "ci.pub"
        self._public.write_bytes(CI.public.pem)

    def put_bundle(self, document: bytes) -> None:
        """Let the bundle refer to the image, though we would not write it."""
        plain = bundled(envelope(statement(KIND, {}, image=self.image.digest), CI))
        entry = cosign.bundle(self.layout, self.image, plain, KIND, NOW)
        layer = Descriptor(media_type=bundle.MEDIA_TYPE, digest=self.layout.put(document), size=len(document))
        push(self.layout, _relayered(self.layout, entry, layer), self.repository)

    def put_payload(self, document: bytes) -> None:
        """Put a payload, truly signed, under the image's tag of signatures."""
        entry = tag_format.sign(self.layout, self.image.digest, repository_identity=REPOSITORY, key=CI)
        first = tag_format.manifest(self.layout, entry).layers[0]
        text = {cosign.SIGNATURE: b64(CI.sign(document))}
        layer = Descriptor(
            media_type=first.media_type, digest=self.layout.put(document), size=len(document), annotations=text
        )
        push(
            self.layout,
            _relayered(self.layout, entry, layer),
            self.repository,
            tags=[attached.tag(self.image.digest, "sig")],
        )

    def cosign_accepts(self) -> bool:
        return self._program.verify(f"{self.repository}@{self.image.digest}", self._public).returncode == 0

    def we_accept(self) -> bool:
        image = self.image.digest
        gathered = cosign.gather(
            self.repository,
            image,
            sig=attached.find(self.repository, image, "sig"),
            att=attached.find(self.repository, image, "att"),
            referrers=self.repository.referrers(image),
        )
        assert not gathered.unread
        try:
            verify.signature(gathered, image, [CI_KEY], at=NOW)
        except NotVerifiedError:
            return False
        return True


def _relayered(layout: Layout, entry: Descriptor, layer: Descriptor) -> Descriptor:
    """The manifest with this layer only, stored."""
    manifest = tag_format.manifest(layout, entry)
    data = documents.encode(msgspec.structs.replace(manifest, layers=[layer]))
    return msgspec.structs.replace(entry, digest=layout.put(data), size=len(data))


@pytest.fixture
def place(tool: Tool, docker_registry: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A repository of its own, called after the test's number."""
    name = digests.hexadecimal(digests.of(request.node.name.encode()))[:16]
    with Client() as client:
        yield Place(client, docker_registry, name, Cosign(tool, tmp_path), tmp_path)


@pytest.mark.parametrize("name", BUNDLES)
def test_bundles(place: Place, name: str) -> None:
    """Cosign takes an SBOM for a signature, and believes one digest of two; we do not."""
    body, theirs, ours = BUNDLES[name]
    place.put_bundle(body(place.image.digest))
    assert (place.cosign_accepts(), place.we_accept()) == (theirs, ours)


@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads(place: Place, name: str) -> None:
    """Cosign reads the last of two digests, another reader could read the first; we read neither."""
    body, theirs, ours = PAYLOADS[name]
    place.put_payload(body(place.image.digest))
    assert (place.cosign_accepts(), place.we_accept()) == (theirs, ours)


def test_both_formats(place: Place) -> None:
    """A stranger's bundle hides a true signature of the tag format from cosign, and not from us."""
    place.put_payload(payload(place.image.digest))
    assert (place.cosign_accepts(), place.we_accept()) == (True, True)
    place.put_bundle(signed(lambda image: statement(KIND, {}, image=image), STRANGER)(place.image.digest))
    assert (place.cosign_accepts(), place.we_accept()) == (False, True)
