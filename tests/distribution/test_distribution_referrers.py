"""`distribution.referrers`: the API of the specification, its pages and filters, and the fallback tag."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from servers import Serve, reply
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NetworkError
from tidewaiter.distribution import referrers
from tidewaiter.distribution.registry import Registry, Repository
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.manifest import Descriptor, Index, Manifest
from tidewaiter.transport.client import Client, Timeouts

SUBJECT = Descriptor(media_type=documents.MANIFEST, digest=digests.of(b"subject"), size=7)
SBOM = "application/spdx+json"


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(timeouts=Timeouts(connect=2, read=2), pause=lambda _: None) as one:
        yield one


def repository(client: Client, url: str, locks: Path | None = None) -> Repository:
    host = url.removeprefix("http://")
    return Registry(client, host, plain_http=frozenset({host}), lock_directory=locks).repository("a/b")


def entry(number: int, artifact_type: str = SBOM) -> Descriptor:
    digest = digests.of(str(number).encode())
    return Descriptor(media_type=documents.MANIFEST, digest=digest, size=number, artifact_type=artifact_type)


def index(*entries: Descriptor) -> bytes:
    return documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=list(entries)))


def artifact(number: int) -> bytes:
    empty = Descriptor(media_type=documents.EMPTY, digest=digests.of(b"{}"), size=2)
    return documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            artifact_type=SBOM,
            config=empty,
            layers=[empty],
            subject=SUBJECT,
            annotations={"number": str(number), "org.example": "kept"},
        )
    )


def test_all_pages_are_read_and_filtered_by_us(serve: Serve, client: Client) -> None:
    """Absolute and relative Links are followed on our host; what a registry did not filter, we do."""
    asked: list[str] = []

    def registry(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        base = f"/v2/a/b/referrers/{SUBJECT.digest}"
        if "page=2" in handler.path:
            reply(handler, 200, index(entry(2), entry(3, "other/type")), Content_Type=documents.INDEX)
        else:
            link = f'<https://internal.example:8443{base}?page=2>; rel="next"'
            reply(handler, 200, index(entry(1), entry(2)), Content_Type=documents.INDEX, Link=link)

    remote = repository(client, serve(registry))
    assert remote.referrers(SUBJECT.digest, SBOM) == (entry(1), entry(2))
    assert asked == [
        f"/v2/a/b/referrers/{SUBJECT.digest}?artifactType=application%2Fspdx%2Bjson",
        f"/v2/a/b/referrers/{SUBJECT.digest}?page=2",
    ]
    assert len(remote.referrers(SUBJECT.digest)) == 3


def test_pages_in_a_circle_end_and_their_number_is_bounded(
    serve: Serve, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same page again is the end; INDEX_MANIFESTS holds over all pages."""
    count = 0

    def registry(handler: BaseHTTPRequestHandler) -> None:
        nonlocal count
        count += 1
        page = index(entry(0 if "circle" in handler.path else count))
        reply(handler, 200, page, Content_Type=documents.INDEX, Link=f'<{handler.path}>; rel="next"')

    remote = repository(client, serve(registry))
    monkeypatch.setattr(limits, "INDEX_MANIFESTS", 5)
    with pytest.raises(LimitError):
        remote.referrers(SUBJECT.digest)
    assert count == 6
    path = serve(lambda h: reply(h, 200, index(entry(1)), Content_Type=documents.INDEX, Link=f'<{h.path}>; rel="next"'))
    assert repository(client, path).referrers(SUBJECT.digest) == (entry(1),)


@pytest.mark.parametrize(
    ("status", "body"), [(404, b"404 page not found"), (405, b""), (400, b'{"errors":[{"code":"UNSUPPORTED"}]}')]
)
def test_the_fallback_tag_is_read_where_there_is_no_api(serve: Serve, client: Client, status: int, body: bytes) -> None:
    """A registry without the API has the list under `sha256-HEX`; no such tag means no referrers."""
    found: bytes | None = index(entry(1), entry(2, "other/type"))

    def registry(handler: BaseHTTPRequestHandler) -> None:
        if "/referrers/" in handler.path:
            reply(handler, status, body)
        elif found is None:
            reply(handler, 404)
        else:
            assert handler.path == "/v2/a/b/manifests/" + SUBJECT.digest.replace(":", "-")
            reply(handler, 200, found, Content_Type=documents.INDEX)

    remote = repository(client, serve(registry))
    assert remote.referrers(SUBJECT.digest, SBOM) == (entry(1),)
    found = None
    assert remote.referrers(SUBJECT.digest) == ()


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_refusal_is_not_an_empty_list(serve: Serve, client: Client, status: int) -> None:
    """Not being told who refers to an image is an error, never "nobody"."""
    remote = repository(client, serve(lambda handler: reply(handler, status, b"")))
    with pytest.raises(NetworkError):
        remote.referrers(SUBJECT.digest)


def test_a_page_that_is_no_index_is_an_error(serve: Serve, client: Client) -> None:
    """HTML with status 200, and a manifest under the fallback tag, are refused."""
    with pytest.raises(NetworkError, match="no list of referrers"):
        repository(client, serve(lambda h: reply(h, 200, b"<html>"))).referrers(SUBJECT.digest)

    def registry(handler: BaseHTTPRequestHandler) -> None:
        if "/referrers/" in handler.path:
            reply(handler, 404)
        else:
            reply(handler, 200, artifact(1), Content_Type=documents.MANIFEST)

    with pytest.raises(InputError, match="not a list of referrers"):
        repository(client, serve(registry)).referrers(SUBJECT.digest)


def test_the_tag_of_a_long_digest_is_cut() -> None:
    """Algorithm and digits are cut at 32 and 64 characters, as the specification says."""
    assert referrers.tag(digests.parse("sha512:" + "ab" * 64)) == "sha512-" + "ab" * 32


class PlainRegistry:
    """Manifests only; with `api` it says that it keeps referrers itself."""

    def __init__(self, *, api: bool = False) -> None:
        self.manifests: dict[str, bytes] = {}
        self.api = api

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        kind, target = handler.path.split("/")[-2:]
        if kind != "manifests":
            reply(handler, 404)
        elif handler.command == "PUT":
            data = handler.rfile.read(int(handler.headers["Content-Length"]))
            self.manifests[target] = self.manifests[digests.of(data)] = data
            if self.api:
                reply(handler, 201, Docker_Content_Digest=digests.of(data), OCI_Subject=SUBJECT.digest)
            else:
                reply(handler, 201, Docker_Content_Digest=digests.of(data))
        elif handler.command == "DELETE":
            self.manifests = {name: data for name, data in self.manifests.items() if digests.of(data) != target}
            reply(handler, 202)
        elif target in self.manifests:
            data = self.manifests[target]
            reply(handler, 200, data, Content_Type=json.loads(data)["mediaType"])
        else:
            reply(handler, 404)


def test_a_pushed_referrer_is_entered_and_taken_out(serve: Serve, client: Client, tmp_path: Path) -> None:
    """The entry has size, artifact type and all annotations; pushing twice makes one; deleting removes it."""
    registry = PlainRegistry()
    remote = repository(client, serve(registry), tmp_path)
    one, two = artifact(1), artifact(2)
    for data in (one, two, one):
        remote.put_manifest(digests.of(data), data, documents.MANIFEST)
    listed = remote.referrers(SUBJECT.digest)
    assert [found.digest for found in listed] == [digests.of(one), digests.of(two)]
    assert listed[0] == Descriptor(
        media_type=documents.MANIFEST,
        digest=digests.of(one),
        size=len(one),
        artifact_type=SBOM,
        annotations={"number": "1", "org.example": "kept"},
    )
    remote.delete_manifest(digests.of(one))
    assert [found.digest for found in remote.referrers(SUBJECT.digest)] == [digests.of(two)]


def test_a_registry_that_lists_referrers_gets_no_tag(serve: Serve, client: Client) -> None:
    """OCI-Subject in the answer means that the registry keeps the list."""
    registry = PlainRegistry(api=True)
    data = artifact(1)
    repository(client, serve(registry)).put_manifest("sig", data, documents.MANIFEST)
    assert set(registry.manifests) == {"sig", digests.of(data)}


def test_two_at_once_lose_nothing(serve: Serve, client: Client, tmp_path: Path) -> None:
    """Threads that enter referrers of one subject at the same time take turns under the lock."""
    remote = repository(client, serve(PlainRegistry()), tmp_path)
    many = [artifact(number) for number in range(8)]
    threads = [
        threading.Thread(target=remote.put_manifest, args=(digests.of(data), data, documents.MANIFEST)) for data in many
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {found.digest for found in remote.referrers(SUBJECT.digest)} == {digests.of(data) for data in many}
