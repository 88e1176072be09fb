"""Facts of layers seen before, so that a layer is read once for all the images that share it.

An entry belongs to a pair of blob digest and diff ID: the pair was proven when the entry was made, and a
manifest that pairs a known diff ID with other bytes finds no entry. A file holds the SHA-256 of the rest, a
newline and JSON; whatever does not match is read again.
"""

import hashlib
from pathlib import Path

import msgspec

from tidewaiter.core import durable
from tidewaiter.inspection.layer_facts import FORMAT_VERSION, LayerFacts
from tidewaiter.oci.digest import Digest


class _Entry(msgspec.Struct, frozen=True):
    version: int
    blob: Digest
    facts: LayerFacts


class LayerFactsCache:
    """Files below `directory`, safe to use from many threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _path(self, blob: Digest, diff_id: Digest) -> Path:
        name = hashlib.sha256(f"{FORMAT_VERSION} {blob} {diff_id}".encode()).hexdigest()
        return self._directory / name[:2] / f"{name}.json"

    def get(self, blob: Digest, diff_id: Digest) -> LayerFacts | None:
        """Facts of the layer; None when it was not seen, or its entry is damaged."""
        try:
            data = self._path(blob, diff_id).read_bytes()
        except OSError:
            return None  # missing or unreadable: the layer itself is the source, the entry only saves time
        checksum, _, content = data.partition(b"\n")
        if checksum != hashlib.sha256(content).hexdigest().encode():
            return None
        try:
            entry = msgspec.json.decode(content, type=_Entry)
        except msgspec.DecodeError:
            return None
        if (entry.version, entry.blob, entry.facts.diff_id) != (FORMAT_VERSION, blob, diff_id):
            return None
        return entry.facts

    def put(self, blob: Digest, facts: LayerFacts) -> None:
        """Remember `facts`; raises `StorageError` when the disk refuses."""
        content = msgspec.json.encode(_Entry(FORMAT_VERSION, blob, facts))
        checksum = hashlib.sha256(content).hexdigest().encode()
        durable.write_atomically(self._path(blob, facts.diff_id), checksum + b"\n" + content)
