"""Layers that were made before are not made again.

A record per key (everything that the bytes depend on) says which blob of the store holds the layer. The blob is
trusted while its size, time and inode are those seen when it was last hashed; otherwise it is hashed again, and
a damaged one is thrown away and rebuilt.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from tidewaiter.core import durable
from tidewaiter.core.progress import Progress
from tidewaiter.oci.layer import LayerInfo, Sink
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import LAYER_GZIP, Descriptor


class _Stamp(msgspec.Struct, frozen=True):
    size: int
    mtime_ns: int
    inode: int


class _Record(msgspec.Struct, frozen=True):
    key: str
    info: LayerInfo
    stamp: _Stamp


class LayerCache:
    """Maps keys to layers of `store`; records lie as small files in `directory`. Safe with many processes."""

    def __init__(self, store: Layout, directory: Path, progress: Progress) -> None:
        self.store = store
        self._directory = directory
        self._progress = progress

    def _stamp(self, info: LayerInfo) -> _Stamp | None:
        try:
            status = self.store.blob_path(info.digest).stat()
        except FileNotFoundError:
            return None
        return _Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino)

    def _save(self, path: Path, name: str, info: LayerInfo) -> None:
        stamp = self._stamp(info)
        if stamp is not None:
            durable.write_atomically(path, msgspec.json.encode(_Record(key=name, info=info, stamp=stamp)))

    def _known(self, path: Path, name: str) -> LayerInfo | None:
        try:
            record = msgspec.json.decode(path.read_bytes(), type=_Record)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            self._progress.note(f"a damaged cache record was dropped: {path.name}")
            return None
        info = record.info
        stamp = self._stamp(info)
        if record.key != name or stamp is None:
            return None
        if stamp == record.stamp and stamp.size == info.size:
            return info
        if self.store.verify(Descriptor(media_type=LAYER_GZIP, digest=info.digest, size=info.size)):
            self._save(path, name, info)
            return info
        self._progress.note(f"the stored layer {info.digest[:19]} is damaged and is built again")
        self.store.blob_path(info.digest).unlink(missing_ok=True)
        return None

    def find(self, key: Mapping[str, object]) -> LayerInfo | None:
        """The layer that `key` names, when it is here intact."""
        name = hashlib.sha256(msgspec.json.encode(key, order="sorted")).hexdigest()
        return self._known(self._directory / f"{name}.json", name)

    def obtain(self, key: Mapping[str, object], make: Callable[[Sink], LayerInfo]) -> tuple[LayerInfo, bool]:
        """The layer that `key` names, and whether it was here already; `make` streams it when it was not.

        Two processes that want the same layer wait for one another, so that it is made once.

        Raises:
            StorageError: the disk refused; nothing half-written is visible.
        """
        name = hashlib.sha256(msgspec.json.encode(key, order="sorted")).hexdigest()
        path = self._directory / f"{name}.json"
        known = self._known(path, name)
        if known is not None:
            return known, True
        with durable.exclusive(self._directory / f"{name}.lock"):
            known = self._known(path, name)
            if known is not None:
                return known, True
            with self.store.writer() as writer:
                info = make(writer)
                writer.commit(info.digest, size=info.size)
            self._save(path, name, info)
            return info, False
