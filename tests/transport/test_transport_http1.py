"""`transport.http1`, `transport.pools`: hostile answers are refused, connections are kept only when that is safe."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from raw_server import speaking

from servers import Serve, reply
from tidewaiter.core import limits
from tidewaiter.core.errors import NetworkError
from tidewaiter.transport.client import Client, Timeouts

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = OK + b"Content-Length: 4\r\n\r\ntide"


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(attempts=1, timeouts=Timeouts(connect=2, read=2, small_body=5, upload_end=2)) as one:
        yield one


def saying(answer: bytes) -> Callable[[socket.socket], None]:
    """Reads a request, answers so and hangs up."""

    def behave(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(answer)

    return behave


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\ntide!",
        OK + b"Content-Length: 4, 5\r\n\r\ntide!",
        OK + b"Content-Length: 4,\r\n\r\ntide",
        OK + b"Content-Length: +4\r\n\r\ntide",
        OK + b"Content-Length: -4\r\n\r\ntide",
        OK + b"Content-Length: 0x4\r\n\r\ntide",
        OK + b"Content-Length: 9999999999999999999\r\n\r\ntide",
        OK + b"Content-Length:\r\n\r\ntide",
        OK + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntide\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n4\r\ntide\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntide\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntide\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 4\n\ntide",
        OK + b"Content-Length : 4\r\n\r\ntide",
        OK + b"X-Long: one\r\n two\r\nContent-Length: 4\r\n\r\ntide",
        OK + b"Nonsense\r\nContent-Length: 4\r\n\r\ntide",
        OK + b"X: a\0b\r\nContent-Length: 4\r\n\r\ntide",
        OK + b"X: a\rb\r\nContent-Length: 4\r\n\r\ntide",
        b"HTTP/2 200 OK\r\nContent-Length: 4\r\n\r\ntide",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 4\r\n\r\ntide",
        b"HTTP/1.1 099 OK\r\nContent-Length: 4\r\n\r\ntide",
        b"HTTP/1.1  200 OK\r\nContent-Length: 4\r\n\r\ntide",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ],
)
def test_an_answer_that_can_be_read_in_two_ways_is_refused(client: Client, answer: bytes) -> None:
    """What contradicts itself, or is not HTTP/1.1 as the RFC has it, is an error at once and never a body."""
    start = time.monotonic()
    with speaking(saying(answer)) as url, pytest.raises(NetworkError):
        client.get(url, limit=100)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\ntide\r\n0\r\n\r\n",
        b"-4\r\ntide\r\n0\r\n\r\n",
        b"4\ntide\n0\n\n",
        b"4\r\ntide0\r\n\r\n",
        b"3\r\ntide\r\n0\r\n\r\n",
        b"10000000000000000\r\ntide\r\n0\r\n\r\n",
        b"\r\ntide\r\n0\r\n\r\n",
        b"4;" + b"x" * limits.CHUNK_LINE_BYTES + b"\r\ntide\r\n0\r\n\r\n",
        b"1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n.\r\n" * 5000 + b"0\r\n\r\n",
        b"4\r\ntide\r\n0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"4\r\ntide\r\n0\r\nnonsense\r\n\r\n",
        b"4\r\ntide\r\n",
        b"4\r\nti",
        b"4\r\ntide\r\n0\r\n",
    ],
)
def test_bad_chunks_are_refused(client: Client, body: bytes) -> None:
    """Malformed, endless and unfinished chunked bodies are errors, not shorter bodies."""
    with speaking(saying(CHUNKED + body)) as url, pytest.raises(NetworkError):
        client.get(url, limit=100_000)


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"4\r\ntide\r\n0\r\n\r\n",
        CHUNKED + b"1;name=value\r\nt\r\n3 \r\nide\r\n0\r\nX-Trailer: y\r\n\r\n",
        CHUNKED + b"0004\r\ntide\r\n000\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\ntide",
        OK + b"Connection: close\r\n\r\ntide",
        b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\ntide",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + WHOLE,
        OK + b"CONTENT-LENGTH:4\r\nX-Empty:\r\n\r\ntide",
        OK + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\ntide",
    ],
)
@pytest.mark.parametrize("in_drops", [False, True])
def test_every_framing_gives_the_same_body(client: Client, answer: bytes, in_drops: bool) -> None:
    """Content-Length, chunks and end of connection, whole or byte by byte, with and without interim answers."""

    def behave(connection: socket.socket) -> None:
        connection.recv(10_000)
        for start in range(0, len(answer), 1 if in_drops else len(answer)):
            connection.sendall(answer[start : start + (1 if in_drops else len(answer))])

    with speaking(behave) as url:
        assert client.get(url, limit=4) == b"tide"


def test_a_flood_of_headers_is_cut(client: Client) -> None:
    """The head of an answer is bounded, in one field or in many; the bound itself is let through."""
    fits = OK + b"Content-Length: 4\r\nX: "
    fits += b"x" * (limits.ANSWER_HEAD_BYTES - len(fits)) + b"\r\n\r\ntide"
    with speaking(saying(fits)) as url:
        assert client.get(url, limit=4) == b"tide"
    for flood in (b"X: " + b"x" * limits.ANSWER_HEAD_BYTES + b"\r\n", b"X: y\r\n" * limits.ANSWER_HEAD_BYTES):
        with speaking(saying(OK + flood + b"Content-Length: 4\r\n\r\ntide")) as url, pytest.raises(NetworkError):
            client.get(url, limit=4)


def test_interim_answers_are_bounded(client: Client) -> None:
    """A server cannot hold a command with answers that announce another one."""
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    with speaking(saying(interim * (limits.INTERIM_ANSWERS - 1) + WHOLE)) as url:
        assert client.get(url, limit=4) == b"tide"
    with speaking(saying(interim * limits.INTERIM_ANSWERS + WHOLE)) as url, pytest.raises(NetworkError):
        client.get(url, limit=4)


def test_bytes_behind_an_answer_are_not_the_next_one(client: Client) -> None:
    """What a server sends unasked is thrown away with its connection."""
    connections: list[int] = []

    def behave(connection: socket.socket) -> None:
        connections.append(1)
        connection.recv(10_000)
        connection.sendall(WHOLE + OK + b"Content-Length: 4\r\n\r\nevil")
        connection.recv(10_000)

    with speaking(behave) as url:
        assert [client.get(url, limit=4) for _ in range(3)] == [b"tide"] * 3
    assert len(connections) == 3


def test_late_bytes_are_not_the_next_answer(client: Client) -> None:
    """The same when they arrive after the connection was put aside."""

    def behave(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(WHOLE)
        time.sleep(0.1)
        connection.sendall(OK + b"Content-Length: 4\r\n\r\nevil")
        connection.recv(10_000)

    with speaking(behave) as url:
        assert client.get(url, limit=4) == b"tide"
        time.sleep(0.3)
        assert client.get(url, limit=4) == b"tide"


class Grudging:
    """Answers the first request of each connection and hangs up at the second, without a word."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []

    def __call__(self, connection: socket.socket) -> None:
        for number in range(2):
            self.requests.append(connection.recv(10_000).partition(b" ")[0])
            if number == 0:
                connection.sendall(WHOLE)


def test_a_kept_connection_that_the_server_closes_costs_nothing(client: Client) -> None:
    """A request that may be repeated goes out again at once, on a new connection; it is no failed attempt."""
    server = Grudging()
    with speaking(server) as url:
        assert [client.get(url, limit=4) for _ in range(3)] == [b"tide"] * 3
        assert client.request("PUT", url, content=b"x", limit=4, repeat=True).body == b"tide"
    assert server.requests.count(b"GET") == 5
    assert server.requests.count(b"PUT") == 2


def test_what_must_not_happen_twice_is_not_sent_twice(client: Client) -> None:
    """A POST whose connection is lost may have been acted on: it is an error, not another POST."""
    server = Grudging()
    with speaking(server) as url:
        assert client.get(url, limit=4) == b"tide"
        with pytest.raises(NetworkError):
            client.request("POST", url, content=b"x", limit=4)
    assert server.requests == [b"GET", b"POST"]


@pytest.mark.parametrize("hangs_up", [False, True])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_an_early_answer_to_an_upload_is_heard(client: Client, hangs_up: bool, as_bytes: bool) -> None:
    """A server that refuses without reading the body is understood, and its connection is not used again."""
    size = 30_000_000
    closed = threading.Event()

    def behave(connection: socket.socket) -> None:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch")
        if hangs_up:
            connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(1 << 20):
                pass
        finally:
            closed.set()

    content = bytes(size) if as_bytes else (bytes(1_000_000) for _ in range(size // 1_000_000))
    with speaking(behave) as url:
        headers = {} if as_bytes else {"Content-Length": str(size)}
        answer = client.request("PUT", url, content=content, headers=headers, limit=10)
        assert (answer.status, answer.body) == (413, b"much")
        assert closed.wait(5)


def test_an_interim_answer_does_not_end_an_upload(serve: Serve, client: Client) -> None:
    """`100 Continue` in the middle of a body is no answer to it."""
    size = 30_000_000
    arrived: list[int] = []

    def behave(connection: socket.socket) -> None:
        count = len(connection.recv(10_000).partition(b"\r\n\r\n")[2])
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while count < size:
            count += len(connection.recv(1 << 20))
        arrived.append(count)
        connection.sendall(WHOLE)

    parts = (bytes(1_000_000) for _ in range(size // 1_000_000))
    with speaking(behave) as url:
        assert client.request("PUT", url, content=parts, headers={"Content-Length": str(size)}, limit=4).status == 200
    assert arrived == [size]


@pytest.mark.parametrize("length", ["9", "11"])
def test_a_body_of_another_length_is_not_sent_as_announced(client: Client, length: str) -> None:
    """Too few or too many bytes break the exchange; nothing that follows can be taken for a part of it."""
    received: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        while data := connection.recv(10_000):
            received.append(data)

    with speaking(behave) as url, pytest.raises(NetworkError):
        client.request("PUT", url, content=iter([b"12345", b"67890"]), headers={"Content-Length": length}, limit=4)
    assert b"".join(received).count(b"HTTP/1.1") <= 1


def test_a_body_of_unknown_length_goes_in_chunks(client: Client) -> None:
    """Without a Content-Length, pieces are framed one by one; empty ones do not end the body."""
    received: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(10_000)
        received.append(data.partition(b"\r\n\r\n")[2])
        connection.sendall(WHOLE)

    with speaking(behave) as url:
        assert client.request("PUT", url, content=iter([b"ti", b"", b"de"]), limit=4).status == 200
    assert received == [b"2\r\nti\r\n2\r\nde\r\n0\r\n\r\n"]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "\u2603"])
def test_a_header_stays_on_its_line(client: Client, value: str) -> None:
    """A value from outside cannot become another header, or another request."""
    received: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        received.append(connection.recv(10_000))

    with speaking(behave) as url, pytest.raises(NetworkError):
        client.get(url, limit=4, headers={"X-Value": value})
    assert all(data == b"" for data in received)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("a%20b/ü?q=%C3%BC&r=a+b#part", b"GET /a%20b/%C3%BC?q=%C3%BC&r=a+b HTTP/1.1\r\n"),
        ('a"<>^`{|}\\b', b"GET /a%22%3C%3E%5E%60%7B%7C%7D%5Cb HTTP/1.1\r\n"),
        ("?only=query", b"GET /?only=query HTTP/1.1\r\n"),
        ("v2/a/b/blobs/sha256:1?ns=docker.io/x", b"GET /v2/a/b/blobs/sha256:1?ns=docker.io/x HTTP/1.1\r\n"),
    ],
)
def test_a_url_is_sent_as_it_is_meant(client: Client, path: str, sent: bytes) -> None:
    """What is escaped stays escaped, what cannot stand in a request line is escaped, fragments stay at home."""
    received: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        received.append(connection.recv(10_000))
        connection.sendall(WHOLE)

    with speaking(behave) as url:
        assert client.get(url + path, limit=4) == b"tide"
        host = url.removeprefix("http://").rstrip("/").encode()
    assert received[0].startswith(sent)
    assert received[0].count(b"Host: " + host + b"\r\n") == 1


def test_a_password_in_a_url_is_used_there_only(serve: Serve, client: Client) -> None:
    """User info becomes Basic authorization; it follows a redirect within the origin and not beyond."""
    seen: list[str | None] = []

    def other(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("Authorization"))
        reply(handler, 200, b"tide")

    elsewhere = serve(other)

    def first(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("Authorization"))
        reply(handler, 302, Location="/two" if handler.path == "/one" else elsewhere)

    url = serve(first).replace("//", "//me:p%40ss@")
    assert client.get(url + "/one", limit=4) == b"tide"
    assert seen == ["Basic bWU6cEBzcw==", "Basic bWU6cEBzcw==", None]
