"""Small real images for tests, made with the product's own writers."""

import os
from pathlib import Path

from tidewaiter.oci import layer as layers
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layer import Entry
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, History, ImageConfig, Manifest, RootFS, RunConfig


def make_image(
    folder: Path, *, sizes: tuple[int, ...] = (1000, 200_000), commands: tuple[str, ...] = ()
) -> tuple[Layout, Descriptor]:
    """A layout with one image of one layer per size, each a file of so many random bytes; `commands` made them."""
    layout = Layout(folder)
    layout.create()
    infos = []
    for number, size in enumerate(sizes):
        with layout.writer() as writer:
            infos.append(
                layers.write_layer(writer, [(Entry(path=f"data/{number}", kind="file", size=size), os.urandom(size))])
            )
            writer.commit(infos[-1].digest, size=infos[-1].size)
    config = documents.encode(
        ImageConfig(
            architecture="amd64",
            os="linux",
            rootfs=RootFS(type="layers", diff_ids=[info.diff_id for info in infos]),
            config=RunConfig(user="65532", entrypoint=["/bin/true"]),
            history=[History(created_by=command) for command in commands or map("layer {}".format, range(len(infos)))],
        )
    )
    manifest = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            config=Descriptor(media_type=documents.CONFIG, digest=layout.put(config), size=len(config)),
            layers=[Descriptor(media_type=documents.LAYER_GZIP, digest=info.digest, size=info.size) for info in infos],
        )
    )
    return layout, Descriptor(media_type=documents.MANIFEST, digest=layout.put(manifest), size=len(manifest))
