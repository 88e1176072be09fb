import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from image_builder import Tar, put_image
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.image import load
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import (
    Descriptor,
    Index,
    Manifest,
    Platform,
    chain_id,
    decode_config,
    decode_manifest,
    encode,
)

A, B = digests.of(b"a"), digests.of(b"b")
CONFIG = {"mediaType": documents.CONFIG, "digest": A, "size": 1}


def manifest(**more: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": CONFIG, "layers": [], **more}).encode()


def index(entries: list[dict[str, Any]], **more: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": entries, **more}).encode()


def test_what_we_write_is_canonical_and_reads_back() -> None:
    """Sorted keys, no white space, no absent fields; decoding gives the same value."""
    document = Manifest(
        schema_version=2,
        media_type=documents.MANIFEST,
        config=Descriptor(media_type=documents.CONFIG, digest=A, size=1),
        layers=[Descriptor(media_type=documents.LAYER_GZIP, digest=B, size=2)],
        annotations={"b": "2", "a": "1"},
    )
    data = encode(document)
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()
    assert b"null" not in data
    assert decode_manifest(data) == document


def test_kinds_are_told_by_media_type_then_by_content() -> None:
    """The document's own media type counts, then the caller's, then what it holds."""
    assert isinstance(decode_manifest(manifest()), Manifest)
    assert isinstance(decode_manifest(index([])), Index)
    assert isinstance(decode_manifest(index([]), documents.INDEX), Index)
    assert isinstance(
        decode_manifest(manifest(mediaType=documents.DOCKER_MANIFEST), documents.DOCKER_MANIFEST), Manifest
    )


@pytest.mark.parametrize(
    ("data", "media_type", "message"),
    [
        (b"", None, "not JSON"),
        (b"[1]", None, "not a JSON object"),
        (b"[" * 100_000, None, "not JSON"),
        (manifest(manifests=[]), None, "both"),
        (manifest(mediaType=documents.MANIFEST), documents.INDEX, "its source says"),
        (index([]), documents.MANIFEST, "malformed"),
        (manifest(schemaVersion=1), None, "malformed"),
        (manifest(config={**CONFIG, "digest": "sha256:abc"}), None, "malformed"),
        (manifest(config={**CONFIG, "digest": A + "\n"}), None, "malformed"),
        (manifest(config={**CONFIG, "size": "1"}), None, "malformed"),
        (manifest(config={**CONFIG, "size": -1}), None, "malformed"),
        (b"\xff{}", None, "not JSON"),
    ],
)
def test_malformed_manifests_are_refused(data: bytes, media_type: str | None, message: str) -> None:
    """Each kind of nonsense is bad input with a sentence."""
    with pytest.raises(InputError) as caught:
        decode_manifest(data, media_type)
    assert message in caught.value.message


def test_manifests_are_bounded() -> None:
    """Size, layers and entries are accepted up to their limits and not beyond."""
    layer = {"mediaType": documents.LAYER, "digest": B, "size": 1}
    assert decode_manifest(manifest(layers=[layer] * limits.IMAGE_LAYERS))
    with pytest.raises(LimitError, match="128 layers"):
        decode_manifest(manifest(layers=[layer] * (limits.IMAGE_LAYERS + 1)))
    assert decode_manifest(manifest().ljust(limits.MANIFEST_BYTES))
    with pytest.raises(LimitError):
        decode_manifest(manifest().ljust(limits.MANIFEST_BYTES + 1))
    entry = {"mediaType": documents.MANIFEST, "digest": A, "size": 1}
    assert decode_manifest(index([entry] * limits.INDEX_MANIFESTS))
    with pytest.raises(LimitError, match="lists 10001 manifests"):
        decode_manifest(index([entry] * (limits.INDEX_MANIFESTS + 1)))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}']
)
def test_malformed_configs_are_refused(data: bytes) -> None:
    """A config without the fields that count is refused."""
    with pytest.raises(InputError):
        decode_config(data)


def test_null_is_nothing_as_for_go() -> None:
    """`"config": null` and its like are accepted as absent, as Go's tools do; what must be there must not be null."""
    needed = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [A]}}
    empty = decode_config(json.dumps({**needed, "config": None, "history": None, "created": None}).encode())
    assert empty == decode_config(json.dumps(needed).encode())
    for key in needed:
        with pytest.raises(InputError, match=key):
            decode_config(json.dumps({**needed, key: None}).encode())


def test_chain_ids_are_those_of_the_specification() -> None:
    """ChainID(A) = A; ChainID(A, B) = digest of both with a space between (config.md)."""
    assert chain_id([A]) == A
    assert chain_id([A, B]) == digests.of(f"{A} {B}".encode())
    assert chain_id([A, B, A]) == digests.of(f"{chain_id([A, B])} {A}".encode())


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "md5:" + "a" * 32, "sha256:" + "a" * 64 + "\n"]
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    """Only sha256 and sha512 in lower-case hex of the right length are digests."""
    with pytest.raises(InputError):
        digests.parse(text)


def descriptor(layout: Layout, data: bytes, media_type: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=layout.put(data), size=len(data))


def test_an_index_is_followed_to_the_platform(tmp_path: Path) -> None:
    """The runnable image of the architecture is taken; attestations and other platforms are passed by."""
    layout = Layout(tmp_path)
    image = put_image(layout, [Tar().file("a").bytes()])
    other = put_image(layout, [Tar().file("b").bytes()], architecture="arm64")

    def entry(of: Descriptor, architecture: str, system: str) -> Descriptor:
        return Descriptor(
            media_type=of.media_type, digest=of.digest, size=of.size, platform=Platform(architecture, system)
        )

    entries = [
        entry(other.descriptor, "unknown", "unknown"),
        entry(other.descriptor, "arm64", "linux"),
        entry(image.descriptor, "amd64", "linux"),
    ]
    top = descriptor(layout, encode(Index(schema_version=2, manifests=entries)), documents.INDEX)
    assert load(layout, top).digest == image.digest
    assert load(layout, top, architecture="arm64").digest == other.digest
    with pytest.raises(NotFoundError, match="no linux/s390x"):
        load(layout, top, architecture="s390x")


def test_indexes_are_followed_to_a_depth(tmp_path: Path) -> None:
    """Indexes in indexes are followed, but not for ever."""
    layout = Layout(tmp_path)
    current = put_image(layout, []).descriptor
    for _ in range(limits.INDEX_DEPTH - 1):
        current = descriptor(layout, encode(Index(schema_version=2, manifests=[current])), documents.INDEX)
    assert load(layout, current).layers == []
    deeper = descriptor(layout, encode(Index(schema_version=2, manifests=[current])), documents.INDEX)
    with pytest.raises(InputError, match="nested deeper"):
        load(layout, deeper)


def test_documents_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """As many diff IDs as layers, a config of the promised size, and an image at all."""
    layout = Layout(tmp_path)
    tar = Tar().file("a").bytes()
    image = put_image(layout, [tar])
    good = image.manifest
    blob = gzip.compress(tar)
    extra = [*good.layers, Descriptor(media_type=documents.LAYER_GZIP, digest=layout.put(blob), size=len(blob))]

    def changed(**fields: Any) -> Descriptor:
        import msgspec

        return descriptor(layout, encode(msgspec.structs.replace(good, **fields)), documents.MANIFEST)

    with pytest.raises(InputError, match="2 layers but 1 diff IDs"):
        load(layout, changed(layers=extra))
    wrong = Descriptor(media_type=documents.CONFIG, digest=good.config.digest, size=good.config.size + 1)
    with pytest.raises(IntegrityError, match="instead of"):
        load(layout, changed(config=wrong))
    empty = Descriptor(media_type=documents.EMPTY, digest=layout.put(b"{}"), size=2)
    with pytest.raises(InputError, match="not a container image"):
        load(layout, changed(config=empty))
    assert load(layout, image.descriptor) == image
