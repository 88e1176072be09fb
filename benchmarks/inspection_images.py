"""Images that the inspection benchmark reads, made once: by Python's own tarfile and zlib, as other tools would.

The large one is a TensorFlow CPU image as `pip install` leaves it, bytecode included: a Debian layer with Python, and a
layer of wheels from the index. The other holds three million files of one byte.
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, cast

from workbench import CACHE

from tidewaiter.oci import layer as layers
from tidewaiter.oci.image import from_layout

WHEELS = (
    *("tensorflow-cpu==2.21.0", "plotly==7.1.0", "sympy==1.14.0", "ipython==9.18.1", "django==5.2.19"),
    *("faker==40.54.0", "babel==2.18.0", "networkx==3.6.1"),
)
SITE = "usr/local/lib/python3.11/site-packages"
BASE_LAYERS = 2
"""Of the example's image: Debian's libraries and Python."""
TINY_FILES = 3_000_000
_CHUNK = 1 << 20


class _Blob:
    """A file that takes a tar, compresses it as `gzip -6` does and knows both digests."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "blob"
        self._file = self._path.open("wb")
        self._deflate = zlib.compressobj(6, wbits=31)
        self._blob, self._tar = hashlib.sha256(), hashlib.sha256()
        self.size = self.tar_size = 0

    def write(self, data: bytes) -> int:
        self._tar.update(data)
        self.tar_size += len(data)
        self._put(self._deflate.compress(data))
        return len(data)

    def _put(self, data: bytes) -> None:
        self._blob.update(data)
        self.size += len(data)
        self._file.write(data)

    def finish(self) -> dict[str, object]:
        """Move the blob to its name; its descriptor, with the diff ID beside it."""
        self._put(self._deflate.flush())
        self._file.close()
        name = self._blob.hexdigest()
        self._path.rename(self._path.with_name(name))
        return {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": f"sha256:{name}",
            "size": self.size,
            "diff_id": f"sha256:{self._tar.hexdigest()}",
        }


def _layer(blobs: Path, fill: Callable[[tarfile.TarFile], None]) -> dict[str, object]:
    blob = _Blob(blobs)
    with tarfile.open(fileobj=cast("IO[bytes]", blob), mode="w|", bufsize=_CHUNK) as tar:
        fill(tar)
    return blob.finish()


def _put(blobs: Path, document: object, media_type: str) -> dict[str, object]:
    data = json.dumps(document).encode()
    name = hashlib.sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}


def _layout(folder: Path, tag: str, made: list[dict[str, object]]) -> None:
    """Write config, manifest and index of an image of these layers; an index that is there gets one tag more."""
    blobs = folder / "blobs/sha256"
    config = _put(
        blobs,
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"User": "65532"},
            "rootfs": {"type": "layers", "diff_ids": [one["diff_id"] for one in made]},
        },
        "application/vnd.oci.image.config.v1+json",
    )
    listed = [{key: value for key, value in one.items() if key != "diff_id"} for one in made]
    media_type = "application/vnd.oci.image.manifest.v1+json"
    manifest = _put(
        blobs, {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": listed}, media_type
    )
    index = folder / "index.json"
    known = json.loads(index.read_text())["manifests"] if index.exists() else []
    known.append({**manifest, "annotations": {"org.opencontainers.image.ref.name": tag}})
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": known}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """The layout `name` in the benchmark's cache, made by `make` when it is not there whole."""
    folder = CACHE / name
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "blobs/sha256").mkdir(parents=True)
        make(folder)
        (folder / "ready").touch()
    return folder


def _file(tar: tarfile.TarFile, path: str, size: int, content: IO[bytes], mode: int = 0o644) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, mode
    tar.addfile(member, content)
    tar.members = []  # type: ignore[attr-defined]  # it remembers every member otherwise


def _base(example: Path, tag: str) -> Callable[[tarfile.TarFile], None]:
    """Writes the example's base layers as one."""

    def fill(tar: tarfile.TarFile) -> None:
        image = from_layout(example, tag)
        seen: set[str] = set()
        for descriptor, _ in image.layers[:BASE_LAYERS]:
            with image.source.open(descriptor.digest) as blob:
                for entry, content in layers.read_layer(blob):
                    if not entry.path or entry.path in seen:
                        continue
                    seen.add(entry.path)
                    if content is not None:
                        _file(tar, entry.path, entry.size, content, entry.mode)
                        continue
                    member = tarfile.TarInfo(entry.path)
                    member.mode, member.linkname = entry.mode, entry.target
                    kinds = {"directory": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE}
                    member.type = kinds[entry.kind]
                    tar.addfile(member)

    return fill


def _wheels(tar: tarfile.TarFile) -> None:
    """Install the wheels into a folder and write that."""
    with tempfile.TemporaryDirectory(dir=CACHE) as text:
        install = ["uv", "pip", "install", "-q", "--python", "3.11", "--only-binary", ":all:", "--compile-bytecode"]
        subprocess.run([*install, "--target", text, *WHEELS], check=True)
        for path in sorted(Path(text).rglob("*")):
            name = f"{SITE}/{path.relative_to(text)}"
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as content:
                    _file(tar, name, path.stat().st_size, content, path.stat().st_mode & 0o777)
            else:
                tar.add(path, name, recursive=False)


def _app(text: str) -> Callable[[tarfile.TarFile], None]:
    """Writes a small top layer: ten files."""

    def fill(tar: tarfile.TarFile) -> None:
        for number in range(10):
            data = f"{text} {number}\n".encode()
            with tempfile.TemporaryFile() as content:
                content.write(data)
                content.seek(0)
                _file(tar, f"app/{number}.py", len(data), content)

    return fill


def tensorflow(example: Path, tag: str) -> Path:
    """The layout of the large image: tags `image`, and `one`, `two`, … with a small top layer of their own."""

    def make(folder: Path) -> None:
        blobs = folder / "blobs/sha256"
        large = [_layer(blobs, _base(example, tag)), _layer(blobs, _wheels)]
        _layout(folder, "image", large)
        for name in TOPS:
            _layout(folder, name, [*large, _layer(blobs, _app(name))])

    return _once("inspection-tensorflow-1", make)


TOPS = ("one", "two", "three", "four", "five", "six")
"""Tags of images that share all but their top layer."""


def tiny() -> Path:
    """The layout of an image with three million files of one byte, tag `image`."""

    def fill(tar: tarfile.TarFile) -> None:
        with tempfile.TemporaryFile() as content:
            content.write(b"x")
            for number in range(TINY_FILES):
                content.seek(0)
                _file(tar, f"data/{number // 1000:04}/{number % 1000:03}", 1, content)

    return _once("inspection-tiny-1", lambda folder: _layout(folder, "image", [_layer(folder / "blobs/sha256", fill)]))
