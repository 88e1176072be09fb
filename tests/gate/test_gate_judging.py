"""What becomes visible, and when: judgements, quarantine, release."""

import asyncio
import datetime as dt
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest
from served import until

from gate_place import MAINTAINER, Answer, Place, artifact, digest_of, index, manifest, somebody
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import NetworkError
from tidewaiter.gate import deciding
from tidewaiter.gate.judging import Allowed, Denied, Judgement, Judgements, Undetermined
from tidewaiter.gate.terms import Terms
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor

MakePlace = Callable[..., Place]
VIEWER = somebody("viewer")


class Judge:
    """Says no to what stands in `denied`, by digest, or by the reference under which it came; waits for `go`."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.go = threading.Event()
        self.go.set()
        self.fails: Exception | None = None

    def __call__(self, repository: str, reference: str, descriptor: Descriptor, /) -> Judgement:
        self.asked.append((repository, reference))
        assert self.go.wait(30)
        if self.fails is not None:
            raise self.fails
        if {descriptor.digest, reference, "*"} & self.denied:
            return Denied("research", (), f"{repository}:{reference} is bad. Mend it.")
        return Allowed("research")


def research(_: str) -> Terms:
    """Terms of a repository whose images are judged."""
    return Terms(environment="research")


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def judged(make_place: MakePlace, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A gate with that judge; its catalog asks for no verdicts, which this judge does not record."""
    place = make_place(judge=judge, terms=research)
    told = place.catalog.decided

    def without_verdict(*args: object, by_verdict: bool, **options: object) -> tuple[str, ...]:
        return told(*args, by_verdict=False, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(place.catalog, "decided", without_verdict)
    return place


def seen(place: Place, *references: str, repository: str = "a") -> list[int]:
    """Statuses of those manifests."""
    return [place.ask("GET", f"/{repository}/manifests/{one}", who=VIEWER).status for one in references]


def test_what_is_denied_shows_nowhere(judged: Place, judge: Judge) -> None:
    """A denied image answers 403 with the judge's words, and is under no tag, digest, list or referrer."""
    judge.denied.add("v1")
    data = judged.image("a")
    answer = judged.put("a", "v1", data)
    assert (answer.status, answer.code, answer.message) == (403, "DENIED", "a:v1 is bad. Mend it.")
    assert seen(judged, "v1", digest_of(data)) == [404, 404]
    assert judged.ask("GET", "/a/tags/list").json["tags"] == []
    assert judged.ask("GET", "/_catalog").json["repositories"] == []
    told = judged.ask("GET", f"/a/manifests/{digest_of(data)}").message
    assert "waits in quarantine. a:v1 is bad" in told
    assert "quarantine" not in judged.ask("GET", f"/a/manifests/{digest_of(data)}", who=VIEWER).message


def test_its_layers_show_to_those_who_push_only(judged: Place, judge: Judge) -> None:
    """Bytes of what waits in quarantine are for those who may push there; once it is allowed, for all who may pull."""
    judge.denied.add("*")
    data = judged.image("a")
    judged.put("a", "v1", data)
    layer = json.loads(data)["layers"][0]["digest"]
    assert judged.ask("GET", f"/a/blobs/{layer}").status == 200
    assert judged.ask("GET", f"/a/blobs/{layer}", who=VIEWER).status == 404
    assert judged.ask("HEAD", f"/a/blobs/{layer}", who=VIEWER).status == 404
    judge.denied.clear()
    judged.put("a", "v1", data)
    assert judged.ask("GET", f"/a/blobs/{layer}", who=VIEWER).status == 200


def test_released_without_another_push(judged: Place, judge: Judge) -> None:
    """Once the judge allows what waits, it and its tags are visible."""
    judge.denied.add("*")
    data = judged.image("a")
    judged.put("a", "v1", data)
    judged.put("a", "v2", data)
    assert deciding.release(judged.registry) == ()
    judge.denied.clear()
    assert deciding.release(judged.registry) == ("a:v1", "a:v2")
    assert seen(judged, "v1", "v2", digest_of(data)) == [200, 200, 200]
    assert deciding.release(judged.registry) == ()


def test_what_a_killed_server_left_is_judged(make_place: MakePlace, judge: Judge) -> None:
    """A manifest that was put and never judged shows nowhere, until the next server judges it."""
    place = make_place(judge=judge, terms=research)
    data = artifact(place, "a", "application/spdx+json")
    told = place.catalog.decided
    place.catalog.decided = _dies  # type: ignore[method-assign]  # the process ends here
    assert place.put("a", "v1", data).status == 500
    assert seen(place, "v1") == [404]
    place.catalog.decided = told  # type: ignore[method-assign]  # another process
    assert deciding.release(place.registry) == ("a:v1",)
    assert seen(place, "v1") == [200]


def _dies(*_: object, **__: object) -> tuple[str, ...]:
    raise MemoryError


def test_the_later_push_of_a_tag_counts(judged: Place, judge: Judge) -> None:
    """A tag goes on meaning what was allowed while another image waits; the last push decides what it will mean."""
    first, bad, third = (judged.image("a", name) for name in (b"1", b"2", b"3"))
    judge.denied.add(digest_of(bad))
    assert [judged.put("a", "v1", one).status for one in (first, bad)] == [201, 403]
    assert judged.ask("GET", "/a/manifests/v1").body == first
    judge.denied.clear()
    assert deciding.release(judged.registry) == ("a:v1",)
    assert judged.ask("GET", "/a/manifests/v1").body == bad
    judge.denied.add(digest_of(third))
    judged.put("a", "v1", third)
    judged.put("a", "v1", first)
    judge.denied.clear()
    deciding.release(judged.registry)
    assert judged.ask("GET", "/a/manifests/v1").body == first


def test_two_pushes_of_one_tag_at_once(judged: Place) -> None:
    """Whichever ends last is what the tag means; both manifests are whole."""
    images = [judged.image("a", bytes([number])) for number in range(4)]

    async def all_of() -> list[Answer]:
        return await asyncio.gather(*(judged.putting("a", "v1", one) for one in images))

    assert {one.status for one in asyncio.run(all_of())} == {201}
    assert judged.ask("GET", "/a/manifests/v1").body in images
    assert seen(judged, *map(digest_of, images)) == [200] * 4


def test_a_long_judgement_is_joined(judged: Place, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited long enough is told to come again; the next push of the same joins the judgement that runs."""
    monkeypatch.setattr(limits, "GATE_JUDGE_SECONDS", 0.05)
    judge.go.clear()
    data = judged.image("a")
    answer = judged.put("a", "v1", data)
    assert (answer.status, answer.headers["retry-after"]) == (503, str(limits.GATE_RETRY_SECONDS))
    assert seen(judged, "v1") == [404]
    monkeypatch.setattr(limits, "GATE_JUDGE_SECONDS", 30)

    async def again() -> Answer:
        coming = asyncio.create_task(judged.putting("a", "v2", data))
        await asyncio.sleep(0.3)
        judge.go.set()
        return await coming

    assert asyncio.run(again()).status == 201
    assert judge.asked == [("a", "v1")]
    assert seen(judged, "v1", "v2") == [200, 200]


def test_the_answer_is_kept_though_nobody_waits(judged: Place, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judgement that ends after its push gave up makes the image visible all the same."""
    monkeypatch.setattr(limits, "GATE_JUDGE_SECONDS", 0.0)
    judge.go.clear()
    data = judged.image("a")
    assert judged.put("a", "v1", data).status == 503
    until(lambda: bool(judge.asked))
    judge.go.set()
    judged.registry.judgements.close()
    assert seen(judged, "v1") == [200]


def test_a_stop_does_not_wait_for_judgements(judged: Place, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judgement that runs on holds the end of the server up for moments only; what was pushed still waits."""
    monkeypatch.setattr(limits, "GATE_JUDGE_SECONDS", 0.0)
    monkeypatch.setattr(limits, "GATE_STOP_SECONDS", 0.2)
    judge.go.clear()
    data = judged.image("a")

    async def stopping() -> float:
        async with judged.gate.running():
            assert (await judged.putting("a", "v1", data)).status == 503
            await asyncio.to_thread(until, lambda: bool(judge.asked))
            began = time.monotonic()
        return time.monotonic() - began

    assert asyncio.run(stopping()) < 10
    assert [one.tags for one in judged.catalog.waiting(10)] == [("v1",)]
    judge.go.set()


@pytest.mark.parametrize(
    "failure", [NetworkError("the feed is away", next_step="Wait."), ValueError("odd"), RecursionError()]
)
def test_what_cannot_be_judged_stays_out(judged: Place, judge: Judge, failure: Exception) -> None:
    """An error of the judge is neither yes nor no: 503, nothing shows, and it may be pushed again."""
    judge.fails = failure
    data = judged.image("a")
    answer = judged.put("a", "v1", data)
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert "retry-after" in answer.headers
    assert seen(judged, "v1") == [404]
    judge.fails = None
    assert judged.put("a", "v1", data).status == 201


def test_an_index_needs_every_child(judged: Place, judge: Judge) -> None:
    """An index is allowed when all it names are; a denied child keeps it out, by name, and a missing one is unknown."""
    good, bad = judged.image("a", b"good"), judged.image("a", b"bad")
    both = index(good, bad)
    missing = judged.put("a", "v1", both, media_type=documents.INDEX)
    assert missing.code == "MANIFEST_BLOB_UNKNOWN"
    judge.denied.add(digest_of(bad))
    assert judged.put("a", digest_of(good), good).status == 201
    assert judged.put("a", digest_of(bad), bad).status == 403
    answer = judged.put("a", "v1", both, media_type=documents.INDEX)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert answer.message.startswith(f"linux/arm64 ({digest_of(bad)}): ")
    assert seen(judged, "v1") == [404]
    judge.denied.clear()
    assert judged.put("a", "v1", both, media_type=documents.INDEX).status == 201
    assert seen(judged, "v1", digest_of(bad)) == [200, 200]


def test_an_index_that_waits_is_released_with_its_children(judged: Place, judge: Judge) -> None:
    """What waits because a child waits is released when that is."""
    judge.denied.add("*")
    child = judged.image("a")
    judged.put("a", digest_of(child), child)
    judged.put("a", "v1", index(child), media_type=documents.INDEX)
    judge.denied.clear()
    assert deciding.release(judged.registry) == (f"a@{digest_of(child)}", "a:v1")
    assert seen(judged, "v1") == [200]


def test_artifacts_by_their_type(make_place: MakePlace, judge: Judge) -> None:
    """Only the types on a repository's list come in, and nobody judges them; an open repository takes any."""
    listed = frozenset({"text/known"})
    kinds = {"a": Terms(environment="production", artifact_types=listed), "open": Terms(environment="open")}
    place = make_place(judge=judge, terms=kinds.__getitem__)
    known, other = (artifact(place, "a", kind) for kind in ("text/known", "text/other"))
    assert place.put("a", "v1", known).status == 201
    refused = place.put("a", "v2", other)
    assert (refused.status, refused.code) == (403, "DENIED")
    assert "takes no artifacts of the type text/other" in refused.message
    place.blob("open", b"{}")
    assert place.put("open", "v1", other).status == 201
    assert judge.asked == []


@pytest.mark.parametrize(
    ("config", "status"),
    [
        (b"{}", 201),
        (b'{"rootfs":{"diff_ids":[]}}', 403),
        (b'{"ROOTFS":{}}', 403),
        ('{"rootf\u017f":{}}'.encode(), 403),
        (b'{"\\u0072ootfs":{}}', 403),
        (b' {"a":"', 403),
        (b' {"a":"\xff"}', 201),
        (b"#!/bin/sh", 201),
        (b'["rootfs"]', 201),
    ],
)
def test_no_image_comes_in_as_an_artifact(judged: Place, config: bytes, status: int) -> None:
    """An artifact whose config some engine might read as an image's is refused, whatever its type says."""
    layer, settings = judged.blob("a", b"layer"), judged.blob("a", config)
    data = manifest(
        {"mediaType": documents.EMPTY, "digest": settings, "size": len(config)},
        [{"mediaType": documents.LAYER, "digest": layer, "size": 5}],
        artifactType="application/spdx+json",
    )
    assert judged.put("a", "v1", data).status == status


@pytest.mark.parametrize("config", [documents.CONFIG, documents.DOCKER_CONFIG, "application/octet-stream", "text/html"])
def test_an_image_by_any_name_is_judged(judged: Place, judge: Judge, config: str) -> None:
    """What an engine may run is judged, whatever artifact type it claims."""
    judge.denied.add("*")
    layer, settings = judged.blob("a", b"layer"), judged.blob("a", b'{"os":"linux"}')
    data = manifest(
        {"mediaType": config, "digest": settings, "size": 14},
        [{"mediaType": "application/vnd.dev.cosign.unknown", "digest": layer, "size": 5}],
        artifactType="application/spdx+json",
    )
    assert judged.put("a", "v1", data).status == 403
    assert judge.asked == [("a", "v1")]


@pytest.mark.parametrize(("contents", "status"), [(b'{"critical":{}}', 201), (b"\x1f\x8b tar", 403), (b"[]", 403)])
def test_attachments_are_documents(judged: Place, judge: Judge, contents: bytes, status: int) -> None:
    """What cosign attaches under the config of an image is taken unjudged only when it is JSON, and so no layer."""
    layer, settings = judged.blob("a", contents), judged.blob("a", b'{"os":"linux"}')
    kind = "application/vnd.dev.cosign.simplesigning.v1+json"
    data = manifest(
        {"mediaType": documents.CONFIG, "digest": settings, "size": 14},
        [{"mediaType": kind, "digest": layer, "size": len(contents)}],
    )
    assert judged.put("a", "sha256-abc.sig", data).status == status
    assert judge.asked == []


def test_production_tags_do_not_change(make_place: MakePlace) -> None:
    """In production a tag means one image for good, and is not deleted; the same image may come again."""
    place = make_place(terms=lambda _: Terms(environment="production", artifact_types=frozenset({"text/a"})))
    one, other = (artifact(place, "a", "text/a", annotations={"n": str(number)}) for number in range(2))
    assert place.put("a", "v1", one).status == 201
    assert place.put("a", "v1", one).status == 201
    answer = place.put("a", "v1", other)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "do not change" in answer.message
    assert place.ask("DELETE", "/a/manifests/v1").code == "DENIED"
    assert place.put("a", "v2", other).status == 201


def test_a_repository_that_nobody_named_takes_nothing(make_place: MakePlace) -> None:
    """Without a word about its environment a repository takes no byte, and says what to do."""
    place = make_place(terms=lambda _: Terms(environment=None))
    for method, path in (("POST", "/a/blobs/uploads/"), ("PUT", "/a/manifests/v1")):
        answer = place.ask(method, path, who=MAINTAINER)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert "[[environment]]" in answer.message


def test_one_judgement_for_all_who_ask() -> None:
    """Who asks about what is being judged gets that answer; who asks later asks anew."""
    judgements, go, count = Judgements(), threading.Event(), []

    def answer() -> Judgement:
        count.append(1)
        go.wait(30)
        return Undetermined("research", "who knows")

    digest = Digest(digest_of(b"x"))
    coming: list[Future[Judgement]] = [judgements.ask("a", digest, answer) for _ in range(5)]
    other = judgements.ask("b", digest, answer)
    go.set()
    assert {one.result() for one in (*coming, other)} == {Undetermined("research", "who knows")}
    assert len(count) == 2
    judgements.ask("a", digest, answer).result()
    assert len(count) == 3
    judgements.close()


def test_what_waits_too_long_is_given_up(judged: Place, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is denied waits for a month after it was last pushed; then it is gone, and what may be seen stays."""
    shown = judged.image("team/app", b"good")
    assert judged.put("team/app", "good", shown).status == 201
    judge.denied.add("*")
    old, again = judged.image("team/app", b"old"), judged.image("team/app", b"again")
    both = index(old)
    for tag, data in (("old", old), ("again", again)):
        assert judged.put("team/app", tag, data).status == 403
    assert judged.put("team/app", "both", both, media_type=documents.INDEX).status == 403
    now = clock.now()
    at = [now + dt.timedelta(seconds=limits.GATE_QUARANTINE_SECONDS - 60)]
    monkeypatch.setattr(clock, "now", lambda: at[0])
    assert deciding.give_up(judged.registry) == 0
    assert judged.put("team/app", "again", again).status == 403
    at[0] += dt.timedelta(seconds=120)
    assert deciding.give_up(judged.registry) == 2
    left = {digest_of(data): judged.catalog.any_manifest("team/app", Digest(digest_of(data))) for data in (old, both)}
    assert set(left.values()) == {None}
    for data in (shown, again):
        assert judged.catalog.any_manifest("team/app", Digest(digest_of(data))) is not None
    assert judged.ask("GET", "/team/app/manifests/good").status == 200
