"""Signatures of the tag format in a layout: what is written is found and verified, and bent copies are not."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec
import pytest
import tag_format

from images import make_image
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import (
    LimitError,
    NetworkError,
    NotFoundError,
    NotVerifiedError,
    UndeterminedError,
)
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, ImageConfig, Manifest
from tidewaiter.signing import cosign, keys, simple_signing
from tidewaiter.signing import verify as verification
from tidewaiter.signing.keyring import TrustedKey
from tidewaiter.signing.keys import PublicKey
from tidewaiter.signing.verify import ANY, Requirements, Verified

KEY = keys.create()
OTHER = keys.create()


class Signed(msgspec.Struct, frozen=True):
    layout: Layout
    image: Digest
    signature: Descriptor

    def manifest(self) -> Manifest:
        return tag_format.manifest(self.layout, self.signature)

    def with_layers(self, layers: list[Descriptor]) -> Descriptor:
        """Descriptor of the signature manifest with other layers, stored."""
        data = documents.encode(msgspec.structs.replace(self.manifest(), layers=layers))
        return Descriptor(media_type=documents.MANIFEST, digest=self.layout.put(data), size=len(data))

    def with_payload(self, payload: bytes, *, key: keys.PrivateKey = KEY) -> Descriptor:
        """Descriptor of a signature manifest over `payload`, properly signed by `key`."""
        signature = base64.b64encode(key.sign(payload)).decode()
        layer = Descriptor(
            media_type=simple_signing.MEDIA_TYPE,
            digest=self.layout.put(payload),
            size=len(payload),
            annotations={cosign.SIGNATURE: signature},
        )
        return self.with_layers([layer])


def verify(
    source: BlobSource,
    image: Digest,
    signature: Descriptor | None,
    public: Sequence[PublicKey],
    requirements: Requirements = ANY,
) -> Verified:
    """The signature in the manifest that somebody of `public` made."""
    gathered = cosign.gather(source, image, sig=signature, att=None, referrers=())
    ring = [TrustedKey(public=key, name=key.fingerprint) for key in public]
    return verification.signature(gathered, image, ring, at=clock.now(), requirements=requirements)


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    layout, image = make_image(tmp_path / "store", sizes=(10,))
    return Signed(layout, image.digest, tag_format.sign(layout, image.digest, repository_identity="host/repo", key=KEY))


def refused(signed: Signed, signature: Descriptor | None, code: str) -> str:
    with pytest.raises(NotVerifiedError) as caught:
        verify(signed.layout, signed.image, signature, [KEY.public])
    assert caught.value.code == code
    return caught.value.message


def test_what_is_signed_verifies(signed: Signed) -> None:
    """The signature names key, repository and annotations."""
    found = verify(signed.layout, signed.image, signed.signature, [OTHER.public, KEY.public])
    assert found.fingerprint == KEY.public.fingerprint
    assert found.docker_reference == "host/repo"
    assert found.annotations == {}


def test_the_manifest_is_as_cosign_writes_it(signed: Signed) -> None:
    """One layer; the config's diff IDs are the layer digests; no times."""
    manifest = signed.manifest()
    config = msgspec.json.decode(signed.layout.read(manifest.config.digest), type=ImageConfig)
    assert manifest.media_type == documents.MANIFEST
    assert manifest.config.media_type == documents.CONFIG
    assert config.rootfs.diff_ids == [layer.digest for layer in manifest.layers]
    assert [layer.media_type for layer in manifest.layers] == [simple_signing.MEDIA_TYPE]


def test_another_signature_is_added(signed: Signed) -> None:
    """Another key or annotation: one more layer, the old kept."""
    sign = {"repository_identity": "host/repo", "existing": signed.signature}
    second = tag_format.sign(signed.layout, signed.image, key=OTHER, **sign)  # type: ignore[arg-type]  # as above
    layers = tag_format.manifest(signed.layout, second).layers
    assert layers[0] == signed.manifest().layers[0]
    assert len(layers) == 2
    for key in (KEY, OTHER):
        assert verify(signed.layout, signed.image, second, [key.public]).fingerprint == key.public.fingerprint
    noted = tag_format.sign(signed.layout, signed.image, key=KEY, annotations={"a": "<b>"}, **sign)  # type: ignore[arg-type]  # as above
    assert len(tag_format.manifest(signed.layout, noted).layers) == 2


def test_a_broken_layer_keeps_nobody_from_signing(signed: Signed) -> None:
    """Over the same payload as ours, with something that is no signature: ours is added beside it."""
    broken = msgspec.structs.replace(signed.manifest().layers[0], annotations={cosign.SIGNATURE: "%%%"})
    there = signed.with_layers([broken])
    ours = tag_format.sign(signed.layout, signed.image, repository_identity="host/repo", key=KEY, existing=there)
    assert tag_format.manifest(signed.layout, ours).layers[0] == broken
    assert verify(signed.layout, signed.image, ours, [KEY.public]).docker_reference == "host/repo"


def test_annotations_and_repository_are_required_on_request(signed: Signed) -> None:
    """Any repository passes by default; what the caller requires must be said by the payload."""
    noted = tag_format.sign(
        signed.layout, signed.image, repository_identity="host/repo", key=KEY, annotations={"team": "vision"}
    )

    def check(requirements: Requirements) -> str:
        return verify(signed.layout, signed.image, noted, [KEY.public], requirements=requirements).docker_reference

    assert check(Requirements(annotations={"team": "vision"}, repository="host/repo")) == "host/repo"
    for requirements in (
        Requirements(annotations={"team": "audio"}),
        Requirements(annotations={"more": ""}),
        Requirements(repository="host/other"),
    ):
        with pytest.raises(NotVerifiedError):
            check(requirements)


def test_an_image_that_is_not_there_is_not_signed(signed: Signed) -> None:
    """Nobody vouches for bytes that they do not have."""
    with pytest.raises(NotFoundError):
        tag_format.sign(signed.layout, digests.of(b"elsewhere"), repository_identity="r", key=KEY)


def test_absent_and_invalid_are_told_apart(signed: Signed) -> None:
    """No manifest and an empty one are absent; a signature by a stranger is invalid; no trusted key is neither."""
    assert "has no signature" in refused(signed, None, "signature_absent")
    refused(signed, signed.with_layers([]), "signature_absent")
    by_other = tag_format.sign(signed.layout, signed.image, repository_identity="r", key=OTHER)
    assert "trusted key" in refused(signed, by_other, "signature_invalid")
    with pytest.raises(NotVerifiedError) as caught:
        verify(signed.layout, signed.image, signed.signature, [])
    assert caught.value.code == "no_trusted_key"


def test_a_signature_of_another_image_is_invalid(signed: Signed) -> None:
    """A true signature moved to another image does not pass."""
    _, other = make_image(signed.layout.path, sizes=(20,))
    moved = tag_format.sign(signed.layout, other.digest, repository_identity="r", key=KEY)
    assert "it is a signature of" in refused(signed, moved, "signature_invalid")


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"not json",
        simple_signing.encode("r", digests.of(b"x")).replace(b"cosign container", b"other"),
        b'{"critical":1,"critical":2}',
    ],
)
def test_a_signed_document_of_another_kind_is_invalid(signed: Signed, payload: bytes) -> None:
    """The key's signature over something that is no image signature proves nothing."""
    refused(signed, signed.with_payload(payload), "signature_invalid")


def test_a_doubled_digest_is_invalid(signed: Signed) -> None:
    """A payload that names two images, so that two parsers see two, is refused although the key signed it."""
    good = simple_signing.encode("r", signed.image).decode()
    pair = f'"docker-manifest-digest":"{signed.image}"'
    evil = f'"docker-manifest-digest":"{digests.of(b"evil")}"'
    assert pair in good
    doubled = good.replace(pair, f"{evil},{pair}").encode()
    assert "twice" in refused(signed, signed.with_payload(doubled), "signature_invalid")


@pytest.mark.parametrize("text", [None, "", "%%%", "AAAA", " " * 8])
def test_a_layer_without_a_usable_signature_is_invalid(signed: Signed, text: str | None) -> None:
    """A missing, malformed or wrong annotation does not pass."""
    layer = signed.manifest().layers[0]
    annotations = None if text is None else {cosign.SIGNATURE: text}
    changed = msgspec.structs.replace(layer, annotations=annotations)
    refused(signed, signed.with_layers([changed]), "signature_invalid")


def test_a_payload_of_another_type_or_size_is_invalid(signed: Signed) -> None:
    """Media type and size are checked; one good layer beside the bad ones is enough."""
    layer = signed.manifest().layers[0]
    wrong_type = msgspec.structs.replace(layer, media_type="text/plain")
    wrong_size = msgspec.structs.replace(layer, size=layer.size + 1)
    huge = msgspec.structs.replace(layer, size=limits.PAYLOAD_BYTES + 1)
    for bad in (wrong_type, wrong_size, huge):
        refused(signed, signed.with_layers([bad]), "signature_invalid")
    mixed = signed.with_layers([wrong_type, wrong_size, huge, layer])
    assert verify(signed.layout, signed.image, mixed, [KEY.public]).docker_reference == "host/repo"


def test_a_malformed_manifest_is_invalid(signed: Signed) -> None:
    """Bytes that have their digest but are no signature manifest are a no, not a crash."""
    for data in (b"", b"[]", b'{"schemaVersion":2,"manifests":[]}', b'{"schemaVersion":2,"layers":[],"manifests":[]}'):
        broken = Descriptor(media_type=documents.MANIFEST, digest=signed.layout.put(data), size=len(data))
        refused(signed, broken, "signature_invalid")


def test_the_number_of_signatures_is_bounded(signed: Signed) -> None:
    """SIGNATURE_LAYERS holds from both sides, for signing and verifying."""
    layer = signed.manifest().layers[0]
    bad = msgspec.structs.replace(layer, annotations={cosign.SIGNATURE: "AAAA"})
    almost = signed.with_layers([bad] * (limits.SIGNATURE_LAYERS - 1))
    full = tag_format.sign(signed.layout, signed.image, repository_identity="r", key=KEY, existing=almost)
    assert verify(signed.layout, signed.image, full, [KEY.public]).docker_reference == "r"
    with pytest.raises(LimitError):
        tag_format.sign(signed.layout, signed.image, repository_identity="r2", key=KEY, existing=full)
    over = signed.with_layers([*tag_format.manifest(signed.layout, full).layers, layer])
    refused(signed, over, "signature_invalid")


@pytest.mark.parametrize("harm", ["missing", "damaged"])
@pytest.mark.parametrize("part", ["manifest", "payload"])
def test_lost_storage_is_undetermined(signed: Signed, harm: str, part: str) -> None:
    """A blob that is lost or damaged leaves the question open: neither a yes nor a no."""
    layer = signed.manifest().layers[0]
    path = signed.layout.blob_path(signed.signature.digest if part == "manifest" else layer.digest)
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"2", b"3"))
    with pytest.raises(UndeterminedError) as caught:
        verify(signed.layout, signed.image, signed.signature, [KEY.public])
    assert caught.value.code == "signature_unreadable"


def test_a_lost_connection_is_undetermined(signed: Signed) -> None:
    """A source that cannot be reached leaves the question open; a stranger's layer does not hide it."""

    class Unreachable:
        def open(self, digest: Digest) -> IO[bytes]:
            return signed.layout.open(digest)

        def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
            if digest == layers[0].digest:
                raise NetworkError("unreachable", next_step="Wait.")
            return signed.layout.read(digest, limit=limit)

    by_other = signed.with_payload(simple_signing.encode("r", signed.image), key=OTHER)
    layers = [signed.manifest().layers[0], *tag_format.manifest(signed.layout, by_other).layers]
    with pytest.raises(UndeterminedError, match="unreachable"):
        verify(Unreachable(), signed.image, signed.with_layers(layers), [KEY.public])
