"""Sending a blob: in one request when it is small, in chunks that can be continued when it is large.

1. POST opens a session; its Location, absolute or relative, with or without a query, is where the bytes go.
2. A small blob goes there in one PUT. Of a large one, PATCH sends chunk after chunk; over a fast line they grow.
3. After a lost connection, GET asks the session how much has arrived. When it does not know, a new one is opened.
4. PUT with the digest closes the session; the registry compares.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, NetworkError, NotFoundError
from tidewaiter.distribution import refusals
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.transport import address, retry
from tidewaiter.transport.client import Content, Response

_PASSING = frozenset({NetworkError.default_code, "network_timeout", "upload_lost"})
_RANGE = r"(?:bytes=)?0-(\d{1,18})"
_NO_CHUNKS = frozenset({400, 405, 411, 415, 416, 501})
_BYTES = "application/octet-stream"

Pieces = Callable[[], Iterable[bytes]]


class Call(Protocol):
    """`Registry.call` with the scope of a push."""

    def __call__(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str],
        content: Callable[[], Content] | None = None,
        repeat: bool = False,
        patient: bool = False,
    ) -> Response:
        """The answer, whatever its status."""


def session_url(host: str, response: Response) -> str:
    """Where an upload goes on; raises `NetworkError` when the registry leads us off TLS or nowhere."""
    location = response.headers.get("location", "")
    if not location:
        raise NetworkError(f"{host} opened an upload without a Location", next_step=refusals.NOT_A_REGISTRY)
    return address.redirected(response.url, location)


def closing_url(session: str, digest: Digest) -> str:
    """`session` with the digest added to whatever query it has."""
    parts = urlsplit(session)
    query = parts.query + ("&" if parts.query else "") + urlencode({"digest": digest})
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


class _Source:
    """The blob's bytes by range; ranges that follow one another read the blob once."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._running: Iterator[bytes] = iter(())
        self._position = -1
        self._rest = b""

    def take(self, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end`."""
        if self._position != start:
            self.close()
            self._running, self._position, self._rest = iter(self._pieces()), 0, b""
        while self._position < end:
            piece = self._rest or next(self._running, b"")
            if not piece:
                return  # too short: the registry will say so
            first, last = max(start - self._position, 0), min(end - self._position, len(piece))
            part = piece if last - first == len(piece) else piece[first:last]
            self._rest = piece[last:]
            self._position += min(last, len(piece))
            if part:
                yield part
        if not self._rest:
            # Lets the source count its last piece as sent.
            self._rest = next(self._running, b"")

    def close(self) -> None:
        """Let go of the file behind it."""
        close = getattr(self._running, "close", None)
        if close is not None:
            close()
        self._position = -1


class Upload:
    """One blob on its way to a host's repository; `session` is an upload that is open already."""

    def __init__(
        self,
        call: Call,
        where: tuple[str, str],
        blob: Descriptor,
        pieces: Pieces,
        *,
        session: str | None = None,
    ) -> None:
        self._call = call
        self._host, self._repository = where
        self._blob = blob
        self._source = _Source(pieces)
        self._session = session
        self._sent = 0
        self._chunked = blob.size > limits.UPLOAD_CHUNK_BYTES
        self._chunk = limits.UPLOAD_CHUNK_BYTES
        self._grows = True

    def run(self, budget: Callable[[], retry.Budget], there: Callable[[], bool]) -> None:
        """Send until the registry has the blob.

        Raises:
            IntegrityError: the registry received other bytes than the digest names.
            NetworkError: it could not be reached, or refused.
        """
        try:
            self._run(budget, there)
        finally:
            self._source.close()

    def _run(self, budget: Callable[[], retry.Budget], there: Callable[[], bool]) -> None:
        left = budget()
        farthest = 0
        while True:
            try:
                self._continue()
            except NetworkError as error:
                if self._sent > farthest:
                    # Attempts count while nothing is gained; what a forgotten session had gained does not count twice.
                    left, farthest = budget(), self._sent
                if error.code not in _PASSING or not left.again():
                    raise
                if there():
                    return  # only the answer was lost
                self._recover()
                continue
            return

    def _continue(self) -> None:
        if self._session is None:
            self._open()  # step 1
        while self._chunked and self._sent < self._blob.size:
            started = time.monotonic()
            self._patch()  # step 2
            if self._grows and time.monotonic() - started < limits.UPLOAD_CHUNK_SECONDS:
                self._chunk = min(4 * self._chunk, limits.UPLOAD_CHUNK_LARGEST_BYTES)
        self._close()  # step 4

    def _open(self) -> None:
        opened = self._call(
            "POST", f"/v2/{self._repository}/blobs/uploads/", headers={"Content-Length": "0"}, repeat=True
        )
        if opened.status != 202:
            raise self._refusal(opened, "an upload to")
        self._session, self._sent = session_url(self._host, opened), 0

    def _patch(self) -> None:
        start, end = self._sent, min(self._sent + self._chunk, self._blob.size)
        headers = {
            "Content-Type": _BYTES,
            "Content-Length": str(end - start),
            "Content-Range": f"{start}-{end - 1}",
        }
        answer = self._call(
            "PATCH", self._session or "", headers=headers, content=lambda: self._source.take(start, end)
        )
        if answer.status in _NO_CHUNKS and start == 0:
            self._chunked, self._session = False, None  # a registry that takes blobs in one piece only
            self._open()
            return
        if answer.status == 413 and self._chunk > limits.UPLOAD_CHUNK_BYTES:
            # A proxy before it takes less at once than the registry itself.
            self._chunk, self._grows = limits.UPLOAD_CHUNK_BYTES, False
            self._recover()
            if self._session is None:
                self._open()
            return
        if answer.status != 202:
            raise self._refusal(answer, f"bytes {start}-{end - 1} of blob {self._blob.digest} for")
        self._session = session_url(self._host, answer)
        self._sent = end

    def _close(self) -> None:
        start = self._sent
        answer = self._call(
            "PUT",
            closing_url(self._session or "", self._blob.digest),
            headers={"Content-Type": _BYTES, "Content-Length": str(self._blob.size - start)},
            content=lambda: self._source.take(start, self._blob.size) if start < self._blob.size else b"",
            patient=True,
        )
        if answer.status == 400 and "DIGEST_INVALID" in refusals.codes(answer):
            raise IntegrityError(
                f"{self._host}/{self._repository} received bytes that are not {self._blob.digest} "
                f"({refusals.asked(answer)} answered 400 DIGEST_INVALID)",
                next_step="Check the local store: the blob in it is damaged.",
                code="digest_invalid",
            )
        if answer.status != 201:
            raise self._refusal(answer, f"blob {self._blob.digest} for")

    def _recover(self) -> None:
        """Step 3."""
        session, self._session = self._session, None
        if session is None or not self._chunked:
            self._sent = 0
            return
        status = self._call("GET", session, headers={})
        arrived = re.fullmatch(_RANGE, status.headers.get("range", ""))
        count = int(arrived[1]) + 1 if arrived else 0
        # `0-0` may mean one byte or none.
        if status.status == 204 and 1 < count <= self._blob.size:
            self._sent = count
            location = status.headers.get("location")
            self._session = address.redirected(session, location) if location else session
        else:
            self._sent = 0

    def _refusal(self, response: Response, what: str) -> NetworkError | NotFoundError:
        error = refusals.refusal(self._host, response, f"{what} {self._repository}")
        lost = response.status in {404, 416} or refusals.codes(response) & {
            "BLOB_UPLOAD_UNKNOWN",
            "BLOB_UPLOAD_INVALID",
        }
        if lost and self._session is not None:
            self._session = None
            return NetworkError(error.message, next_step="Run the same command again.", code="upload_lost")
        return error
