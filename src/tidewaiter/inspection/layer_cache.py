"""Facts of layers seen before, so that a layer is read once for all the images that share it.

An entry belongs to a pair of blob digest and diff ID: the pair was proven when the entry was made, and a
manifest that pairs a known diff ID with other bytes finds no entry. Files are
checked; whatever does not match is read again. The layer's listing lies beside it in a file of its own, which
few commands need; facts without one do not count. So does what was measured of a layer of which others hide some.
"""

import contextlib
import hashlib
from pathlib import Path

import msgspec

from tidewaiter.core.errors import StorageError
from tidewaiter.inspection.checked_files import CheckedFiles
from tidewaiter.inspection.layer_facts import FORMAT_VERSION, LayerFacts, Measured
from tidewaiter.oci.digest import Digest


class _Entry(msgspec.Struct, frozen=True):
    version: int
    blob: Digest
    facts: LayerFacts


class LayerFactsCache:
    """Files below `directory`, safe to use from many threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._files = CheckedFiles(directory)

    @property
    def refusal(self) -> StorageError | None:
        """Why something was not kept, if so."""
        return self._files.refusal

    def _name(self, blob: Digest, diff_id: Digest, suffix: str = "facts") -> str:
        return f"{hashlib.sha256(f'{FORMAT_VERSION} {blob} {diff_id}'.encode()).hexdigest()}.{suffix}"

    def get(self, blob: Digest, diff_id: Digest) -> LayerFacts | None:
        """Facts of the layer; None when it was not seen, or its entry is damaged."""
        content = self._files.read(self._name(blob, diff_id))
        if content is None or not self._files.path(self._name(blob, diff_id, "listing")).exists():
            return None
        try:
            entry = msgspec.msgpack.decode(content, type=_Entry)
        except (ValueError, RecursionError):
            return None
        if (entry.version, entry.blob, entry.facts.diff_id) != (FORMAT_VERSION, blob, diff_id):
            return None
        return entry.facts

    def put(self, blob: Digest, facts: LayerFacts, listing: bytes) -> bool:
        """Remember `facts` and the layer's listing; whether the disk took both."""
        entry = msgspec.msgpack.encode(_Entry(FORMAT_VERSION, blob, facts))
        return self._files.write(self._name(blob, facts.diff_id, "listing"), listing) and self._files.write(
            self._name(blob, facts.diff_id), entry
        )

    def listing(self, blob: Digest, diff_id: Digest) -> bytes | None:
        """The layer's listing; None when it was not seen, or its file is damaged."""
        return self._files.read(self._name(blob, diff_id, "listing"))

    def forget(self, blob: Digest, diff_id: Digest) -> None:
        """Have the layer read again when it is asked for next."""
        with contextlib.suppress(OSError):
            self._files.path(self._name(blob, diff_id, "listing")).unlink()

    def measured(self, blob: Digest, diff_id: Digest, hidden: str) -> Measured | None:
        """What was measured of the layer less a set `Hidden.digest`; None when that was not done."""
        content = self._files.read(self._name(blob, diff_id, f"{hidden}.json"))
        try:
            return None if content is None else msgspec.json.decode(content, type=Measured)
        except (ValueError, RecursionError):
            return None

    def put_measured(self, blob: Digest, diff_id: Digest, hidden: str, measured: Measured) -> None:
        """Remember what was measured, if the disk takes it."""
        self._files.write(self._name(blob, diff_id, f"{hidden}.json"), msgspec.json.encode(measured))
