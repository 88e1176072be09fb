"""buildah: builds in a storage of this home, and its layers are packed by us.

buildah hands out plain tars. We compress them as we compress every layer, so that the blob depends on the files in it
and on no version of buildah's compressor, and a layer that is in the store is not handed out again.
"""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import msgspec

from tidewaiter.assembly import builder_process, dockerfile_tools, layer_pack
from tidewaiter.assembly.builder_process import Ended
from tidewaiter.assembly.dockerfile_tools import Job, Tool
from tidewaiter.assembly.layer_cache import LayerCache
from tidewaiter.assembly.options import Options
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import UndeterminedError
from tidewaiter.core.progress import Task
from tidewaiter.core.settings import Settings
from tidewaiter.oci import compression
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci import layer as layers_format
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import Image
from tidewaiter.oci.layer import LayerInfo, Sink
from tidewaiter.oci.manifest import Descriptor, Manifest

_SECONDS = 600
"""For each short command around the build itself."""


class Buildah:
    """buildah with the storage of one home. Hold its lock while it works: killed builds are cleared away."""

    def __init__(self, tool: Tool, wanted: Settings, work: Path, task: Task, hide: tuple[str, ...]) -> None:
        assert tool.driver is not None  # noqa: S101  # every probed buildah has one
        self._settings = wanted
        self._folder = wanted.home.cache / "buildah" / tool.driver
        self._storage = dockerfile_tools.storage_of(wanted.home.cache, tool.driver)
        self._stacked = tool.driver == "vfs"
        self._work = work
        self._task = task
        self._hide = hide

    def _run(self, line: list[str], seconds: float, more: Mapping[str, str] | None = None) -> Ended:
        environment = {"BUILDAH_ISOLATION": "chroot", **settings.engine_environment(), **(more or {})}
        return builder_process.follow(
            line, environment=environment, seconds=seconds, tell=self._task.describe, hide=self._hide, folder=self._work
        )

    def _short(self, *words: str) -> Ended:
        done = self._run(["buildah", *self._storage, *words], _SECONDS)
        if done.code:
            raise UndeterminedError(
                f"buildah {words[0]} failed: {' '.join(done.lines)[-400:]}",
                next_step=f"Remove {self._folder}, which holds nothing but its cache, and build again.",
            )
        return done

    def tidy(self) -> None:
        """Remove what killed builds left, and all kept steps when they are over `limits.BUILDER_STORAGE_BYTES`."""
        self._short("rm", "--all")
        if stored_bytes(self._folder / "root", stacked=self._stacked) > limits.BUILDER_STORAGE_BYTES:
            self._short("rmi", "--all", "--force")

    def build(self, job: Job, secrets: Mapping[str, str]) -> Ended | str:
        """Build and return the image's ID, or how it failed. `secrets` are values by environment variable."""
        image_id = self._work / "image-id"
        more = []
        login = settings.docker_folder() / "config.json"
        if login.is_file():
            more += ["--authfile", str(login)]
        storage = [*self._storage, *self._registries()]
        line = dockerfile_tools.buildah_line(job, storage, image_id, more=more)
        finished = False
        try:
            done = self._run(line, self._settings.builder_seconds, secrets)
            finished = not done.code
        finally:
            if not finished:
                self._short("rm", "--all")  # a step that was cut off leaves its root mounted
        return image_id.read_text().strip() if finished else done

    def _registries(self) -> list[str]:
        """Options that let registries without TLS be reached which the settings name, and no others."""
        if not self._settings.plain_http:
            return []
        known = (Path.home() / ".config/containers/registries.conf", Path("/etc/containers/registries.conf"))
        text = next((path.read_text() for path in known if path.is_file()), "")
        for host in sorted(self._settings.plain_http):
            text += f"\n[[registry]]\nlocation = {json.dumps(host)}\ninsecure = true\n"
        (self._work / "registries.conf").write_text(text)
        return ["--registries-conf", str(self._work / "registries.conf")]

    # The result

    def bring(self, image_id: str, layers: LayerCache, wanted: Options) -> Image:
        """The image as it lies in the store afterwards: buildah's config, its layers packed by us."""
        works, said = dockerfile_tools.asked(
            "buildah", *self._storage, "inspect", "--type", "image", "--format", "{{.Config}}", image_id
        )
        if not works:
            raise UndeterminedError(f"buildah inspect failed: {said}", next_step="Build again.")
        config = said.encode()
        diff_ids = documents.decode_config(config).rootfs.diff_ids
        known = [layers.find(_key(diff_id, wanted)) for diff_id in diff_ids]
        found = [info for info in known if info is not None]
        if len(found) < len(diff_ids):
            found = self._pack(image_id, diff_ids, layers, wanted)
        manifest = documents.encode(
            Manifest(
                schema_version=2,
                media_type=documents.MANIFEST,
                config=Descriptor(media_type=documents.CONFIG, digest=layers.store.put(config), size=len(config)),
                layers=[Descriptor(media_type=wanted.layer_type, digest=one.digest, size=one.size) for one in found],
            )
        )
        return images.load(
            layers.store,
            Descriptor(media_type=documents.MANIFEST, digest=layers.store.put(manifest), size=len(manifest)),
            architecture=wanted.platform.architecture,
        )

    def _pack(self, image_id: str, diff_ids: list[Digest], layers: LayerCache, wanted: Options) -> list[LayerInfo]:
        folder = self._work / "plain"
        try:
            self._task.describe("packing layers")
            # Into `dir:` buildah writes tars as they are, each under its digest; elsewhere it compresses.
            self._short("push", "--quiet", "--disable-compression", image_id, f"dir:{folder}")
            return [
                layers.obtain(_key(diff_id, wanted), partial(_packed, folder, diff_id, wanted))[0]
                for diff_id in diff_ids
            ]
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _key(diff_id: Digest, wanted: Options) -> dict[str, object]:
    return {
        "maker": "dockerfile",
        "layer": layers_format.FORMAT_VERSION,
        "diff_id": diff_id,
        "compression": compression.identity(wanted.compression),
    }


def _packed(folder: Path, diff_id: Digest, wanted: Options, sink: Sink) -> LayerInfo:
    with (folder / digests.hexadecimal(diff_id)).open("rb") as tar:
        return layer_pack.pack(tar, diff_id, sink, compression=wanted.compression)


class _Layer(msgspec.Struct, frozen=True):
    """A layer in the list that containers/storage keeps."""

    id: str
    parent: str = ""
    size: int = msgspec.field(name="diff-size", default=0)


def stored_bytes(root: Path, *, stacked: bool) -> int:
    """What the layers below the storage `root` take, roughly; with `stacked`, each holds all those below it again."""
    total = 0
    for listing in root.glob("*-layers/layers.json"):
        try:
            known = {one.id: one for one in msgspec.json.decode(listing.read_bytes(), type=list[_Layer])}
        except (OSError, ValueError, RecursionError):
            continue  # buildah itself will say what is wrong with it
        for layer in known.values():
            total += layer.size
            below = known.get(layer.parent) if stacked else None
            while below is not None:
                total += below.size
                below = known.get(below.parent)
    return total
