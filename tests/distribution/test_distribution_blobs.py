"""`distribution.blobs`: lost connections, ranges, and registries that answer them wrongly."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from servers import Serve, reply
from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, LimitError, NetworkError, NotFoundError
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci import digest as digests
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.transport.client import Client, Timeouts

DATA = os.urandom(500_000)
BLOB = Descriptor(media_type="application/octet-stream", digest=digests.of(DATA), size=len(DATA))


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(timeouts=Timeouts(connect=2, read=2), pause=lambda _: None) as one:
        yield one


def repository(client: Client, url: str) -> Repository:
    host = url.removeprefix("http://")
    return Registry(client, host, plain_http=frozenset({host})).repository("a/b")


class Cutting:
    """Hangs up after `at` bytes of each of the first `cuts` answers; knows ranges or not."""

    def __init__(self, cuts: int, at: int, *, ranges: bool = True) -> None:
        self.cuts, self.at, self.ranges = cuts, at, ranges
        self.asked: list[str | None] = []

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        rest = DATA[start:]
        cut = len(self.asked) <= self.cuts
        headers = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if start else {}
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(rest)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(rest[: self.at] if cut else rest)
        handler.close_connection = cut


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("way", ["open", "download"])
def test_a_lost_connection_is_taken_up_where_it_was_lost(serve: Serve, client: Client, way: str, ranges: bool) -> None:
    """What is missing is asked for; a registry without ranges sends all, and what is known is dropped."""
    registry = Cutting(2, 100_000, ranges=ranges)
    remote = repository(client, serve(registry))
    sink = io.BytesIO()
    steps: list[int] = []
    if way == "open":
        with remote.open(BLOB.digest) as file:
            sink.write(file.read())
    else:
        remote.download(BLOB, sink, steps.append)
        assert sum(steps) == BLOB.size
    assert sink.getvalue() == DATA
    assert len(registry.asked) == 3
    assert registry.asked[:2] == [None, "bytes=100000-"]
    assert registry.asked[2] == ("bytes=200000-" if ranges else "bytes=100000-")


def test_only_attempts_without_progress_are_counted(
    serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that is cut often, but moves on, brings the blob; one that stands still is given up."""
    monkeypatch.setattr("tidewaiter.distribution.blobs._PROGRESS_BYTES", 10_000)
    moving = Cutting(20, 20_000)
    sink = io.BytesIO()
    repository(client, serve(moving)).download(BLOB, sink)
    assert sink.getvalue() == DATA
    assert len(moving.asked) == 21
    standing = Cutting(20, 0)
    with pytest.raises(NetworkError):
        repository(client, serve(standing)).download(BLOB, io.BytesIO())
    assert len(standing.asked) == limits.ATTEMPTS


def test_an_offset_asks_for_the_rest_only(serve: Serve, client: Client) -> None:
    """`offset` skips bytes; at the very end there are none, whatever status says so."""
    registry = Cutting(0, 0)
    remote = repository(client, serve(registry))
    with remote.open(BLOB.digest, offset=499_000) as file:
        assert file.read() == DATA[499_000:]
    assert registry.asked == ["bytes=499000-"]
    sink = io.BytesIO()
    ended = repository(client, serve(lambda h: reply(h, 416, b"", Content_Range=f"bytes */{len(DATA)}")))
    ended.download(BLOB, sink, offset=len(DATA))
    assert sink.getvalue() == b""
    with pytest.raises(NetworkError):
        ended.download(BLOB, sink, offset=5)


def test_another_range_than_asked_for_is_refused(serve: Serve, client: Client) -> None:
    """Bytes from elsewhere are never put together."""
    host = serve(lambda h: reply(h, 206, DATA[7:], Content_Range=f"bytes 7-{len(DATA) - 1}/{len(DATA)}"))
    sink = io.BytesIO()
    with pytest.raises(NetworkError, match="another range"):
        repository(client, host).download(BLOB, sink, offset=5)
    assert sink.getvalue() == b""


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (DATA[:-1], IntegrityError),
        (DATA[:-1] + bytes([DATA[-1] ^ 1]), IntegrityError),
        (DATA + b"x", LimitError),
        (b"", IntegrityError),
    ],
    ids=["short", "changed", "long", "empty"],
)
def test_other_bytes_are_noticed(serve: Serve, client: Client, sent: bytes, error: type[Exception]) -> None:
    """Digest and size are compared while streaming, and nothing is asked for again."""
    asked: list[str] = []

    def registry(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        reply(handler, 200, sent)

    with pytest.raises(error):
        repository(client, serve(registry)).download(BLOB, io.BytesIO())
    assert len(asked) == 1


def test_a_body_without_length_that_ends_early_is_taken_up(serve: Serve, client: Client) -> None:
    """When nobody says how long the answer is, the descriptor's size tells that it was cut."""
    first = True

    def registry(handler: BaseHTTPRequestHandler) -> None:
        nonlocal first
        start = 0 if first else 1000
        assert handler.headers.get("Range") == (None if first else "bytes=1000-")
        handler.send_response(200 if first else 206)
        handler.send_header("Connection", "close")
        handler.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        handler.end_headers()
        handler.wfile.write(DATA[:1000] if first else DATA[1000:])
        handler.close_connection = True
        first = False

    sink = io.BytesIO()
    repository(client, serve(registry)).download(BLOB, sink)
    assert sink.getvalue() == DATA


def test_sha512_is_verified(serve: Serve, client: Client) -> None:
    """A blob of another algorithm is streamed and verified like any."""
    digest = Digest("sha512:" + hashlib.sha512(DATA).hexdigest())
    remote = repository(client, serve(lambda h: reply(h, 200, DATA)))
    with remote.open(digest) as file:
        assert file.read() == DATA
    with remote.open(Digest("sha512:" + "0" * 128)) as file, pytest.raises(IntegrityError):
        file.read()


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (lambda h: reply(h, 404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}'), NotFoundError, "BLOB_UNKNOWN"),
        (lambda h: reply(h, 403, b'{"errors":[{"code":"DENIED"}]}'), NetworkError, "DENIED"),
        (lambda h: reply(h, 502, b"<html><head><title>Bad Gateway</title>"), NetworkError, "'Bad Gateway'"),
        (lambda h: reply(h, 204), NetworkError, "204"),
    ],
)
def test_refusals_say_why(
    serve: Serve, client: Client, answer: Callable[[BaseHTTPRequestHandler], None], error: type[Exception], says: str
) -> None:
    """Method, address, status and the specification's code, or a web page's title, stand in the message."""
    with pytest.raises(error, match=says) as caught:
        repository(client, serve(answer)).download(BLOB, io.BytesIO())
    assert f"/v2/a/b/blobs/{BLOB.digest}" in str(caught.value)
    assert "GET http://127.0.0.1" in str(caught.value)
