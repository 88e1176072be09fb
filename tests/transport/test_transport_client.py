"""`transport.client` against real sockets that misbehave."""

import io
import threading
import time
from collections.abc import Iterator
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler

import pytest

from servers import Serve, reply
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, LimitError, NetworkError, NotFoundError
from tidewaiter.transport.client import Client, Timeouts


class Pauses:
    """Collects the waits that a client would have made."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def client(pauses: Pauses) -> Iterator[Client]:
    with Client(timeouts=Timeouts(connect=2, read=0.5, small_body=2), pause=pauses) as one:
        yield one


def test_get_returns_the_body_and_asks_for_identity(serve: Serve, client: Client) -> None:
    """A small body arrives whole, as sent, and no encoding is asked for."""
    seen: dict[str, str] = {}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.update(handler.headers.items())
        reply(handler, 200, b"tide", Content_Encoding="gzip")

    assert client.get(serve(answer) + "/x", limit=4) == b"tide"
    assert seen["Accept-Encoding"] == "identity"
    assert seen["User-Agent"].startswith("tidewaiter/")
    assert "Cookie" not in seen


@pytest.mark.parametrize(("status", "error"), [(404, NotFoundError), (410, NotFoundError), (403, NetworkError)])
def test_a_refusal_is_an_error_without_secrets(
    serve: Serve, client: Client, status: int, error: type[Exception]
) -> None:
    """404 means not found, other refusals a network error; user info and signed queries stay out of the message."""
    base = serve(lambda handler: reply(handler, status, b"no"))
    with pytest.raises(error) as caught:
        client.get(base.replace("//", "//me:secret@") + "/a/b?X-Amz-Signature=abc", limit=100)
    assert "secret" not in str(caught.value)
    assert "abc" not in str(caught.value)
    assert "/a/b" in str(caught.value)
    assert str(status) in str(caught.value)


@pytest.mark.parametrize("announce", [True, False])
def test_a_body_over_the_limit_is_refused(serve: Serve, client: Client, announce: bool) -> None:
    """One byte over the limit is an error, announced or not; the limit itself is not."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if announce:
            reply(handler, 200, b"12345")
            return
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"12345")
        handler.close_connection = True

    url = serve(answer)
    assert client.get(url, limit=5) == b"12345"
    with pytest.raises(LimitError):
        client.get(url, limit=4)
    with pytest.raises(LimitError):
        client.download(url, io.BytesIO(), limit=4)
    assert client.download(url, io.BytesIO(), limit=5) == 5


def test_a_hanging_server_is_given_up(serve: Serve, client: Client, pauses: Pauses) -> None:
    """A server that accepts and says nothing is asked ATTEMPTS times, each time for the read time-out only."""
    released = threading.Event()
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        released.wait(20)

    url = serve(answer)
    start = time.monotonic()
    try:
        with pytest.raises(NetworkError) as caught:
            client.get(url + "/slow", limit=5)
    finally:
        released.set()
    assert caught.value.code == "network_timeout"
    assert len(asked) == limits.ATTEMPTS
    assert len(pauses.seconds) == limits.ATTEMPTS - 1
    assert time.monotonic() - start < 10


def test_a_dripping_server_is_given_up(serve: Serve, client: Client) -> None:
    """A body that trickles below the slowest accepted rate does not hold a command for ever."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(b".")
            handler.wfile.flush()
            time.sleep(0.05)

    start = time.monotonic()
    with pytest.raises(NetworkError) as caught:
        client.get(serve(answer), limit=100_000)
    assert caught.value.code == "network_timeout"
    assert time.monotonic() - start < 8


def test_nobody_listens(client: Client, pauses: Pauses) -> None:
    """A refused connection is a network error after ATTEMPTS attempts; waits grow and are jittered."""
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:9"):
        client.get("http://127.0.0.1:9/", limit=5)
    assert len(pauses.seconds) == limits.ATTEMPTS - 1
    for number, seconds in enumerate(pauses.seconds):
        assert 0.25 * 2**number <= seconds <= 0.5 * 2**number


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed(serve: Serve, client: Client, pauses: Pauses, form: str) -> None:
    """429 with Retry-After is asked again after at least that long."""
    count = 0

    def answer(handler: BaseHTTPRequestHandler) -> None:
        nonlocal count
        count += 1
        if count < 3:
            import datetime as dt

            wait = "7" if form == "seconds" else format_datetime(clock.now() + dt.timedelta(seconds=9), usegmt=True)
            reply(handler, 429, b"later", Retry_After=wait)
        else:
            reply(handler, 200, b"now")

    assert client.get(serve(answer), limit=10) == b"now"
    assert len(pauses.seconds) == 2
    assert all(6 <= seconds <= 10 for seconds in pauses.seconds)


def test_an_excessive_retry_after_is_a_refusal(serve: Serve, client: Client, pauses: Pauses) -> None:
    """A server that asks for more patience than RETRY_AFTER_SECONDS is not waited for."""
    url = serve(lambda handler: reply(handler, 503, b"", Retry_After=str(int(limits.RETRY_AFTER_SECONDS) + 1)))
    with pytest.raises(NetworkError, match="503"):
        client.get(url, limit=5)
    assert pauses.seconds == []


def test_only_safe_requests_are_repeated_after_a_failure(serve: Serve, client: Client) -> None:
    """500 repeats a GET but not a POST; 503 (nothing was done) repeats both, if the body can be sent again."""
    asked: list[str] = []
    status = 500

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        asked.append(handler.command)
        reply(handler, status)

    url = serve(answer)
    assert client.request("GET", url, limit=5).status == 500
    assert client.request("POST", url, content=b"x", limit=5).status == 500
    assert asked == ["GET"] * limits.ATTEMPTS + ["POST"]
    asked.clear()
    status = 503
    assert client.request("POST", url, content=b"x", limit=5).status == 503
    assert client.request("PUT", url, content=iter([b"x"]), headers={"Content-Length": "1"}, limit=5).status == 503
    assert asked == ["POST"] * limits.ATTEMPTS + ["PUT"]


def test_credentials_do_not_follow_a_redirect_to_another_host(serve: Serve, client: Client) -> None:
    """Authorization stays with its origin; other headers go along."""
    seen: list[tuple[str, str | None, str | None]] = []

    def record(handler: BaseHTTPRequestHandler) -> None:
        seen.append((handler.path, handler.headers.get("Authorization"), handler.headers.get("X-Plain")))

    def other(handler: BaseHTTPRequestHandler) -> None:
        record(handler)
        reply(handler, 200, b"ok")

    elsewhere = serve(other)

    def first(handler: BaseHTTPRequestHandler) -> None:
        record(handler)
        if handler.path == "/start":
            reply(handler, 302, Location="/same")
        else:
            reply(handler, 307, Location=elsewhere.replace("//", "//user:pass@") + "/other")

    headers = {"Authorization": "Bearer secret", "X-Plain": "1"}
    assert client.get(serve(first) + "/start", limit=5, headers=headers) == b"ok"
    assert seen == [("/start", "Bearer secret", "1"), ("/same", "Bearer secret", "1"), ("/other", None, "1")]


def test_redirects_are_bounded(serve: Serve, client: Client) -> None:
    """A circle of redirects ends after REDIRECTS steps."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        reply(handler, 302, Location="/again")

    with pytest.raises(NetworkError, match="redirects more than"):
        client.get(serve(answer), limit=5)
    assert len(asked) == limits.REDIRECTS + 1


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.com/", "https://", "http://[::1"])
def test_a_redirect_leads_to_http_only(serve: Serve, client: Client, location: str) -> None:
    """A redirect to anything but http and https is refused."""
    with pytest.raises(NetworkError, match="redirects to something"):
        client.get(serve(lambda handler: reply(handler, 302, Location=location)), limit=5)


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "https://", "http://host:99999/", "http://a b/", "x"])
def test_only_http_urls_are_accepted(client: Client, url: str) -> None:
    """What is no absolute http URL is bad input, not a network problem."""
    with pytest.raises(InputError):
        client.get(url, limit=5)


CONTENT = bytes(range(256)) * 40


def cut_server(ranges: list[str | None], *, etag: str | None, changes: bool = False) -> "CutServer":
    return CutServer(ranges, etag, changes=changes)


class CutServer:
    """Sends half of what is left, then hangs up, twice."""

    def __init__(self, ranges: list[str | None], etag: str | None, *, changes: bool) -> None:
        self.ranges, self.etag, self.changes = ranges, etag, changes

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        rest = CONTENT[start:]
        headers = {"ETag": self.etag} if self.etag else {}
        status = 200
        if wanted and not self.changes:
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        part = rest if len(self.ranges) > 2 else rest[: len(rest) // 2]
        reply(handler, status, part, length=len(rest), **headers)


def test_a_cut_download_is_resumed(serve: Serve, client: Client) -> None:
    """What is missing is asked for by Range under the same ETag; the sink gets every byte once."""
    ranges: list[str | None] = []
    sink = io.BytesIO()
    steps: list[int] = []
    url = serve(cut_server(ranges, etag='"one"'))
    assert client.download(url, sink, limit=len(CONTENT), advance=steps.append) == len(CONTENT)
    assert sink.getvalue() == CONTENT
    assert sum(steps) == len(CONTENT)
    assert ranges == [None, f"bytes={len(CONTENT) // 2}-", f"bytes={len(CONTENT) * 3 // 4}-"]


@pytest.mark.parametrize(("etag", "changes"), [(None, False), ('W/"weak"', False), ('"one"', True)])
def test_a_cut_download_is_not_patched_together(serve: Serve, client: Client, etag: str | None, changes: bool) -> None:
    """Without proof that the file is the same, a cut download is a network error and nothing is written twice."""
    sink = io.BytesIO()
    with pytest.raises(NetworkError):
        client.download(serve(cut_server([], etag=etag, changes=changes)), sink, limit=len(CONTENT))
    assert sink.getvalue() == CONTENT[: len(CONTENT) // 2]


def test_a_truncated_small_body_is_never_returned(serve: Serve, client: Client) -> None:
    """Fewer bytes than Content-Length promises are a network error, not a short body."""
    url = serve(lambda handler: reply(handler, 200, b"half", length=8))
    with pytest.raises(NetworkError):
        client.get(url, limit=100)
    with pytest.raises(NetworkError):
        client.request("POST", url, limit=100)
    with client.stream(url, limit=100).body as body, pytest.raises(NetworkError):
        body.read()


def test_an_error_page_is_cut_not_refused(serve: Serve, client: Client) -> None:
    """A huge error page does not hide the status."""
    url = serve(lambda handler: reply(handler, 404, b"x" * (limits.ERROR_BODY_BYTES + 1)))
    answer = client.request("GET", url, limit=5)
    assert answer.status == 404
    assert len(answer.body) == limits.ERROR_BODY_BYTES


def test_a_sink_error_passes_through(serve: Serve, client: Client) -> None:
    """A full disk is reported as such, not as a network problem, and is not retried."""

    class Full:
        def write(self, data: bytes, /) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        client.download(serve(lambda handler: reply(handler, 200, b"x")), Full(), limit=5)


def test_ctrl_c_passes_through(serve: Serve, client: Client, pauses: Pauses) -> None:
    """An interrupt in the middle of a download ends it at once."""

    class Interrupted:
        def write(self, data: bytes, /) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.download(serve(lambda handler: reply(handler, 200, b"x")), Interrupted(), limit=5)
    assert pauses.seconds == []


def test_a_stream_is_read_like_a_file(serve: Serve, client: Client) -> None:
    """Reads of any size give the same bytes; the end is an empty read; a bound holds."""
    url = serve(lambda handler: reply(handler, 200, CONTENT))
    with client.stream(url, limit=len(CONTENT)).body as body:
        assert b"".join(iter(lambda: body.read(777), b"")) == CONTENT
    with pytest.raises(LimitError):
        client.stream(url, limit=len(CONTENT) - 1)


def test_cookies_are_not_kept(serve: Serve, client: Client) -> None:
    """A session that a server opens is not carried into the next request."""
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.append(handler.headers.get("Cookie"))
        reply(handler, 200, b"", Set_Cookie="sid=1; Path=/")

    url = serve(answer)
    client.get(url, limit=5)
    client.get(url, limit=5)
    assert seen == [None, None]


def test_urls_do_not_reach_logs(serve: Serve, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever turns logging on finds no signed URL and no password in it."""
    caplog.set_level(0)
    url = serve(lambda handler: reply(handler, 200, b"x")) + "/?signature=secret"
    client.get(url, limit=5, headers={"Authorization": "Basic secret"})
    assert "secret" not in caplog.text
