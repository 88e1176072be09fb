"""An image as a read-only value: its documents decoded and verified, its layers opened on demand."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Protocol

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, NotFoundError
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, ImageConfig, Index, Manifest


class BlobSource(Protocol):
    """Where an image's bytes come from: a layout, an archive, a registry."""

    def open(self, digest: Digest) -> IO[bytes]:
        """A stream of the blob; raises `NotFoundError`."""

    def read(self, digest: Digest, *, limit: int = ...) -> bytes:
        """A small blob, verified."""


class Image(msgspec.Struct, frozen=True):
    """One image of one platform."""

    digest: Digest
    media_type: str
    size: int
    """Bytes of the manifest."""
    manifest: Manifest
    config: ImageConfig
    source: BlobSource

    @property
    def layers(self) -> list[tuple[Descriptor, Digest]]:
        """Layer descriptors with their diff IDs, base first."""
        return list(zip(self.manifest.layers, self.config.rootfs.diff_ids, strict=True))

    @property
    def descriptor(self) -> Descriptor:
        """Descriptor of the manifest."""
        return Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)

    @property
    def annotations(self) -> Mapping[str, str]:
        """Annotations of the manifest; empty when there are none."""
        return self.manifest.annotations or {}


def _pick(index: Index, architecture: str) -> Descriptor:
    runnable = [
        entry
        for entry in index.manifests
        if entry.platform is None or (entry.platform.os == "linux" and entry.platform.architecture == architecture)
    ]
    runnable = [entry for entry in runnable if entry.media_type in documents.MANIFEST_TYPES | documents.INDEX_TYPES]
    if not runnable:
        raise NotFoundError(
            f"the index has no linux/{architecture} image",
            next_step="Name a tag that is built for this platform.",
        )
    return runnable[0]


def load(source: BlobSource, descriptor: Descriptor, *, architecture: str = "amd64") -> Image:
    """The image that `descriptor` names in `source`; an index is followed to `linux/architecture`.

    Raises:
        InputError: the documents are malformed, not an image, or nested too deep.
        IntegrityError: bytes do not have their digest.
        NotFoundError: a blob or the platform is missing.
    """
    for _ in range(limits.INDEX_DEPTH):
        data = source.read(descriptor.digest, limit=limits.MANIFEST_BYTES)
        document = documents.decode_manifest(data, descriptor.media_type)
        if isinstance(document, Index):
            descriptor = _pick(document, architecture)
            continue
        return _image(source, descriptor.digest, descriptor.media_type, data, document)
    raise InputError(f"indexes are nested deeper than {limits.INDEX_DEPTH}", next_step="Do not use this image.")


def _image(source: BlobSource, digest: Digest, media_type: str, data: bytes, manifest: Manifest) -> Image:
    if manifest.config.media_type not in {documents.CONFIG, documents.DOCKER_CONFIG}:
        raise InputError(
            f"{digest} is not a container image but {manifest.artifact_type or manifest.config.media_type}",
            next_step="Name an image, not an attachment.",
        )
    config_data = source.read(manifest.config.digest, limit=limits.CONFIG_BYTES)
    if len(config_data) != manifest.config.size:
        raise IntegrityError(
            f"the config of {digest} has {len(config_data)} bytes instead of {manifest.config.size}",
            next_step="Do not use this image.",
        )
    config = documents.decode_config(config_data)
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise InputError(
            f"{digest} has {len(manifest.layers)} layers but {len(config.rootfs.diff_ids)} diff IDs",
            next_step="Do not use this image: its documents contradict each other.",
        )
    return Image(
        digest=digest,
        media_type=manifest.media_type or media_type,
        size=len(data),
        manifest=manifest,
        config=config,
        source=source,
    )


def from_layout(path: Path, name: str | None) -> Image:
    """The image tagged `name` in the layout at `path`, or its only image."""
    layout = Layout(path)
    return load(layout, layout.resolve(name))
