"""Images that were not made here, for tests: written by tarfile and skopeo, with the traits that real ones have."""

import subprocess
from pathlib import Path

from image_builder import Tar, put_image
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig

RUN = RunConfig(
    user="1000:1000",
    env=["PATH=/usr/bin", "MODEL_BASE=/models"],
    entrypoint=["/usr/bin/server"],
    cmd=["--port=8500"],
    exposed_ports={"8500/tcp": {}},
    volumes={"/cache": {}},
    labels={"maintainer": "someone"},
    working_dir="/srv",
    stop_signal="SIGINT",
)


def layers() -> list[bytes]:
    """Merged-usr, a folder with an owner and a mode of its own, a link to a folder, and a whiteout."""
    below = Tar().directory("usr").directory("usr/lib", mode=0o775).directory("usr/bin").symlink("lib", "usr/lib")
    below.file("usr/bin/server", b"#!/bin/false\n", mode=0o755).directory("old").file("old/x", b"x")
    below.directory("data", mode=0o2750).symlink("models", "data/models").directory("data/models", mode=0o700)
    above = Tar().file(".wh.old").file("usr/lib/later", b"later")
    return [below.bytes(), above.bytes()]


def serving_base(folder: Path, *, architecture: str = "amd64") -> Image:
    """An OCI image in a new layout."""
    return put_image(Layout(folder), layers(), run=RUN, architecture=architecture, name="base")


def as_docker(source: Path, target: Path, skopeo: str) -> Image:
    """The same image as Docker schema 2, as skopeo converts it."""
    from tidewaiter.oci import image as images

    subprocess.run(
        [skopeo, "copy", "-q", "--format", "v2s2", f"oci:{source}:base", f"dir:{target}-dir"], check=True, timeout=60
    )
    layout = Layout(target)
    layout.create()
    for path in Path(f"{target}-dir").iterdir():
        if path.name != "version":
            layout.put(path.read_bytes())
    manifest = (Path(f"{target}-dir") / "manifest.json").read_bytes()
    from tidewaiter.oci.digest import of
    from tidewaiter.oci.manifest import DOCKER_MANIFEST, Descriptor

    return images.load(layout, Descriptor(media_type=DOCKER_MANIFEST, digest=of(manifest), size=len(manifest)))
