"""Layers to image: config and manifest, written into the store."""

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec

from tidewaiter.assembly.part import Part
from tidewaiter.core import limits
from tidewaiter.core.clock import rfc3339
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, History, ImageConfig, Manifest, Platform, RootFS, RunConfig

USER = "65532:65532"
"""`nonroot`, in every base that is made here."""


_DOCKER_LAYERS = {documents.LAYER: documents.DOCKER_LAYER_PLAIN, documents.LAYER_GZIP: documents.DOCKER_LAYER}


def _docker_layer(part: Part) -> Descriptor:
    """How a Docker schema 2 manifest names the layer: the same bytes under Docker's own media type."""
    media_type = _DOCKER_LAYERS.get(part.media_type, part.media_type)
    if not media_type.startswith("application/vnd.docker."):
        raise InputError(
            f"layer {part.info.digest} is {media_type}, which no Docker schema 2 image may have",
            next_step="Build with --compression gzip.",
        )
    return msgspec.structs.replace(part.descriptor, media_type=media_type)


def write(
    store: Layout,
    parts: Sequence[Part],
    *,
    config: RunConfig,
    created: dt.datetime,
    annotations: Mapping[str, str],
    platform: Platform,
    docker: bool = False,
    history: Sequence[History] = (),
) -> Descriptor:
    """Write config and manifest of an image made of `parts` (base first) and return the manifest's descriptor.

    The bytes depend on the arguments only: the same parts, config, time and annotations give the same digest.
    `history` is what an existing base says of its layers, the first of `parts`; `docker` writes Docker schema 2.

    Raises:
        InputError: a layer cannot stand in a Docker schema 2 image.
        LimitError: there are more layers than tools accept.
    """
    if len(parts) > limits.IMAGE_LAYERS:
        raise LimitError(
            f"the image would have {len(parts)} layers, over {limits.IMAGE_LAYERS}",
            next_step="Use a base with fewer layers.",
        )
    labels = config.labels or {}
    # Docker's tools look for labels; and what a base says there of itself is not true of what stands on it.
    said = {name: value for name, value in annotations.items() if docker or name in labels}
    if said:
        config = msgspec.structs.replace(config, labels={**labels, **said})
    moment = rfc3339(created)
    told = sum(not entry.empty_layer for entry in history)
    own = [History(created=moment, created_by=f"tidewaiter: {part.title}") for part in parts[told:]]
    document = ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        created=moment,
        config=config,
        rootfs=RootFS(type="layers", diff_ids=[part.info.diff_id for part in parts]),
        history=[*history, *own],
    )
    data = documents.encode(document)
    config_type = documents.DOCKER_CONFIG if docker else documents.CONFIG
    media_type = documents.DOCKER_MANIFEST if docker else documents.MANIFEST
    manifest = Manifest(
        schema_version=2,
        media_type=media_type,
        config=Descriptor(media_type=config_type, digest=store.put(data), size=len(data)),
        layers=[_docker_layer(part) if docker else part.descriptor for part in parts],
        annotations=dict(annotations),
    )
    data = documents.encode(manifest)
    return Descriptor(media_type=media_type, digest=store.put(data), size=len(data))
