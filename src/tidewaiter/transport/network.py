"""Sockets under the HTTP client: a time-out on every phase, and all of them can be cut at once.

A server that is silent is given up, and so is one that sends or takes single bytes to look alive: a phase that
stays below `SLOWEST_BYTES_PER_SECOND` for the length of its time-out has stalled.
"""

import contextlib
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import httpcore2

from tidewaiter.core import limits

_READ = 512 * limits.KIB
_SHUT_READ_AND_WRITE = 2  # socket.SHUT_RDWR


class Waiting(Protocol):
    """Something that a thread may wait for."""

    def cut(self) -> None:
        """Wake whoever waits, with an error."""


class Connections:
    """The open sockets of one client, and whether the work that uses them is still wanted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: weakref.WeakSet[Waiting] = weakref.WeakSet()
        self._unwanted = threading.Event()

    def work(self) -> threading.Event:
        """An event that is set when what begins now is no longer wanted."""
        with self._lock:
            return self._unwanted

    def add(self, waiting: Waiting) -> None:
        """Know `waiting`, so that `cut` reaches it."""
        with self._lock:
            self._waiting.add(waiting)

    def cut(self) -> None:
        """End all exchanges and waits under way, in whatever thread; what begins later is not affected."""
        with self._lock:
            everything = list(self._waiting)
            unwanted, self._unwanted = self._unwanted, threading.Event()
        unwanted.set()
        for waiting in everything:
            waiting.cut()


class _Pace:
    """Time spent waiting for the other side against the bytes that it moved meanwhile."""

    def __init__(self) -> None:
        self._waited, self._moved = 0.0, 0

    def stalled(self, waited: float, moved: int, timeout: float | None) -> bool:
        """Count; whether a full time-out has been spent below the slowest rate that is accepted."""
        self._waited += waited
        self._moved += moved
        if timeout is None or self._waited < timeout:
            return False
        slow = self._moved < limits.SLOWEST_BYTES_PER_SECOND * self._waited
        self._waited, self._moved = 0.0, 0
        return slow


class Stream(httpcore2.NetworkStream):
    """One connection, with or without TLS."""

    def __init__(self, inner: httpcore2.NetworkStream, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._socket: Any = inner.get_extra_info("socket")
        self._timeout: float | None = -1.0  # none set yet
        self._pace = _Pace()
        self._answer_begins = True
        connections.add(self)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next bytes, empty at the end; may be more than `max_bytes`, to save calls on long bodies."""
        size = max_bytes if self._answer_begins else max(max_bytes, _READ)
        start = time.monotonic()
        try:
            data: bytes = self._with_timeout(timeout).recv(size)
        except TimeoutError as error:
            raise httpcore2.ReadTimeout("no bytes arrived in time") from error
        except (OSError, ValueError) as error:
            raise httpcore2.ReadError(str(error)) from error
        self._answer_begins = False
        if data and self._pace.stalled(time.monotonic() - start, len(data), timeout):
            raise httpcore2.ReadTimeout("the stream has stalled")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`."""
        if not self._answer_begins:
            self._answer_begins = True
            self._pace = _Pace()
        view = memoryview(buffer)
        try:
            send: Callable[[memoryview], int] = self._with_timeout(timeout).send
            while view:
                start = time.monotonic()
                sent = send(view)
                view = view[sent:]
                if view and self._pace.stalled(time.monotonic() - start, sent, timeout):
                    raise httpcore2.WriteTimeout("the other side takes too little")
        except TimeoutError as error:
            raise httpcore2.WriteTimeout("the other side does not take the bytes") from error
        except (OSError, ValueError) as error:
            raise httpcore2.WriteError(str(error)) from error

    def _with_timeout(self, timeout: float | None) -> Any:  # noqa: ANN401  # a socket; only its type cannot be named here
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout
        return self._socket

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """The same connection inside TLS; the whole handshake has `timeout` seconds."""
        return Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._connections)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  # httpcore's signature
        """What httpcore asks about the socket."""
        return self._inner.get_extra_info(info)

    def cut(self) -> None:
        """Wake whoever waits for this connection, with an error."""
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it may be closed already
            # A TLS socket would first say goodbye, and wait for its lock.
            ssl_shutdown = (
                super(ssl.SSLSocket, self._socket).shutdown if isinstance(self._socket, ssl.SSLSocket) else None
            )
            (ssl_shutdown or self._socket.shutdown)(_SHUT_READ_AND_WRITE)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()


class _Connecting:
    """A connection on its way, made in a thread of its own: nothing else can leave a name lookup behind."""

    def __init__(self, connect: Callable[[], httpcore2.NetworkStream]) -> None:
        self._connect = connect
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._wanted = True
        self._result: httpcore2.NetworkStream | Exception | None = None

    def _run(self) -> None:
        result: httpcore2.NetworkStream | Exception
        try:
            result = self._connect()
        except Exception as error:  # noqa: BLE001  # handed to the thread that waits
            result = error
        with self._lock:
            self._result = result
            if not self._wanted and isinstance(result, httpcore2.NetworkStream):
                result.close()
        self._ended.set()

    def wait(self, timeout: float | None) -> httpcore2.NetworkStream:
        """The connection; all its addresses together have `timeout` seconds, name lookup included."""
        threading.Thread(target=self._run, daemon=True).start()
        try:
            in_time = self._ended.wait(timeout)
        except BaseException:  # ctrl-C: whoever made the connection closes it
            abandoned = self._stop_wanting()
            if isinstance(abandoned, httpcore2.NetworkStream):
                abandoned.close()
            raise
        result = self._stop_wanting()
        if isinstance(result, Exception):
            raise result
        if result is None:
            raise (
                httpcore2.ConnectError("interrupted") if in_time else httpcore2.ConnectTimeout("no connection in time")
            )
        return result

    def _stop_wanting(self) -> httpcore2.NetworkStream | Exception | None:
        """What there is now; what comes later is closed by the thread that makes it."""
        with self._lock:
            self._wanted = False
            return self._result

    def cut(self) -> None:
        """End the wait."""
        self._ended.set()


class Backend(httpcore2.NetworkBackend):
    """Opens connections for httpcore's pools."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._sync = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to `host`."""
        work = self._connections.work()
        connecting = _Connecting(partial(self._sync.connect_tcp, host, port, timeout, local_address, socket_options))
        self._connections.add(connecting)
        stream = Stream(connecting.wait(timeout), self._connections)
        if work.is_set():
            stream.close()
            raise httpcore2.ConnectError("interrupted")
        return stream
