"""TLS inside TLS: to a server behind a proxy that is itself spoken to with TLS."""

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_READ = 1 << 16


class TlsInTls:
    """What `network.Stream` needs of a socket, over a connection that has TLS already. All raise `OSError`."""

    def __init__(self, outer: "socket.socket | TlsInTls", context: ssl.SSLContext, host: str) -> None:
        self._outer = outer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)

    def do_handshake(self) -> None:
        """Until both sides agree."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._exchange()
            else:
                self._flush()
                return

    def _flush(self) -> None:
        data = memoryview(self._out.read())
        while data:
            data = data[self._outer.send(data) :]

    def _exchange(self) -> None:
        self._flush()
        if data := self._outer.recv(_READ):
            self._in.write(data)
        else:
            self._in.write_eof()

    def recv(self, size: int) -> bytes:
        """The next bytes; empty at the end."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._exchange()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def send(self, data: memoryview) -> int:
        """Send a part of `data`; how much."""
        sent = self._tls.write(data[:_READ])
        self._flush()
        return sent

    def settimeout(self, timeout: float) -> None:
        """Seconds for each wait for the other side."""
        self._outer.settimeout(timeout)

    def fileno(self) -> int:
        """Of the connection below."""
        return self._outer.fileno()

    def shutdown(self, how: int) -> None:
        """End the connection below at once."""
        self._outer.shutdown(how)

    def close(self) -> None:
        """Close the connection below."""
        self._outer.close()
