"""Layers that were made before are not made again.

A record per key (everything that the bytes depend on) says which blob of the store holds the layer. The blob is
trusted while its size, time and inode are those seen when it was last hashed; otherwise it is hashed again, and
a damaged one is thrown away and rebuilt.

What is not here may be had from elsewhere, through `remote`: it answers only with a layer that it has verified and
put into the store, and says who vouches for it.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tidewaiter.core import durable, limits
from tidewaiter.core.progress import Progress
from tidewaiter.oci.compression import UnsteadyError
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layer import LayerInfo, Sink
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import LAYER_GZIP, Descriptor

_ATTEMPTS = 3


class _Stamp(msgspec.Struct, frozen=True):
    size: int
    mtime_ns: int
    inode: int


Key = Mapping[str, object]
"""Everything that the bytes of a layer depend on."""


class Vouched(msgspec.Struct, frozen=True):
    """A layer that somebody else made, verified and in the store."""

    info: LayerInfo
    voucher: Digest
    """Fingerprint of the key of whoever says that it is the layer of its key."""


Remote = Callable[[Key], Vouched | None]


class _Record(msgspec.Struct, frozen=True):
    key: str
    info: LayerInfo
    stamp: _Stamp
    made_of: dict[str, Any] | None = None
    """The key itself; None in records of older versions."""
    voucher: Digest | None = None
    """None when this home made the layer."""


def canonical(key: Key) -> bytes:
    """The same bytes for equal keys."""
    return msgspec.json.encode(key, order="sorted")


def name_of(key: Key) -> str:
    """SHA-256 of a key, in hex."""
    return hashlib.sha256(canonical(key)).hexdigest()


class LayerCache:
    """Maps keys to layers of `store`; records lie as small files in `directory`. Safe with many processes."""

    def __init__(self, store: Layout, directory: Path, progress: Progress, *, remote: Remote | None = None) -> None:
        self.store = store
        self._directory = directory
        self._progress = progress
        self._remote = remote
        self.before_making: Callable[[], None] | None = None
        """Called once, when a layer is to be made: the time to get ready what comes after it."""

    def _path(self, key: Key) -> Path:
        return self._directory / f"{name_of(key)}.json"

    def _stamp(self, info: LayerInfo) -> _Stamp | None:
        try:
            status = self.store.blob_path(info.digest).stat()
        except FileNotFoundError:
            return None
        return _Stamp(size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino)

    def _save(self, key: Key, info: LayerInfo, voucher: Digest | None) -> None:
        stamp = self._stamp(info)
        if stamp is not None:
            record = _Record(key=name_of(key), info=info, stamp=stamp, made_of=dict(key), voucher=voucher)
            durable.write_atomically(self._path(key), msgspec.json.encode(record))

    def _known(self, key: Key) -> LayerInfo | None:
        path = self._path(key)
        try:
            record = msgspec.json.decode(path.read_bytes(), type=_Record)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            self._progress.note(f"a damaged cache record was dropped: {path.name}")
            return None
        info = record.info
        stamp = self._stamp(info)
        if record.key != path.stem or stamp is None:
            return None
        if stamp == record.stamp and stamp.size == info.size:
            if record.made_of is None:
                self._save(key, info, record.voucher)
            return info
        if self.store.verify(Descriptor(media_type=LAYER_GZIP, digest=info.digest, size=info.size)):
            self._save(key, info, record.voucher)
            return info
        self._progress.note(f"the stored layer {info.digest[:19]} is damaged and is built again")
        self.store.blob_path(info.digest).unlink(missing_ok=True)
        return None

    def _fetched(self, key: Key) -> LayerInfo | None:
        """The layer from elsewhere; the caller holds the key's lock."""
        found = self._remote(key) if self._remote is not None else None
        if found is None:
            return None
        self._save(key, found.info, found.voucher)
        return found.info

    def find(self, key: Key) -> LayerInfo | None:
        """The layer that `key` names, when it is here intact or can be had from elsewhere."""
        known = self._known(key)
        if known is not None or self._remote is None:
            return known
        with durable.exclusive(self._path(key).with_suffix(".lock")):
            return self._known(key) or self._fetched(key)

    def find_all(self, keys: Sequence[Key]) -> list[LayerInfo | None]:
        """What `find` answers for each of `keys`; several are fetched from elsewhere at once."""
        if self._remote is None:
            return [self._known(key) for key in keys]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(limits.TRANSFERS, "layer") as pool:
            return list(pool.map(self.find, keys))

    def obtain(self, key: Key, make: Callable[[Sink], LayerInfo]) -> tuple[LayerInfo, bool]:
        """The layer that `key` names, and whether it was to be had already; `make` streams it when it was not.

        Two processes that want the same layer wait for one another, so that it is made once.

        Raises:
            StorageError: the disk refused; nothing half-written is visible.
        """
        known = self._known(key)
        if known is not None:
            return known, True
        with durable.exclusive(self._path(key).with_suffix(".lock")):
            known = self._known(key) or self._fetched(key)
            if known is not None:
                return known, True
            called, self.before_making = self.before_making, None
            if called is not None:
                called()
            info = self._made(make)
            self._save(key, info, None)
            return info, False

    def _made(self, make: Callable[[Sink], LayerInfo]) -> LayerInfo:
        """The layer, made anew when its compressor was unsteady."""
        left = _ATTEMPTS
        while True:
            left -= 1
            try:
                with self.store.writer() as writer:
                    info = make(writer)
                    writer.commit(info.digest, size=info.size)
                    return info
            except UnsteadyError as error:
                if not left:
                    raise
                self._progress.note(f"a layer is made again: {error.message}")

    def made_here(self, digests: Collection[Digest]) -> Iterator[tuple[Key, LayerInfo]]:
        """Keys and layers among `digests` that this home itself made; what others vouched for is not among them."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=_Record)
            except (FileNotFoundError, ValueError, RecursionError):
                continue
            if record.made_of is None or record.voucher is not None or record.info.digest not in digests:
                continue
            if name_of(record.made_of) == record.key == path.stem:
                yield record.made_of, record.info
