"""The one HTTP client: bounded in time, size, redirects and repetitions; credentials stay with their host.

Bodies are handed over as they were sent: identity is asked for, and no content encoding is undone.
Proxies and the system's certificate authorities come from the usual variables (HTTPS_PROXY, NO_PROXY,
SSL_CERT_FILE, ...), further certificates from `tls.Trust`.
"""

import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

import msgspec

from tidewaiter import __version__
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import NetworkError, NotFoundError
from tidewaiter.transport import address, answers, proxies, retry
from tidewaiter.transport.answers import Body, Response, StreamedResponse
from tidewaiter.transport.failures import ExchangeError, TimedOutError
from tidewaiter.transport.http1 import Answer, Content, Waits
from tidewaiter.transport.network import Connections, Permit
from tidewaiter.transport.pools import Pools
from tidewaiter.transport.proxies import Proxies
from tidewaiter.transport.tls import Trust

__all__ = ["Body", "Client", "Content", "Response", "Sink", "StreamedResponse", "Timeouts", "Told", "interrupt_all"]

_SYSTEM = Trust()
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds until a silent server is given up."""

    connect: float = limits.CONNECT_SECONDS
    read: float = limits.READ_SECONDS
    small_body: float = limits.SMALL_BODY_SECONDS
    upload_end: float = limits.UPLOAD_END_SECONDS


class Told(msgspec.Struct, frozen=True):
    """What an answer says without its body. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]


class Sink(Protocol):
    """Where downloaded bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""


def _require(response: Answer, url: str, status: int) -> None:
    if response.status == status:
        return
    shown = address.redacted(url)
    if response.status in {404, 410}:
        raise NotFoundError(f"{shown} does not exist ({response.status})", next_step="Check the address.")
    raise NetworkError(
        f"{shown} answered {response.status} {response.reason}".rstrip(),
        next_step="Try again later; if it persists, check the address, the credentials and the proxy.",
    )


def _repeats(method: str, content: Content, *, repeat: bool) -> bool:
    return retry.replayable(content) and (repeat or retry.repeats_safely(method))


def _announced(response: Answer) -> int:
    length = response.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def _validator(response: Answer) -> str | None:
    """What proves that a later part belongs to the same file (RFC 9110, section 13.1.5)."""
    etag: str = response.headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    modified: str | None = response.headers.get("last-modified")
    return modified


_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()


def interrupt_all() -> None:
    """`interrupt` every client of this process: ctrl-C means all of them."""
    for client in list(_clients):
        client.interrupt()


class Client:
    """HTTP for one command; safe from many threads. Use as a context manager."""

    def __init__(
        self,
        *,
        user_agent: str | None = None,
        timeouts: Timeouts | None = None,
        attempts: int = limits.ATTEMPTS,
        pause: retry.Pause | None = None,
        trust: Trust = _SYSTEM,
        through: Proxies | None = None,
        permit: Permit | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._attempts = attempts
        self._pause = pause
        self._connections = Connections()
        if through is None:
            through = proxies.read(settings.proxy_variables())
        # No cookies: a registry that opens a session would want its CSRF token back with every write.
        self._fields = {
            "User-Agent": user_agent or f"tidewaiter/{__version__}",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        self._pools = Pools(trust, through, self._connections, permit)
        _clients.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._pools.close()

    def interrupt(self) -> None:
        """End every exchange and every wait under way in other threads with an error; the client stays usable.

        What a thread that hangs on a silent server needs when the user presses ctrl-C.
        """
        self._connections.cut()

    def budget(self) -> retry.Budget:
        """How often something made of several requests may be repeated; ends with `interrupt`."""
        return retry.Budget(self._attempts, self._pause or retry.until(self._connections.work()))

    # Whole answers

    def get(self, url: str, *, limit: int, headers: Mapping[str, str] | None = None) -> bytes:
        """The body at `url`, at most `limit` bytes.

        Raises:
            NotFoundError: 404 or 410.
            NetworkError: unreachable, cut, late, or any other status than 200.
            LimitError: the body is longer.
        """
        budget = self.budget()
        while True:
            with self._exchange("GET", url, headers, None, budget) as response:
                _require(response, url, 200)
                try:
                    return self._read(response, url, limit)
                except ExchangeError as error:
                    if not retry.lost_connection(error) or not budget.again():
                        raise answers.failed(url, error) from error

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content = None,
        limit: int,
        repeat: bool = False,
        patient: bool = False,
    ) -> Response:
        """The answer to `method url`, whatever its status; GET and HEAD follow redirects.

        The body of an answer of 400 or more is cut at `ERROR_BODY_BYTES`. An iterable `content` wants a
        `Content-Length` header beside it, else it is sent in chunks. `repeat` says that doing it twice is as good
        as once, so that it may be sent again when the connection is lost or the server fails. `patient` gives the
        server more time to answer: it has a whole blob to look at.

        Raises:
            NetworkError: unreachable, cut or late.
            LimitError: the body is longer than `limit`.
        """
        budget = self.budget()
        while True:
            with self._exchange(method, url, headers, content, budget, repeat=repeat, patient=patient) as response:
                try:
                    body = self._read(response, url, limit) if method != "HEAD" else b""
                except ExchangeError as error:
                    again = _repeats(method, content, repeat=repeat) and retry.lost_connection(error)
                    if not again or not budget.again():
                        raise answers.failed(url, error, method) from error
                    continue
                return Response(response.status, response.headers, body, response.url, method)

    def post(self, url: str, content: bytes, *, headers: Mapping[str, str]) -> Told:
        """Status and headers of the answer to `POST url`; its body is not read, redirects are not followed.

        Raises:
            NetworkError: unreachable, cut or late.
        """
        with self._exchange("POST", url, headers, content, self.budget()) as response:
            return Told(response.status, response.headers)

    # Streams

    def stream(self, url: str, *, limit: int, headers: Mapping[str, str] | None = None) -> StreamedResponse:
        """The answer to `GET url`, whatever its status, with its body unread; the caller closes the body.

        Raises:
            NetworkError: unreachable or late.
            LimitError: the body is announced to be longer than `limit`.
        """
        response = self._open("GET", url, headers, None, self.budget())
        if response.status < 400 and _announced(response) > limit:
            response.close()
            raise answers.over_limit(url, limit)
        body = Body(response.pieces(), url, limit, response.close)
        return StreamedResponse(response.status, response.headers, body, response.url)

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
        budget = self.budget()
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
                    raise answers.over_limit(url, limit)
                chunks = response.pieces()
                try:
                    while (chunk := next(chunks, None)) is not None:
                        done += len(chunk)
                        if done > limit:
                            raise answers.over_limit(url, limit)
                        sink.write(chunk)
                        if advance:
                            advance(len(chunk))
                except ExchangeError as error:
                    resumable = not done or validator is not None
                    if not resumable or not retry.lost_connection(error) or not budget.again():
                        raise answers.failed(url, error) from error
                    continue
                return done

    @staticmethod
    def _require_rest(response: Answer, url: str, done: int) -> None:
        start = response.headers.get("content-range", "").partition("-")[0]
        if response.status == 200 or (response.status == 206 and start != f"bytes {done}"):
            raise NetworkError(
                f"{address.redacted(url)} was cut after {done} bytes and changed or cannot be resumed",
                next_step="Run the same command again.",
            )
        _require(response, url, 206)

    # One exchange

    @contextmanager
    def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        content: Content,
        budget: retry.Budget,
        *,
        repeat: bool = False,
        patient: bool = False,
    ) -> Iterator[Answer]:
        response = self._open(method, url, headers, content, budget, repeat=repeat, patient=patient)
        try:
            yield response
        finally:
            response.close()

    def _open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        content: Content,
        budget: retry.Budget,
        *,
        repeat: bool = False,
        patient: bool = False,
    ) -> Answer:
        """Send, follow redirects, repeat what `retry` allows; the answer's body is unread."""
        address.check(url)
        repeats = _repeats(method, content, repeat=repeat)
        while True:
            try:
                response = self._follow(method, url, dict(headers or {}), content, patient=patient, repeat=repeats)
            except ExchangeError as error:
                if not repeats or not retry.lost_connection(error) or not budget.again():
                    raise answers.failed(url, error, method) from error
                continue
            status = response.status
            busy = retry.server_busy(status) and retry.replayable(content)
            failed = retry.server_failed(status) and repeats
            if not (busy or failed) or not self._wait(response, budget):
                return response

    @staticmethod
    def _wait(response: Answer, budget: retry.Budget) -> bool:
        if not budget.again(retry.requested_wait(response.headers)):
            return False
        response.close()
        return True

    def _follow(
        self, method: str, url: str, headers: dict[str, str], content: Content, *, patient: bool, repeat: bool
    ) -> Answer:
        start = address.origin(url)
        user = address.parse(url).user
        if user is not None and not any(name.lower() == "authorization" for name in headers):
            headers["Authorization"] = address.basic(*user)
        read = max(self._timeouts.read, self._timeouts.upload_end) if patient else self._timeouts.read
        waits = Waits(connect=self._timeouts.connect, write=self._timeouts.read, read=read)
        for _ in range(limits.REDIRECTS + 1):
            given = {name.lower() for name in headers}
            fields = {name: value for name, value in self._fields.items() if name.lower() not in given} | headers
            answer = self._pools.exchange(method, url, fields, content, waits, repeat=repeat)
            answer.url = url
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None or not retry.repeats_safely(method):
                return answer
            answer.close()
            url = address.redirected(url, location)
            if address.origin(url) != start:
                headers = address.without_secrets(headers)
        raise NetworkError(
            f"{address.redacted(url)} redirects more than {limits.REDIRECTS} times",
            next_step="Check the address; the server is misconfigured.",
        )

    def _read(self, response: Answer, url: str, limit: int) -> bytes:
        refused = response.status >= 400
        if not refused and _announced(response) > limit:
            raise answers.over_limit(url, limit)
        body = bytearray()
        deadline = time.monotonic() + self._timeouts.small_body
        for chunk in response.pieces():
            body += chunk
            if refused and len(body) >= limits.ERROR_BODY_BYTES:
                return bytes(body[: limits.ERROR_BODY_BYTES])
            if not refused and len(body) > limit:
                raise answers.over_limit(url, limit)
            if time.monotonic() > deadline:
                raise TimedOutError(f"no end after {self._timeouts.small_body:.0f} s")
        return bytes(body)
