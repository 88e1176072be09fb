"""What is put beside an image is found again by `cosign.gather`, and what is not right is told."""

import datetime as dt
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec
import pytest
import tag_format

from images import make_image
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, NetworkError, NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.image import BlobSource
from tidewaiter.oci.layout import Layout
from tidewaiter.oci.manifest import Descriptor, ImageConfig, Manifest
from tidewaiter.signing import bundle, cosign, dsse, keys, predicates, simple_signing, statement
from tidewaiter.signing.gathered import Gathered
from tidewaiter.signing.statement import Statement

KEY = keys.create()
AT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


class Beside(msgspec.Struct, frozen=True):
    """An image with a signature, an attestation, and a bundle."""

    layout: Layout
    image: Descriptor
    sig: Descriptor
    att: Descriptor
    bundle: Descriptor
    envelope: bytes

    def gather(self, source: BlobSource | None = None, /, **changes: object) -> Gathered:
        given: dict[str, object] = {"sig": self.sig, "att": self.att, "referrers": [self.bundle], **changes}
        return cosign.gather(source or self.layout, self.image.digest, **given)  # type: ignore[arg-type]  # of several types

    def only(self, **given: object) -> Gathered:
        return self.gather(**{"sig": None, "att": None, "referrers": (), **given})

    def manifest(self, descriptor: Descriptor) -> Manifest:
        return msgspec.json.decode(self.layout.read(descriptor.digest), type=Manifest)

    def changed(self, descriptor: Descriptor, **changes: object) -> Descriptor:
        """The descriptor of a manifest like that of `descriptor`."""
        data = documents.encode(msgspec.structs.replace(self.manifest(descriptor), **changes))
        return msgspec.structs.replace(descriptor, digest=self.layout.put(data), size=len(data))

    def layer(self, descriptor: Descriptor, **changes: object) -> Descriptor:
        """Like `changed`, of the manifest's only layer."""
        (layer,) = self.manifest(descriptor).layers
        return self.changed(descriptor, layers=[msgspec.structs.replace(layer, **changes)])


def attested(image: Digest, kind: str = predicates.SPDX) -> bytes:
    return statement.attest(Statement((statement.about("host/repo", image),), kind, {"a": 1}), KEY)


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    layout, image = make_image(tmp_path / "store", sizes=(10,))
    envelope = attested(image.digest)
    return Beside(
        layout,
        image,
        tag_format.sign(layout, image.digest, repository_identity="host/repo", key=KEY),
        tag_format.attest(layout, image.digest, envelope, predicates.SPDX),
        cosign.bundle(layout, image, bundle.encode(envelope, KEY.public), predicates.SPDX, AT),
        envelope,
    )


class Failing:
    """A source one of whose blobs cannot be read."""

    def __init__(self, layout: Layout, digest: Digest, error: Exception) -> None:
        self.open: Callable[[Digest], IO[bytes]] = layout.open
        self._layout, self._digest, self._error = layout, digest, error

    def read(self, digest: Digest, *, limit: int = limits.MANIFEST_BYTES) -> bytes:
        if digest == self._digest:
            raise self._error
        return self._layout.read(digest, limit=limit)


# What is written


def test_the_attestation_manifest_is_as_cosign_writes_it(beside: Beside) -> None:
    """One layer an envelope; its type stands beside it, and an empty signature, without which cosign fails."""
    manifest = beside.manifest(beside.att)
    (layer,) = manifest.layers
    config = msgspec.json.decode(beside.layout.read(manifest.config.digest), type=ImageConfig)
    assert layer.media_type == "application/vnd.dsse.envelope.v1+json"
    assert layer.annotations == {"predicateType": predicates.SPDX, "dev.cosignproject.cosign/signature": ""}
    assert beside.layout.read(layer.digest) == beside.envelope
    assert config.rootfs.diff_ids == [layer.digest]
    assert beside.att.media_type == manifest.media_type == documents.MANIFEST


def test_attesting_again_changes_nothing_and_another_adds(beside: Beside) -> None:
    """The same envelope: the same manifest. Another: one more layer, the old kept."""
    again = tag_format.attest(beside.layout, beside.image.digest, beside.envelope, predicates.SPDX, existing=beside.att)
    assert again == beside.att
    other = attested(beside.image.digest, predicates.CYCLONEDX)
    both = tag_format.attest(beside.layout, beside.image.digest, other, predicates.CYCLONEDX, existing=beside.att)
    assert [one.document for one in beside.only(att=both).found] == [beside.envelope, other]


def test_the_number_of_attestations_is_bounded(beside: Beside) -> None:
    """SIGNATURE_LAYERS holds from both sides, for attesting and gathering."""
    (layer,) = beside.manifest(beside.att).layers
    almost = beside.changed(beside.att, layers=[layer] * (limits.SIGNATURE_LAYERS - 1))
    other = attested(beside.image.digest, predicates.CYCLONEDX)
    full = tag_format.attest(beside.layout, beside.image.digest, other, predicates.CYCLONEDX, existing=almost)
    assert [one.claimed_type for one in beside.only(att=full).found] == [predicates.SPDX, predicates.CYCLONEDX]
    with pytest.raises(LimitError):
        tag_format.attest(beside.layout, beside.image.digest, attested(beside.image.digest), "x", existing=full)
    over = beside.only(att=beside.changed(beside.att, layers=[layer] * (limits.SIGNATURE_LAYERS + 1)))
    assert (over.found, len(over.broken)) == ((), 1)


def test_the_bundle_manifest_is_as_cosign_writes_it(beside: Beside) -> None:
    """An empty config, one layer, the image as subject, and what the bundle is; listed as a registry lists it."""
    annotations = {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": predicates.SPDX,
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
    }
    manifest = beside.manifest(beside.bundle)
    assert manifest.artifact_type == manifest.layers[0].media_type == bundle.MEDIA_TYPE
    assert manifest.config.media_type == "application/vnd.oci.empty.v1+json"
    assert beside.layout.read(manifest.config.digest) == b"{}"
    assert manifest.subject == beside.image
    assert manifest.annotations == annotations
    assert (beside.bundle.artifact_type, beside.bundle.annotations) == (bundle.MEDIA_TYPE, annotations)


def test_an_image_that_is_not_there_is_not_vouched_for(beside: Beside) -> None:
    """Nobody attests what they do not have."""
    elsewhere = digests.of(b"elsewhere")
    with pytest.raises(NotFoundError):
        tag_format.attest(beside.layout, elsewhere, beside.envelope, predicates.SPDX)
    data = bundle.encode(beside.envelope, KEY.public)
    subject = msgspec.structs.replace(beside.image, digest=elsewhere)
    with pytest.raises(NotFoundError):
        cosign.bundle(beside.layout, subject, data, predicates.SPDX, AT)


def test_what_is_no_document_is_not_put_beside_an_image(beside: Beside) -> None:
    """We do not write what we would refuse to read."""
    with pytest.raises(InputError):
        tag_format.attest(beside.layout, beside.image.digest, b"{}", predicates.SPDX)
    with pytest.raises(InputError):
        cosign.bundle(beside.layout, beside.image, beside.envelope, predicates.SPDX, AT)


# What is found


def test_everything_is_found(beside: Beside) -> None:
    """Bytes, where they lay, and what they are announced as; nothing is broken or unread."""
    gathered = beside.gather()
    assert (gathered.broken, gathered.unread) == ((), ())
    sig, att, referrer = gathered.found
    assert (sig.place, sig.format, sig.document) == (
        "sig",
        "tag",
        simple_signing.encode("host/repo", beside.image.digest),
    )
    assert KEY.public.holds(sig.signature, sig.document)
    assert (att.place, att.format, att.document, att.claimed_type) == ("att", "tag", beside.envelope, predicates.SPDX)
    assert (referrer.place, referrer.format, referrer.claimed_type) == ("bundle", "bundle", predicates.SPDX)
    assert bundle.parse(referrer.document).envelope == beside.envelope
    assert all(digests.of(one.document) == one.blob for one in gathered.found)


def test_nothing_is_nothing(beside: Beside) -> None:
    """An image without anything beside it: nothing found, broken or unread."""
    assert beside.only() == Gathered()


@pytest.mark.parametrize("kind", [None, documents.EMPTY, "application/vnd.dev.sigstore.bundle.v0.3+json"])
def test_bundles_are_found_however_they_are_listed(beside: Beside, kind: str | None) -> None:
    """Some registries list the config's type as the artifact's, and some clients write none."""
    listed = msgspec.structs.replace(beside.bundle, artifact_type=kind, annotations=None)
    assert beside.only(referrers=[listed]).found == beside.gather().found[2:]


def test_other_referrers_are_passed_over(beside: Beside) -> None:
    """What is no bundle is not even read when its type says so, and is no fault when its type says nothing."""
    sbom = msgspec.structs.replace(beside.bundle, artifact_type="application/spdx+json", digest=digests.of(b"gone"))
    index = msgspec.structs.replace(beside.bundle, media_type=documents.INDEX, digest=digests.of(b"gone too"))
    layers = [Descriptor(media_type="text/plain", digest=digests.of(b""), size=0)] * (limits.SIGNATURE_LAYERS + 1)
    other = beside.changed(beside.bundle, artifact_type="text/plain", layers=layers)
    listed = msgspec.structs.replace(other, artifact_type=None)
    assert beside.only(referrers=[sbom, index, listed]) == Gathered()


def test_what_is_there_twice_counts_once(beside: Beside) -> None:
    """A referrer that is listed twice, or two that hold the same bundle, are one; two keys' signatures are two."""
    same = beside.changed(beside.bundle, annotations={})
    found = beside.only(referrers=[beside.bundle, beside.bundle, same]).found
    assert len({one.blob for one in found}) == 1
    assert [one.claimed_type for one in found] == [predicates.SPDX, ""]
    other = {"repository_identity": "host/repo", "key": keys.create(), "existing": beside.sig}
    both = tag_format.sign(beside.layout, beside.image.digest, **other)  # type: ignore[arg-type]  # of several types
    found = beside.only(sig=both).found
    assert len({one.signature for one in found}) == 2
    assert len({one.blob for one in found}) == 1


Change = Callable[[Beside], dict[str, object]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda it: {"sig": it.layer(it.sig, media_type="text/plain")}, "of type"),
        (lambda it: {"att": it.layer(it.att, media_type=simple_signing.MEDIA_TYPE)}, "of type"),
        (lambda it: {"referrers": [it.layer(it.bundle, media_type=dsse.MEDIA_TYPE)]}, "of type"),
        (
            lambda it: {"referrers": [it.layer(it.bundle, media_type="application/vnd.dev.sigstore.bundle.v0.4+json")]},
            "of type",
        ),
        (lambda it: {"sig": it.layer(it.sig, annotations={})}, "no signature"),
        (lambda it: {"sig": it.layer(it.sig, annotations={cosign.SIGNATURE: "AB=="})}, "base64"),
        (lambda it: {"sig": it.layer(it.sig, annotations={cosign.SIGNATURE: "AA==\n"})}, "base64"),
        (lambda it: {"sig": it.layer(it.sig, annotations={cosign.SIGNATURE: "AA"})}, "base64"),
        (lambda it: {"sig": it.layer(it.sig, annotations={cosign.SIGNATURE: "-_=="})}, "base64"),
        (lambda it: {"sig": it.layer(it.sig, size=10_000)}, "bytes instead of 10000"),
        (lambda it: {"sig": it.layer(it.sig, size=limits.PAYLOAD_BYTES + 1)}, "announced with"),
        (lambda it: {"att": it.layer(it.att, size=limits.ATTESTATION_BYTES + 1)}, "announced with"),
        (lambda it: {"referrers": [it.layer(it.bundle, size=limits.ATTESTATION_BYTES + 1)]}, "announced with"),
        (lambda it: {"referrers": [it.changed(it.bundle, subject=None)]}, "another image"),
        (lambda it: {"referrers": [it.changed(it.bundle, subject=it.sig)]}, "another image"),
        (lambda it: {"referrers": [it.changed(it.bundle, layers=[])]}, "0 layers"),
        (lambda it: {"referrers": [it.changed(it.bundle, layers=it.manifest(it.bundle).layers * 2)]}, "2 layers"),
    ],
    ids=range(17),
)
def test_what_is_not_as_its_format_says_is_broken(beside: Beside, change: Change, reason: str) -> None:
    """It is told and counts for nothing, and what lies beside it is found."""
    changes = change(beside)
    gathered = beside.gather(**changes)
    assert gathered.unread == ()
    (broken,) = gathered.broken
    assert reason in broken.reason
    assert len(gathered.found) == 2


@pytest.mark.parametrize("place", ["sig", "att", "referrers"])
@pytest.mark.parametrize("data", [b"", b"[]", b'{"schemaVersion":2,"manifests":[]}', b'{"layers":[],"manifests":[]}'])
def test_a_malformed_manifest_is_broken(beside: Beside, place: str, data: bytes) -> None:
    """Bytes that have their digest but are no manifest are broken: reading them again would not help."""
    bad = msgspec.structs.replace(beside.bundle, digest=beside.layout.put(data), size=len(data))
    gathered = beside.gather(**{place: [bad] if place == "referrers" else bad})
    assert (len(gathered.found), len(gathered.broken), gathered.unread) == (2, 1, ())


@pytest.mark.parametrize("part", ["manifest", "document"])
@pytest.mark.parametrize("place", ["sig", "att", "bundle"])
@pytest.mark.parametrize(
    "harm", ["missing", "damaged", "longer", NetworkError("gone", next_step="Wait."), OSError(5, "no")]
)
def test_what_cannot_be_read_is_unread(beside: Beside, harm: str | Exception, place: str, part: str) -> None:
    """Lost or damaged storage and lost connections leave open what was there, and do not hide the rest."""
    descriptor: Descriptor = getattr(beside, place)
    digest = descriptor.digest if part == "manifest" else beside.manifest(descriptor).layers[0].digest
    source: BlobSource = beside.layout
    path = beside.layout.blob_path(digest)
    if isinstance(harm, Exception):
        source = Failing(beside.layout, digest, harm)
    elif harm == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b" " * limits.MANIFEST_BYTES if harm == "longer" else b"{}")
    gathered = beside.gather(source)
    assert gathered.broken == ()
    (unread,) = gathered.unread
    assert digest in unread.what
    assert len(gathered.found) == 2


# Bounds


def test_the_number_of_referrers_is_bounded(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of as many as are read, each is; further ones are told as unread, but not those of another type."""
    monkeypatch.setattr(limits, "GATHERED_REFERRERS", 3)
    referrers = [beside.changed(beside.bundle, annotations={"n": str(number)}) for number in range(3)]
    others = [
        msgspec.structs.replace(beside.bundle, artifact_type="text/plain", digest=digests.of(os.urandom(8)))
        for _ in range(5)
    ]
    assert beside.only(referrers=[*others, *referrers]).unread == ()
    gathered = beside.only(referrers=[*referrers, beside.bundle])
    assert [one.what for one in gathered.unread] == ["1 more referrers"]


def test_the_bytes_in_memory_are_bounded(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents that together fill the bound are read; with one byte less, the last is unread."""
    total = sum(len(one.document) for one in beside.gather().found)
    monkeypatch.setattr(limits, "GATHERED_BYTES", total)
    assert beside.gather().unread == ()
    monkeypatch.setattr(limits, "GATHERED_BYTES", total - 1)
    gathered = beside.gather()
    assert (len(gathered.found), len(gathered.unread)) == (2, 1)


def test_the_time_is_bounded(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is asked for when the time is over; what was not read is told."""
    seconds = itertools.chain([0.0, 0.0, limits.GATHERED_SECONDS], itertools.repeat(limits.GATHERED_SECONDS + 0.5))
    monkeypatch.setattr("tidewaiter.signing.cosign.time.monotonic", lambda: next(seconds))
    gathered = beside.gather()
    assert [one.place for one in gathered.found] == ["sig"]
    assert len(gathered.unread) == 2
