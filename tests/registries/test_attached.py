"""What is attached to an image in real registries, with the referrers API and without: nothing of anybody's is lost."""

import http.client
import itertools
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import real_registries
from real_registries import RealRegistry

import attach_worker
from attach_worker import BOTH, attestation, everything, signature
from servers import Serve, Tool
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import InputError, NotFoundError, UndeterminedError
from tidewaiter.core.progress import SILENT
from tidewaiter.distribution import attached, referrers
from tidewaiter.distribution.push import push
from tidewaiter.distribution.registry import Repository
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.manifest import Descriptor, Index, Manifest
from tidewaiter.oci.reference import parse_store
from tidewaiter.pipelines import pruning
from tidewaiter.pipelines.attachments import attaching, sending
from tidewaiter.pipelines.attachments.attaching import Signed
from tidewaiter.pipelines.attachments.sending import Sent
from tidewaiter.pipelines.copying import Places, copy_image, pull
from tidewaiter.pipelines.workshop import Workshop, opened
from tidewaiter.signing import cosign as cosign_format
from tidewaiter.signing import keys, predicates
from tidewaiter.signing.gathered import Format, Gathered
from tidewaiter.signing.keys import PrivateKey
from tidewaiter.transport.client import Client, Response

pytestmark = pytest.mark.interop

NAMES = ("docker-registry 2.8", "go-containerregistry with referrers")
KEY = keys.create()
_NUMBERS = itertools.count()


@pytest.fixture(scope="module", params=NAMES)
def registry(
    request: pytest.FixtureRequest, tool: Tool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealRegistry]:
    with real_registries.start(request.param, tool, tmp_path_factory.mktemp("registry")) as started:
        yield started


class Place:
    """A home with an image, and a repository that has it as well."""

    def __init__(self, shop: Workshop, registry: RealRegistry, name: str) -> None:
        self.shop = shop
        self.name = f"{registry.host}/{name}"
        self.image: Descriptor = attach_worker.image_of(shop)
        push(shop.store, self.image, self.repository, tags=["v1"])

    @property
    def repository(self) -> Repository:
        return attach_worker.repository(self.shop, self.name)

    @property
    def there(self) -> Gathered:
        return attaching.gather_remote(self.repository, self.image.digest)


@pytest.fixture
def place(tmp_path: Path, registry: RealRegistry) -> Iterator[Place]:
    with home(tmp_path / "home", registry.host) as shop:
        yield Place(shop, registry, f"team/tiny{next(_NUMBERS)}")


def home(folder: Path, host: str) -> AbstractContextManager[Workshop]:
    return opened(settings.load({"TIDEWAITER_HOME": str(folder), "TIDEWAITER_PLAIN_HTTP": host}), SILENT)


def kinds(gathered: Gathered) -> Counter[str]:
    """What was found, by its place and the name of its type; nothing else may have been met."""
    assert (gathered.broken, gathered.unread) == ((), ())
    return Counter(f"{one.place} {predicates.short(one.claimed_type)}".strip() for one in gathered.found)


def times(number: int) -> dict[str, int]:
    return {"sig": number, "att openvex": number, "bundle signature": number, "bundle openvex": number}


def cosign(tool: Tool, folder: Path, place: Place, key: PrivateKey, *, bundles: bool) -> None:
    """cosign verifies signature and attestation by the key."""
    public = folder / "cosign.pub"
    public.write_bytes(key.public.pem)
    image = f"{place.name}@{place.image.digest}"
    for command in (["verify"], ["verify-attestation", "--type", "openvex"]):
        subprocess.run(
            [
                tool("cosign"),
                *command,
                *("--key", str(public), "--insecure-ignore-tlog=true", "--allow-insecure-registry"),
                *([] if bundles else ["--new-bundle-format=false"]),
                image,
            ],
            check=True,
            capture_output=True,
            env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
            timeout=60,
        )


def test_fifty_processes_lose_nothing(place: Place, tool: Tool, tmp_path: Path) -> None:
    """Fifty processes of one home attach to one image of a registry at once: all of it stands, and cosign verifies."""
    done = subprocess.run(
        [
            sys.executable,
            attach_worker.__file__,
            str(place.shop.settings.home.path),
            place.image.digest,
            "50",
            place.name,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert len(done.stdout.split()) == 50, done.stderr
    assert kinds(place.there) == times(50)
    # One more, whose key is known here, by the way of the store.
    attaching.attach(place.shop, place.image, everything(place.image.digest, KEY), BOTH)
    sent = sending.send(place.shop, place.repository, place.image.digest)
    assert (sent.signatures, sent.attestations, len(sent.referrers), sent.lost) == (1, 1, 2, ())
    assert kinds(place.there) == times(51)
    for bundles in (False, True):
        cosign(tool, tmp_path, place, KEY, bundles=bundles)


def test_what_others_attached_stays(place: Place, tmp_path: Path) -> None:
    """What a home has joins what another attached, in both formats; sending it again sends nothing."""
    digest = place.image.digest
    with home(tmp_path / "other", place.repository.registry.host) as other:
        theirs = everything(digest, keys.create())
        sent = sending.attach_remote(other, attach_worker.repository(other, place.name), digest, theirs, BOTH)
    assert (sent.signatures, sent.attestations, len(sent.referrers)) == (1, 1, 2)
    attaching.attach(place.shop, place.image, everything(digest, KEY), BOTH)
    before = place.there.found
    assert sending.send(place.shop, place.repository, digest).anything
    assert kinds(place.there) == times(2)
    assert set(before) < set(place.there.found)
    assert sending.send(place.shop, place.repository, digest) == Sent()


def test_only_what_is_missing_is_put_back(place: Place) -> None:
    """What one tag lost comes back from the store, and nothing else is touched."""
    attaching.attach(place.shop, place.image, everything(place.image.digest, KEY), BOTH)
    sending.send(place.shop, place.repository, place.image.digest)
    tag = attached.tag(place.image.digest, "att")
    place.repository.delete_manifest(place.repository.resolve(tag).digest)
    if place.repository.has_manifest(tag):  # not every registry deletes the tags of a manifest with it
        place.repository.delete_manifest(tag)
    assert kinds(place.there) == {name: 1 for name in times(1) if not name.startswith("att ")}
    assert sending.repair(place.shop, place.repository, place.image.digest) == Sent(attestations=1)
    assert kinds(place.there) == times(1)


class _StoppedError(BaseException):
    """The process ends here."""


def test_stopped_at_any_request_the_next_call_completes_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped anywhere, no tag is half written and no attestation is listed before the signature; a rerun completes."""
    digest = place.image.digest
    attaching.attach(place.shop, place.image, everything(digest, KEY), BOTH)
    really, left = Client.request, 0

    def request(self: Client, *arguments: Any, **named: Any) -> Response:
        nonlocal left
        left -= 1
        if left == 0:
            raise _StoppedError
        return really(self, *arguments, **named)

    for at in range(1, 100):
        remote = attach_worker.repository(place.shop, f"{place.name}-{at}")
        push(place.shop.store, place.image, remote)
        left, stopped = at, False
        with monkeypatch.context() as patched:
            patched.setattr(Client, "request", request)
            try:
                sending.send(place.shop, remote, digest)
            except _StoppedError:
                stopped = True
        found = kinds(attaching.gather_remote(remote, digest))
        assert found["bundle openvex"] <= found["bundle signature"]
        sending.send(place.shop, remote, digest)
        assert kinds(attaching.gather_remote(remote, digest)) == times(1)
        if not stopped:
            break
    assert not stopped
    assert at > 20


@pytest.mark.parametrize("harm", ["full", "broken"])
def test_a_tag_that_somebody_filled_keeps_no_bundle_away(
    place: Place, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """Whoever may push can fill the tag, or break it: a verdict that is withdrawn arrives all the same, as a bundle."""
    monkeypatch.setattr(limits, "SIGNATURE_LAYERS", 2)
    digest = place.image.digest
    if harm == "full":
        others = [attestation(digest, keys.create(), note=str(number)) for number in range(2)]
        sending.attach_remote(place.shop, place.repository, digest, others, ["tag"])
    else:
        index = documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=[]))
        place.repository.put_manifest(attached.tag(digest, "att"), index, documents.INDEX)
    attaching.attach(place.shop, place.image, everything(digest, KEY), BOTH)
    with pytest.raises(InputError, match="would carry" if harm == "full" else "is an index"):
        sending.send(place.shop, place.repository, digest)
    found = Counter(one.place for one in place.there.found if one.claimed_type == predicates.OPENVEX)
    assert found == ({"att": 2, "bundle": 1} if harm == "full" else {"bundle": 1})
    assert sum(one.place == "sig" for one in place.there.found) == 1


def test_an_image_that_is_not_there_is_not_repaired(place: Place) -> None:
    """Without the image nothing is attached to its digest."""
    absent = attach_worker.image_of(place.shop, "v2")
    with pytest.raises(NotFoundError, match="does not have"):
        sending.repair(place.shop, place.repository, absent.digest)


class Slow:
    """A proxy before a registry whose answer to the question number `which` about a tag takes until it is let go."""

    def __init__(self, host: str, tag: str, which: int) -> None:
        self.host, self.tag, self.left = host, tag, which
        self.asked, self.go = threading.Event(), threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        connection = http.client.HTTPConnection(self.host, timeout=30)
        headers = {name: value for name, value in handler.headers.items() if name.lower() != "host"}
        connection.request(handler.command, handler.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        if handler.command == "GET" and handler.path.endswith(f"/manifests/{self.tag}"):
            self.left -= 1
            if self.left == 0:
                self.asked.set()
                assert self.go.wait(60)
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                handler.send_header(name, value.replace(self.host, handler.headers["Host"]))
        handler.send_header("Content-Length", str(length if handler.command == "HEAD" else len(data)))
        handler.end_headers()
        handler.wfile.write(data)
        connection.close()


@pytest.fixture
def plain(tool: Tool, tmp_path: Path) -> Iterator[RealRegistry]:
    """A registry without the referrers API."""
    with real_registries.start(NAMES[0], tool, tmp_path / "registry") as started:
        yield started


@pytest.mark.parametrize("what", ["sig", "att", "referrers"])
def test_two_writers_that_know_nothing_of_each_other_and_the_repair(
    plain: RealRegistry, tmp_path: Path, serve: Serve, what: str
) -> None:
    """Who reads before the other writes, and writes after it has looked again, takes its work away; repair restores."""
    formats: list[Format] = ["bundle" if what == "referrers" else "tag"]
    with home(tmp_path / "one", plain.host) as one:
        place = Place(one, plain, "team/raced")
        digest = place.image.digest

        def signed(key: PrivateKey) -> list[Signed]:
            return list(signature(digest, key)) if what == "sig" else [attestation(digest, key)]

        attaching.attach(one, place.image, signed(KEY), formats)
        # Of referrers it is asked first which are there, and then for the list to write.
        slow = (
            Slow(plain.host, referrers.tag(digest), 2)
            if what == "referrers"
            else Slow(plain.host, f"{referrers.tag(digest)}.{what}", 1)
        )
        proxy = serve(slow).removeprefix("http://")
        sent: list[Sent] = []

        def other_writer() -> None:
            with home(tmp_path / "two", proxy) as two:
                repository = attach_worker.repository(two, f"{proxy}/team/raced")
                sent.append(sending.attach_remote(two, repository, digest, signed(keys.create()), formats))

        other = threading.Thread(target=other_writer)
        other.start()
        assert slow.asked.wait(60)
        mine = sending.send(one, place.repository, digest)
        assert mine.anything
        assert len(place.there.found) == 1
        slow.go.set()
        other.join(60)
        assert sent[0].anything
        assert len(place.there.found) == 1  # the other's
        assert sending.repair(one, place.repository, digest) == mine
        assert len(place.there.found) == 2
        assert sending.repair(one, place.repository, digest) == Sent()


def test_a_referrer_that_only_the_registry_still_has(plain: RealRegistry, tmp_path: Path) -> None:
    """Its entry in the list is lost and the store's copy too: found by its digest, it is entered again."""
    with home(tmp_path / "one", plain.host) as one:
        place = Place(one, plain, "team/lost")
        digest = place.image.digest
        there = attaching.attach(one, place.image, everything(digest, KEY), ["bundle"])
        sending.send(one, place.repository, digest)
        first, second = before = place.repository.referrers(digest)
        referrers.remove(place.repository, digest, first)
        referrers.remove(place.repository, digest, second)
        for lost in there.referrers:
            one.store.blob_path(lost.digest).unlink()
        assert sending.repair(one, place.repository, digest).referrers == (first.digest, second.digest)
        assert place.repository.referrers(digest) == before
        place.repository.delete_manifest(first.digest)
        with pytest.raises(UndeterminedError, match=first.digest):
            sending.repair(one, place.repository, digest)
        assert place.repository.referrers(digest) == (second,)


def artifact(place: Place, subject: Descriptor) -> Descriptor:
    """A manifest that refers to the subject and is no bundle, put into the registry."""
    empty = Descriptor(media_type=documents.EMPTY, digest=digests.of(b"{}"), size=2)
    place.repository.push_blob(empty, lambda: [b"{}"])
    data = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            artifact_type="application/vnd.example.report",
            config=empty,
            layers=[empty],
            subject=subject,
        )
    )
    digest = place.repository.put_manifest(digests.of(data), data, documents.MANIFEST)
    return Descriptor(media_type=documents.MANIFEST, digest=digest, size=len(data))


def test_pulled_attestations_are_kept_and_go_on(place: Place, tmp_path: Path) -> None:
    """Pulled with referrers, everything beside the image is in the other home's catalog, and goes on from there.

    Nothing of it counts as a signature that was made there; a second pull adds nothing; a copy to where somebody else
    attached something takes nothing away; pruning keeps it.
    """
    digest = place.image.digest
    attaching.attach(place.shop, place.image, everything(digest, KEY), BOTH)
    sending.send(place.shop, place.repository, digest)
    report = artifact(place, place.image)
    second = artifact(place, report)  # what refers to a referrer goes along as well
    host = place.repository.registry.host
    other = settings.load({"TIDEWAITER_HOME": str(tmp_path / "other"), "TIDEWAITER_PLAIN_HTTP": host})
    for _ in range(2):
        with Places(other, SILENT) as places:
            pull(places, f"{place.name}:v1", parse_store("team/pulled:v1"), referrers=True)
    pruning.prune(other, keep=0)
    elsewhere = attach_worker.repository(place.shop, f"{place.name}-copy")
    with opened(other, SILENT) as shop:
        rows = shop.catalog.attestations(digest)
        assert Counter(row.format for row in rows) == {"tag": 2, "bundle": 2, "artifact": 2}
        assert {row.key_fingerprint for row in rows} == {""}
        assert shop.catalog.image(digest).signatures == ()
        kept = attaching.gather_stored(shop, digest)
        assert kinds(kept) == times(1)
        assert set(kept.found) == set(place.there.found)
        assert [one.digest for one in shop.store.index()] == [digest]
        push(shop.store, place.image, elsewhere, tags=["v1"])
        sending.attach_remote(shop, elsewhere, digest, everything(digest, keys.create()), BOTH)
        sending.send(shop, elsewhere, digest)
    assert kinds(attaching.gather_remote(elsewhere, digest)) == times(2)
    assert {one.digest for one in elsewhere.referrers(digest)} > {report.digest}
    assert [one.digest for one in elsewhere.referrers(report.digest)] == [second.digest]


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_layouts_and_archives_hold_what_is_attached(place: Place, tmp_path: Path, kind: str) -> None:
    """From a registry through a layout or an archive to a repository where others attached: all of it arrives."""
    digest = place.image.digest
    attaching.attach(place.shop, place.image, everything(digest, KEY), BOTH)
    sending.send(place.shop, place.repository, digest)
    elsewhere = attach_worker.repository(place.shop, f"{place.name}-copy")
    push(place.shop.store, place.image, elsewhere, tags=["v1"])
    sending.attach_remote(place.shop, elsewhere, digest, everything(digest, keys.create()), BOTH)
    with Places(place.shop.settings, SILENT) as places:
        copy_image(places, f"{place.name}:v1", f"{kind}:{tmp_path}/between:v1", referrers=True)
        if kind == "oci":  # a second one comes in, and the first stays
            copy_image(places, f"{elsewhere}:v1", f"{kind}:{tmp_path}/between:v1", referrers=True)
        copy_image(places, f"{kind}:{tmp_path}/between:v1", f"{elsewhere}:v1", referrers=True)
        copy_image(places, f"{kind}:{tmp_path}/between:v1", f"{elsewhere}-new:v1", referrers=True)
    assert kinds(attaching.gather_remote(elsewhere, digest)) == times(2)
    new = attach_worker.repository(place.shop, f"{elsewhere}-new")
    assert kinds(attaching.gather_remote(new, digest)) == times(2 if kind == "oci" else 1)


def test_a_stopped_copy_is_completed(plain: RealRegistry, tmp_path: Path) -> None:
    """A referrer that was put, and not yet entered into the list of its subject, is entered by the next copy."""
    with home(tmp_path / "one", plain.host) as one:
        place = Place(one, plain, "team/stopped")
        report = artifact(place, place.image)
        entry, *_ = place.repository.referrers(place.image.digest)
        assert entry.digest == report.digest
        for _ in range(2):
            with Places(one.settings, SILENT) as places:
                copy_image(places, f"{place.name}:v1", f"{place.name}-copy:v1", referrers=True)
            elsewhere = attach_worker.repository(one, f"{place.name}-copy")
            assert elsewhere.referrers(place.image.digest) == (entry,)
            referrers.remove(elsewhere, place.image.digest, entry)


def test_oras_and_crane_find_what_is_attached(place: Place, tool: Tool) -> None:
    """oras lists every bundle as a referrer, by the API or the fallback tag; crane reads cosign's tags."""
    digest = place.image.digest
    for _ in range(3):
        attaching.attach(place.shop, place.image, everything(digest, keys.create()), BOTH)
    sending.send(place.shop, place.repository, digest)
    shown = subprocess.run(
        [tool("oras"), "discover", "--plain-http", "--format", "json", f"{place.name}@{digest}"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    listed = [one["digest"] for one in json.loads(shown.stdout)["referrers"]]
    assert sorted(listed) == sorted(one.digest for one in attaching.stored(place.shop, digest).referrers)
    for suffix in attached.UNITED:
        raw = subprocess.run(
            [tool("crane"), "manifest", "--insecure", f"{place.name}:{attached.tag(digest, suffix)}"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        assert len(json.loads(raw.stdout)["layers"]) == 3


def test_a_pulled_attestation_that_calls_itself_a_signature(place: Place, tmp_path: Path) -> None:
    """What lies under `.att` is no signature, whatever its layer says; those of the home stay what they are."""
    digest = place.image.digest
    envelope = attestation(digest, KEY).document
    layer = cosign_format.attestation_layer(envelope, predicates.SIGNATURE)
    config, manifest = attached.compose([layer])
    place.repository.push_blob(layer, lambda: [envelope])
    place.repository.push_blob(blob(config), lambda: [config])
    place.repository.put_manifest(attached.tag(digest, "att"), manifest, documents.MANIFEST)
    host = place.repository.registry.host
    other = settings.load({"TIDEWAITER_HOME": str(tmp_path / "other"), "TIDEWAITER_PLAIN_HTTP": host})
    with Places(other, SILENT) as places:
        pull(places, f"{place.name}:v1", parse_store("team/pulled:v1"))
        attaching.attach(places.workshop, place.image, signature(digest, KEY), ["tag"])
        pull(places, f"{place.name}:v1", parse_store("team/pulled:v1"), referrers=True)
        found = attaching.gather_stored(places.workshop, digest)
        assert Counter(one.place for one in found.found) == {"sig": 1, "att": 1}
        assert len(places.workshop.catalog.image(digest).signatures) == 1


def blob(data: bytes) -> Descriptor:
    return Descriptor(media_type=documents.CONFIG, digest=digests.of(data), size=len(data))
