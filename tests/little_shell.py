"""A small image with a shell, made of this machine's own programs, for tests that must run something."""

import re
import shutil
import subprocess
from pathlib import Path

from tidewaiter.oci import layer as layers
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layer import Entry
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, History, ImageConfig, Manifest, RootFS, RunConfig

PROGRAMS = ("sh", "cat", "ls", "sleep", "env", "id")


def _files() -> dict[str, Path]:
    """Place in the image by path here: the programs, and the libraries that they are linked with."""
    found: dict[str, Path] = {}
    for name in PROGRAMS:
        program = Path(str(shutil.which(name))).resolve()
        found[f"bin/{name}"] = program
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"(?:=> )?(/\S+) \(0x", linked):
            found[library.lstrip("/")] = Path(library).resolve()
    return found


def make_shell(folder: Path, *, config: RunConfig | None = None, more: dict[str, bytes] | None = None) -> Descriptor:
    """Write the image into the layout `folder` under the tag `shell`; `more` are further files."""
    layout = Layout(folder)
    layout.create()
    items: list[tuple[Entry, layers.Opener | bytes | None]] = []
    for place, path in _files().items():
        data = path.read_bytes()
        items.append((Entry(path=place, kind="file", mode=0o755, size=len(data)), data))
    for place, data in (more or {}).items():
        items.append((Entry(path=place, kind="file", size=len(data)), data))
    with layout.writer() as writer:
        info = layers.write_layer(writer, items)
        writer.commit(info.digest, size=info.size)
    document = documents.encode(
        ImageConfig(
            architecture="amd64",
            os="linux",
            rootfs=RootFS(type="layers", diff_ids=[info.diff_id]),
            config=config or RunConfig(env=["PATH=/bin"], cmd=["sh"]),
            history=[History(created_by="a shell")],  # buildah cannot add to an image without
        )
    )
    manifest = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            config=Descriptor(media_type=documents.CONFIG, digest=layout.put(document), size=len(document)),
            layers=[Descriptor(media_type=documents.LAYER_GZIP, digest=info.digest, size=info.size)],
        )
    )
    found = Descriptor(media_type=documents.MANIFEST, digest=layout.put(manifest), size=len(manifest))
    layout.tag("shell", found)
    return found
