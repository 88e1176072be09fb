"""What the matrix pushes: one layout per kind of content that registries and tools treat differently."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import zstandard

from images import make_image
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, ImageConfig, Index, Manifest, Platform, RootFS

REPORT = "application/x.harbour.report.v1+json"
"""An artifact type that no tool knows."""


def _put(layout: Layout, data: bytes, media_type: str, algorithm: str = "sha256") -> Descriptor:
    digest = digests.parse(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    with layout.writer() as writer:
        writer.write(data)
        writer.commit(digest, size=len(data))
    return Descriptor(media_type=media_type, digest=digest, size=len(data))


def _tar(size: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("cargo")
        member.size = size
        archive.addfile(member, io.BytesIO(os.urandom(size)))
    return out.getvalue()


def _single(
    folder: Path, *, pack: Callable[[bytes], bytes], layer: str, config: str, manifest: str, algorithm: str = "sha256"
) -> tuple[Layout, Descriptor]:
    layout = Layout(folder)
    layout.create()
    tar = _tar(30_000)
    packed = _put(layout, pack(tar), layer, algorithm)
    data = documents.encode(
        ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(type="layers", diff_ids=[digests.of(tar)]))
    )
    document = Manifest(
        schema_version=2, media_type=manifest, config=_put(layout, data, config, algorithm), layers=[packed]
    )
    return layout, _put(layout, documents.encode(document), manifest, algorithm)


def small(folder: Path) -> tuple[Layout, Descriptor]:
    """An image of two layers."""
    return make_image(folder)


def many_layers(folder: Path) -> tuple[Layout, Descriptor]:
    """An image of 40 layers."""
    return make_image(folder, sizes=tuple(1000 + number for number in range(40)))


def multi_platform(folder: Path) -> tuple[Layout, Descriptor]:
    """An index of two platforms and an attestation as BuildKit writes it."""
    layout, amd64 = make_image(folder, sizes=(5000,))
    _, arm64 = make_image(folder, sizes=(6000,))
    statement = _put(layout, b'{"_type":"https://in-toto.io/Statement/v1"}', "application/vnd.in-toto+json")
    config = documents.encode(
        ImageConfig(architecture="unknown", os="unknown", rootfs=RootFS(type="layers", diff_ids=[statement.digest]))
    )
    attestation = _put(
        layout,
        documents.encode(
            Manifest(
                schema_version=2,
                media_type=documents.MANIFEST,
                config=_put(layout, config, documents.CONFIG),
                layers=[statement],
            )
        ),
        documents.MANIFEST,
    )
    place = msgspec.structs.replace
    children = [
        place(amd64, platform=Platform(architecture="amd64", os="linux")),
        place(arm64, platform=Platform(architecture="arm64", os="linux", variant="v8")),
        place(
            attestation,
            platform=Platform(architecture="unknown", os="unknown"),
            annotations={
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": str(amd64.digest),
            },
        ),
    ]
    data = documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=children))
    return layout, _put(layout, data, documents.INDEX)


def report_on(layout: Layout, subject: Descriptor, text: bytes = b'{"afloat":true}') -> Descriptor:
    """An artifact of unknown type about `subject`, in the same layout."""
    manifest = Manifest(
        schema_version=2,
        media_type=documents.MANIFEST,
        artifact_type=REPORT,
        config=_put(layout, b"{}", documents.EMPTY),
        layers=[_put(layout, text, REPORT)],
        subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
        annotations={"org.example.inspector": "harbour"},
    )
    return msgspec.structs.replace(
        _put(layout, documents.encode(manifest), documents.MANIFEST),
        artifact_type=REPORT,
        annotations=manifest.annotations,
    )


def artifact(folder: Path) -> tuple[Layout, Descriptor]:
    """An artifact of unknown type about an image of the same layout."""
    layout, image = make_image(folder, sizes=(100,))
    return layout, report_on(layout, image)


def zero_bytes(folder: Path) -> tuple[Layout, Descriptor]:
    """An artifact with a blob of no bytes."""
    layout = Layout(folder)
    layout.create()
    manifest = Manifest(
        schema_version=2,
        media_type=documents.MANIFEST,
        artifact_type=REPORT,
        config=_put(layout, b"{}", documents.EMPTY),
        layers=[_put(layout, b"", REPORT)],
    )
    return layout, _put(layout, documents.encode(manifest), documents.MANIFEST)


def zstd(folder: Path) -> tuple[Layout, Descriptor]:
    """An image with a zstd layer."""
    return _single(
        folder,
        pack=zstandard.ZstdCompressor().compress,
        layer=documents.LAYER_ZSTD,
        config=documents.CONFIG,
        manifest=documents.MANIFEST,
    )


def docker(folder: Path) -> tuple[Layout, Descriptor]:
    """An image with a Docker schema 2 manifest."""
    return _single(
        folder,
        pack=gzip.compress,
        layer=documents.DOCKER_LAYER,
        config=documents.DOCKER_CONFIG,
        manifest=documents.DOCKER_MANIFEST,
    )


def sha512(folder: Path) -> tuple[Layout, Descriptor]:
    """An image whose blobs and manifest go by sha512."""
    return _single(
        folder,
        pack=gzip.compress,
        layer=documents.LAYER_GZIP,
        config=documents.CONFIG,
        manifest=documents.MANIFEST,
        algorithm="sha512",
    )


KINDS: dict[str, Callable[[Path], tuple[Layout, Descriptor]]] = {
    "small": small,
    "multi-platform": multi_platform,
    "artifact": artifact,
    "zstd": zstd,
    "docker": docker,
    "zero-bytes": zero_bytes,
    "many-layers": many_layers,
}


def contents(layout: Layout, image: Descriptor) -> dict[Digest, bytes]:
    """The bytes of `image` and of all that it consists of; not of its subject."""
    data = layout.read(image.digest)
    found = {image.digest: data}
    document = documents.decode_manifest(data, image.media_type)
    if isinstance(document, Index):
        for child in document.manifests:
            found |= contents(layout, child)
        return found
    return found | {
        blob.digest: layout.blob_path(blob.digest).read_bytes() for blob in (document.config, *document.layers)
    }


def subject(layout: Layout, image: Descriptor) -> Descriptor | None:
    """What `image` is about."""
    return documents.decode_manifest(layout.read(image.digest), image.media_type).subject


def is_manifest(data: bytes) -> bool:
    """Whether these bytes are a manifest or an index."""
    return data.startswith(b"{") and b'"schemaVersion":2' in data
