"""Reading ahead: what is inflated next is made in a thread of its own while the last of it is looked at."""

import threading
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Self

_BLOCKS = 4
"""That are being made or wait to be taken.

A megabyte may hold one file or a thousand: what is made while the reader is slow is at hand when it is fast.
"""


class Ahead:
    """The blocks of `source`, read by a thread as long as the context is open. Nobody else reads `source` meanwhile."""

    def __init__(self, source: IO[bytes], block: int) -> None:
        self._source = source
        self._block = block
        self._blocks: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        self._stop = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)

    def __enter__(self) -> Self:
        for _ in range(_BLOCKS):
            self._room.put(None)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True  # it looks here before it reads another block
        self._room.put(None)
        self._thread.join()

    def _run(self) -> None:
        data = b"more"
        while data:
            self._room.get()
            if self._stop:
                return
            try:
                data = self._source.read(self._block)
            except BaseException as raised:  # noqa: BLE001  # raised again where the block is awaited
                self._blocks.put(raised)
                return
            self._blocks.put(data)

    def read(self, size: int) -> bytes:  # noqa: ARG002  # blocks have the size that they were made in
        """The next block; empty at the end, and from then on. Raises what reading `source` raised."""
        if self._ended:
            return b""
        block = self._blocks.get()
        self._room.put(None)
        self._ended = not block or isinstance(block, BaseException)
        if isinstance(block, BaseException):
            raise block
        return block
