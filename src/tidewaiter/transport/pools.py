"""Connections kept for reuse, one pool for each proxy and each set of certificates."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpcore2
import httpx2

from tidewaiter.core import limits
from tidewaiter.transport import proxies as proxy_rules
from tidewaiter.transport.network import Backend, Connections
from tidewaiter.transport.proxies import Proxies
from tidewaiter.transport.tls import Trust

_KEEP_SECONDS = 30.0
_ERRORS: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (
    # The more exact ones first.
    (httpcore2.ConnectTimeout, httpx2.ConnectTimeout),
    (httpcore2.ReadTimeout, httpx2.ReadTimeout),
    (httpcore2.WriteTimeout, httpx2.WriteTimeout),
    (httpcore2.PoolTimeout, httpx2.PoolTimeout),
    (httpcore2.ConnectError, httpx2.ConnectError),
    (httpcore2.WriteError, httpx2.WriteError),
    (httpcore2.NetworkError, httpx2.ReadError),
    (httpcore2.ProxyError, httpx2.ProxyError),
    (httpcore2.LocalProtocolError, httpx2.LocalProtocolError),
    (httpcore2.ProtocolError, httpx2.RemoteProtocolError),
)


def _mapped(error: Exception) -> Exception:
    for kind, ours in _ERRORS:
        if isinstance(error, kind):
            return ours(str(error))
    return error


class _Answer(httpx2.SyncByteStream):
    def __init__(self, stream: object) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream  # type: ignore[misc]  # httpcore types it as either kind of iterable
        except Exception as error:
            raise _mapped(error) from error

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class Pools(httpx2.BaseTransport):
    """httpx's way to our connections."""

    def __init__(self, trust: Trust, proxies: Proxies, connections: Connections) -> None:
        self._trust = trust
        self._proxies = proxies
        self._backend = Backend(connections)
        self._pools: dict[tuple[str, Path | None], httpcore2.ConnectionPool] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request`; the answer's body is unread."""
        url = str(request.url)
        pool = self._pool(self._proxies.between(url), self._trust.folder(url))
        try:
            answer = pool.handle_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except Exception as error:
            mapped = _mapped(error)
            if mapped is error:
                raise
            raise mapped from error
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Answer(answer.stream), extensions=answer.extensions
        )

    def _pool(self, proxy: str, folder: Path | None) -> httpcore2.ConnectionPool:
        with self._lock:
            if (proxy, folder) not in self._pools:
                self._pools[proxy, folder] = httpcore2.ConnectionPool(
                    ssl_context=self._trust.context(folder),
                    proxy=proxy_rules.as_httpcore(proxy) if proxy else None,
                    max_connections=limits.CONNECTIONS,
                    max_keepalive_connections=limits.CONNECTIONS,
                    keepalive_expiry=_KEEP_SECONDS,
                    network_backend=self._backend,
                )
            return self._pools[proxy, folder]

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
