"""HTTP/1.1 on one connection (RFC 9112): write a request, read its answer, be ready for the next one.

What arrives is hostile until parsed: an answer's head must match the grammar, fields that decide how long the body
is must not contradict each other, and heads, interim answers and the framing of chunks are bounded. A connection is
used again only when the answer ended exactly where it said.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from tidewaiter.core import limits
from tidewaiter.transport.failures import (
    BadAnswerError,
    ConnectionLostError,
    ExchangeError,
    TimedOutError,
    UnsendableError,
)
from tidewaiter.transport.network import Stream

Content = bytes | Iterable[bytes] | None

# Patterns are compiled when the module is loaded, which costs more than reading a head by hand.
_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGITS = b"0123456789"
_HEXADECIMAL = b"0123456789ABCDEFabcdef"
_FIRST_READ = 64 * limits.KIB
_LONGEST_READ = 1 * limits.MIB
_TOGETHER = 64 * limits.KIB
"""A body up to this size goes out with the head in one write."""
_PART = 1 * limits.MIB
_LATE_ANSWER_SECONDS = 1.0


class Waits(msgspec.Struct, frozen=True):
    """Seconds for each wait: for a connection, for the other side to take bytes, to send some."""

    connect: float
    write: float
    read: float


class Request(msgspec.Struct, frozen=True):
    """What is sent. `fields` is written as it is; what tells the body's length is added."""

    method: str
    target: str
    fields: Mapping[str, str]
    content: Content = None


class _Head(msgspec.Struct, frozen=True):
    minor: int
    status: int
    reason: str
    fields: dict[str, str]
    lengths: list[str]
    """Every Content-Length, apart."""


def _consists(data: bytes, characters: bytes) -> bool:
    return bool(data) and not data.translate(None, characters)


def _parse(data: bytes) -> _Head:
    """The head in `data`, which ends before the empty line."""
    first, *lines = data.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    status, _, reason = rest.partition(b" ")
    known = version in {b"HTTP/1.0", b"HTTP/1.1"} and len(status) == 3 and _consists(status, _DIGITS)
    if not known or status < b"100" or not _on_one_line(reason):
        raise BadAnswerError("the answer does not begin with a status line of HTTP/1.1")
    fields: dict[str, str] = {}
    lengths: list[str] = []
    for line in lines:
        raw_name, colon, raw_value = line.partition(b":")
        if not colon or not _consists(raw_name, _TOKEN) or not _on_one_line(raw_value):
            raise BadAnswerError("a header of the answer is malformed")
        name, value = raw_name.decode("ascii").lower(), raw_value.strip(b" \t").decode("latin-1")
        if name == "content-length":
            lengths.append(value)
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return _Head(version[-1] - 48, int(status), reason.decode("latin-1"), fields, lengths)


def _on_one_line(data: bytes) -> bool:
    return b"\r" not in data and b"\n" not in data and b"\0" not in data


def _chunk_size(line: bytes) -> int:
    """Length of the chunk that `line` begins (RFC 9112, section 7.1)."""
    size = line[:-2].partition(b";")[0].rstrip(b" \t")
    if not line.endswith(b"\r\n") or not _on_one_line(line[:-2]) or len(size) > 15 or not _consists(size, _HEXADECIMAL):
        raise BadAnswerError("a chunk of the answer does not begin with its length")
    return int(size, 16)


class Connection:
    """A connection to a server or proxy that carries one exchange after another."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.kept = b""
        """Bytes that have arrived and were not read yet."""
        self.silent = True
        """Whether nothing of the answer to the latest request has arrived."""
        self.idle_since = 0.0
        """Monotonic seconds."""

    def close(self) -> None:
        """Close the connection."""
        self.stream.close()

    # Request

    def exchange(self, request: Request, waits: Waits, done: Callable[["Connection"], None]) -> "Answer":
        """The answer to `request`, its body unread; `done` takes the connection back when it can be used again.

        Raises:
            ExchangeError: there is none.
        """
        self.silent = True
        try:
            head = self._send(request, waits)
            if head is not None:
                return Answer(self, head, request.method, waits.read, None)  # the rest of the request is still unsent
            return Answer(self, self._final(waits.read), request.method, waits.read, done)
        except BaseException:
            self.close()
            raise

    def _final(self, wait: float) -> _Head:
        for _ in range(limits.INTERIM_ANSWERS):
            head = self.head(wait)
            if head.status == 101:
                raise BadAnswerError("the server switches to a protocol that was not asked for")
            if head.status >= 200:
                return head
        raise BadAnswerError(f"more than {limits.INTERIM_ANSWERS} interim answers")

    def _send(self, request: Request, waits: Waits) -> _Head | None:
        """Send; the answer's head when it came before everything was sent."""
        content = request.content
        fields = dict(request.fields)
        length: int | None = None
        if content is None or isinstance(content, bytes):
            length = len(content or b"")
            if content is not None or request.method in {"POST", "PUT", "PATCH"}:
                fields["Content-Length"] = str(length)
        elif "Content-Length" in fields:
            length = int(fields["Content-Length"])
        else:
            fields["Transfer-Encoding"] = "chunked"
        head = written(request.method, request.target, fields)
        try:
            if content is None:
                self.stream.send(head, waits.write)
                return None
            if isinstance(content, bytes):
                parts: Iterable[bytes | memoryview] = _parts(content)
            else:
                parts = content if length is not None else _chunks(content)
            return self._send_body(head, parts, length, waits)
        except (ConnectionLostError, TimedOutError) as error:
            if content is None:
                raise
            # A server that refuses an upload may answer and hang up without reading all of it.
            return self._late_answer(error)

    def _send_body(
        self, head: bytes, parts: Iterable[bytes | memoryview], length: int | None, waits: Waits
    ) -> _Head | None:
        sent = 0
        unsent = head
        for part in parts:
            sent += len(part)
            if length is not None and sent > length:
                raise UnsendableError(f"the body has more bytes than the {length} announced")
            if unsent and len(part) <= _TOGETHER:
                self.stream.send(b"".join((unsent, part)), waits.write)
            else:
                if unsent:
                    self.stream.send(unsent, waits.write)
                elif not self.stream.secured and self.stream.ready():
                    early = self.head(waits.read)
                    if early.status >= 200:
                        return early
                self.stream.send(part, waits.write)
            unsent = b""
        if unsent:
            self.stream.send(unsent, waits.write)
        if length is not None and sent < length:
            raise UnsendableError(f"the body ended after {sent} of {length} bytes")
        return None

    def _late_answer(self, error: ExchangeError) -> _Head:
        try:
            return self._final(_LATE_ANSWER_SECONDS)
        except ExchangeError:
            raise error from None

    # Answer

    def head(self, wait: float) -> _Head:
        """The next head, final or interim."""
        data, searched = self.kept, 0
        while (end := data.find(b"\r\n\r\n", searched)) < 0:
            if len(data) > limits.ANSWER_HEAD_BYTES or b"\n\n" in data or b"HTTP/"[: len(data)] != data[:5]:
                break
            searched = max(0, len(data) - 3)
            more = self.stream.receive(_FIRST_READ, wait)
            if not more:
                raise ConnectionLostError("the server closed the connection without an answer")
            self.silent = False
            data = data + more if data else more
        if end < 0 or end > limits.ANSWER_HEAD_BYTES:
            raise BadAnswerError("the answer does not begin with a head of HTTP/1.1 of a sensible size")
        self.kept = data[end + 4 :]
        return _parse(data[:end])

    def receive(self, size: int, wait: float) -> bytes:
        """The next bytes, at most `size`; raises `ConnectionLostError` at the end."""
        if self.kept:
            data, self.kept = self.kept[:size], self.kept[size:]
            return data
        data = self.stream.receive(size, wait)
        if not data:
            raise ConnectionLostError("the connection ended before the answer did")
        return data

    def line(self, wait: float) -> bytes:
        """The next line of a chunked body, with its end."""
        while (end := self.kept.find(b"\n")) < 0:
            if len(self.kept) > limits.CHUNK_LINE_BYTES:
                break
            self.kept += self.receive_more(wait)
        if not 0 <= end <= limits.CHUNK_LINE_BYTES:
            raise BadAnswerError("a line between the chunks of the answer is too long")
        data, self.kept = self.kept[: end + 1], self.kept[end + 1 :]
        return data

    def receive_more(self, wait: float) -> bytes:
        """New bytes, behind those that are kept; raises `ConnectionLostError` at the end."""
        data = self.stream.receive(_FIRST_READ, wait)
        if not data:
            raise ConnectionLostError("the connection ended before the answer did")
        return data


def written(method: str, target: str, fields: Mapping[str, str]) -> bytes:
    """The head of a request; raises `UnsendableError` when it would be more than that."""
    try:
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode("latin-1")
    except UnicodeEncodeError as error:
        raise UnsendableError("a header of the request cannot be written in Latin-1") from error
    if b"\0" in lines or not lines.count(b"\n") == lines.count(b"\r") == len(fields):
        raise UnsendableError("a header of the request does not stay on its line")
    return f"{method} {target} HTTP/1.1\r\n".encode("ascii") + lines + b"\r\n"


def _parts(content: bytes) -> Iterator[memoryview]:
    view = memoryview(content)
    for start in range(0, len(content), _PART):
        yield view[start : start + _PART]


def _chunks(content: Iterable[bytes]) -> Iterator[bytes]:
    for piece in content:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


class Answer:
    """An answer whose body is still to be read. Header names are lower-case, repeated ones joined by commas."""

    def __init__(
        self,
        connection: Connection,
        head: _Head,
        method: str,
        wait: float,
        done: Callable[[Connection], None] | None,
    ) -> None:
        self.status = head.status
        self.reason = head.reason
        self.headers = head.fields
        self.url = ""
        self._connection: Connection | None = connection
        self._wait = wait
        closes = "close" in head.fields.get("connection", "").lower() or head.minor == 0
        self._done = None if closes else done
        self._left: int | None = None
        """Bytes that are still to come, of a body of known length."""
        self._bodies = self._framed(head, method)

    def _framed(self, head: _Head, method: str) -> Iterator[bytes]:
        """How the body ends (RFC 9112, section 6.3); every contradiction is refused."""
        encoding = head.fields.get("transfer-encoding")
        if method == "HEAD" or head.status in {204, 304}:
            self._left = 0
        elif encoding is not None:
            if head.lengths or encoding.strip().lower() != "chunked" or head.minor == 0:
                raise BadAnswerError("the answer contradicts itself about the length of its body")
            return self._chunked()
        elif head.lengths:
            # The same length twice is one (RFC 9110, section 8.6).
            stated = {one.strip(" \t") for field in head.lengths for one in field.split(",")}
            length = stated.pop()
            if stated or len(length) > 18 or not _consists(length.encode(), _DIGITS):
                raise BadAnswerError("the answer states no clear Content-Length")
            self._left = int(length)
        else:
            return self._until_closed()
        if self._left == 0:
            self._finish()
        return self._counted()

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives; raises `ExchangeError` when it is cut, late or malformed."""
        return self._bodies

    def _counted(self) -> Iterator[bytes]:
        size = _FIRST_READ
        while self._left and self._connection is not None:
            data = self._connection.receive(min(size, self._left), self._wait)
            # A fast sender fills whatever is offered: fewer, larger reads.
            size = min(size * 2, _LONGEST_READ) if len(data) == size else size
            self._left -= len(data)
            if not self._left:
                self._finish()
            yield data

    def _chunked(self) -> Iterator[bytes]:
        connection = self._connection
        if connection is None:
            return
        framing, body = 0, 0
        while True:
            line = connection.line(self._wait)
            left = _chunk_size(line)
            # Some servers flush every few bytes; nobody needs much more framing than body.
            framing, body = framing + len(line), body + left
            if framing > limits.ANSWER_HEAD_BYTES + 16 * body:
                raise BadAnswerError("the answer is all framing and no body")
            if not left:
                break
            while left:
                data = connection.receive(min(left, _LONGEST_READ), self._wait)
                left -= len(data)
                yield data
            if connection.line(self._wait) != b"\r\n":
                raise BadAnswerError("a chunk of the answer is longer than it says")
        while (line := connection.line(self._wait)) != b"\r\n":
            framing += len(line)
            if framing > limits.ANSWER_HEAD_BYTES + 16 * body:
                raise BadAnswerError("the answer has too long a trailer")
            _parse(b"HTTP/1.1 200 \r\n" + line.removesuffix(b"\r\n"))  # as strict as for headers; nobody reads it
        self._finish()

    def _until_closed(self) -> Iterator[bytes]:
        connection, self._done = self._connection, None
        if connection is None:
            return
        if connection.kept:
            data, connection.kept = connection.kept, b""
            yield data
        while data := connection.stream.receive(_LONGEST_READ, self._wait):
            yield data
        self._finish()

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._done is None or connection.kept:  # bytes that nobody asked for
            connection.close()
        else:
            self._done(connection)

    def close(self) -> None:
        """Let go: the connection is kept when the rest of the body is here already, else closed."""
        if self._connection is None:
            return
        if self._left is not None and self._left == len(self._connection.kept):
            self._connection.kept = b""
            self._finish()
        else:
            self._connection.close()
            self._connection = None
