"""What a tag names is rewritten without losing what others write meanwhile, as far as a registry allows."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from servers import Serve, reply
from tidewaiter.core.errors import InputError, LimitError, NetworkError
from tidewaiter.distribution import attached, rewriting
from tidewaiter.distribution.registry import RawManifest, Registry, Repository
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.manifest import Descriptor
from tidewaiter.transport.client import Client

TAG = "list"


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(pause=lambda _: None) as one:
        yield one


def repository(client: Client, url: str) -> Repository:
    host = url.removeprefix("http://")
    return Registry(client, host, plain_http=frozenset({host})).repository("a/b")


def layer(number: int, signature: str = "") -> Descriptor:
    data = str(number).encode()
    return Descriptor("application/octet-stream", digests.of(data), len(data), {attached.SIGNATURE: signature})


def manifest(*numbers: int) -> RawManifest:
    _, data = attached.compose([layer(number) for number in numbers])
    return RawManifest(data, documents.MANIFEST, digests.of(data))


def numbers(data: bytes) -> list[int]:
    """Of the layers, in order."""
    known = {layer(number).digest: number for number in range(200)}
    return [known[one["digest"]] for one in json.loads(data)["layers"]]


class OneTag:
    """A registry with one tag; others write to it before each write of ours, as often as `others` says."""

    def __init__(self, *, conditional: bool, others: int = 0, etag: str = '"{}"', refusal: int = 412) -> None:
        self.data: bytes | None = None
        self.conditional = conditional
        self.others = others
        self.etag = etag
        self.refusal = refusal
        self.writes: list[tuple[str | None, str | None]] = []

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "PUT" and "/manifests/" in handler.path:
            self.put(handler)
        elif "/manifests/" in handler.path and self.data is not None:
            tag = self.etag.format(digests.of(self.data))
            reply(handler, 200, self.data, Content_Type=documents.MANIFEST, ETag=tag)
        else:
            reply(handler, 200 if handler.command == "HEAD" else 404)

    def put(self, handler: BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers["Content-Length"]))
        wanted, unwanted = handler.headers["If-Match"], handler.headers["If-None-Match"]
        self.writes.append((wanted, unwanted))
        if self.others:
            self.others -= 1
            there = numbers(self.data) if self.data else []
            self.data = manifest(*there, 100 + self.others).data
        named = f'"{digests.of(self.data)}"' if self.data else None
        fits = (wanted is None or wanted == named) and (unwanted is None or named is None)
        if self.conditional and not fits:
            reply(handler, self.refusal)
            return
        self.data = data
        reply(handler, 201)


def add(client: Client, serve: Serve, registry: OneTag, *wanted: int) -> int:
    return attached.add(repository(client, serve(registry)), TAG, manifest(*wanted), lambda _: None)


def test_with_conditions_nobody_loses_anything(client: Client, serve: Serve) -> None:
    """A registry that honours If-Match and If-None-Match: who comes in between stays."""
    registry = OneTag(conditional=True, others=3)
    assert add(client, serve, registry, 1, 2) == 2
    assert registry.data is not None
    assert numbers(registry.data) == [102, 101, 100, 1, 2]
    assert registry.writes[0] == (None, "*")
    assert all(match and not unless for match, unless in registry.writes[1:])


def test_without_conditions_ours_is_there_in_the_end(client: Client, serve: Serve) -> None:
    """A registry that ignores conditions takes the last writer's word; ours is looked for after the write."""
    registry = OneTag(conditional=False)
    assert add(client, serve, registry, 1) == 1
    assert add(client, serve, registry, 2) == 1
    assert registry.data is not None
    assert numbers(registry.data) == [1, 2]
    assert len(registry.writes) == 2
    assert add(client, serve, registry, 1) == 0
    assert len(registry.writes) == 2


@pytest.mark.parametrize("etag", ['W/"{}"', '"of the compressed bytes of {}"', ""])
def test_a_condition_that_never_holds_is_left_out(client: Client, serve: Serve, etag: str) -> None:
    """A proxy that makes entity tags of its own: when nobody has written and the condition failed, it is not asked."""
    registry = OneTag(conditional=True, etag=etag)
    registry.data = manifest(1).data
    assert add(client, serve, registry, 2) == 1
    assert numbers(registry.data) == [1, 2]


@pytest.mark.parametrize("refusal", [400, 501])
def test_a_registry_that_refuses_conditions(client: Client, serve: Serve, refusal: int) -> None:
    """One that does not know conditions, and says so, is asked again without them."""
    registry = OneTag(conditional=True, etag='"its own"', refusal=refusal)
    registry.data = manifest(1).data
    assert add(client, serve, registry, 2) == 1
    assert numbers(registry.data) == [1, 2]
    assert registry.writes == [('"its own"', None), (None, None)]


def test_others_that_never_stop_end_in_words(client: Client, serve: Serve) -> None:
    """When others change the tag before every write, it is said after a bounded number of them."""
    registry = OneTag(conditional=True, others=20)
    with pytest.raises(NetworkError, match="being changed by others") as error:
        add(client, serve, registry, 1)
    assert error.value.code == "busy"
    assert len(registry.writes) == 10


def test_a_change_that_is_there_writes_nothing(client: Client, serve: Serve) -> None:
    """Nothing to do is found out with one question."""
    registry = OneTag(conditional=False)
    registry.data = manifest(1, 2, 3).data
    rewriting.rewrite(repository(client, serve(registry)), TAG, lambda _: None)
    assert add(client, serve, registry, 3) == 0
    assert registry.writes == []


def test_two_manifests_are_united_layer_by_layer() -> None:
    """Theirs first, then ours that are missing; one that holds the other is taken as it is, to the byte."""
    both = attached.unite(manifest(1, 2), manifest(2, 3), "x")
    assert both is not None
    assert (numbers(both.data), [one.digest for one in both.added]) == ([1, 2, 3], [layer(3).digest])
    larger = attached.unite(manifest(1), manifest(2, 1), "x")
    assert larger is not None
    assert (larger.data, larger.config) == (manifest(2, 1).data, None)
    assert attached.unite(manifest(1, 2), manifest(2), "x") is None
    alone = attached.unite(None, manifest(7), "x")
    assert alone is not None
    assert alone.data == manifest(7).data


def test_two_signatures_over_one_payload_are_two() -> None:
    """Layers of the same bytes and of different signatures are not the same."""
    known = [layer(1, "YQ==")]
    assert attached.missing([layer(1, "YQ=="), layer(1, "Yg=="), layer(1, "Yg==")], known) == [layer(1, "Yg==")]


def test_there_is_a_bound() -> None:
    """A hundred fit under one tag, one more does not; an index is none of them."""
    hundred = attached.unite(manifest(*range(60)), manifest(*range(60, 100)), "x")
    assert hundred is not None
    assert len(numbers(hundred.data)) == 100
    with pytest.raises(LimitError, match="101"):
        attached.unite(manifest(*range(60)), manifest(*range(60, 101)), "x")
    index = documents.encode(documents.Index(schema_version=2, media_type=documents.INDEX, manifests=[]))
    with pytest.raises(InputError, match="is an index"):
        attached.unite(RawManifest(index, documents.INDEX, digests.of(index)), manifest(1), "x")


def test_what_is_outdated_gives_way_and_stays_away() -> None:
    """Where not all have room, as many as must go of those that nobody needs; then there is nothing more to do."""
    old = {layer(number).digest for number in (1, 61)}
    united = attached.unite(manifest(*range(60)), manifest(*range(60, 102)), "x", lambda: old)
    assert united is not None
    assert numbers(united.data) == [number for number in range(102) if number not in {1, 61}]
    there = RawManifest(united.data, united.media_type, united.descriptor.digest)
    assert attached.unite(there, manifest(*range(60, 102)), "x", lambda: old) is None
    # What would be added goes first: else two that both are outdated would take turns for ever.
    full = manifest(*range(100))
    assert attached.unite(full, manifest(100), "x", lambda: {layer(1).digest, layer(100).digest}) is None
    with pytest.raises(LimitError, match="103"):
        attached.unite(manifest(*range(60)), manifest(*range(60, 103)), "x", lambda: old)
