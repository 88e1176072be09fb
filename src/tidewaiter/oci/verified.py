"""Walking a layer of an image while proving that it is the layer the image promised.

1. Open the blob and hash every compressed byte that is read.
2. Hand out the entries of the tar inside, front to back (`layer.Reader`), hashing the tar stream.
3. Read both streams to their ends.
4. Compare size and digest of the blob with the descriptor, and the digest of the tar with the diff ID.

What step 2 hands out counts only when the walk ends without an error. Where it fails, in the walk or in a file that was
handed out, the blob is compared first: a damaged one fails in inflate or tar, and is to be called damaged.
"""

import io
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, cast

from tidewaiter.core.errors import IntegrityError
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.hasher import Hasher
from tidewaiter.oci.layer import Entry, Reader
from tidewaiter.oci.manifest import Descriptor

if TYPE_CHECKING:
    from tidewaiter.oci.image import BlobSource

_CHUNK = 1 << 20
_NEXT = "Do not use this image: pull or build it again from a source that is trusted."


class _Blob(io.RawIOBase):
    """The compressed bytes on their way in, hashed and counted; never more than `size` are read."""

    def __init__(self, source: IO[bytes], algorithm: str, size: int, advance: Callable[[int], None] | None) -> None:
        self._source = source
        self._advance = advance
        self._left = size + 1  # one more, so that a blob that is too long is noticed
        self.size = 0
        self.hasher = Hasher(algorithm)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no length
        data = self._source.read(min(len(buffer), self._left))
        self._left -= len(data)
        self.size += len(data)
        self.hasher.update(data)
        if self._advance is not None:
            self._advance(len(data))
        buffer[: len(data)] = data
        return len(data)


class VerifiedLayer:
    """One layer of an image, walked once.

    Iterate to get `(entry, file or None)` like `layer.Reader`. Iteration raises, at the latest at its end, and so may
    reading of a file,

    - `IntegrityError`: the blob has another size or digest, or the tar another diff ID, than promised;
    - `InputError`: the layer cannot be read as a tar at all, though its blob is the one promised;
    - `LimitError`: the layer is over a bound of `core.limits`;
    - `NotFoundError`: the source has no such blob.
    """

    def __init__(
        self,
        source: "BlobSource",
        descriptor: Descriptor,
        diff_id: Digest,
        *,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        self._source = source
        self._descriptor = descriptor
        self._diff_id = diff_id
        self._advance = advance
        self.tar_size = 0
        """Bytes of the tar; complete once iteration has ended."""

    def __iter__(self) -> Iterator[tuple[Entry, IO[bytes] | None]]:
        digest = self._descriptor.digest
        with self._source.open(digest) as opened:  # step 1
            blob = _Blob(opened, digests.algorithm(digest), self._descriptor.size, self._advance)
            reader = Reader(
                cast("IO[bytes]", blob),
                algorithm=digests.algorithm(self._diff_id),
                ahead=True,
                name=f"layer {digest}",
                refused=lambda error: self._damage(blob) or error,
            )
            yield from reader  # step 2
            if damage := self._damage(blob):  # steps 3 and 4
                raise damage
            self.tar_size = reader.tar_size
            if reader.diff_id != self._diff_id:
                raise IntegrityError(
                    f"layer {digest} unpacks to {reader.diff_id} instead of {self._diff_id}", next_step=_NEXT
                )

    def _damage(self, blob: _Blob) -> IntegrityError | None:
        """What is wrong with the blob, which is read to its end; None when it is the promised one."""
        rest = bytearray(_CHUNK)
        while blob.readinto(rest):
            pass
        actual = blob.hasher.digest()
        if blob.size != self._descriptor.size:
            excess = "more than" if blob.size > self._descriptor.size else f"{blob.size} instead of"
            return IntegrityError(
                f"layer {self._descriptor.digest} has {excess} {self._descriptor.size} bytes", next_step=_NEXT
            )
        if actual != self._descriptor.digest:
            return IntegrityError(f"layer {self._descriptor.digest} has bytes with digest {actual}", next_step=_NEXT)
        return None
