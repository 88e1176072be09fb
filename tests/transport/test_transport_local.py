import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tidewaiter.core.errors import UndeterminedError
from tidewaiter.transport.local import LocalClient


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/slow":
            time.sleep(1)
            self.close_connection = True
            return
        data = {"/echo": body, "/long": bytes(1000)}.get(self.path, b"")
        self.send_response(200 if data else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base class's
        """Say nothing."""

    def address_string(self) -> str:
        return "local"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def client(tmp_path: Path) -> Iterator[LocalClient]:
    """A client of a server on a Unix socket."""
    with _Server(str(tmp_path / "s"), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        client = LocalClient(tmp_path / "s")
        yield client
        client.close()
        server.shutdown()
        thread.join()


def test_connection_is_kept_for_many_questions(client: LocalClient) -> None:
    """Status and body of each answer, on one connection."""
    for number in range(3):
        asked = str(number).encode()
        assert client.ask("POST", "/echo", asked, seconds=5, limit=10) == (200, asked)
    assert client.ask("POST", "/nothing", b"x", seconds=5, limit=10) == (404, b"")


def test_answer_is_bounded_from_both_sides(client: LocalClient) -> None:
    """An answer of exactly the limit is read; one byte more is none, and the next question works."""
    assert len(client.ask("POST", "/long", b"x", seconds=5, limit=1000)[1]) == 1000
    with pytest.raises(UndeterminedError, match="over 999 bytes"):
        client.ask("POST", "/long", b"x", seconds=5, limit=999)
    assert client.ask("POST", "/echo", b"y", seconds=5, limit=10) == (200, b"y")


def test_silence_is_no_answer(client: LocalClient) -> None:
    """A server that says nothing in time, or is not there, could not be asked."""
    with pytest.raises(UndeterminedError, match="did not answer"):
        client.ask("POST", "/slow", b"x", seconds=0.2, limit=10)


def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    """Without a socket there is an error that says so."""
    with pytest.raises(UndeterminedError, match="did not answer"):
        LocalClient(tmp_path / "missing").ask("GET", "/", seconds=1, limit=10)
