"""Clients that send slowly, or nothing: a server has room for others."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvicorn

from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.web.app import create
from tidewaiter.web.prompt import Prompt

LOGIN = (
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 100\r\n\r\n"
)


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server with little patience, which takes three connections."""
    monkeypatch.setattr(limits, "REQUEST_HEADER_SECONDS", 3.0)
    monkeypatch.setattr(limits, "REQUEST_BODY_SECONDS", 3.0)
    app = create(all_settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")}))
    config = uvicorn.Config(app, port=0, http=Prompt, ws="none", log_config=None, limit_concurrency=4)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)


def _until_closed(opened: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    opened.settimeout(10)
    found = b""
    while part := opened.recv(65536):
        found += part
    return found


def _trickle(opened: socket.socket) -> None:
    for _ in range(100):
        opened.sendall(b"a")
        time.sleep(0.1)


def _status(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
        opened.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return int(_until_closed(opened).split()[1])


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", LOGIN + b"a"])
@pytest.mark.thorough
def test_connections_that_say_nothing_are_not_kept(port: int, sent: bytes) -> None:
    """Whether they never begin, stop within the headers, or within the body; meanwhile there may be no room."""
    with ExitStack() as stack:
        opened = []
        for _ in range(4):  # one by one: were all there when the first is read, all would be turned away
            opened.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)))
            opened[-1].sendall(sent)
            time.sleep(0.1)
        assert _status(port) == 503
        for one in opened:
            _until_closed(one)
    assert _status(port) == 200


@pytest.mark.thorough
def test_a_second_request_on_a_connection_is_waited_for_as_long(port: int) -> None:
    """Its headers are not sent a byte at a time for ever."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
        opened.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert opened.recv(65536).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        opened.sendall(b"GET /healthz HTTP/1.1\r\nX-A: ")
        with pytest.raises(OSError, match=r"reset|pipe|abort"):
            _trickle(opened)
        assert time.monotonic() - began < 10


@pytest.mark.thorough
def test_a_late_body_is_said(port: int) -> None:
    """408, and the end of the connection; a body that comes in parts in time is taken."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
        opened.sendall(LOGIN + b"a")
        answer = _until_closed(opened)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"text/html" in answer
    with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
        opened.sendall(LOGIN.replace(b"Content-Length", b"Connection: close\r\nContent-Length"))
        for _ in range(4):
            opened.sendall(b"a" * 25)
            time.sleep(0.1)
        assert _until_closed(opened).startswith(b"HTTP/1.1 403 ")
