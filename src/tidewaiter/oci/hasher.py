"""A digest computed beside the work: blocks are hashed in a thread while the next ones are made."""

import hashlib
import threading
from queue import SimpleQueue
from typing import Protocol

from tidewaiter.oci.digest import Digest

_WAITING = 2
"""Blocks that may wait to be hashed."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def _run(state: _Hash, blocks: "SimpleQueue[bytes]", room: "SimpleQueue[None]") -> None:
    while data := blocks.get():
        state.update(data)
        room.put(None)


class Hasher:
    """Hashes blocks in a thread of its own; hashing lets go of Python's lock. A single block starts no thread.

    The thread ends with the hasher.
    """

    def __init__(self, algorithm: str) -> None:
        self._blocks: SimpleQueue[bytes] | None = None
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._first = True
        self._room: SimpleQueue[None] = SimpleQueue()

    def __del__(self) -> None:
        if self._blocks is not None:
            self._blocks.put(b"")

    def update(self, data: bytes) -> None:
        """Take the next block; waits while others are waiting to be hashed."""
        if not data:
            return
        if self._first:
            self._first = False
            self._hash.update(data)
            return
        if self._blocks is None:
            self._blocks = SimpleQueue()
            for _ in range(_WAITING):
                self._room.put(None)
            # It knows nothing of this object, which could not end otherwise.
            known = (self._hash, self._blocks, self._room)
            threading.Thread(target=_run, args=known, name="layer-hash", daemon=True).start()
        self._room.get()
        self._blocks.put(data)

    def digest(self) -> Digest:
        """The digest of all blocks so far."""
        if self._blocks is not None:
            for _ in range(_WAITING):  # no block is waiting once there is room for as many as there can be
                self._room.get()
            for _ in range(_WAITING):
                self._room.put(None)
        return Digest(f"{self._algorithm}:{self._hash.hexdigest()}")
