"""The protocol beyond what the conformance suite asks: order of chunks, ranges, pages, quotas, clients that leave."""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from gate_place import NOBODY, Answer, Place, artifact, digest_of, index, manifest, somebody
from tidewaiter.core import limits
from tidewaiter.gate.blobs import span
from tidewaiter.gate.refusals import RefusalError
from tidewaiter.gate.terms import Terms
from tidewaiter.oci import manifest as documents

DATA = os.urandom(2_000_000)


def begun(place: Place, repository: str = "a") -> str:
    """The address of a new upload."""
    answer = place.ask("POST", f"/{repository}/blobs/uploads/")
    assert (answer.status, answer.headers["range"]) == (202, "0-0")
    assert answer.headers["oci-chunk-min-length"] == str(limits.GATE_CHUNK_LEAST_BYTES)
    return answer.headers["location"].removeprefix("/v2")


def chunk(place: Place, where: str, data: bytes | list[bytes], header: str, **options: Any) -> Answer:
    """The answer to a chunk."""
    return place.ask("PATCH", where, data, headers={"content-range": header}, **options)


def test_chunks_come_in_order(place: Place) -> None:
    """A chunk that does not follow is 416 with the place where the upload is; then the right one is taken."""
    where = begun(place)
    assert chunk(place, where, DATA[:100], "0-99").status == 202
    for header in ("50-149", "101-200", "0-99"):
        wrong = chunk(place, where, DATA[:100], header)
        assert (wrong.status, wrong.headers["range"], wrong.headers["location"]) == (416, "0-99", "/v2" + where)
    for header in ("x", "99-1", "100", "100-199, 200-299", "-5"):
        assert chunk(place, where, DATA[:100], header).status == 416
    assert chunk(place, where, DATA[100:200], "100-250").status == 400
    assert chunk(place, where, [DATA[100:200], DATA[200:300]], "100-199").status == 400
    told = place.ask("GET", where)
    assert told.status == 204
    came = int(told.headers["range"].removeprefix("0-")) + 1
    last = place.ask("PUT", f"{where}?digest={digest_of(DATA)}", DATA[came:])
    assert last.status == 201
    assert place.ask("GET", f"/a/blobs/{digest_of(DATA)}").body == DATA


def test_a_client_that_leaves_can_go_on(place: Place) -> None:
    """What came before the connection broke is kept, and the rest completes the blob."""
    where = begun(place)
    assert place.ask("PATCH", where, [DATA[:700_000], DATA[700_000:900_000]], leaves=True).status == 0
    assert place.ask("GET", where).headers["range"] == "0-899999"
    assert place.ask("PUT", f"{where}?digest={digest_of(DATA)}", DATA[900_000:]).status == 201


def test_a_silent_client_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends nothing for too long gets 408; what came is kept."""
    monkeypatch.setattr(limits, "GATE_SILENT_SECONDS", 0.0)
    where = begun(place)
    assert place.ask("PATCH", where, DATA[:10]).status == 408
    assert place.ask("GET", where).status == 204


def test_an_upload_that_is_cancelled_is_gone(place: Place) -> None:
    """After DELETE nothing of the upload is known, also not in another repository."""
    where = begun(place)
    assert place.ask("DELETE", where.replace("/a/", "/b/")).status == 404
    assert place.ask("DELETE", where).status == 204
    for method in ("GET", "PATCH", "DELETE"):
        assert (place.ask(method, where).code) == "BLOB_UPLOAD_UNKNOWN"
    assert place.ask("PUT", f"{where}?digest={digest_of(b'')}").status == 404


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("?digest=sha256:abc", "DIGEST_INVALID"),
        ("?digest=md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID"),
        (f"?digest={digest_of(b'x')}&digest={digest_of(b'y')}", "UNSUPPORTED"),
        (f"?digest={digest_of(b'other')}", "DIGEST_INVALID"),
        ("?mount=nonsense&from=b", "DIGEST_INVALID"),
        (f"?mount={digest_of(b'x')}&from=../b", "NAME_INVALID"),
    ],
)
def test_malformed_pushes(place: Place, path: str, code: str) -> None:
    """Digests and names in parameters are read as strictly as those in paths."""
    answer = place.ask("POST", f"/a/blobs/uploads/{path}", b"data")
    assert (answer.status, answer.code) == (400, code)
    assert list(place.store.blobs()) == []


def test_two_requests_for_one_upload(place: Place) -> None:
    """Of two that go on with an upload at once one is told so; nothing is mixed."""
    where = begun(place)

    async def both() -> list[Answer]:
        return await asyncio.gather(*(place.asked("PATCH", where, [b"x" * 600_000] * 4) for _ in range(2)))

    assert sorted(one.status for one in asyncio.run(both())) == [202, 409]
    assert place.ask("GET", where).headers["range"] == "0-2399999"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=2-100", (2, 10)),
        ("bytes=5-2", None),
        ("bytes=0-1,3-4", None),
        ("lines=1-2", None),
        ("bytes=", None),
    ],
)
def test_ranges(header: str | None, found: tuple[int, int] | None) -> None:
    """Ranges are as RFC 9110 says; what is not understood, or is several, is the whole."""
    assert span(header, 10) == found


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_ranges_outside(header: str) -> None:
    """A range in which nothing lies is 416 and says how long the blob is."""
    with pytest.raises(RefusalError) as caught:
        span(header, 10)
    assert (caught.value.status, caught.value.headers) == (416, {"Content-Range": "bytes */10"})


def test_a_part_of_a_blob(place: Place) -> None:
    """A range gives those bytes, HEAD the length alone, and the tag of what is known already 304."""
    digest = place.blob("a", DATA)
    part = place.ask("GET", f"/a/blobs/{digest}", headers={"range": "bytes=1000000-1999998"})
    assert (part.status, part.headers["content-range"]) == (206, "bytes 1000000-1999998/2000000")
    assert part.body == DATA[1_000_000:1_999_999]
    head = place.ask("HEAD", f"/a/blobs/{digest}")
    assert (head.status, head.headers["content-length"], head.body) == (200, "2000000", b"")
    assert place.ask("GET", f"/a/blobs/{digest}", headers={"if-none-match": f'"{digest}"'}).status == 304
    assert place.ask("GET", f"/a/blobs/{place.blob('a', b'')}").body == b""


def test_tags_in_pages(place: Place) -> None:
    """Pages of tags follow each other by `Link`, sorted, and none is lost or told twice."""
    data = place.image("a")
    for number in range(7):
        assert place.put("a", f"v{number}", data).status == 201
    found, path = [], "/a/tags/list?n=3"
    while path:
        answer = place.ask("GET", path)
        found.append(answer.json["tags"])
        path = answer.headers.get("link", "").partition(">")[0].removeprefix("</v2")
    assert found == [["v0", "v1", "v2"], ["v3", "v4", "v5"], ["v6"]]
    assert place.ask("GET", "/a/tags/list?n=0").json["tags"] == []
    assert place.ask("GET", "/b/tags/list").code == "NAME_UNKNOWN"


def test_referrers_in_pages_and_by_type(place: Place) -> None:
    """Referrers come in pages, also of one type only; their annotations come along."""
    subject = place.image("a")
    for number in range(5):
        kind = "text/a" if number % 2 else "text/b"
        one = artifact(place, "a", kind, subject=subject, annotations={"number": str(number)})
        pushed = place.put("a", digest_of(one), one)
        assert (pushed.status, pushed.headers["oci-subject"]) == (201, digest_of(subject))
    numbers, path = [], f"/a/referrers/{digest_of(subject)}?artifactType=text/b&n=2"
    while path:
        answer = place.ask("GET", path)
        assert answer.headers["oci-filters-applied"] == "artifactType"
        numbers += [one["annotations"]["number"] for one in answer.json["manifests"]]
        path = answer.headers.get("link", "").partition(">")[0].removeprefix("</v2")
    assert sorted(numbers) == ["0", "2", "4"]
    whole = place.ask("GET", f"/a/referrers/{digest_of(subject)}")
    assert len(whole.json["manifests"]) == 5
    assert "oci-filters-applied" not in whole.headers
    assert place.ask("GET", f"/a/referrers/{digest_of(b'nothing')}").json["manifests"] == []


def test_long_annotations_make_short_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of referrers ends before it is too long for clients, and the next one goes on."""
    monkeypatch.setattr(limits, "GATE_REFERRERS_PAGE_BYTES", 1000)
    subject = place.image("a")
    for number in range(4):
        one = artifact(place, "a", "text/a", subject=subject, annotations={"n": str(number), "long": "x" * 400})
        assert place.put("a", digest_of(one), one).status == 201
    sizes, path = [], f"/a/referrers/{digest_of(subject)}"
    while path:
        answer = place.ask("GET", path)
        sizes.append(len(answer.json["manifests"]))
        path = answer.headers.get("link", "").partition(">")[0].removeprefix("</v2")
    assert sizes == [1, 1, 1, 1]


def test_referrers_to_nothing_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What refers to what is not there is taken, as the specification demands, up to a bound."""
    monkeypatch.setattr(limits, "GATE_UNKNOWN_SUBJECTS", 2)
    known = place.image("a")
    place.put("a", "v1", known)
    answers = []
    for number in range(3):
        one = artifact(place, "a", "text/a", subject=b"unknown", annotations={"n": str(number)})
        answers.append(place.put("a", digest_of(one), one))
    assert [one.status for one in answers] == [201, 201, 403]
    assert "too many" in answers[2].message
    fine = artifact(place, "a", "text/a", subject=known)
    assert place.put("a", digest_of(fine), fine).status == 201


def test_manifests_are_read_strictly(place: Place) -> None:
    """Bytes that are no manifest, say two things, name what is not there, or come under another digest are refused."""
    good = place.image("a")
    twice = good.replace(b'"schemaVersion": 2', b'"schemaVersion": 2, "config": {}', 1)
    both = json.dumps({**json.loads(good), "manifests": []}).encode()
    for data, options, status, code in (
        (b"", {}, 400, "MANIFEST_INVALID"),
        (b"[]", {}, 400, "MANIFEST_INVALID"),
        (twice, {}, 400, "MANIFEST_INVALID"),
        (both, {}, 400, "MANIFEST_INVALID"),
        (good, {"media_type": "text/plain"}, 400, "MANIFEST_INVALID"),
        (good, {"media_type": documents.INDEX}, 400, "MANIFEST_INVALID"),
        (good.replace(b'"size": 5', b'"size": -5'), {}, 400, "MANIFEST_INVALID"),
        (b"x" * (limits.MANIFEST_BYTES + 1), {}, 413, "MANIFEST_INVALID"),
    ):
        answer = place.put("a", "v1", data, **options)
        assert (answer.status, answer.code) == (status, code), data[:80]
    assert place.put("a", digest_of(b"other"), good).code == "DIGEST_INVALID"
    assert place.put("b", "v1", good).code == "MANIFEST_BLOB_UNKNOWN"
    assert place.ask("GET", "/a/manifests/v1").status == 404
    assert place.put("a", "v1", good).status == 201


def test_bytes_and_media_type_are_those_that_came(place: Place) -> None:
    """A manifest comes back byte for byte, white space and all, by tag and digest, with the type it was pushed with."""
    data = b" \n" + place.image("a") + b"\n\t "
    assert place.put("a", "v1", data).status == 201
    for reference in ("v1", digest_of(data)):
        found = place.ask("GET", f"/a/manifests/{reference}")
        assert (found.body, found.headers["content-type"]) == (data, documents.MANIFEST)
        assert found.headers["docker-content-digest"] == digest_of(data)
        assert place.ask("HEAD", f"/a/manifests/{reference}").headers["content-length"] == str(len(data))
    known = place.ask("GET", "/a/manifests/v1", headers={"if-none-match": f'"{digest_of(data)}"'})
    assert (known.status, known.body) == (304, b"")


def test_what_is_named_is_kept(place: Place) -> None:
    """A blob or manifest that another manifest names is not deleted before that; then it is, with its tags."""
    child = place.image("a")
    parent = index(child)
    place.put("a", "child", child)
    place.put("a", "v1", parent, media_type=documents.INDEX)
    layer = json.loads(child)["layers"][0]["digest"]
    assert place.ask("DELETE", f"/a/blobs/{layer}").code == "DENIED"
    assert "named by" in place.ask("DELETE", f"/a/manifests/{digest_of(child)}").message
    assert place.ask("DELETE", f"/a/manifests/{digest_of(parent)}").status == 202
    assert place.ask("GET", "/a/manifests/v1").status == 404
    assert place.ask("DELETE", f"/a/manifests/{digest_of(child)}").status == 202
    assert place.ask("GET", "/a/tags/list").json["tags"] == []
    assert place.ask("DELETE", f"/a/blobs/{layer}").status == 202
    assert place.ask("DELETE", f"/a/blobs/{layer}").status == 404


def test_a_tag_alone_is_deleted(place: Place) -> None:
    """Deleting a tag leaves the manifest and its other tags."""
    data = place.image("a")
    place.put("a", "v1", data)
    place.put("a", "v2", data)
    assert place.ask("DELETE", "/a/manifests/v1").status == 202
    assert place.ask("DELETE", "/a/manifests/v1").status == 404
    assert place.ask("GET", "/a/tags/list").json["tags"] == ["v2"]


def test_a_repository_that_is_full(make_place: Callable[..., Place]) -> None:
    """Blobs over a repository's bound are refused, whole, in chunks and mounted; nothing of them remains."""
    place = make_place(terms=lambda name: Terms(environment="open", bytes_at_most=None if name == "big" else 1000))
    place.blob("a", b"x" * 600)
    too_much = b"y" * 500
    assert place.ask("POST", f"/a/blobs/uploads/?digest={digest_of(too_much)}", too_much).status == 413
    assert place.ask("POST", f"/a/blobs/uploads/?digest={digest_of(too_much)}", [too_much]).status == 413
    place.blob("big", too_much)
    mounted = place.ask("POST", f"/a/blobs/uploads/?mount={digest_of(too_much)}&from=big")
    assert (mounted.status, mounted.code) == (403, "DENIED")
    place.blob("a", b"z" * 400)
    assert place.ask("POST", "/a/blobs/uploads/").code == "DENIED"
    assert not (place.store.path / ".uploads").exists() or not list((place.store.path / ".uploads").iterdir())


def test_a_blob_that_lost_its_file(place: Place) -> None:
    """What the catalog has and the disk lost is an error that does not look like a missing blob."""
    digest = place.blob("a", DATA)
    place.store.path.joinpath("blobs", "sha256", digest[7:]).unlink()
    assert place.ask("GET", f"/a/blobs/{digest}").status == 503


def test_a_damaged_manifest_is_not_handed_out(place: Place) -> None:
    """A manifest whose bytes changed on the disk is never sent."""
    data = place.image("a")
    place.put("a", "v1", data)
    path = place.store.path.joinpath("blobs", "sha256", digest_of(data)[7:])
    path.write_bytes(data.replace(b"linux", b"minix") + b" ")
    found = place.ask("GET", "/a/manifests/v1")
    assert (found.status, found.code) == (503, "UNAVAILABLE")


def test_repositories_in_pages(place: Place) -> None:
    """The list of repositories has those that whoever asks may pull from, and wants a login."""
    for name in ("a/one", "a/two", "b/one", "c/one"):
        place.put(name, "v1", place.image(name))
    assert place.ask("GET", "/_catalog", who=NOBODY).status == 401
    mine = somebody("viewer", "a")
    assert place.ask("GET", "/_catalog", who=mine).json == {"repositories": ["a/one", "a/two"]}
    page = place.ask("GET", "/_catalog?n=2")
    assert page.json["repositories"] == ["a/one", "a/two"]
    assert page.headers["link"] == '</v2/_catalog?n=2&last=a/two>; rel="next"'
    assert place.ask("GET", "/_catalog?n=2&last=a/two").json["repositories"] == ["b/one", "c/one"]


def test_fifty_uploads_at_once_take_little_memory(place: Place) -> None:
    """Uploads that run together hold their pieces, not their blobs, in memory."""
    import tracemalloc

    count, size = 50, 4_000_000
    pieces = [bytes([number]) * 65_536 for number in range(count)]

    async def push(number: int) -> Answer:
        whole = size // 65_536
        digest = digest_of(pieces[number] * whole)
        return await place.asked("POST", f"/a/blobs/uploads/?digest={digest}", (pieces[number] for _ in range(whole)))

    async def all_of() -> list[Answer]:
        return await asyncio.gather(*map(push, range(count)))

    tracemalloc.start()
    try:
        answers = asyncio.run(all_of())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {one.status for one in answers} == {201}
    assert peak < 100_000_000


def test_a_manifest_of_nothing(place: Place) -> None:
    """A manifest whose config is not there is refused; layers that are fetched from elsewhere need not be."""
    config = {"mediaType": documents.CONFIG, "digest": place.blob("a", b"{}"), "size": 2}
    elsewhere = {"mediaType": documents.LAYER, "digest": digest_of(b"x"), "size": 1, "urls": ["https://a.example/x"]}
    assert place.put("a", "v1", manifest(config, [elsewhere])).status == 201
    gone = {**config, "digest": digest_of(b"gone"), "urls": ["https://a.example/x"]}
    assert place.put("a", "v2", manifest(gone, [])).code == "MANIFEST_BLOB_UNKNOWN"
