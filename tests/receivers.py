"""Endpoints of webhooks that behave as a test wants: they take, refuse, redirect, hang, or never end."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Got(NamedTuple):
    """A message that arrived."""

    headers: dict[str, str]
    body: bytes
    path: str


class Receiver:
    """One endpoint; `answer` may be replaced while it runs."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.got: list[Got] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = taken

    def wait(self, count: int, seconds: float = 20.0) -> list[Got]:
        """What arrived, once it is so much."""
        deadline = time.monotonic() + seconds
        while len(self.got) < count:
            assert time.monotonic() < deadline, f"{len(self.got)} of {count} messages arrived"
            time.sleep(0.02)
        return self.got


def taken(request: BaseHTTPRequestHandler) -> None:
    status(204)(request)


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answers that, without a body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def hang(request: BaseHTTPRequestHandler) -> None:
    """Never answers."""
    time.sleep(60)


def endless(request: BaseHTTPRequestHandler) -> None:
    """Takes the message, and answers without an end."""
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"x" * 65536)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """An endpoint on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append(Got({name.lower(): value for name, value in self.headers.items()}, body, self.path))
            try:
                made.answer(self)
            except OSError:
                self.close_connection = True  # the sender has gone

        def log_message(self, *_: object) -> None:
            """Nothing: tests read what arrived."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Nothing: the sender cuts endless answers."""

    with Server(("127.0.0.1", 0), Handler) as server:
        made = Receiver(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
