"""What the registry client does with registries that lie, break or are none."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from images import make_image
from servers import Answer, Serve, reply
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, IntegrityError, LimitError, NetworkError
from tidewaiter.distribution import attached
from tidewaiter.distribution.credentials import Credential
from tidewaiter.distribution.pull import pull
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci import digest as digests
from tidewaiter.oci import image as images
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.transport.client import Client, Timeouts


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(timeouts=Timeouts(connect=2, read=0.5, upload_end=1), pause=lambda _: None) as one:
        yield one


def repository(client: Client, url: str) -> Repository:
    host = url.removeprefix("http://")
    return Registry(client, host, plain_http=frozenset({host})).repository("a/b")


def serving(layout: Layout, image: Descriptor, spoil: dict[str, bytes]) -> Answer:
    """Answers from the layout, but with the bytes that `spoil` gives for a digest."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        kind, target = handler.path.split("/")[-2:]
        digest = image.digest if target == "t" else digests.parse(target)
        if not layout.has(digest) or (kind == "blobs") == (digest == image.digest):
            reply(handler, 404)
            return
        data = spoil.get(digest) or layout.blob_path(digest).read_bytes()
        media_type = image.media_type if kind == "manifests" else "application/octet-stream"
        length = layout.blob_path(digest).stat().st_size
        reply(handler, 200, data, length=length, Content_Type=media_type)

    return answer


def flipped(layout: Layout, digest: digests.Digest) -> bytes:
    data = layout.blob_path(digest).read_bytes()
    return data[:-1] + bytes([data[-1] ^ 1])


def test_a_web_page_is_not_a_registry(serve: Serve, client: Client) -> None:
    """HTML with status 200 is "something other than a registry", never an image and never an absence."""
    remote = repository(client, serve(lambda h: reply(h, 200, b"<html>", Content_Type="text/html; charset=utf-8")))
    with pytest.raises(NetworkError, match="text/html"):
        remote.manifest("t")
    with pytest.raises(NetworkError):
        attached.find(remote, digests.of(b"x"), "sig")
    with pytest.raises(NetworkError, match="no list of tags"):
        remote.tags()


def test_a_manifest_that_is_not_json_is_bad_input(serve: Serve, client: Client) -> None:
    """A body that only claims to be a manifest is refused."""
    remote = repository(client, serve(lambda h: reply(h, 200, b"<html>", Content_Type=documents.MANIFEST)))
    with pytest.raises(InputError, match="not JSON"):
        remote.manifest("t")


def test_a_manifest_over_the_limit_is_refused(
    serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """MANIFEST_BYTES holds from both sides."""
    layout, image = make_image(tmp_path / "store", sizes=(1,))
    remote = repository(client, serve(serving(layout, image, {})))
    monkeypatch.setattr(limits, "MANIFEST_BYTES", image.size)
    assert remote.resolve("t").digest == image.digest
    monkeypatch.setattr(limits, "MANIFEST_BYTES", image.size - 1)
    with pytest.raises(LimitError):
        remote.resolve("t")


def test_a_manifest_of_another_digest_is_refused(serve: Serve, client: Client, tmp_path: Path) -> None:
    """What was asked for by digest must have it; what comes by tag must have the digest sent with it."""
    layout, image = make_image(tmp_path / "store")
    remote = repository(client, serve(serving(layout, image, {image.digest: flipped(layout, image.digest)})))
    with pytest.raises(IntegrityError):
        remote.manifest(image.digest)
    data = layout.read(image.digest)
    claimed = digests.of(b"other")
    lying = serve(lambda h: reply(h, 200, data, Content_Type=image.media_type, Docker_Content_Digest=claimed))
    with pytest.raises(IntegrityError):
        repository(client, lying).manifest("t")


@pytest.mark.parametrize("cut", [False, True])
def test_spoiled_blobs_never_become_visible(serve: Serve, client: Client, tmp_path: Path, cut: bool) -> None:
    """Wrong bytes are an integrity error, missing ones a network error; neither becomes a blob of the target."""
    layout, image = make_image(tmp_path / "store")
    layer = images.load(layout, image).manifest.layers[1]
    bad = layout.blob_path(layer.digest).read_bytes()[:1000] if cut else flipped(layout, layer.digest)
    remote = repository(client, serve(serving(layout, image, {layer.digest: bad})))
    target = Layout(tmp_path / "target")
    with pytest.raises(NetworkError if cut else IntegrityError):
        pull(remote, "t", target)
    assert not target.has(layer.digest)
    # What arrived before a cut is kept for the next pull, under a name that nobody takes for the blob.
    assert all(cut and left.suffix == ".partial" for left in target.ingest.iterdir())
    with remote.open(layer.digest) as stream, pytest.raises(NetworkError if cut else IntegrityError):
        list(iter(lambda: stream.read(500), b""))


def test_a_blob_that_never_ends_is_stopped_at_its_size(serve: Serve, client: Client, tmp_path: Path) -> None:
    """A registry cannot fill the disk: a blob longer than its descriptor says is cut off."""
    layout, image = make_image(tmp_path / "store")
    layer = images.load(layout, image).manifest.layers[0]
    answer = serving(layout, image, {})

    def endless(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.endswith(layer.digest) and handler.command == "GET":
            handler.send_response(200)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.close_connection = True
            while True:
                handler.wfile.write(bytes(100_000))
        answer(handler)

    with pytest.raises(LimitError):
        pull(repository(client, serve(endless)), "t", Layout(tmp_path / "target"))


def test_a_hanging_registry_is_undetermined(serve: Serve, client: Client) -> None:
    """A registry that never answers leaves the question open: it is not an absent signature."""
    released = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        released.wait(20)

    remote = repository(client, serve(silent))
    try:
        with pytest.raises(NetworkError) as caught:
            attached.find(remote, digests.of(b"x"), "sig")
    finally:
        released.set()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_refusal_is_not_an_absence(serve: Serve, client: Client, status: int) -> None:
    """No status but 404 says that something does not exist."""
    body = json.dumps({"errors": [{"code": "DENIED", "message": "not\nyou \x1b[31m"}]}).encode()
    remote = repository(client, serve(lambda h: reply(h, status, body)))
    with pytest.raises(NetworkError, match=r"DENIED not\?you \?\[31m" if status != 503 else "503"):
        remote.manifest("t")
    with pytest.raises(NetworkError):
        remote.has_blob(digests.of(b"x"))


class TokenService:
    """A registry that wants a bearer token, and the service that gives it."""

    def __init__(self, layout: Layout, image: Descriptor) -> None:
        self.answer = serving(layout, image, {})
        self.realm = ""
        self.asked: list[dict[str, list[str]]] = []
        self.passwords: list[str | None] = []

    def registry(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.headers.get("Authorization") != f"Bearer token-{len(self.asked)}":
            challenge = f'Bearer realm="{self.realm}",service="here",scope="repository:a/b:pull"'
            reply(handler, 401, b"{}", WWW_Authenticate=challenge)
            return
        self.answer(handler)

    def tokens(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(parse_qs(urlsplit(handler.path).query))
        self.passwords.append(handler.headers.get("Authorization"))
        reply(handler, 200, json.dumps({"token": f"token-{len(self.asked)}"}).encode())


def test_a_bearer_token_is_fetched_once(serve: Serve, client: Client, tmp_path: Path) -> None:
    """The token service is asked with our scope and password; the password goes nowhere else."""
    layout, image = make_image(tmp_path / "store")
    service = TokenService(layout, image)
    host = serve(service.registry).removeprefix("http://")
    service.realm = serve(service.tokens) + "/token"
    known = {host: Credential("captain", "secret")}
    allowed = frozenset({host, urlsplit(service.realm).netloc})
    remote = Registry(client, host, plain_http=allowed, credentials=known).repository("a/b")
    assert pull(remote, "t", Layout(tmp_path / "target")).digest == image.digest
    assert service.asked == [{"scope": ["repository:a/b:pull"], "service": ["here"]}]
    assert service.passwords == [Credential("captain", "secret").basic]


def test_a_password_is_not_sent_without_tls(serve: Serve, client: Client, tmp_path: Path) -> None:
    """A token service on plain HTTP that the user has not listed gets nothing."""
    layout, image = make_image(tmp_path / "store")
    service = TokenService(layout, image)
    host = serve(service.registry).removeprefix("http://")
    service.realm = serve(service.tokens) + "/token"
    known = {host: Credential("captain", "secret")}
    remote = Registry(client, host, plain_http=frozenset({host}), credentials=known).repository("a/b")
    with pytest.raises(NetworkError, match="without TLS"):
        remote.manifest("t")
    assert service.asked == []


def test_credentials_do_not_follow_an_upload_to_another_host(serve: Serve, client: Client, tmp_path: Path) -> None:
    """An upload location on another host is used, but without our password."""
    layout, image = make_image(tmp_path / "store", sizes=(10,))
    seen: list[tuple[str, str | None]] = []

    def storage(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        seen.append(("storage", handler.headers.get("Authorization")))
        reply(handler, 201)

    elsewhere = serve(storage)

    def registry(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        seen.append((handler.command, handler.headers.get("Authorization")))
        if not handler.headers.get("Authorization"):
            reply(handler, 401, WWW_Authenticate='Basic realm="x"')
        elif handler.command == "HEAD":
            reply(handler, 404)
        elif handler.command == "POST":
            reply(handler, 202, Location=f"{elsewhere}/upload?session=1")
        else:
            reply(handler, 201)

    host = serve(registry).removeprefix("http://")
    known = {host: Credential("captain", "secret")}
    remote = Registry(client, host, plain_http=frozenset({host}), credentials=known).repository("a/b")
    assert push(layout, image, remote, tags=["t"]).digest == image.digest
    assert {secret for where, secret in seen if where == "storage"} == {None}
    assert ("POST", Credential("captain", "secret").basic) in seen


def test_an_upload_is_repeated_from_its_start(serve: Serve, client: Client, tmp_path: Path) -> None:
    """A registry that fails in the middle of an upload gets a new session with all bytes; no byte counts twice."""
    layout, image = make_image(tmp_path / "store", sizes=(3_000_000,))
    received: dict[str, int] = {}
    failures = 1

    def registry(handler: BaseHTTPRequestHandler) -> None:
        nonlocal failures
        if handler.command == "PUT" and "/blobs/" in handler.path:
            size = int(handler.headers["Content-Length"])
            if size > 1_000_000 and failures:
                failures -= 1
                handler.rfile.read(500_000)
                handler.close_connection = True
                return
            received[parse_qs(urlsplit(handler.path).query)["digest"][0]] = len(handler.rfile.read(size))
            reply(handler, 201)
        elif handler.command == "POST":
            reply(handler, 202, Location=f"{handler.path}session")
        elif handler.command == "HEAD":
            reply(handler, 404)
        else:
            handler.rfile.read(int(handler.headers["Content-Length"]))
            reply(handler, 201)

    result = push(layout, image, repository(client, serve(registry)), tags=["t"])
    loaded = images.load(layout, image).manifest
    assert received == {blob.digest: blob.size for blob in (loaded.config, *loaded.layers)}
    assert result.sent_bytes == sum(received.values())


def test_a_registry_that_changes_manifests_is_refused(serve: Serve, client: Client) -> None:
    """A manifest stored under another digest than sent is an integrity error."""

    def registry(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        reply(handler, 201, Docker_Content_Digest=digests.of(b"other"))

    with pytest.raises(IntegrityError, match="instead of"):
        repository(client, serve(registry)).put_manifest("t", b"{}", documents.MANIFEST)


def test_pages_in_a_circle_end(serve: Serve, client: Client) -> None:
    """A list of tags whose next page is itself ends."""

    def registry(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200, b'{"tags":["a"]}', Link=f'<{handler.path}>; rel="next"')

    assert repository(client, serve(registry)).tags() == ["a"]
