"""A proxy between our client and a real registry that goes wrong at a chosen request.

It forwards everything unchanged but for the requests that `Fault.first` and `Fault.times` pick. The registry behind
it sees only what a broken network, gateway or registry would let it see.
"""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

HTML = b"<!DOCTYPE html><html><title>Sign in</title><body>Please sign in to the network.</body></html>"
STATUSES = (401, 403, 404, 416, 429, 500, 502)

FAULTS = (
    "refuse",  # the connection ends before anything is forwarded
    "forget",  # the registry acts, its answer is lost
    "silence",  # the registry acts, nothing is answered
    "stall",  # head and half of the answer, then nothing
    "cut",  # head and half of the answer, then the connection ends
    "truncate",  # half of the answer, announced as if it were all
    "corrupt",  # one byte of the answer is another
    "duplicate",  # the first half of the answer comes twice
    "announce more",  # Content-Length is larger than the answer
    "announce less",  # Content-Length is smaller than the answer
    "html",  # 200 and a web page
    "cut upload",  # half of the request's body reaches the registry, then both connections end
    "corrupt upload",  # one byte of the request's body is another
    "repeat",  # the registry gets the request twice; the second answer counts
    "elsewhere",  # 307 to another origin
    *(f"status {status}" for status in STATUSES),
)

_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "te",
    "trailer",
    "upgrade",
    "date",
    "server",
}


class Fault(msgspec.Struct, frozen=True):
    """What goes wrong and when."""

    kind: str
    first: int = 0
    """Index of the first request that it meets, from 0."""
    times: int = 1
    """How many requests it meets."""
    after: int | None = None
    """Bytes of a body that pass first; half of it when None."""
    when: Callable[[str, str], bool] = lambda _method, _path: True
    """Which requests (method, path with query) count at all."""


class Seen(msgspec.Struct, frozen=True):
    """One request that reached the proxy."""

    method: str
    path: str
    authorization: str
    content_range: str
    range: str
    received: int
    """Bytes of its body."""


class FaultProxy:
    """HOST:PORT in `host`; set `fault` at any time; `seen` has what came through since the last `reset`."""

    def __init__(self, upstream: str, *, elsewhere: str = "", silence: float = 1.0, rate: int | None = None) -> None:
        self.upstream = upstream
        self.elsewhere = elsewhere
        self.rate = rate
        """Bytes per second of bodies, in both directions; None for as fast as it goes."""
        self.fault: Fault | None = None
        self.seen: list[Seen] = []
        self.struck = 0
        self._silence = silence
        self._counted = 0
        self._lock = threading.Lock()
        self._released = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10
            wbufsize = -1  # one segment per answer
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                proxy._serve(self)

            do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  # names that http.server looks for

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:
                pass  # clients hang up on faults

        self._server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Serve in a thread."""
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Close the port and wake up silent connections."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def reset(self, fault: Fault | None = None) -> None:
        """Count from 0 again, under `fault`."""
        with self._lock:
            self.fault, self.seen, self.struck, self._counted = fault, [], 0, 0

    # One request

    def _strikes(self, method: str, path: str) -> Fault | None:
        with self._lock:
            fault = self.fault
            if fault is None or not fault.when(method, path):
                return None
            index = self._counted
            self._counted += 1
            if not fault.first <= index < fault.first + fault.times:
                return None
            self.struck += 1
            return fault

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        fault = self._strikes(handler.command, handler.path)
        kind = fault.kind if fault else ""
        body = b""
        if kind == "cut upload" and fault is not None:
            self._cut_upload(handler, fault)
            return
        body = self._request_body(handler)
        self._note(handler, len(body))
        if kind == "refuse":
            self._hang_up(handler)
        elif kind.startswith("status "):
            self._status(handler, int(kind.removeprefix("status ")))
        elif kind == "html":
            self._send(handler, 200, [("Content-Type", "text/html; charset=utf-8")], HTML)
        elif kind == "elsewhere":
            self._send(handler, 307, [("Location", self.elsewhere + handler.path)], b"")
        else:
            if kind == "corrupt upload":
                body = _flipped(body)
            if kind == "repeat":
                self._forward(handler, body)
            self._answer(handler, *self._forward(handler, body), fault)

    def _note(self, handler: BaseHTTPRequestHandler, received: int) -> None:
        get = handler.headers.get
        with self._lock:
            self.seen.append(
                Seen(
                    method=handler.command,
                    path=handler.path,
                    authorization=get("Authorization", ""),
                    content_range=get("Content-Range", ""),
                    range=get("Range", ""),
                    received=received,
                )
            )

    def _pieces(self, handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
        """The request's body as it comes in, whichever way it is framed."""
        if "chunked" in handler.headers.get("Transfer-Encoding", "").lower():
            while size := int(handler.rfile.readline().partition(b";")[0] or b"0", 16):
                yield handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
            return
        left = int(handler.headers.get("Content-Length") or 0)
        while left and (piece := handler.rfile.read(min(left, 1 << 16))):
            left -= len(piece)
            self._slow_down(len(piece))
            yield piece
        if left:
            raise ConnectionResetError("the client has hung up in the middle of a body")

    def _request_body(self, handler: BaseHTTPRequestHandler) -> bytes:
        return b"".join(self._pieces(handler))

    def _slow_down(self, count: int) -> None:
        if self.rate:
            time.sleep(count / self.rate)

    def _headers(self, handler: BaseHTTPRequestHandler) -> dict[str, str]:
        return {name: value for name, value in handler.headers.items() if name.lower() not in _HOP_BY_HOP}

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.upstream, timeout=10)
        try:
            headers = self._headers(handler)
            if body or handler.command in {"POST", "PUT", "PATCH"}:
                headers["Content-Length"] = str(len(body))
            connection.request(handler.command, handler.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
            if handler.command == "HEAD":
                kept.append(("Content-Length", answer.getheader("Content-Length", "0")))
            return answer.status, kept, data
        finally:
            connection.close()

    def _cut_upload(self, handler: BaseHTTPRequestHandler, fault: Fault) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        wanted = length // 2 if fault.after is None else min(fault.after, length)
        connection = socket.create_connection(self.upstream.split(":"), timeout=10)  # type: ignore[arg-type]  # a port may be text
        with connection:
            lines = [f"{handler.command} {handler.path} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in self._headers(handler).items()]
            lines += [f"Content-Length: {length}", "", ""]
            connection.sendall("\r\n".join(lines).encode("latin-1"))
            connection.sendall(handler.rfile.read(wanted))
            self._note(handler, wanted)
            # A hard end, as when a machine loses power: the registry cannot mistake it for the body's end.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._hang_up(handler)

    # Answers

    def _answer(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        fault: Fault | None,
    ) -> None:
        kind = fault.kind if fault else ""
        half = len(body) // 2 if fault is None or fault.after is None else min(fault.after, len(body))
        if kind == "forget":
            self._hang_up(handler)
        elif kind == "silence":
            self._released.wait(self._silence)
            self._hang_up(handler)
        elif kind in {"stall", "cut"}:
            self._send(handler, status, headers, body[:half], length=max(len(body), half + 1))
            if kind == "stall":
                self._released.wait(self._silence)
            self._hang_up(handler)
        elif kind == "truncate":
            self._send(handler, status, headers, body[:half])
        elif kind == "corrupt":
            self._send(handler, status, headers, _flipped(body))
        elif kind == "duplicate":
            self._send(handler, status, headers, body[:half] + body)
        elif kind == "announce more":
            self._send(handler, status, headers, body, length=len(body) + 10)
            self._hang_up(handler)
        elif kind == "announce less":
            self._send(handler, status, headers, body, length=max(0, len(body) - 1))
        else:
            self._send(handler, status, headers, body)

    def _status(self, handler: BaseHTTPRequestHandler, status: int) -> None:
        headers = [("Content-Type", "application/json")]
        if status == 401:
            headers.append(("WWW-Authenticate", 'Basic realm="elsewhere"'))
        if status in {429, 503}:
            headers.append(("Retry-After", "0"))
        self._send(handler, status, headers, b'{"errors":[{"code":"UNKNOWN","message":"a fault of the test"}]}')

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        *,
        length: int | None = None,
    ) -> None:
        handler.send_response_only(status)
        for name, value in headers:
            handler.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if not self.rate:
            handler.wfile.write(body)
            handler.wfile.flush()
            return
        for start in range(0, len(body), 1 << 16):
            piece = body[start : start + (1 << 16)]
            handler.wfile.write(piece)
            handler.wfile.flush()
            self._slow_down(len(piece))

    @staticmethod
    def _hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.flush()
        with suppress(OSError):  # the client was faster
            handler.connection.shutdown(socket.SHUT_RDWR)


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


@contextmanager
def between(
    upstream: str, *, elsewhere: str = "", silence: float = 1.0, rate: int | None = None
) -> Iterator[FaultProxy]:
    """A running proxy in front of the registry at HOST:PORT."""
    proxy = FaultProxy(upstream, elsewhere=elsewhere, silence=silence, rate=rate)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
