"""The way to a server: directly or through a proxy, with or without TLS, on a connection that is kept for reuse."""

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tidewaiter.core import limits
from tidewaiter.transport import address, proxies
from tidewaiter.transport.failures import BadAnswerError, ConnectionLostError, ProxyRefusedError
from tidewaiter.transport.http1 import Answer, Connection, Content, Request, Waits, written
from tidewaiter.transport.network import Connections, Permit, Stream, connect
from tidewaiter.transport.proxies import Proxies, Proxy
from tidewaiter.transport.tls import Trust

if TYPE_CHECKING:
    import ssl

_KEEP_SECONDS = 30.0


class _Route(msgspec.Struct, frozen=True):
    """The way to where requests are sent."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None = None
    """Opens a tunnel to the host."""
    folder: Path | None = None
    """Certificates for the host."""


class _Way(msgspec.Struct, frozen=True):
    """What is the same for all requests to one origin."""

    route: _Route
    before: str
    """What stands before the path in requests to a proxy."""
    fields: dict[str, str]


def _host(host: str, port: int, scheme: str = "") -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if address.is_default(scheme, port) else f"{shown}:{port}"


class Pools:
    """Connections of one client. Safe from many threads."""

    def __init__(self, trust: Trust, through: Proxies, connections: Connections, permit: Permit | None = None) -> None:
        self._permit = permit
        self._trust = trust
        self._proxies = through
        self._connections = connections
        self._idle: dict[_Route, list[Connection]] = {}
        self._ways: dict[tuple[str, str, int], _Way] = {}
        self._contexts: dict[Path | None, ssl.SSLContext] = {}
        self._closed = False
        self._lock = threading.Lock()
        self._context_lock = threading.Lock()

    def exchange(
        self, method: str, url: str, fields: dict[str, str], content: Content, waits: Waits, *, repeat: bool
    ) -> Answer:
        """The answer to one request, its body unread; the caller closes it.

        A kept connection may turn out to be closed by the server; a request that may be repeated is then sent on a
        new one.

        Raises:
            ExchangeError: there is none.
            InputError: a certificate file is unusable.
        """
        to = address.parse(url)
        way = self._ways.get((to.scheme, to.host, to.port)) or self._way(to, url)
        route = way.route
        request = Request(method=method, target=way.before + to.target, fields=way.fields | fields, content=content)
        work = self._connections.work()
        while True:
            connection = self._take(route)
            kept = connection is not None
            if connection is None:
                connection = Connection(self._open(route, waits))
            try:
                return connection.exchange(request, waits, lambda one: self._give_back(route, one))
            except ConnectionLostError:
                if not kept or not repeat or not connection.silent or work.is_set():
                    raise

    def _way(self, to: address.Address, url: str) -> _Way:
        host = _wire_name(to.host)
        fields = {"Host": _host(host, to.port, to.scheme)}
        through = self._proxies.between(url)
        proxy = proxies.parse(through) if through else None
        if proxy is not None and to.scheme == "http":
            route = _Route("https" if proxy.secured else "http", proxy.host, proxy.port)
            way = _Way(route, f"http://{fields['Host']}", fields | proxy.fields)
        else:
            way = _Way(_Route(to.scheme, host, to.port, proxy, self._trust.folder(url)), "", fields)
        self._ways[to.scheme, to.host, to.port] = way
        return way

    def _take(self, route: _Route) -> Connection | None:
        """A kept connection that still stands."""
        while True:
            with self._lock:
                waiting = self._idle.get(route)
                connection = waiting.pop() if waiting else None
            if connection is None:
                return None
            fresh = time.monotonic() - connection.idle_since < _KEEP_SECONDS
            if fresh and not connection.stream.ready():
                return connection
            connection.close()

    def _give_back(self, route: _Route, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            kept = not self._closed and sum(map(len, self._idle.values())) < limits.CONNECTIONS
            if kept:
                self._idle.setdefault(route, []).append(connection)
        if not kept:
            connection.close()

    def _open(self, route: _Route, waits: Waits) -> Stream:
        """A connection over which requests can be sent."""
        proxy = route.proxy
        if proxy is None:
            stream = connect(route.host, route.port, waits.connect, self._connections, self._permit)
        else:
            stream = connect(proxy.host, proxy.port, waits.connect, self._connections)
            if proxy.secured:
                stream = self._secured(stream, proxy.host, None, waits)
            try:
                _open_tunnel(stream, _host(route.host, route.port), proxy, waits)
            except BaseException:
                stream.close()
                raise
        return self._secured(stream, route.host, route.folder, waits) if route.scheme == "https" else stream

    def _secured(self, stream: Stream, host: str, folder: Path | None, waits: Waits) -> Stream:
        try:
            with self._context_lock:
                if folder not in self._contexts:
                    self._contexts[folder] = self._trust.context(folder)
            return stream.start_tls(self._contexts[folder], host, waits.connect)
        except BaseException:
            stream.close()
            raise

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            everything = [one for waiting in self._idle.values() for one in waiting]
            self._idle.clear()
        for connection in everything:
            connection.close()


def _open_tunnel(stream: Stream, server: str, proxy: Proxy, waits: Waits) -> None:
    """Have the proxy connect to `server` (RFC 9110, section 9.3.6)."""
    stream.send(written("CONNECT", server, {"Host": server, **proxy.fields}), waits.connect)
    connection = Connection(stream)
    head = connection.head(waits.connect)
    if not 200 <= head.status < 300:
        raise ProxyRefusedError(f"{head.status} {head.reason}".rstrip())
    if connection.kept:
        raise BadAnswerError("the proxy sends bytes before the tunnel is used")


def _wire_name(host: str) -> str:
    """The host's name as it is looked up (RFC 5891)."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ConnectionLostError(f"Name or service not known: {host!r}") from error
