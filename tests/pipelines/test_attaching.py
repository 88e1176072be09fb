"""Signatures and attestations in the store: complete or not there, none lost, kept as long as their image."""

import datetime as dt
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

import attach_worker
from attach_worker import BOTH, attestation, everything, signature
from servers import Serve, reply
from tidewaiter.catalog.records import AttestationRecord
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import InputError, LimitError, NotFoundError
from tidewaiter.core.progress import SILENT
from tidewaiter.core.settings import Settings
from tidewaiter.distribution import attached
from tidewaiter.distribution.registry import Registry
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Descriptor, Index
from tidewaiter.pipelines import pruning
from tidewaiter.pipelines.attachments import attaching
from tidewaiter.pipelines.attachments.attaching import Signed
from tidewaiter.pipelines.images import stored_descriptor
from tidewaiter.pipelines.workshop import Workshop, opened
from tidewaiter.signing import bundle as bundles
from tidewaiter.signing import dsse, keys, predicates, statement, vsa
from tidewaiter.signing.gathered import Format, Gathered
from tidewaiter.signing.statement import Statement
from tidewaiter.transport.client import Client

KEY = keys.create()


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Settings of an empty home."""
    return settings.load({"TIDEWAITER_HOME": str(tmp_path / "home")})


@pytest.fixture
def shop(here: Settings) -> Iterator[Workshop]:
    with opened(here, SILENT) as one:
        yield one


def verdict(image: Digest, environment: str, day: int) -> Signed:
    """An attested verdict of that day of January 2026; the same again has another signature."""
    then = dt.datetime(2026, 1, 1 + day, tzinfo=dt.UTC)
    predicate = vsa.encode(
        verifier="local",
        name=attach_worker.NAME,
        image=image,
        environment=environment,
        origin="https://example.test",
        revision=digests.of(b"pack"),
        passed=True,
        verified=then,
        valid_until=then + dt.timedelta(hours=24),
        advisories="1",
    )
    said = Statement((statement.about(attach_worker.NAME, image),), predicates.VERDICT, predicate)
    return Signed(
        predicate_type=predicates.VERDICT, document=statement.attest(said, KEY), public=KEY.public, builder="local"
    )


def kinds(gathered: Gathered) -> Counter[str]:
    """What was found, by its place and the name of its type; nothing else may have been met."""
    assert (gathered.broken, gathered.unread) == ((), ())
    return Counter(f"{one.place} {predicates.short(one.claimed_type)}".strip() for one in gathered.found)


def blobs(shop: Workshop) -> set[Digest]:
    return set(shop.store.blobs())


def test_each_format_holds_what_was_signed(shop: Workshop) -> None:
    """In the tag format lie the very bytes that were signed, in a bundle the envelope; the catalog names all."""
    image = attach_worker.image_of(shop)
    signed = everything(image.digest, KEY)
    there = attaching.attach(shop, image, signed, BOTH)
    found = attaching.gather_stored(shop, image.digest)
    assert kinds(found) == {"sig": 1, "att openvex": 1, "bundle signature": 1, "bundle openvex": 1}
    payload, envelope, vex = signed
    by_place = {(one.place, one.claimed_type): one for one in found.found}
    assert (by_place["sig", ""].document, by_place["sig", ""].signature) == (payload.document, payload.signature)
    assert by_place["att", predicates.OPENVEX].document == vex.document
    of_bundles = [bundles.parse(one.document).envelope for one in found.found if one.place == "bundle"]
    assert of_bundles == [envelope.document, vex.document]
    rows = shop.catalog.attestations(image.digest)
    assert there.sig
    assert there.att
    assert len(there.referrers) == 2
    assert {row.manifest_digest for row in rows} == {one.digest for one in (there.sig, there.att, *there.referrers)}
    assert {(row.key_fingerprint, row.builder) for row in rows} == {(KEY.public.fingerprint, "local")}
    assert [one.format for one in shop.catalog.image(image.digest).signatures] == ["bundle", "tag"]


def test_the_same_twice_is_nothing(shop: Workshop) -> None:
    """What is attached already is neither written nor recorded again; what is new joins it, in any order."""
    image = attach_worker.image_of(shop)
    signed = everything(image.digest, KEY)
    there = attaching.attach(shop, image, signed, BOTH)
    before = blobs(shop), shop.catalog.attestations(image.digest)
    assert attaching.attach(shop, image, [*signed, *signed], BOTH) == there
    assert (blobs(shop), shop.catalog.attestations(image.digest)) == before
    attaching.attach(shop, image, [*everything(image.digest, keys.create()), *signed], BOTH)
    assert kinds(attaching.gather_stored(shop, image.digest)) == {
        "sig": 2,
        "att openvex": 2,
        "bundle signature": 2,
        "bundle openvex": 2,
    }


@pytest.mark.parametrize("only", BOTH)
def test_one_format_may_be_chosen(shop: Workshop, only: Format) -> None:
    """With one format wanted nothing of the other is written."""
    image = attach_worker.image_of(shop)
    attaching.attach(shop, image, everything(image.digest, KEY), [only])
    assert {one.format for one in attaching.gather_stored(shop, image.digest).found} == {only}
    assert {row.format for row in shop.catalog.attestations(image.digest)} == {only}


def test_what_is_not_there_cannot_be_vouched_for(shop: Workshop) -> None:
    """An image that the store does not have, or the catalog does not know, gets nothing attached."""
    digest = digests.of(b"nothing")
    absent = Descriptor(media_type=documents.MANIFEST, digest=digest, size=7)
    with pytest.raises(NotFoundError):
        attaching.attach(shop, absent, everything(digest, KEY), BOTH)
    present = shop.store.put(b"{}")
    with pytest.raises(NotFoundError, match="catalog"):
        attaching.attach(shop, Descriptor(documents.MANIFEST, present, 2), everything(present, KEY), BOTH)
    assert attaching.gather_stored(shop, present) == Gathered()


def test_a_malformed_envelope_attaches_nothing(shop: Workshop) -> None:
    """One bad envelope among good ones, and none of them is visible."""
    image = attach_worker.image_of(shop)
    bad = Signed(predicate_type=predicates.SPDX, document=b'{"payload":', public=KEY.public, builder="local")
    with pytest.raises(InputError):
        attaching.attach(shop, image, [*everything(image.digest, KEY), bad], BOTH)
    assert attaching.gather_stored(shop, image.digest) == Gathered()


@pytest.mark.thorough
def test_fifty_processes_lose_nothing(here: Settings) -> None:
    """Fifty processes of one home attach to one image at once: each one's signature and attestation stand."""
    with opened(here, SILENT) as shop:
        image = attach_worker.image_of(shop)
    done = subprocess.run(
        [sys.executable, attach_worker.__file__, str(here.home.path), image.digest, "50"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert len(done.stdout.split()) == 50, done.stderr
    with opened(here, SILENT) as shop:
        assert kinds(attaching.gather_stored(shop, image.digest)) == {
            "sig": 50,
            "att openvex": 50,
            "bundle signature": 50,
            "bundle openvex": 50,
        }
        rows = shop.catalog.attestations(image.digest)
        assert Counter(row.key_fingerprint for row in rows) == dict.fromkeys(done.stdout.split(), 4)


KILLED = """
import os, signal, sys
import attach_worker
from attach_worker import BOTH, everything
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings
from tidewaiter.core.progress import SILENT
from tidewaiter.pipelines.attachments import attaching
from tidewaiter.pipelines.workshop import opened
from tidewaiter.signing import keys

here = settings.load({"TIDEWAITER_HOME": sys.argv[1]})
key = keys.create()
really_sync, really_record = os.fsync, Catalog.record_attestations

def attach(image, left):
    def step():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def sync(handle):
        step()
        really_sync(handle)

    def record(*arguments):
        step()
        really_record(*arguments)
        step()

    with opened(here, SILENT) as shop:
        os.fsync, Catalog.record_attestations = sync, record
        attaching.attach(shop, image, everything(image.digest, key), BOTH)

for at in range(1, 100):
    with opened(here, SILENT) as shop:
        image = attach_worker.image_of(shop, f"t{at}")
    child = os.fork()
    if child == 0:
        try:
            attach(image, at)
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(image.digest, flush=True)
    if not os.WIFSIGNALED(status):
        break
"""


@pytest.mark.thorough
def test_killed_between_any_two_steps_nothing_is_half_visible(here: Settings) -> None:
    """Killed before each durable write and around the record: all is attached or nothing, and a rerun completes it."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(here.home.path)],
        env={**os.environ, "PYTHONPATH": str(Path(attach_worker.__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    whole = {"sig": 1, "att openvex": 1, "bundle signature": 1, "bundle openvex": 1}
    outcomes = []
    with opened(here, SILENT) as shop:
        for image in map(digests.parse, done.stdout.split()):
            found = kinds(attaching.gather_stored(shop, image))
            assert found in ({}, whole)
            outcomes.append(bool(found))
            if not found:
                attaching.attach(shop, stored_descriptor(shop.store, image), everything(image, KEY), BOTH)
                assert kinds(attaching.gather_stored(shop, image)) == whole
    # Killed before each of some ten writes, after the record, and at last not at all.
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 10
    assert outcomes.count(True) > 1


def test_what_the_store_lost_is_unread(shop: Workshop) -> None:
    """A lost manifest, a lost and a changed blob are said to be unread; what is signed later stands beside them."""
    image = attach_worker.image_of(shop)
    there = attaching.attach(shop, image, everything(image.digest, KEY), BOTH)
    assert there.att
    shop.store.blob_path(there.att.digest).unlink()
    first, second = (documents.decode_manifest(shop.store.read(one.digest)) for one in there.referrers)
    assert isinstance(first, documents.Manifest)
    assert isinstance(second, documents.Manifest)
    shop.store.blob_path(first.layers[0].digest).write_bytes(b"other")
    shop.store.blob_path(second.layers[0].digest).unlink()
    found = attaching.gather_stored(shop, image.digest)
    assert [one.place for one in found.found] == ["sig"]
    assert (len(found.unread), found.broken) == (3, ())
    attaching.attach(shop, image, [attestation(image.digest, KEY)], ["tag"])
    assert [one.place for one in attaching.gather_stored(shop, image.digest).found] == ["sig", "att"]


def test_an_empty_manifest_is_a_beginning(shop: Workshop) -> None:
    """What somebody left without layers is followed by one that is whole, config and all."""
    image = attach_worker.image_of(shop)
    _, empty = attached.compose([])
    record = AttestationRecord(
        digest=image.digest,
        format="tag",
        predicate_type=predicates.SPDX,
        manifest_digest=shop.store.put(empty),
        blob_digest=digests.of(b""),
        size=0,
        created=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    shop.catalog.record_attestations([record])
    there = attaching.attach(shop, image, [attestation(image.digest, KEY)], ["tag"])
    assert there.att
    document = attached.decode(shop.store.read(there.att.digest), there.att.media_type)
    assert all(shop.store.verify(one) for one in (document.config, *document.layers))
    assert len(document.layers) == 1


def test_an_image_that_was_signed_by_an_older_release(shop: Workshop) -> None:
    """A signature of which only the table of signatures knows is gathered, and joined by the next."""
    image = attach_worker.image_of(shop)
    attaching.attach(shop, image, signature(image.digest, KEY), ["tag"])
    with shop.catalog.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM attestation")
    assert kinds(attaching.gather_stored(shop, image.digest)) == {"sig": 1}
    attaching.attach(shop, image, signature(image.digest, keys.create()), ["tag"])
    assert kinds(attaching.gather_stored(shop, image.digest)) == {"sig": 2}


def test_pruning_keeps_what_is_attached_as_long_as_the_image(here: Settings) -> None:
    """Everything attached to a tagged image survives, superseded manifests do not; without its tag all of it goes."""
    with opened(here, SILENT) as shop:
        image = attach_worker.image_of(shop)
        for number in range(3):
            attaching.attach(shop, image, [attestation(image.digest, KEY, note=str(number))], BOTH)
        before = attaching.gather_stored(shop, image.digest)
        manifests = {row.manifest_digest for row in shop.catalog.attestations(image.digest) if row.format == "tag"}
    assert kinds(before) == {"att openvex": 3, "bundle openvex": 3}
    pruning.prune(here, keep=0)
    with opened(here, SILENT) as shop:
        assert attaching.gather_stored(shop, image.digest) == before
        assert (len(manifests), len(manifests & blobs(shop))) == (3, 1)
        other = attach_worker.image_of(shop)  # takes the tag
    pruning.prune(here, keep=0)
    with opened(here, SILENT) as shop:
        assert shop.store.has(other.digest)
        gone = {image.digest, *manifests, *(one.blob for one in before.found)}
        assert not gone & blobs(shop)


def test_a_registry_that_cannot_be_asked_is_unread(serve: Serve) -> None:
    """Refusals leave it open what lies beside the image; nonsense under a tag is broken; nothing there is nothing."""
    image = digests.of(b"an image")

    def gathered(status: int, body: bytes = b"") -> Gathered:
        def registry(handler: BaseHTTPRequestHandler) -> None:
            found = 404 if "/referrers/" in handler.path and status == 200 else status
            reply(handler, found, body, Content_Type=documents.MANIFEST)

        host = serve(registry).removeprefix("http://")
        with Client() as client:
            remote = Registry(client, host, plain_http=frozenset({host})).repository("a/b")
            return attaching.gather_remote(remote, image)

    refused, absent, nonsense = gathered(403), gathered(404), gathered(200, b"[]")
    assert (refused.found, refused.broken, len(refused.unread)) == ((), (), 3)
    assert absent == Gathered()
    assert (nonsense.found, len(nonsense.broken), nonsense.unread) == ((), 3, ())


def test_a_list_that_is_too_long_is_unread(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among more referrers than are read there may be a withdrawn verdict: that is no list that merely is broken."""
    monkeypatch.setattr(limits, "INDEX_MANIFESTS", 2)
    image = digests.of(b"image")
    entries = [
        Descriptor(media_type=documents.MANIFEST, digest=digests.of(b"%d" % number), size=1) for number in range(3)
    ]
    body = documents.encode(Index(schema_version=2, media_type=documents.INDEX, manifests=entries))

    def registry(handler: BaseHTTPRequestHandler) -> None:
        reply(handler, 200 if "/referrers/" in handler.path else 404, body, Content_Type=documents.INDEX)

    host = serve(registry).removeprefix("http://")
    with Client() as client:
        remote = Registry(client, host, plain_http=frozenset({host})).repository("a/b")
        gathered = attaching.gather_remote(remote, image)
    assert (gathered.found, gathered.broken, len(gathered.unread)) == ((), (), 1)


def test_a_verdict_that_is_renewed_for_ever(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one manifest holds no more, what the same key said anew since gives way; nothing else does."""
    monkeypatch.setattr(limits, "SIGNATURE_LAYERS", 6)
    image = attach_worker.image_of(shop)
    once = [
        attestation(image.digest, KEY, predicates.SPDX),
        attestation(image.digest, keys.create(), note="another key"),
        verdict(image.digest, "staging", 0),
    ]
    attaching.attach(shop, image, once, BOTH)
    for day in range(5):
        attaching.attach(shop, image, [verdict(image.digest, "production", day)], BOTH)
    gathered = attaching.gather_stored(shop, image.digest)
    held = [one.document for one in gathered.found if one.place == "att"]
    assert len(held) == 6
    assert {one.document for one in once} < set(held)
    said = [json.loads(dsse.parse(one).payload)["predicate"] for one in held]
    production = [one for one in said if one.get("tidewaiter_environment") == "production"]
    assert [one["timeVerified"] for one in production] == [f"2026-01-0{day + 1}T00:00:00Z" for day in (2, 3, 4)]
    assert sum(one.place == "bundle" for one in gathered.found) == 8
    more = [attestation(image.digest, KEY, predicates.CYCLONEDX, str(number)) for number in range(3)]
    with pytest.raises(LimitError, match="would carry 7"):
        attaching.attach(shop, image, more, BOTH)
