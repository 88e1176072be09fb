"""`distribution.upload` against registries that differ, lose connections and forget sessions."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from servers import Serve, reply
from tidewaiter.core import limits
from tidewaiter.core.errors import IntegrityError, NetworkError
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.distribution.registry_place import RegistryPlace
from tidewaiter.oci import digest as digests
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.transport.client import Client, Timeouts

DATA = os.urandom(1_000_000)
BLOB = Descriptor(media_type="application/octet-stream", digest=digests.of(DATA), size=len(DATA))


def pieces() -> Iterator[bytes]:
    for start in range(0, len(DATA), 70_000):
        yield DATA[start : start + 70_000]


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(timeouts=Timeouts(connect=2, read=2, upload_end=2), pause=lambda _: None) as one:
        yield one


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_BYTES", 300_000)
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_SECONDS", 0)  # so slow that all have one size


class UploadRegistry:
    """A registry of one upload at a time; `cuts` says after how many bytes which request is cut."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.received = b""
        self.stored: dict[str, bytes] = {}
        self.sessions = 0
        self.cuts: list[int | None] = []
        self.remembers = True
        self.takes_chunks = True
        self.most = BLOB.size
        self.sizes: list[int] = []
        self.location: Callable[[BaseHTTPRequestHandler, str], str] = lambda _, path: path

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(handler.command)
        getattr(self, "do_" + handler.command.lower())(handler)

    def do_head(self, handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200 if handler.path.rpartition("/")[2] in self.stored else 404)

    def do_post(self, handler: BaseHTTPRequestHandler) -> None:
        assert handler.path.endswith("/uploads/")
        self.sessions += 1
        self.received = b""
        self.answer(handler, 202)

    def answer(self, handler: BaseHTTPRequestHandler, status: int) -> None:
        path = f"/v2/a/b/blobs/uploads/{self.sessions}?state=s-{len(self.received)}"
        end = max(len(self.received) - 1, 0)
        reply(handler, status, Location=self.location(handler, path), Range=f"0-{end}")

    def take(self, handler: BaseHTTPRequestHandler) -> bool:
        size = int(handler.headers.get("Content-Length", 0))
        cut = self.cuts.pop(0) if self.cuts and size else None
        self.received += handler.rfile.read(size if cut is None else cut)
        if cut is not None:
            handler.close_connection = True
        return cut is None

    def do_patch(self, handler: BaseHTTPRequestHandler) -> None:
        if not self.takes_chunks:
            handler.rfile.read(int(handler.headers["Content-Length"]))
            reply(handler, 405)
            return
        assert parse_qs(urlsplit(handler.path).query)["state"] == [f"s-{len(self.received)}"]
        size = int(handler.headers["Content-Length"])
        if size > self.most:
            handler.rfile.read(size)
            reply(handler, 413, b"<html><title>413 Request Entity Too Large</title></html>")
            return
        self.sizes.append(size)
        start = len(self.received)
        assert handler.headers["Content-Range"] == f"{start}-{start + size - 1}"
        if self.take(handler):
            self.answer(handler, 202)

    def do_get(self, handler: BaseHTTPRequestHandler) -> None:
        if self.remembers:
            self.answer(handler, 204)
        else:
            reply(handler, 404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')

    def do_put(self, handler: BaseHTTPRequestHandler) -> None:
        if not self.take(handler):
            return
        query = parse_qs(urlsplit(handler.path).query)
        assert "state" in query
        (digest,) = query["digest"]
        if digest != "sha256:" + hashlib.sha256(self.received).hexdigest():
            reply(handler, 400, json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}).encode())
            return
        self.stored[digest] = self.received
        reply(handler, 201)


def push(client: Client, url: str, source: Callable[[], Iterable[bytes]] = pieces) -> Repository:
    host = url.removeprefix("http://")
    repository = Registry(client, host, plain_http=frozenset({host})).repository("a/b")
    repository.push_blob(BLOB, source)
    return repository


def test_a_large_blob_goes_in_chunks_that_are_read_once(serve: Serve, client: Client) -> None:
    """Chunk after chunk with its range, the session moving on, the blob's file opened a single time."""
    registry = UploadRegistry()
    opened: list[int] = []

    def source() -> Iterator[bytes]:
        opened.append(1)
        yield from pieces()

    push(client, serve(registry), source)
    assert registry.requests == ["POST", "PATCH", "PATCH", "PATCH", "PATCH", "PUT"]
    assert registry.stored == {BLOB.digest: DATA}
    assert opened == [1]


def test_chunks_grow_over_a_fast_line(serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that took little time is followed by one four times as large, up to a bound."""
    registry = UploadRegistry()
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_SECONDS", 60)
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_BYTES", 50_000)
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_LARGEST_BYTES", 400_000)
    push(client, serve(registry))
    assert registry.sizes == [50_000, 200_000, 400_000, 350_000]
    assert registry.stored == {BLOB.digest: DATA}


@pytest.mark.parametrize("remembers", [True, False])
def test_a_proxy_that_takes_less_at_once_is_obeyed(
    serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch, remembers: bool
) -> None:
    """413 for a chunk that has grown makes the chunks small again, for good; what has arrived stays."""
    registry = UploadRegistry()
    registry.most, registry.remembers = 200_000, remembers
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_SECONDS", 60)
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_BYTES", 100_000)
    push(client, serve(registry))
    assert registry.stored == {BLOB.digest: DATA}
    assert registry.sizes == [100_000] * (10 if remembers else 11)


def test_a_small_blob_goes_in_one_request(serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to UPLOAD_CHUNK_BYTES there is a single PUT."""
    registry = UploadRegistry()
    monkeypatch.setattr(limits, "UPLOAD_CHUNK_BYTES", BLOB.size)
    push(client, serve(registry))
    assert registry.requests == ["POST", "PUT"]
    assert registry.stored == {BLOB.digest: DATA}


@pytest.mark.parametrize(
    "location",
    [
        lambda _, path: path,
        lambda handler, path: f"http://{handler.headers['Host']}{path}",
        lambda _, path: path.rpartition("/")[2] if "uploads/?" in path else path,
    ],
    ids=["relative", "absolute", "path"],
)
def test_locations_of_every_form_are_followed(
    serve: Serve, client: Client, location: Callable[[BaseHTTPRequestHandler, str], str]
) -> None:
    """Relative and absolute Locations keep their query, and the digest is added to it."""
    registry = UploadRegistry()
    registry.location = location
    push(client, serve(registry))
    assert registry.stored == {BLOB.digest: DATA}


def test_a_cut_chunk_is_continued_where_the_registry_says(serve: Serve, client: Client) -> None:
    """After a lost connection the session is asked, and only what is missing is sent."""
    registry = UploadRegistry()
    registry.cuts = [None, 123_456, 5000]
    push(client, serve(registry))
    assert registry.sessions == 1
    assert registry.requests.count("GET") == 2
    assert registry.stored == {BLOB.digest: DATA}


def test_a_forgotten_session_begins_anew(serve: Serve, client: Client) -> None:
    """A registry that knows nothing of the session any more gets a new one and all bytes."""
    registry = UploadRegistry()
    registry.cuts = [None, 123_456]
    registry.remembers = False
    push(client, serve(registry))
    assert registry.sessions == 2
    assert registry.stored == {BLOB.digest: DATA}


def test_a_registry_without_chunks_gets_one_piece(serve: Serve, client: Client) -> None:
    """405 for PATCH means a new session and one PUT."""
    registry = UploadRegistry()
    registry.takes_chunks = False
    push(client, serve(registry))
    assert registry.requests == ["POST", "PATCH", "POST", "PUT"]
    assert registry.stored == {BLOB.digest: DATA}


def test_a_lost_answer_does_not_send_twice(serve: Serve, client: Client) -> None:
    """When only the last answer was lost, the blob is found to be there."""
    registry = UploadRegistry()

    def losing(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "PUT" and not registry.stored:
            registry.requests.append("PUT")
            registry.take(handler)
            registry.stored[BLOB.digest] = registry.received
            handler.close_connection = True
        else:
            registry(handler)

    push(client, serve(losing))
    assert registry.requests == ["POST", *["PATCH"] * 4, "PUT", "HEAD"]


def test_an_upload_that_never_succeeds_ends(serve: Serve, client: Client) -> None:
    """A registry that cuts every upload is given up after ATTEMPTS, and the error says to try again."""
    registry = UploadRegistry()
    registry.cuts = [0] * 100
    registry.remembers = False
    with pytest.raises(NetworkError) as caught:
        push(client, serve(registry))
    assert registry.sessions == limits.ATTEMPTS
    assert "try again" in caught.value.next_step


def test_a_registry_that_always_forgets_ends(serve: Serve, client: Client) -> None:
    """Each session brings a chunk and is then lost: nothing is gained, and it is given up after some attempts."""
    registry = UploadRegistry()
    registry.cuts = [None, 5000] * 100
    registry.remembers = False
    with pytest.raises(NetworkError):
        push(client, serve(registry))
    assert registry.sessions <= limits.ATTEMPTS + 1


def test_busy_is_waited_for_with_a_body(serve: Serve) -> None:
    """429 for a chunk is obeyed, and the chunk sent again."""
    registry = UploadRegistry()
    waits: list[float] = []
    busy = 2

    def limiting(handler: BaseHTTPRequestHandler) -> None:
        nonlocal busy
        if handler.command == "PATCH" and busy:
            busy -= 1
            handler.rfile.read(int(handler.headers["Content-Length"]))
            reply(handler, 429, Retry_After="9")
        else:
            registry(handler)

    with Client(pause=waits.append) as client:
        push(client, serve(limiting))
    assert registry.stored == {BLOB.digest: DATA}
    assert [int(wait) for wait in waits] == [9, 9]


def test_other_bytes_are_an_integrity_error(serve: Serve, client: Client) -> None:
    """A registry that received something else than the digest says so, and nothing is tried again."""
    registry = UploadRegistry()
    with pytest.raises(IntegrityError) as caught:
        push(client, serve(registry), lambda: [DATA[:-1], b"?" if DATA[-1:] != b"?" else b"!"])
    assert caught.value.code == "digest_invalid"
    assert registry.sessions == 1


def test_a_location_out_of_tls_is_refused() -> None:
    """An upload that would go on without TLS is refused (what a registry behind a badly set proxy asks for)."""
    from tidewaiter.distribution.upload import session_url
    from tidewaiter.transport.client import Response

    answer = Response(202, {"location": "http://host/v2/x"}, b"", "https://host/v2/a/b/blobs/uploads/", "POST")
    with pytest.raises(NetworkError) as caught:
        session_url("host", answer)
    assert caught.value.code == "insecure_redirect"


def test_a_refused_mount_is_used_as_upload(serve: Serve, client: Client) -> None:
    """202 for a mount opens a session, and the blob is sent into that one."""
    registry = UploadRegistry()

    def refusing(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "POST":
            query = parse_qs(urlsplit(handler.path).query)
            assert query == {"mount": [BLOB.digest], "from": ["other/one"]}
            handler.path = handler.path.partition("?")[0]
        registry(handler)

    host = serve(refusing).removeprefix("http://")
    repository = Registry(client, host, plain_http=frozenset({host})).repository("a/b")
    assert not repository.mount(BLOB.digest, "other/one")
    repository.push_blob(BLOB, pieces)
    assert registry.sessions == 1
    assert registry.stored == {BLOB.digest: DATA}


@pytest.mark.parametrize(("status", "mounted"), [(201, True), (202, False), (404, False), (403, False), (405, False)])
def test_a_mount_that_does_not_work_is_no_error(serve: Serve, client: Client, status: int, mounted: bool) -> None:
    """Only 201 is a mount; a registry that does not want to is sent the blob."""
    host = serve(lambda handler: reply(handler, status, Location="/v2/a/b/blobs/uploads/1")).removeprefix("http://")
    repository = Registry(client, host, plain_http=frozenset({host})).repository("a/b")
    assert repository.mount(BLOB.digest, "other/one") is mounted


@pytest.mark.parametrize(("status", "there"), [(201, True), (202, False)])
def test_a_small_blob_is_asked_for_by_opening_an_upload(serve: Serve, client: Client, status: int, there: bool) -> None:
    """One request says that the blob is there, or opens the upload that then takes it."""
    registry = UploadRegistry()

    def mounting(handler: BaseHTTPRequestHandler) -> None:
        if handler.command != "POST":
            registry(handler)
            return
        assert parse_qs(urlsplit(handler.path).query) == {"mount": [BLOB.digest], "from": ["a/b"]}
        if status == 201:
            registry.requests.append("POST")
            reply(handler, 201)
        else:
            handler.path = handler.path.partition("?")[0]
            registry(handler)

    host = serve(mounting).removeprefix("http://")
    place = RegistryPlace(Registry(client, host, plain_http=frozenset({host})).repository("a/b"), opens=True)
    assert place.has_blob(BLOB) is there
    assert registry.requests == ["POST"]
    if not there:
        place.repository.push_blob(BLOB, pieces)
        assert registry.sessions == 1
        assert registry.stored == {BLOB.digest: DATA}


def test_a_registry_that_understands_no_mount_into_itself_is_asked_plainly(serve: Serve, client: Client) -> None:
    """An answer that is neither yes nor an upload is no answer; nor are large blobs asked for so."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.command)
        reply(handler, 405 if handler.command == "POST" else 200)

    host = serve(answer).removeprefix("http://")
    repository = Registry(client, host, plain_http=frozenset({host})).repository("a/b")
    place = RegistryPlace(repository, opens=True)
    assert place.has_blob(BLOB)
    assert asked == ["POST", "HEAD"]
    large = msgspec.structs.replace(BLOB, size=limits.OPENED_BLOB_BYTES + 1)
    assert place.has_blob(large)
    assert RegistryPlace(repository).has_blob(BLOB)
    assert asked[2:] == ["HEAD", "HEAD"]
