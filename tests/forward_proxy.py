"""A small real HTTP proxy: tunnels with CONNECT, answers plain requests itself."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from servers import reply

Asked = list[tuple[str, str | None]]
"""`METHOD TARGET` and the proxy password of each request."""


def _tunnel(near: socket.socket, far: socket.socket) -> None:
    other = {near: far, far: near}
    while True:
        for ready in select.select(list(other), [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            other[ready].sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def running(asked: Asked, *, refuse: bool = False) -> Iterator[str]:
    """HOST:PORT of a proxy that notes in `asked` what it was asked for; with `refuse` it opens no tunnel."""

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:  # a name that http.server looks for
            asked.append((f"CONNECT {self.path}", self.headers.get("Proxy-Authorization")))
            if refuse:
                self.send_error(407)
                return
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port))) as far:
                self.send_response(200)
                self.end_headers()
                self.wfile.flush()
                _tunnel(self.connection, far)

        def do_GET(self) -> None:
            asked.append((f"GET {self.path}", self.headers.get("Proxy-Authorization")))
            reply(self, 200, b"by proxy")

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
