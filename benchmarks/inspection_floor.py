"""Inflates the layers of an image and hashes them, and does nothing else: what no inspection can be faster than.

    python inspection_floor.py LAYOUT TAG

A process for each of two layers at a time, as inspection has; in each, one thread inflates (isal) and another hashes.
"""

import hashlib
import io
import json
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from isal import igzip

_CHUNK = 1 << 18


class _Hashed(io.RawIOBase):
    """A file that is hashed, in the thread of `pool`, as it is read."""

    def __init__(self, path: Path, pool: ThreadPoolExecutor) -> None:
        self._file = path.open("rb")
        self._pool = pool
        self.sum = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no length
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._pool.submit(self.sum.update, data)
        return len(data)


def unpack(path: Path) -> tuple[str, str]:
    """SHA-256 of a gzip file and of what is in it."""
    tar = hashlib.sha256()
    with ThreadPoolExecutor(1) as pool:
        blob = _Hashed(path, pool)
        waiting = None
        with igzip.IGzipFile(fileobj=io.BufferedReader(blob, _CHUNK), mode="rb") as stream:  # type: ignore[no-untyped-call]  # isal has no types there
            while data := stream.read(_CHUNK):
                if waiting is not None:
                    waiting.result()
                waiting = pool.submit(tar.update, data)
    return blob.sum.hexdigest(), tar.hexdigest()


def main() -> None:
    """Unpack all layers of the image."""
    layout, tag = Path(sys.argv[1]), sys.argv[2]
    blobs = layout / "blobs/sha256"
    index = json.loads((layout / "index.json").read_text())["manifests"]
    name = "org.opencontainers.image.ref.name"
    digest = next(one["digest"] for one in index if one["annotations"][name] == tag)
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_text())
    paths = [blobs / one["digest"].removeprefix("sha256:") for one in manifest["layers"]]
    with ProcessPoolExecutor(2) as pool:
        for path, (found, _) in zip(paths, pool.map(unpack, paths), strict=True):
            assert found == path.name  # a floor that reads something else is none


if __name__ == "__main__":
    main()
