"""Descriptors, manifests, indexes and image configs (image-spec v1.1; Docker schema 2 read-only).

Documents from outside are decoded under limits; what we write is canonical: sorted keys, no spaces.
"""

from typing import Annotated, Any, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci import unambiguous
from tidewaiter.oci.digest import Digest, WireDigest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_PLAIN = "application/vnd.docker.image.rootfs.diff.tar"

MANIFEST_TYPES = frozenset({MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({INDEX, DOCKER_INDEX})
CONFIG_TYPES = frozenset({CONFIG, DOCKER_CONFIG})
"""Of the configs of images, which artifacts do not have."""


class _Wire(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    pass


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """Operating system and processor of an image, in Go's names."""

    architecture: str
    os: str
    variant: str | None = None
    os_version: str | None = msgspec.field(name="os.version", default=None)
    os_features: list[str] | None = msgspec.field(name="os.features", default=None)


class Descriptor(_Wire, frozen=True):
    """What a blob is, how long, and under which digest."""

    media_type: str
    digest: WireDigest
    size: Annotated[int, msgspec.Meta(ge=0)]
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None
    platform: Platform | None = None
    urls: list[str] | None = None
    data: str | None = None


class Manifest(_Wire, frozen=True):
    """An image or artifact manifest; layers in order, base first."""

    schema_version: Literal[2] = msgspec.field(name="schemaVersion")
    config: Descriptor
    layers: list[Descriptor]
    media_type: str | None = None
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(_Wire, frozen=True):
    """An image index: manifests by platform, or anything else."""

    schema_version: Literal[2] = msgspec.field(name="schemaVersion")
    manifests: list[Descriptor]
    media_type: str | None = None
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class RunConfig(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True, kw_only=True):
    """`config` of an image config: how a container starts."""

    user: str = ""
    exposed_ports: dict[str, dict[str, str]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, dict[str, str]] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    # Docker's own, which its images may carry; they are handed on.
    healthcheck: dict[str, Any] | None = None
    shell: list[str] | None = None
    stop_timeout: int | None = None


class RootFS(msgspec.Struct, frozen=True):
    """Diff IDs of the layers, base first."""

    type: str
    diff_ids: list[WireDigest]


class History(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How a layer came to be; entries with `empty_layer` have none."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The config blob of an image."""

    architecture: str
    os: str
    rootfs: RootFS
    created: str | None = None
    author: str | None = None
    variant: str | None = None
    config: RunConfig = RunConfig()
    history: list[History] = []


def encode(document: Manifest | Index | ImageConfig | dict[str, Any]) -> bytes:
    """Canonical bytes of a document: keys sorted, no white space, no trailing newline."""
    return msgspec.json.encode(document, order="sorted")


def _bounded(data: bytes, limit: int, what: str) -> None:
    if len(data) > limit:
        raise LimitError(
            f"{what} is {len(data)} bytes, over {limit}",
            next_step="Take the image from a source that is trusted.",
        )


def decode_manifest(data: bytes, media_type: str | None = None) -> Manifest | Index:
    """The manifest or index in `data`, told apart by the media type (the caller's, else the document's).

    Raises:
        InputError: not a manifest, both kinds at once, or over the limits.
    """
    _bounded(data, limits.MANIFEST_BYTES, "the manifest")
    try:
        head = unambiguous.read(data, Manifest, Index)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the manifest is not JSON that all read alike: {error}", next_step="Check what the name points to."
        ) from error
    if not isinstance(head, dict):
        raise InputError("the manifest is not a JSON object", next_step="Check what the name points to.")
    stated = head.get("mediaType")
    if not isinstance(stated, str | None):
        raise InputError("the manifest's media type is no text", next_step="Check what the name points to.")
    kind = stated or media_type
    if stated and media_type and media_type not in {stated, "application/json"}:
        raise InputError(
            f"the manifest says it is {stated}, its source says {media_type}",
            next_step="Push the image again; this mismatch is refused by the image specification.",
        )
    if "layers" in head and "manifests" in head:
        raise InputError(
            "the manifest has both `layers` and `manifests`",
            next_step="This is an attack or a broken tool: refuse it.",
        )
    is_index = kind in INDEX_TYPES or (kind not in MANIFEST_TYPES and "manifests" in head)
    try:
        document: Manifest | Index = msgspec.convert(head, Index) if is_index else msgspec.convert(head, Manifest)
    except msgspec.ValidationError as error:
        raise InputError(f"the manifest is malformed: {error}", next_step="Check what the name points to.") from error
    if isinstance(document, Index):
        if len(document.manifests) > limits.INDEX_MANIFESTS:
            raise LimitError(
                f"the index lists {len(document.manifests)} manifests",
                next_step=f"At most {limits.INDEX_MANIFESTS} are read.",
            )
    elif len(document.layers) > limits.IMAGE_LAYERS and document.artifact_type is None:
        raise LimitError(
            f"the image has {len(document.layers)} layers",
            next_step=f"At most {limits.IMAGE_LAYERS} are read.",
        )
    return document


def decode_config(data: bytes) -> ImageConfig:
    """The image config in `data`; raises `InputError` when it is none or too large."""
    _bounded(data, limits.CONFIG_BYTES, "the image config")
    try:
        document = msgspec.convert(unambiguous.read(data, ImageConfig), dict[str, Any])
        # What is null is not there: so Go's readers take it, and some tools write `"config": null`.
        return msgspec.convert({key: value for key, value in document.items() if value is not None}, ImageConfig)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the image config is malformed: {error}", next_step="Build the image again with a current tool."
        ) from error


def chain_id(diff_ids: list[Digest]) -> Digest:
    """ChainID of a stack of layers (image-spec `config.md`)."""
    from tidewaiter.oci.digest import of

    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = of(f"{chain} {diff_id}".encode())
    return chain
