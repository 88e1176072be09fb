"""Sockets under the HTTP client: a time-out on every phase, and all of them can be cut at once.

A server that is silent is given up, and so is one that sends or takes single bytes to look alive: a phase that
stays below `SLOWEST_BYTES_PER_SECOND` for the length of its time-out has stalled.
"""

import contextlib
import errno
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tidewaiter.core import limits
from tidewaiter.transport.failures import ConnectionLostError, ConnectTimedOutError, TimedOutError

if TYPE_CHECKING:
    import ssl  # its import takes as long as a short request, and plain HTTP does not need it

    from tidewaiter.transport.tunnel import TlsInTls

Permit = Callable[[str], bool]
"""Whether an IP address, which a name was found to have, may be connected to."""


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

    def stalled(self, waited: float, moved: int, timeout: float) -> bool:
        """Count; whether a full time-out has been spent below the slowest rate that is accepted."""
        self._waited += waited
        self._moved += moved
        if self._waited < timeout:
            return False
        slow = self._moved < limits.SLOWEST_BYTES_PER_SECOND * self._waited
        self._waited, self._moved = 0.0, 0
        return slow


class Stream:
    """One connection, with or without TLS."""

    def __init__(
        self, connection: "socket.socket | TlsInTls", connections: Connections, *, secured: bool = False
    ) -> None:
        self.secured = secured
        self._socket = connection
        self._connections = connections
        self._timeout = -1.0  # none set yet
        self._pace = _Pace()
        self._sending = False
        connections.add(self)

    def receive(self, size: int, timeout: float) -> bytes:
        """The next bytes, at most `size`; empty at the end.

        Raises:
            TimedOutError: none came within `timeout` seconds, or too few.
            ConnectionLostError: the connection was cut.
        """
        if self._sending:
            self._sending, self._pace = False, _Pace()
        start = time.monotonic()
        try:
            data = self._with_timeout(timeout).recv(size)
        except TimeoutError as error:
            raise TimedOutError("no bytes arrived in time") from error
        except (OSError, ValueError) as error:
            raise ConnectionLostError(str(error)) from error
        if data and self._pace.stalled(time.monotonic() - start, len(data), timeout):
            raise TimedOutError("the stream has stalled")
        return data

    def send(self, data: bytes | memoryview, timeout: float) -> None:
        """Send all of `data`; errors as in `receive`."""
        if not self._sending:
            self._sending, self._pace = True, _Pace()
        view = memoryview(data)
        try:
            send = self._with_timeout(timeout).send
            while view:
                start = time.monotonic()
                sent = send(view)
                view = view[sent:]
                if view and self._pace.stalled(time.monotonic() - start, sent, timeout):
                    raise TimedOutError("the other side takes too little")
        except TimeoutError as error:
            raise TimedOutError("the other side does not take the bytes") from error
        except (OSError, ValueError) as error:
            raise ConnectionLostError(str(error)) from error

    def ready(self) -> bool:
        """Whether bytes, or the end, wait to be read. Inside TLS they may be its own."""
        try:
            waiting = select.poll()
            waiting.register(self._socket, select.POLLIN)
            return bool(waiting.poll(0))
        except (OSError, ValueError):
            return True  # closed: reading says so

    def _with_timeout(self, timeout: float) -> "socket.socket | TlsInTls":
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout
        return self._socket

    def start_tls(self, context: "ssl.SSLContext", host: str, timeout: float) -> "Stream":
        """The same connection inside TLS, with the certificate of `host`; the whole handshake has `timeout` seconds.

        Raises:
            ConnectTimedOutError: the handshake took too long.
            ConnectionLostError: it failed.
        """
        self._with_timeout(timeout)
        try:
            inner = self._wrapped(context, host)
        except (OSError, ValueError) as error:
            self.close()
            raise ConnectionLostError(str(error)) from error
        stream = Stream(inner, self._connections, secured=True)  # known before the handshake: ctrl-C must reach it
        try:
            inner.do_handshake()
        except TimeoutError as error:
            stream.close()
            raise ConnectTimedOutError("no TLS handshake in time") from error
        except (OSError, ValueError) as error:
            stream.close()
            raise ConnectionLostError(str(error)) from error
        return stream

    def _wrapped(self, context: "ssl.SSLContext", host: str) -> "ssl.SSLSocket | TlsInTls":
        from tidewaiter.transport import tunnel

        if isinstance(self._socket, tunnel.TlsInTls) or self.secured:
            return tunnel.TlsInTls(self._socket, context, host)
        return context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)

    def cut(self) -> None:
        """Wake whoever waits for this connection, with an error."""
        with contextlib.suppress(OSError, ValueError):  # it may be closed already
            if isinstance(self._socket, socket.socket):
                # Not the TLS socket's own method, which would say goodbye first, and wait for its lock.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            else:
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()


class _ToAddress:
    """A connection to an IP address on its way, made by the thread that wants it."""

    def __init__(self, family: socket.AddressFamily, address: str, port: int, timeout: float) -> None:
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._address = address, port
        self._timeout = timeout
        self._wanted = True

    def wait(self) -> socket.socket:
        """The connection, not blocking; errors as in `connect`."""
        try:
            self._connect()
        except BaseException:
            self._socket.close()
            raise
        return self._socket

    def _connect(self) -> None:
        self._socket.setblocking(False)
        failed = self._socket.connect_ex(self._address)
        # From here on, `cut` reaches the socket.
        if failed == errno.EINPROGRESS and self._wanted:
            ready = select.poll()
            ready.register(self._socket, select.POLLOUT)
            if not ready.poll(self._timeout * 1000):
                raise ConnectTimedOutError("no connection in time")
            failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not self._wanted:
            raise ConnectionLostError("interrupted")
        if failed == errno.ETIMEDOUT:
            raise ConnectTimedOutError("no connection in time")
        if failed:
            raise ConnectionLostError(str(OSError(failed, os.strerror(failed))))

    def cut(self) -> None:
        """End the wait."""
        self._wanted = False
        with contextlib.suppress(OSError):  # it does not connect yet, or not any more
            self._socket.shutdown(socket.SHUT_RDWR)


class _ToName:
    """A connection on its way to whatever has a name.

    Made in a thread of its own: nothing else can leave a name lookup behind.
    """

    def __init__(self, host: str, port: int, timeout: float, permit: Permit | None) -> None:
        self._address = host, port
        self._timeout = timeout
        self._permit = permit
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._wanted = True
        self._result: socket.socket | Exception | None = None

    def _run(self) -> None:
        result: socket.socket | Exception
        try:
            result = self._connected()
        except Exception as error:  # noqa: BLE001  # handed to the thread that waits
            result = error
        with self._lock:
            self._result = result
            if not self._wanted and isinstance(result, socket.socket):
                result.close()
        self._ended.set()

    def _connected(self) -> socket.socket:
        """A connection to the first address that takes one."""
        host, port = self._address
        refused: OSError | None = None
        # As bytes, because a text would load the tables of international names, which are not needed any more.
        for family, kind, protocol, _, address in socket.getaddrinfo(host.encode("ascii"), port, 0, socket.SOCK_STREAM):
            if self._permit is not None and not self._permit(str(address[0])):
                refused = OSError(f"{host} has the address {address[0]}, which may not be connected to")
                continue
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(self._timeout)
                connection.connect(address)
            except OSError as error:
                connection.close()
                refused = error
            else:
                return connection
        raise refused or OSError("Name or service not known")

    def wait(self) -> socket.socket:
        """The connection; all its addresses together have the time-out's seconds, name lookup included."""
        threading.Thread(target=self._run, daemon=True).start()
        try:
            in_time = self._ended.wait(self._timeout)
        except BaseException:  # ctrl-C: whoever made the connection closes it
            abandoned = self._stop_wanting()
            if isinstance(abandoned, socket.socket):
                abandoned.close()
            raise
        result = self._stop_wanting()
        if isinstance(result, socket.socket):
            return result
        if isinstance(result, TimeoutError) or (result is None and not in_time):
            raise ConnectTimedOutError("no connection in time") from result
        if result is None:
            raise ConnectionLostError("interrupted")
        raise ConnectionLostError(str(result)) from result

    def _stop_wanting(self) -> socket.socket | Exception | None:
        """What there is now; what comes later is closed by the thread that makes it."""
        with self._lock:
            self._wanted = False
            return self._result

    def cut(self) -> None:
        """End the wait."""
        self._ended.set()


def _connecting(host: str, port: int, timeout: float, permit: Permit | None) -> _ToAddress | _ToName:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            address = socket.inet_ntop(family, socket.inet_pton(family, host))
        except (OSError, ValueError):
            continue
        if permit is not None and not permit(address):
            raise ConnectionLostError(f"{host} is an address which may not be connected to")
        try:
            return _ToAddress(family, address, port, timeout)
        except OSError as error:
            raise ConnectionLostError(str(error)) from error
    return _ToName(host, port, timeout, permit)


def connect(host: str, port: int, timeout: float, connections: Connections, permit: Permit | None = None) -> Stream:
    """A connection to `host`, known to `connections`, at an address that `permit` allows.

    Raises:
        ConnectTimedOutError: none stands after `timeout` seconds.
        ConnectionLostError: it was refused, the host is unknown, or the work was interrupted.
    """
    work = connections.work()
    connecting = _connecting(host, port, timeout, permit)
    connections.add(connecting)
    connection = connecting.wait()
    # A request and its body are two writes; the second must not wait until the first is acknowledged.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = Stream(connection, connections)
    if work.is_set():
        stream.close()
        raise ConnectionLostError("interrupted")
    return stream
