"""What comes back from a server, and the errors when it does not."""

import io
from collections.abc import Callable, Iterator, Mapping

import msgspec

from tidewaiter.core.errors import LimitError, NetworkError
from tidewaiter.transport import address
from tidewaiter.transport.failures import ConnectTimedOutError, ExchangeError, ProxyRefusedError, TimedOutError

_CHECK_NETWORK = "Check the network, the proxy variables (HTTPS_PROXY, NO_PROXY) and the host's name, then try again."
_WANTS_CERTIFICATE = ("CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE", "ALERT_UNKNOWN_CA", "HANDSHAKE_FAILURE")
_WITHOUT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What OpenSSL says of a server that answers a handshake in plain text, by version."""


def failed(url: str, error: ExchangeError, method: str = "GET") -> NetworkError:
    """Why nothing usable came back for `method url`."""
    shown = f"{method} {address.redacted(url)}"
    if isinstance(error, ConnectTimedOutError):
        return NetworkError(
            f"{shown} could not be connected to in time", next_step=_CHECK_NETWORK, code="network_timeout"
        )
    if isinstance(error, TimedOutError):
        return NetworkError(f"{shown} got no answer in time", next_step=_CHECK_NETWORK, code="network_timeout")
    if isinstance(error, ProxyRefusedError):
        return NetworkError(
            f"the proxy gives no way to {address.redacted(url)}: {error}",
            next_step="Check HTTPS_PROXY (user and password too), or list the host in NO_PROXY.",
        )
    return _without_tls(url, error) or NetworkError(f"{shown} failed: {error}", next_step=_CHECK_NETWORK)


def _without_tls(url: str, error: ExchangeError) -> NetworkError | None:
    """Why there is no TLS with the host of `url`; None when it is something else that failed."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return NetworkError(
            f"the certificate of {address.redacted(url)} is not trusted: {error}",
            next_step="If the host belongs to your company, name its CA's file in TIDEWAITER_CA_FILE.",
            code="network_certificate",
        )
    if any(word in str(error) for word in _WANTS_CERTIFICATE):
        return NetworkError(
            f"{address.redacted(url)} wants a client certificate, or another one: {error}",
            next_step="Put NAME.cert and NAME.key into the folder of the host below TIDEWAITER_CERTIFICATES.",
            code="network_certificate",
        )
    if any(word in str(error) for word in _WITHOUT_TLS):
        return NetworkError(
            f"{address.redacted(url)}, or the proxy before it, does not seem to speak TLS: {error}",
            next_step="If it is yours and speaks plain HTTP, name its host, and its port, in TIDEWAITER_PLAIN_HTTP. "
            "A proxy that speaks plain HTTP is named with http://.",
        )
    return None


def over_limit(url: str, limit: int) -> LimitError:
    """`url` sends too much."""
    return LimitError(
        f"{address.redacted(url)} sends more than {limit} bytes",
        next_step="Check the address: the answer is larger than this kind of document ever is. "
        "Trying again does not help.",
    )


class Response(msgspec.Struct, frozen=True):
    """A whole answer. Header names are lower-case; `url` is where redirects ended."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    method: str = ""


class Body(io.RawIOBase):
    """The body of an answer as a file: bounded, read once, front to back."""

    def __init__(self, chunks: Iterator[bytes], url: str, limit: int, close: Callable[[], None]) -> None:
        self._chunks = chunks
        self._url = url
        self._left = limit
        self._limit = limit
        self._close = close
        self._rest = memoryview(b"")

    def pieces(self) -> Iterator[bytes]:
        """What is left, as it arrives and without copying; errors as in `readinto`."""
        if self._rest:
            yield bytes(self._rest)
            self._rest = memoryview(b"")
        while (chunk := self._next()) is not None:
            yield chunk

    def _next(self) -> bytes | None:
        try:
            chunk = next(self._chunks, None)
        except ExchangeError as error:
            raise failed(self._url, error) from error
        if chunk is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise over_limit(self._url, self._limit)
        return chunk

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # typeshed's Buffer needs Python 3.12
        """Fill `buffer` from the network; raises `NetworkError` when cut, `LimitError` when too long."""
        while not self._rest:
            chunk = self._next()
            if chunk is None:
                return 0
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
