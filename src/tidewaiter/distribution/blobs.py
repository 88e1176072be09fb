"""Reading a blob: streamed, continued with a range request when the connection is lost, verified at its end."""

import hashlib
import io
from collections.abc import Callable, Iterator

from tidewaiter.core.errors import IntegrityError, LimitError, NetworkError, NotFoundError
from tidewaiter.distribution import refusals
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.transport import retry
from tidewaiter.transport.client import Response, StreamedResponse

_PASSING = frozenset({NetworkError.default_code, "network_timeout"})
_PROGRESS_BYTES = 1 << 20
_DO_NOT_USE = "Do not use what arrived. Try again; if it stays so, the registry's storage is damaged or tampered with."

Ask = Callable[[int], StreamedResponse]
"""Sends the request for a blob's bytes from an offset on; any status."""


class Download:
    """The bytes of one blob from `offset` on, each once, however often the connection is lost.

    With `verify`, and from the first byte on, the end raises `IntegrityError` when they are not the blob.
    """

    def __init__(
        self,
        ask: Ask,
        budget: Callable[[], retry.Budget],
        digest: Digest,
        source: str,
        *,
        size: int | None = None,
        offset: int = 0,
        verify: bool = True,
    ) -> None:
        self._ask = ask
        self._budget = budget
        self._digest = digest
        self._source = source
        self._size = size
        self._position = offset
        self._hash = hashlib.new(digests.algorithm(digest)) if verify and not offset else None
        self._answer = self._begin()

    def _begin(self) -> StreamedResponse | None:
        """The answer whose body goes on at the position; None when the blob ends there."""
        answer = self._ask(self._position)
        try:
            ended = self._ended(answer)
            if answer.status == 200:
                self._skip(answer)  # it knows no ranges
            elif not ended:
                self._require_range(answer)
        except BaseException:
            answer.body.close()
            raise
        if ended:
            answer.body.close()
            return None
        return answer

    def _ended(self, answer: StreamedResponse) -> bool:
        return answer.status == 416 and self._position > 0 and self._position == (self._size or _length(answer))

    def _require_range(self, answer: StreamedResponse) -> None:
        if answer.status != 206:
            body = answer.body.read(4096) or b""
            refused = Response(answer.status, answer.headers, body, answer.url, "GET")
            error = refusals.refusal(self._source, refused, f"blob {self._digest}")
            if isinstance(error, NotFoundError):
                error.code = "blob_unknown"
            raise error
        if answer.headers.get("content-range", "").partition("-")[0].strip() != f"bytes {self._position}":
            raise NetworkError(
                f"{self._source} sent another range of {self._digest} than asked for",
                next_step="Run the same command again; if it persists, check the proxy before the registry.",
                code="bad_range",
            )

    def _skip(self, answer: StreamedResponse) -> None:
        left = self._position
        while left:
            data = answer.body.read(min(left, _PROGRESS_BYTES))
            if not data:
                raise NetworkError(
                    f"{self._source} has fewer bytes of {self._digest} than before", next_step="Run the command again."
                )
            left -= len(data)

    def pieces(self) -> Iterator[bytes]:
        """The bytes, as they arrive.

        Raises:
            IntegrityError: they are not the blob.
            LimitError: there are more than its size.
            NetworkError: the connection was lost too often, without progress between.
        """
        budget = self._budget()
        before = self._position
        while True:
            try:
                if self._answer is None:
                    self._answer = self._begin()
                if self._answer is not None:
                    for piece in self._answer.body.pieces():
                        self._take(piece)
                        yield piece
                if self._size is not None and self._position < self._size:
                    raise self._short()
            except NetworkError as error:
                self.close()
                if error.code not in _PASSING:
                    raise
                if self._position - before >= _PROGRESS_BYTES:
                    budget, before = self._budget(), self._position
                if not budget.again():
                    raise
                continue
            self.close()
            self._check()
            return

    def _short(self) -> Exception:
        announced = _number(self._answer.headers.get("content-length", "")) if self._answer else None
        if announced is not None and self._position == announced:
            return IntegrityError(  # nothing was cut: that is all there is
                f"{self._source} sent {self._position} bytes of {self._digest} instead of {self._size}",
                next_step=_DO_NOT_USE,
            )
        return NetworkError(
            f"{self._source} sent only {self._position} of {self._size} bytes of {self._digest}",
            next_step="Check the network and the proxy before the registry, then try again.",
        )

    def _take(self, piece: bytes) -> None:
        self._position += len(piece)
        if self._size is not None and self._position > self._size:
            raise LimitError(
                f"{self._source} sends more than {self._size} bytes of {self._digest}", next_step=_DO_NOT_USE
            )
        if self._hash is not None:
            self._hash.update(piece)

    def _check(self) -> None:
        if self._hash is not None and f"{self._hash.name}:{self._hash.hexdigest()}" != self._digest:
            raise IntegrityError(f"{self._source} sent bytes that are not {self._digest}", next_step=_DO_NOT_USE)

    def close(self) -> None:
        """Give the connection back."""
        if self._answer is not None:
            self._answer.body.close()
            self._answer = None


class File(io.RawIOBase):
    """A download as a file, read once, front to back."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self._pieces = download.pieces()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # typeshed's Buffer needs Python 3.12
        """Fill `buffer`; errors as in `Download.pieces`."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Give the connection back."""
        self._download.close()
        super().close()


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _length(answer: StreamedResponse) -> int | None:
    return _number(answer.headers.get("content-range", "").rpartition("/")[2])
