"""Who built an image is told by a provenance beside it; what the gate decided is said beside it, signed."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gate_place import Place, digest_of, manifest
from image_builder import Tar, put_image
from tidewaiter.core import clock
from tidewaiter.gate import deciding
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import RunConfig
from tidewaiter.pipelines import vouched
from tidewaiter.pipelines.attachments import stating
from tidewaiter.pipelines.judging import StoreJudge
from tidewaiter.signing import bundle as bundles
from tidewaiter.signing import key_sources, keyring, predicates, statement, verify
from tidewaiter.signing.key_sources import SigningKey
from tidewaiter.signing.statement import Statement
from tidewaiter.web.registry import terms_of
from workplace import run

PRODUCTION = '[[environment]]\nname = "production"\nrepositories = ["shop/**"]\n'
STAGING = '[[environment]]\nname = "staging"\nrepositories = ["shop/**"]\n'
BUILDER = "ci.example"
COMMIT = "c" * 40
MakePlace = Callable[..., Place]


def gate(make_place: MakePlace, written: str) -> Place:
    """A gate that judges as a server does."""
    place = make_place(written=written)
    judge = StoreJudge(place.settings, lambda: place.database)
    place.registry.judge = judge
    place.registry.terms_of = terms_of(place.settings)
    return place


def key(place: Place, name: str, *options: str) -> SigningKey:
    """A new key of the server's home."""
    made = run(place.settings.home.path, "key", "generate", name, *options)
    assert made.code == 0, made.err
    return key_sources.open_key(name, place.settings.home.keys, lambda: b"")


def image(place: Place, folder: Path) -> bytes:
    """The manifest of an image whose blobs are pushed."""
    tar = Tar().file("etc/os-release", "ID=none\n").file("data", "data").bytes()
    made = put_image(Layout(folder / "made"), [tar], run=RunConfig(user="65532", entrypoint=["/data"]))
    store = Layout(folder / "made")
    for one in (made.manifest.config, *made.manifest.layers):
        place.blob("shop/app", store.read(one.digest))
    return store.read(made.digest)


def provenance(builder: str) -> dict[str, Any]:
    """A SLSA provenance."""
    source = "https://git.example/shop/app"
    return {
        "buildDefinition": {
            "buildType": "https://example.com/build",
            "externalParameters": {"source": {"uri": f"git+{source}@{COMMIT}", "digest": {"gitCommit": COMMIT}}},
            "resolvedDependencies": [
                {"uri": f"git+{source}@{COMMIT}", "digest": {"gitCommit": COMMIT}, "annotations": {"dirty": False}}
            ],
        },
        "runDetails": {"builder": {"id": f"urn:tidewaiter:builder:{builder}"}},
    }


def refer(place: Place, data: bytes, said: Statement, by: SigningKey) -> None:
    """Push what is said of the image `data` as a bundle that refers to it."""
    envelope = statement.attest(stating.dated(said, clock.now()), by.signer)
    blob = bundles.encode(envelope, by.signer.public)
    config = {"mediaType": documents.EMPTY, "digest": place.blob("shop/app", b"{}"), "size": 2}
    layer = {"mediaType": bundles.MEDIA_TYPE, "digest": place.blob("shop/app", blob), "size": len(blob)}
    subject = {"mediaType": documents.MANIFEST, "digest": digest_of(data), "size": len(data)}
    pushed = manifest(config, [layer], artifactType=bundles.MEDIA_TYPE, subject=subject)
    answer = place.put("shop/app", digest_of(pushed), pushed)
    assert answer.status == 201, answer


def vouch(place: Place, data: bytes, by: SigningKey, *, builder: str = BUILDER) -> None:
    """Push provenance and signature of the image."""
    digest = digests.parse(digest_of(data))
    refer(place, data, stating.about("shop/app", digest, predicates.PROVENANCE, provenance(builder)), by)
    refer(place, data, statement.image_signature("shop/app", digest), by)


def test_production_asks_for_a_registered_builder(make_place: MakePlace, tmp_path: Path) -> None:
    """Pushed with nothing beside it, it has no builder, provenance or signature; with those of a builder, it has."""
    place = gate(make_place, PRODUCTION)
    builder = key(place, "builder", "--builder", BUILDER)
    data = image(place, tmp_path)
    bare = place.put("shop/app", "1.0.0", data).message
    for rule in ("build.builder-registered", "attached.provenance", "attached.signature"):
        assert rule in bare
    assert 'the builder is "local"' in bare
    vouch(place, data, builder)
    assert place.registry.nudged == {("shop/app", digest_of(data))}
    after = place.put("shop/app", "1.0.0", data).message
    for rule in ("build.builder-registered", "attached.provenance", "attached.signature"):
        assert rule not in after


@pytest.mark.parametrize(
    ("options", "builder", "revoked"),
    [
        (("--builder", BUILDER), "other.example", False),  # in the name of somebody else
        ((), "local", False),  # a developer's own machine
        (("--builder", BUILDER), BUILDER, True),
        (("--builder", BUILDER, "--predicate", "signature"), BUILDER, False),
        (("--builder", BUILDER, "--repository", "other/*"), BUILDER, False),
    ],
)
@pytest.mark.thorough
def test_who_does_not_vouch(
    make_place: MakePlace, tmp_path: Path, options: tuple[str, ...], builder: str, revoked: bool
) -> None:
    """A provenance in another's name, of a laptop, of a revoked key or of one for something else names no builder."""
    place = gate(make_place, PRODUCTION)
    by = key(place, "builder", *options)
    data = image(place, tmp_path)
    vouch(place, data, by, builder=builder)
    if revoked:
        assert run(place.settings.home.path, "key", "revoke", "builder", "--reason", "lost").code == 0
    assert "build.builder-registered" in place.put("shop/app", "1.0.0", data).message


def test_a_key_that_the_server_does_not_know(make_place: MakePlace, tmp_path: Path) -> None:
    """Whoever may push can put a provenance there; it counts only by a key that the server trusts."""
    place = gate(make_place, PRODUCTION)
    elsewhere = make_place()
    data = image(place, tmp_path)
    vouch(place, data, key(elsewhere, "builder", "--builder", BUILDER))
    assert 'the builder is "local"' in place.put("shop/app", "1.0.0", data).message


def test_what_arrives_later_releases(make_place: MakePlace, tmp_path: Path) -> None:
    """What is pushed beside an image that waits has the gate look at that image again, and at no other."""
    place = gate(make_place, STAGING)
    data = image(place, tmp_path)
    judged: list[str] = []
    allow = place.registry.judge

    def first(repository: str, reference: str, descriptor: documents.Descriptor) -> Any:
        judged.append(descriptor.digest)
        if len(judged) == 1:
            raise RuntimeError("broken")
        return allow(repository, reference, descriptor)

    place.registry.judge = first
    assert place.put("shop/app", "1.0.0", data).status == 503
    assert deciding.release(place.registry, only=place.registry.take_nudged()) == ()
    vouch(place, data, key(place, "builder", "--builder", BUILDER))
    assert deciding.release(place.registry, only=place.registry.take_nudged()) == ("shop/app:1.0.0",)
    assert judged == [digest_of(data)] * 2


@pytest.mark.thorough
def test_the_verdict_is_signed(make_place: MakePlace, tmp_path: Path) -> None:
    """What is allowed carries the server's verdict as a referrer, by its key for verdicts; it is not repeated."""
    place = gate(make_place, STAGING)
    key(place, "verdict")
    place.registry.judge = StoreJudge(msgspec.structs.replace(place.settings, key_password=b""), lambda: place.database)
    data = image(place, tmp_path)
    assert place.put("shop/app", "1.0.0", data).status == 201
    digest = digests.parse(digest_of(data))
    listed = place.ask("GET", f"/shop/app/referrers/{digest}").json["manifests"]
    kinds = {one["annotations"]["dev.sigstore.bundle.predicateType"] for one in listed}
    assert predicates.VERDICT in kinds
    beside = vouched.gather(place.catalog, place.store, "shop/app", digest)
    ring = keyring.home(place.settings.home.keys)
    (held,) = verify.attestations(
        beside, digest, predicates.VERDICT, ring, at=clock.now(), repository="shop/app", environment="staging"
    )
    assert held.statement.predicate["verificationResult"] == "PASSED"
    one = listed[0]
    pulled = place.ask("GET", f"/shop/app/manifests/{one['digest']}")
    assert pulled.status == 200
    layer = json.loads(pulled.body)["layers"][0]
    assert len(place.ask("GET", f"/shop/app/blobs/{layer['digest']}").body) == layer["size"]
    assert place.put("shop/app", "1.0.0", data).status == 201
    assert place.ask("GET", f"/shop/app/referrers/{digest}").json["manifests"] == listed


def test_a_key_that_cannot_be_opened(make_place: MakePlace, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the password of the key the answer is given all the same, and the log says once why it is not signed."""
    place = gate(make_place, STAGING)
    key(place, "verdict")
    data = image(place, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert place.put("shop/app", "1.0.0", data).status == 201
        assert place.put("shop/app", "1.0.0", data).status == 201
    assert [one.message for one in caplog.records] == ["verdicts are not signed: COSIGN_PASSWORD is not set"]
    assert place.ask("GET", f"/shop/app/referrers/{digest_of(data)}").json["manifests"] == []
