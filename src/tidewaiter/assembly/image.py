"""Layers to image: config and manifest, written into the store."""

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec

from tidewaiter.assembly.part import Part
from tidewaiter.core.clock import rfc3339
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, History, ImageConfig, Manifest, RootFS, RunConfig

USER = "65532:65532"
"""`nonroot`, in every base."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How a container of the image starts."""

    entrypoint: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    working_dir: str = "/"


def write(
    store: Layout,
    parts: Sequence[Part],
    *,
    launch: Launch,
    created: dt.datetime,
    annotations: Mapping[str, str],
    architecture: str = "amd64",
) -> Descriptor:
    """Write config and manifest of an image made of `parts` (base first) and return the manifest's descriptor.

    The bytes depend on the arguments only: the same parts, launch, time and annotations give the same digest.
    """
    moment = rfc3339(created)
    config = ImageConfig(
        architecture=architecture,
        os="linux",
        created=moment,
        config=RunConfig(
            user=USER,
            env=list(launch.environment) or None,
            entrypoint=list(launch.entrypoint) or None,
            working_dir=launch.working_dir,
        ),
        rootfs=RootFS(type="layers", diff_ids=[part.info.diff_id for part in parts]),
        history=[History(created=moment, created_by=f"tidewaiter: {part.title}") for part in parts],
    )
    config_bytes = documents.encode(config)
    manifest = Manifest(
        schema_version=2,
        media_type=documents.MANIFEST,
        config=Descriptor(media_type=documents.CONFIG, digest=store.put(config_bytes), size=len(config_bytes)),
        layers=[
            Descriptor(media_type=documents.LAYER_GZIP, digest=part.info.digest, size=part.info.size) for part in parts
        ],
        annotations=dict(annotations),
    )
    data = documents.encode(manifest)
    return Descriptor(media_type=documents.MANIFEST, digest=store.put(data), size=len(data))
