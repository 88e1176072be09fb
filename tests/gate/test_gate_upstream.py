"""A gate in front of another registry: what is allowed lies there first; what goes wrong there shows nothing."""

import asyncio
import functools
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from gate_place import Answer, Place, artifact, digest_of, index, somebody
from servers import Serve, reply
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.gate import deciding
from tidewaiter.gate.judging import Allowed, Denied, Judgement
from tidewaiter.gate.terms import Terms
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.manifest import Descriptor

MakePlace = Callable[..., Place]
VIEWER = somebody("viewer")


class Behind:
    """A registry in memory that does what it should until `wrong` says otherwise."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.tags: dict[str, bytes] = {}
        self.log: list[str] = []
        self.wrong = ""
        self.storage = ""
        """Where blobs are to be had."""
        self.go = threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        path, _, query = handler.path.partition("?")
        self.log.append(f"{handler.command} {path}")
        if self.wrong == "hangs":
            self.go.wait(20)
        elif self.wrong == "fails":
            reply(handler, 500, b"oops")
        elif self.wrong == "a page":
            reply(handler, 200, b"<html><title>Log in</title></html>", Content_Type="text/html")
        elif handler.command == "DELETE":
            last = path.rpartition("/")[2]
            gone = self.manifests.pop(last, None) or self.tags.pop(last, None)
            self.tags = {tag: data for tag, data in self.tags.items() if data != gone or ":" not in last}
            reply(handler, 202 if gone else 404, b"{}")
        elif handler.command in {"GET", "HEAD"}:
            self._read(handler, path.rpartition("/")[2], "blobs" in path)
        else:
            self._write(handler, path, query, body)

    def _read(self, handler: BaseHTTPRequestHandler, last: str, blob: bool) -> None:
        found = (self.blobs if blob else {**self.manifests, **self.tags}).get(last)
        if found is None:
            reply(handler, 404, b"{}")
            return
        kind = "application/octet-stream" if blob else documents.MANIFEST
        if handler.command == "GET" and blob and self.storage:
            reply(handler, 307, Location=f"{self.storage}/{last}")
            return
        if handler.command == "GET" and self.wrong == "lies":
            found = bytes(255 - byte for byte in found)
        if handler.command == "GET" and self.wrong == "cuts":
            reply(handler, 200, found[: len(found) // 2], length=len(found), Content_Type=kind)
        elif handler.command == "GET" and self.wrong == "adds":
            reply(handler, 200, found + b" ", Content_Type=kind)
        else:
            reply(handler, 200, found, Content_Type=kind)

    def _write(self, handler: BaseHTTPRequestHandler, path: str, query: str, body: bytes) -> None:
        if handler.command == "POST":
            reply(handler, 202, Location=f"{path}1")
        elif "/manifests/" in path:
            last = path.rpartition("/")[2]
            (self.manifests if ":" in last else self.tags)[last] = body
            told = "sha256:" + "0" * 64 if self.wrong == "renames" else f"sha256:{hashlib.sha256(body).hexdigest()}"
            reply(handler, 201, Docker_Content_Digest=told, OCI_Subject="sha256:1")
        else:
            self.blobs[query.removeprefix("digest=").replace("%3A", ":")] = body
            reply(handler, 201)


@pytest.fixture
def behind() -> Iterator[Behind]:
    made = Behind()
    yield made
    made.go.set()


class Judge:
    """Allows all but the references in `denied`."""

    def __init__(self) -> None:
        self.denied: set[str] = set()

    def __call__(self, _: str, reference: str, __: Descriptor, /) -> Judgement:
        if reference in self.denied:
            return Denied("research", (), "It is bad. Mend it.")
        return Allowed("research")


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def front(make_place: MakePlace, serve: Serve, behind: Behind, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A gate that judges, in front of that registry."""
    monkeypatch.setattr(limits, "GATE_UPSTREAM_SECONDS", 0.5)
    monkeypatch.setattr(limits, "GATE_UPSTREAM_ATTEMPTS", 1)
    host = serve(behind).removeprefix("http://")
    place = make_place(
        written=f'gate_upstream = "{host}/far"\nplain_http = "{host}"\n',
        judge=judge,
        terms=lambda name: Terms(environment="open" if name.startswith("open") else "research"),
    )
    told = place.catalog.decided

    def without_verdict(*args: object, by_verdict: bool, **options: object) -> tuple[str, ...]:
        return told(*args, by_verdict=False, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(place.catalog, "decided", without_verdict)  # this judge records none
    return place


def seen(place: Place, name: str) -> Answer:
    """What a viewer gets for a manifest of `a`."""
    return place.ask("GET", f"/a/manifests/{name}", who=VIEWER)


def layer_of(image: bytes) -> str:
    """Digest of the first layer."""
    return str(json.loads(image)["layers"][0]["digest"])


def forget(place: Place, *found: str) -> None:
    """Take blobs and manifests out of the store."""
    for one in found:
        place.store.blob_path(one).unlink()  # type: ignore[arg-type]  # digests of the test are text


def test_what_is_allowed_lies_there_first(front: Place, behind: Behind, judge: Judge) -> None:
    """Nothing of a denied image is sent; of an allowed one blobs, manifest and tag, in that order; then it shows."""
    judge.denied.add("bad")
    assert front.put("a", "bad", front.image("a", b"bad layer")).status == 403
    assert behind.log == []
    image = front.image("a")
    assert front.put("a", "v1", image).status == 201
    assert set(behind.blobs) == {layer_of(image), json.loads(image)["config"]["digest"]}
    assert (behind.manifests, behind.tags) == ({digest_of(image): image}, {"v1": image})
    puts = [one for one in behind.log if one.startswith("PUT")]
    assert [one.rpartition("/")[2] for one in puts[2:]] == [digest_of(image), "v1"]
    assert all(" /v2/far/a/" in one for one in behind.log)
    assert seen(front, "v1").body == image


def test_what_lies_there_otherwise_is_not_seen(front: Place, behind: Behind) -> None:
    """Tags and manifests of the upstream that nobody cleared here do not exist here."""
    image = front.image("a")
    assert front.put("a", "v1", image).status == 201
    behind.tags["smuggled"] = behind.manifests[digest_of(b"{}")] = b"{}"
    assert seen(front, "smuggled").status == 404
    assert seen(front, digest_of(b"{}")).status == 404
    assert front.ask("GET", "/a/tags/list").json["tags"] == ["v1"]


@pytest.mark.parametrize("wrong", ["hangs", "fails", "a page", "renames"])
def test_an_upstream_that_fails_lets_nothing_show(front: Place, behind: Behind, wrong: str) -> None:
    """A push is told to come again, in a registry's words; nothing shows; later it is handed over without a push."""
    image = front.image("a")
    behind.wrong = wrong
    answer = front.put("a", "v1", image)
    assert (answer.status, answer.code) == (503, "UNAVAILABLE"), answer
    assert "behind this one" in answer.message
    assert "retry-after" in answer.headers
    assert [seen(front, name).status for name in ("v1", digest_of(image))] == [404, 404]
    assert front.ask("GET", f"/a/blobs/{layer_of(image)}", who=VIEWER).status == 404
    behind.wrong = ""
    assert deciding.release(front.registry, front.registry.take_nudged()) == ("a:v1",)
    assert behind.tags == {"v1": image}
    assert seen(front, "v1").status == 200


def test_a_new_tag_waits_as_well(front: Place, behind: Behind) -> None:
    """A tag that could not be handed over does not show, though its image does; it is handed over later."""
    image = front.image("a")
    assert front.put("a", "v1", image).status == 201
    behind.wrong = "fails"
    assert front.put("a", "v2", image).status == 503
    assert [seen(front, name).status for name in ("v1", "v2")] == [200, 404]
    behind.wrong = ""
    assert deciding.release(front.registry, front.registry.take_nudged()) == ("a:v2",)
    assert behind.tags["v2"] == image
    assert seen(front, "v2").status == 200


def test_indexes_and_referrers_are_handed_over(front: Place, behind: Behind) -> None:
    """The images of an index go before it; what refers to an image goes, too, also in an open repository."""
    children = (front.image("a", b"one"), front.image("a", b"two"))
    for child in children:
        assert front.put("a", digest_of(child), child).status == 201
    both = index(*children)
    assert front.put("a", "both", both, media_type=documents.INDEX).status == 201
    assert {*map(digest_of, children), digest_of(both)} <= set(behind.manifests)
    image = front.image("open/b")
    note = artifact(front, "open/b", "application/vnd.acme.note", subject=image)
    assert front.put("open/b", digest_of(note), note).status == 201
    assert behind.manifests[digest_of(note)] == note


def test_what_the_store_lost_comes_from_there(front: Place, behind: Behind) -> None:
    """Manifests and blobs that are not in the store any more are handed on, whole and verified."""
    big = bytes(range(256)) * 9000
    image = front.image("a", big)
    assert front.put("a", "v1", image).status == 201
    forget(front, layer_of(image), digest_of(image))
    assert seen(front, "v1").body == image
    for headers in ({}, {"range": "bytes=5-9"}):
        answer = front.ask("GET", f"/a/blobs/{layer_of(image)}", who=VIEWER, headers=headers)
        assert (answer.status, answer.body) == (200, big)
        assert (answer.headers["content-length"], answer.headers.get("content-range")) == (str(len(big)), None)


@pytest.mark.parametrize("right", [True, False])
def test_a_storage_that_it_points_to_is_asked_from_here(
    front: Place, behind: Behind, serve: Serve, right: bool
) -> None:
    """Where a registry leads to its storage the gate goes itself and compares what comes; no client is sent there."""
    big = bytes(range(256)) * 9000
    asked: list[str | None] = []

    def storage(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers.get("Authorization"))
        reply(handler, 200, big if right else bytes(len(big)))

    behind.storage = serve(storage)
    image = front.image("a", big)
    assert front.put("a", "v1", image).status == 201
    forget(front, layer_of(image))
    answer = front.ask("GET", f"/a/blobs/{layer_of(image)}", who=VIEWER)
    assert (answer.status, "location" in answer.headers) == (200, False)
    assert (answer.body == big) == right
    assert len(answer.body) == len(big) or not right
    assert asked == [None]


@pytest.mark.parametrize("wrong", ["hangs", "fails", "a page", "lies", "cuts", "adds"])
@pytest.mark.parametrize("size", [100, 3_000_000])
def test_no_blob_is_handed_on_whole_that_is_not_right(front: Place, behind: Behind, wrong: str, size: int) -> None:
    """Whatever the upstream sends instead, a small blob is an error and a large one never becomes complete."""
    data = (b"0123456789" * (size // 10))[:size]
    image = front.image("a", data)
    assert front.put("a", "v1", image).status == 201
    forget(front, layer_of(image), digest_of(image))
    behind.wrong = wrong
    answer = front.ask("GET", f"/a/blobs/{layer_of(image)}", who=VIEWER)
    if answer.status == 200:
        assert size > 100
        assert len(answer.body) < size
    else:
        assert (answer.status, answer.code) == (503, "UNAVAILABLE"), answer
    told = seen(front, "v1")
    assert (told.status, told.code) == (503, "UNAVAILABLE"), told


def test_a_stop_ends_what_hangs_there(front: Place, behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing does not wait for an upstream that says nothing."""
    monkeypatch.setattr(limits, "GATE_JUDGE_SECONDS", 0.1)
    image = front.image("a")
    behind.wrong = "hangs"
    assert front.put("a", "v1", image).status == 503
    began = time.monotonic()
    front.registry.close()
    assert time.monotonic() - began < 8


def test_deletions_are_handed_over(front: Place, behind: Behind) -> None:
    """A tag, and a manifest with its tags, go there as well."""
    image = front.image("a")
    for tag in ("v1", "v2"):
        assert front.put("a", tag, image).status == 201
    assert front.ask("DELETE", "/a/manifests/v1").status == 202
    assert (list(behind.tags), list(behind.manifests)) == (["v2"], [digest_of(image)])
    assert front.ask("DELETE", f"/a/manifests/{digest_of(image)}").status == 202
    assert (behind.tags, behind.manifests) == ({}, {})
    assert front.put("a", "v1", image).status == 201
    assert behind.tags == {"v1": image}


@pytest.mark.parametrize("wrong", ["hangs", "fails", "a page"])
def test_what_cannot_be_deleted_there_is_gone_here(
    front: Place, behind: Behind, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A registry that refuses, or says nothing, keeps nothing visible here; the log says what lies there still."""
    image = front.image("a")
    assert front.put("a", "v1", image).status == 201
    behind.wrong = wrong
    assert front.ask("DELETE", "/a/manifests/v1").status == 202
    assert seen(front, "v1").status == 404
    assert "a@v1 is deleted here only" in caplog.text


@pytest.mark.parametrize(
    "database_kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.interop)], indirect=True
)
def test_two_servers_push_one_tag(front: Place, behind: Behind, judge: Judge) -> None:
    """Whichever of two servers pushes last, the tag means the same here and there."""
    other = Place(front.settings.home.path, judge=judge, terms=lambda _: Terms(environment="research"))
    other.catalog.decided = functools.partial(_without_verdict, other.catalog.decided)  # type: ignore[method-assign]  # this judge records none
    images = [front.image("a", bytes([number])) for number in range(6)]

    async def all_of() -> list[Answer]:
        places = (front, other)
        return await asyncio.gather(*(places[n % 2].putting("a", "v1", one) for n, one in enumerate(images)))

    try:
        assert {one.status for one in asyncio.run(all_of())} == {201}
        assert seen(front, "v1").body == seen(other, "v1").body == behind.tags["v1"]
    finally:
        other.close()


def _without_verdict(decided: Callable[..., tuple[str, ...]], *args: object, **options: object) -> tuple[str, ...]:
    return decided(*args, **{**options, "by_verdict": False})


def test_an_address_that_is_none(make_place: MakePlace) -> None:
    """A setting that names no host is refused before anything is served."""
    with pytest.raises(InputError, match="gate_upstream"):
        make_place(written='gate_upstream = "registry"\n')
