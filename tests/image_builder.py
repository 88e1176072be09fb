"""Layers and images for tests, made with Python's own tarfile and gzip so that our writer is not its own judge."""

import gzip
import io
import tarfile
from collections.abc import Iterable, Sequence

from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.image import Image, load
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, ImageConfig, Manifest, RootFS, RunConfig

CREATED = "2026-01-02T03:04:05Z"


class Tar:
    """A tar in the making; anything goes, hostile names too."""

    def __init__(self, *, pax: bool = True) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(  # noqa: SIM115  closed by `bytes`
            fileobj=self._buffer, mode="w:", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
        )

    def file(
        self, name: str, data: bytes | str = b"", *, mode: int = 0o644, pax: dict[str, str] | None = None
    ) -> "Tar":
        content = data.encode() if isinstance(data, str) else data
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), mode
        info.pax_headers = pax or {}
        self._tar.addfile(info, io.BytesIO(content))
        return self

    def other(self, name: str, kind: bytes, target: str = "", *, mode: int = 0o755) -> "Tar":
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, target, mode
        self._tar.addfile(info)
        return self

    def directory(self, name: str, *, mode: int = 0o755) -> "Tar":
        return self.other(name, tarfile.DIRTYPE, mode=mode)

    def symlink(self, name: str, target: str) -> "Tar":
        return self.other(name, tarfile.SYMTYPE, target, mode=0o777)

    def hardlink(self, name: str, target: str, *, mode: int = 0o755) -> "Tar":
        return self.other(name, tarfile.LNKTYPE, target, mode=mode)

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def put_image(
    layout: Layout,
    tars: Iterable[bytes],
    *,
    run: RunConfig | None = None,
    blobs: Sequence[bytes] | None = None,
    media_type: str = documents.LAYER_GZIP,
    architecture: str = "amd64",
    name: str | None = None,
) -> Image:
    """An image of the layers `tars` in `layout`; `blobs` replaces the gzip of each."""
    layout.create()
    layers = list(tars)
    packed = blobs if blobs is not None else [gzip.compress(tar, mtime=0) for tar in layers]
    config = documents.encode(
        ImageConfig(
            architecture=architecture,
            os="linux",
            created=CREATED,
            rootfs=RootFS(type="layers", diff_ids=[digests.of(tar) for tar in layers]),
            config=run or RunConfig(),
        )
    )
    manifest = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            config=Descriptor(media_type=documents.CONFIG, digest=layout.put(config), size=len(config)),
            layers=[Descriptor(media_type=media_type, digest=layout.put(blob), size=len(blob)) for blob in packed],
        )
    )
    descriptor = Descriptor(media_type=documents.MANIFEST, digest=layout.put(manifest), size=len(manifest))
    if name is not None:
        layout.tag(name, descriptor)
    return load(layout, descriptor)
