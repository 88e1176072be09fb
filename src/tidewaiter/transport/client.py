"""The one HTTP client: bounded in time, size, redirects and repetitions; credentials stay with their host.

Bodies are handed over as they were sent: identity is asked for, and no content encoding is undone.
Proxies and certificate authorities come from the usual variables (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE, ...).
"""

import http.cookiejar
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

import httpx2
import msgspec

from tidewaiter import __version__
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NetworkError, NotFoundError
from tidewaiter.transport import address, retry

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHECK_NETWORK = "Check the network, the proxy variables (HTTPS_PROXY, NO_PROXY) and the host's name, then try again."

Content = bytes | Iterable[bytes] | None


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds until a silent server is given up."""

    connect: float = limits.CONNECT_SECONDS
    read: float = limits.READ_SECONDS
    small_body: float = limits.SMALL_BODY_SECONDS


class Sink(Protocol):
    """Where downloaded bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


class Response(msgspec.Struct, frozen=True):
    """A whole answer. Header names are lower-case; `url` is where redirects ended."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Body(io.RawIOBase):
    """The body of an answer as a file: bounded, read once, front to back."""

    def __init__(self, chunks: Iterator[bytes], url: str, limit: int, close: Callable[[], None]) -> None:
        self._chunks = chunks
        self._url = url
        self._left = limit
        self._limit = limit
        self._close = close
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # typeshed's Buffer needs Python 3.12
        """Fill `buffer` from the network; raises `NetworkError` when cut, `LimitError` when too long."""
        while not self._rest:
            try:
                chunk = next(self._chunks, None)
            except httpx2.TransportError as error:
                raise _failed(self._url, error) from error
            if chunk is None:
                return 0
            self._left -= len(chunk)
            if self._left < 0:
                raise _over_limit(self._url, self._limit)
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Give the connection back; a body that was not read to its end costs the connection."""
        if not self.closed:
            self._close()
        super().close()


class StreamedResponse(msgspec.Struct, frozen=True):
    """An answer whose body is still to be read; close the body."""

    status: int
    headers: Mapping[str, str]
    body: Body
    url: str


def _failed(url: str, error: httpx2.TransportError) -> NetworkError:
    shown = address.redacted(url)
    if isinstance(error, httpx2.TimeoutException):
        return NetworkError(f"{shown} did not answer in time", next_step=_CHECK_NETWORK, code="network_timeout")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return NetworkError(
            f"the certificate of {shown} is not trusted: {error}",
            next_step="If the host belongs to your company, name its CA file in SSL_CERT_FILE.",
            code="network_certificate",
        )
    return NetworkError(f"{shown} could not be read: {error}", next_step=_CHECK_NETWORK)


def _over_limit(url: str, limit: int) -> LimitError:
    return LimitError(
        f"{address.redacted(url)} sends more than {limit} bytes",
        next_step="Check the address: the answer is larger than this kind of document ever is.",
    )


def _require(response: httpx2.Response, url: str, status: int) -> None:
    if response.status_code == status:
        return
    shown = address.redacted(url)
    if response.status_code in {404, 410}:
        raise NotFoundError(f"{shown} does not exist ({response.status_code})", next_step="Check the address.")
    raise NetworkError(
        f"{shown} answered {response.status_code} {response.reason_phrase}".rstrip(),
        next_step="Try again later; if it persists, check the address, the credentials and the proxy.",
    )


def _announced(response: httpx2.Response) -> int:
    length = response.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def _validator(response: httpx2.Response) -> str | None:
    """What proves that a later part belongs to the same file (RFC 9110, section 13.1.5)."""
    etag: str = response.headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    modified: str | None = response.headers.get("last-modified")
    return modified


class Client:
    """HTTP for one command; safe from many threads. Use as a context manager."""

    def __init__(
        self,
        *,
        user_agent: str | None = None,
        timeouts: Timeouts | None = None,
        attempts: int = limits.ATTEMPTS,
        pause: retry.Pause = time.sleep,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._attempts = attempts
        self._pause = pause
        connections = httpx2.Limits(max_connections=limits.CONNECTIONS, max_keepalive_connections=limits.CONNECTIONS)
        self._http = httpx2.Client(
            headers={
                "User-Agent": user_agent or f"tidewaiter/{__version__}",
                "Accept": "*/*",
                "Accept-Encoding": "identity",
            },
            # No cookies: a registry that opens a session would want its CSRF token back with every write.
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx2.Timeout(
                connect=self._timeouts.connect,
                read=self._timeouts.read,
                write=self._timeouts.read,
                pool=limits.LOCK_SECONDS,  # threads queue for a connection
            ),
            follow_redirects=False,
            limits=connections,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    # Whole answers

    def get(self, url: str, *, limit: int, headers: Mapping[str, str] | None = None) -> bytes:
        """The body at `url`, at most `limit` bytes.

        Raises:
            NotFoundError: 404 or 410.
            NetworkError: unreachable, cut, late, or any other status than 200.
            LimitError: the body is longer.
        """
        budget = self._budget()
        while True:
            with self._exchange("GET", url, headers, None, budget) as response:
                _require(response, url, 200)
                try:
                    return self._read(response, url, limit)
                except httpx2.TransportError as error:
                    if not retry.lost_connection(error) or not budget.again():
                        raise _failed(url, error) from error

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content = None,
        limit: int,
    ) -> Response:
        """The answer to `method url`, whatever its status; GET and HEAD follow redirects.

        The body of an answer of 400 or more is cut at `ERROR_BODY_BYTES`. An iterable `content` wants a
        `Content-Length` header beside it, else it is sent in chunks.

        Raises:
            NetworkError: unreachable, cut or late.
            LimitError: the body is longer than `limit`.
        """
        budget = self._budget()
        while True:
            with self._exchange(method, url, headers, content, budget) as response:
                try:
                    body = self._read(response, url, limit) if method != "HEAD" else b""
                except httpx2.TransportError as error:
                    repeat = retry.repeats_safely(method) and retry.lost_connection(error)
                    if not repeat or not budget.again():
                        raise _failed(url, error) from error
                    continue
                return Response(response.status_code, dict(response.headers), body, str(response.url))

    # Streams

    def stream(self, url: str, *, limit: int, headers: Mapping[str, str] | None = None) -> StreamedResponse:
        """The answer to `GET url`, whatever its status, with its body unread; the caller closes the body.

        Raises:
            NetworkError: unreachable or late.
            LimitError: the body is announced to be longer than `limit`.
        """
        response = self._open("GET", url, headers, None, self._budget())
        if response.status_code < 400 and _announced(response) > limit:
            response.close()
            raise _over_limit(url, limit)
        body = Body(self._chunks(response), url, limit, response.close)
        return StreamedResponse(response.status_code, dict(response.headers), body, str(response.url))

    def download(
        self,
        url: str,
        sink: Sink,
        *,
        limit: int,
        advance: Callable[[int], None] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Stream the body at `url` into `sink`, report each piece to `advance`, return its length in bytes.

        A cut download goes on where it stopped when the server can prove that it is still the same file;
        the sink never sees a byte twice. Errors as in `get`; the sink's own pass through.
        """
        budget = self._budget()
        done = 0
        validator: str | None = None
        while True:
            resume = {"Range": f"bytes={done}-", "If-Range": validator} if done and validator else {}
            with self._exchange("GET", url, {**(headers or {}), **resume}, None, budget) as response:
                if done:
                    self._require_rest(response, url, done)
                else:
                    _require(response, url, 200)
                    validator = _validator(response)
                if done + _announced(response) > limit:
                    raise _over_limit(url, limit)
                chunks = self._chunks(response)
                try:
                    while (chunk := next(chunks, None)) is not None:
                        done += len(chunk)
                        if done > limit:
                            raise _over_limit(url, limit)
                        sink.write(chunk)
                        if advance:
                            advance(len(chunk))
                except httpx2.TransportError as error:
                    resumable = not done or validator is not None
                    if not resumable or not retry.lost_connection(error) or not budget.again():
                        raise _failed(url, error) from error
                    continue
                return done

    @staticmethod
    def _require_rest(response: httpx2.Response, url: str, done: int) -> None:
        start = response.headers.get("content-range", "").partition("-")[0]
        if response.status_code == 200 or (response.status_code == 206 and start != f"bytes {done}"):
            raise NetworkError(
                f"{address.redacted(url)} was cut after {done} bytes and changed or cannot be resumed",
                next_step="Run the same command again.",
            )
        _require(response, url, 206)

    # One exchange

    def _budget(self) -> retry.Budget:
        return retry.Budget(self._attempts, self._pause)

    @contextmanager
    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str] | None, content: Content, budget: retry.Budget
    ) -> Iterator[httpx2.Response]:
        response = self._open(method, url, headers, content, budget)
        try:
            yield response
        finally:
            response.close()

    def _open(
        self, method: str, url: str, headers: Mapping[str, str] | None, content: Content, budget: retry.Budget
    ) -> httpx2.Response:
        """Send, follow redirects, repeat what `retry` allows; the answer's body is unread."""
        address.check(url)
        while True:
            try:
                response = self._follow(method, url, dict(headers or {}), content)
            except httpx2.TransportError as error:
                repeat = retry.repeats_safely(method) and retry.lost_connection(error)
                if not repeat or not budget.again():
                    raise _failed(url, error) from error
                continue
            except httpx2.InvalidURL as error:
                raise InputError(
                    f"{address.redacted(url)!r} is not a URL: {error}", next_step="Check the address."
                ) from error
            status = response.status_code
            busy = retry.server_busy(status) and retry.replayable(content)
            failed = retry.server_failed(status) and retry.repeats_safely(method)
            if not (busy or failed) or not self._wait(response, budget):
                return response

    @staticmethod
    def _wait(response: httpx2.Response, budget: retry.Budget) -> bool:
        if not budget.again(retry.requested_wait(response.headers)):
            return False
        response.close()
        return True

    def _follow(self, method: str, url: str, headers: dict[str, str], content: Content) -> httpx2.Response:
        start = address.origin(url)
        for _ in range(limits.REDIRECTS + 1):
            request = self._http.build_request(method, url, headers=headers, content=content)
            response = self._http.send(request, stream=True)
            location = response.headers.get("location")
            if response.status_code not in _REDIRECTS or location is None or not retry.repeats_safely(method):
                return response
            response.close()
            url = address.redirected(url, location)
            if address.origin(url) != start:
                headers = address.without_secrets(headers)
        raise NetworkError(
            f"{address.redacted(url)} redirects more than {limits.REDIRECTS} times",
            next_step="Check the address; the server is misconfigured.",
        )

    def _read(self, response: httpx2.Response, url: str, limit: int) -> bytes:
        refused = response.status_code >= 400
        if not refused and _announced(response) > limit:
            raise _over_limit(url, limit)
        body = bytearray()
        deadline = time.monotonic() + self._timeouts.small_body
        for chunk in self._chunks(response):
            body += chunk
            if refused and len(body) >= limits.ERROR_BODY_BYTES:
                return bytes(body[: limits.ERROR_BODY_BYTES])
            if not refused and len(body) > limit:
                raise _over_limit(url, limit)
            if time.monotonic() > deadline:
                raise httpx2.ReadTimeout(f"no end after {self._timeouts.small_body:.0f} s", request=response.request)
        return bytes(body)

    def _chunks(self, response: httpx2.Response) -> Iterator[bytes]:
        """Pieces of the body as they arrive; raises `httpx2.TransportError` when cut, silent or dripping."""
        # Only time spent waiting for the server counts: a reader may work for minutes between two pieces.
        waited, received = 0.0, 0
        pieces = response.iter_raw()
        while True:
            start = time.monotonic()
            chunk = next(pieces, None)
            if chunk is None:
                return
            waited += time.monotonic() - start
            received += len(chunk)
            if waited >= self._timeouts.read:
                if received < limits.SLOWEST_BYTES_PER_SECOND * waited:
                    raise httpx2.ReadTimeout("the stream has stalled", request=response.request)
                waited, received = 0.0, 0
            yield chunk
