"""The process that reads layers: started by `pipelines.reading`, without keys, environment, files or network.

It inflates, walks tars and runs all catalogers, and knows nothing but the bytes of the layers that it is asked for.
What it is asked and answers stands in `wire`.
"""

import codecs
import gc
import io
import os
import sys
from typing import IO, cast

import isal.igzip
import isal.igzip_lib
import msgspec
import zstandard

from tidewaiter.core import confined, limits
from tidewaiter.core.errors import NotFoundError
from tidewaiter.inspection import layer as layers
from tidewaiter.inspection import wire
from tidewaiter.oci import zstd_frames
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import LAYER, Descriptor
from tidewaiter.sbom import licenses

# No file can be opened later. These are what other rooms load when they first need it; `igzip` brings `gzip` with it,
# whose exception isal raises.
_LOADED = (isal.igzip, isal.igzip_lib, zstandard, zstd_frames)
_CODECS = ("ascii", "latin-1", "utf-8", "utf-16", "unicode_escape", "idna")
_SWITCH_SECONDS = 0.0001
"""Whoever has inflated a block needs Python's lock for a moment; the usual wait for it holds up the next block."""
_TOLD_BYTES = 1 << 20
"""Compressed bytes after which progress is told."""


class _Frames(io.RawIOBase):
    """The blob's bytes as they come from the parent; the empty frame ends them."""

    def __init__(self) -> None:
        self._left = 0  # of the current frame
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no length
        if not self._left and not self._ended:
            size = confined.announced(limits.LAYER_FRAME_BYTES)
            if size is None:
                raise SystemExit(1)  # the parent has gone
            self._left, self._ended = size, not size
        size = min(len(buffer), self._left)
        if not confined.fill(memoryview(buffer)[:size]):
            raise SystemExit(1)
        self._left -= size
        return size


class _Blob:
    """The one blob of a question."""

    def __init__(self, question: wire.Question) -> None:
        self._question = question

    def open(self, digest: Digest) -> IO[bytes]:  # noqa: ARG002  # it is the only one
        """Its bytes."""
        if self._question.file < 0:
            return cast("IO[bytes]", _Frames())
        os.lseek(self._question.file, 0, os.SEEK_SET)
        return open(self._question.file, "rb", buffering=0, closefd=False)

    def read(self, digest: Digest, *, limit: int = 0) -> bytes:
        """Nothing: there is no document here."""
        raise NotFoundError(f"no document {digest} up to {limit} bytes", next_step="Read the image's documents first.")


class _Answer:
    """What goes back to the parent."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._untold = 0
        self._listing = b""

    def advance(self, amount: int) -> None:
        self._untold += amount
        if self._untold >= _TOLD_BYTES:
            confined.send(self._out, wire.PROGRESS, self._untold.to_bytes(wire.PROGRESS_BYTES, "big"))
            self._untold = 0

    def keep(self, listing: bytes) -> None:
        self._listing = listing

    def finish(self, question: wire.Question) -> None:
        """Read the layer and tell what became of it."""
        told = self.advance if question.file >= 0 else None
        try:
            if question.blob is None or question.diff_id is None:
                facts = layers.read_unnamed(cast("IO[bytes]", _Frames()), keep=self.keep)
            else:
                blob = Descriptor(media_type=LAYER, digest=question.blob, size=question.size)
                facts = layers.read(_Blob(question), blob, question.diff_id, advance=told, keep=self.keep)
        except (Exception, RecursionError) as error:  # noqa: BLE001  # whatever it is, the parent has to hear of it
            confined.send(self._out, wire.PROBLEM, msgspec.json.encode(wire.problem(error)))
            return
        confined.send(self._out, wire.LISTING, self._listing)
        confined.send(self._out, wire.FACTS, msgspec.msgpack.encode(facts))


def main() -> None:
    """Answer questions until the parent closes the pipe."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    for name in _CODECS:
        codecs.lookup(name)
    licenses.load()
    gc.freeze()  # what is loaded stays, and looking through it for garbage again and again takes time
    out = confined.answers()
    kept = confined.confine(memory=int(sys.argv[1]), threads=True)
    confined.send(out, wire.READY, msgspec.json.encode(wire.Ready(network=kept.network, files=kept.files)))
    while request := confined.receive(limits.LAYER_FRAME_BYTES):
        confined.allow_cpu(limits.LAYER_CPU_SECONDS)
        _Answer(out).finish(msgspec.json.decode(request, type=wire.Question))


if __name__ == "__main__":
    main()
