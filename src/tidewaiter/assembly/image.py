"""Layers to image: config and manifest, written into the store."""

import datetime as dt
from collections.abc import Mapping, Sequence

from tidewaiter.assembly.part import Part
from tidewaiter.core.clock import rfc3339
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, History, ImageConfig, Manifest, Platform, RootFS, RunConfig

USER = "65532:65532"
"""`nonroot`, in every base that is made here."""


def write(
    store: Layout,
    parts: Sequence[Part],
    *,
    config: RunConfig,
    created: dt.datetime,
    annotations: Mapping[str, str],
    platform: Platform,
    docker: bool = False,
) -> Descriptor:
    """Write config and manifest of an image made of `parts` (base first) and return the manifest's descriptor.

    The bytes depend on the arguments only: the same parts, config, time and annotations give the same digest.
    """
    moment = rfc3339(created)
    document = ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        created=moment,
        config=config,
        rootfs=RootFS(type="layers", diff_ids=[part.info.diff_id for part in parts]),
        history=[History(created=moment, created_by=f"tidewaiter: {part.title}") for part in parts],
    )
    data = documents.encode(document)
    config_type = documents.DOCKER_CONFIG if docker else documents.CONFIG
    media_type = documents.DOCKER_MANIFEST if docker else documents.MANIFEST
    manifest = Manifest(
        schema_version=2,
        media_type=media_type,
        config=Descriptor(media_type=config_type, digest=store.put(data), size=len(data)),
        layers=[part.descriptor for part in parts],
        annotations=dict(annotations),
    )
    data = documents.encode(manifest)
    return Descriptor(media_type=media_type, digest=store.put(data), size=len(data))
