"""What is attached to images, as the catalog keeps it."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.records import AttestationRecord, PullRecord, SignatureRecord
from tidewaiter.core import settings
from tidewaiter.core.errors import NotFoundError
from tidewaiter.oci import digest as digests
from tidewaiter.oci import manifest as documents
from tidewaiter.signing import predicates

IMAGE = digests.of(b"image")
THEN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
RECORD = AttestationRecord(
    digest=IMAGE,
    format="tag",
    predicate_type=predicates.SPDX,
    manifest_digest=digests.of(b"manifest"),
    blob_digest=digests.of(b"blob"),
    size=4,
    key_fingerprint=digests.of(b"key"),
    builder="ci",
    created=THEN,
)
SIGNATURE = SignatureRecord(
    digest=IMAGE,
    key_fingerprint=digests.of(b"key"),
    builder="ci",
    manifest_digest=digests.of(b"manifest"),
    created=THEN,
    format="tag",
)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog that knows one image."""
    with Catalog.open(settings.load({"TIDEWAITER_HOME": str(tmp_path)})) as opened:
        opened.record_pull(
            PullRecord(
                repository="a/b", tag="v1", digest=IMAGE, media_type=documents.MANIFEST, layers=(), source="elsewhere"
            )
        )
        yield opened


def test_what_is_recorded_is_read_in_its_order(catalog: Catalog) -> None:
    """Every field comes back; the same blob in the same format is recorded once, whatever else is said of it."""
    bundle = msgspec.structs.replace(RECORD, format="bundle", key_fingerprint="", builder="")
    catalog.record_attestations([RECORD, bundle])
    catalog.record_attestations([msgspec.structs.replace(RECORD, manifest_digest=digests.of(b"other"))])
    assert catalog.attestations(IMAGE) == (RECORD, bundle)
    assert catalog.attestations(digests.of(b"unknown")) == ()


def test_an_unknown_image_gets_nothing(catalog: Catalog) -> None:
    """Nothing is attached to what the catalog does not know, and nothing of the same transaction is kept."""
    unknown = msgspec.structs.replace(RECORD, digest=digests.of(b"unknown"))
    with pytest.raises(NotFoundError):
        catalog.record_attestations([unknown], [SIGNATURE])
    assert catalog.image(IMAGE).signatures == ()


def test_signatures_of_the_home_are_told_from_what_came_along(catalog: Catalog) -> None:
    """Only what was signed here is a signature of the image; an attached one is merely there."""
    came = msgspec.structs.replace(RECORD, predicate_type=predicates.SIGNATURE, key_fingerprint="", builder="")
    catalog.record_attestations([came])
    assert catalog.image(IMAGE).signatures == ()
    mine = msgspec.structs.replace(came, blob_digest=digests.of(b"mine"), key_fingerprint=SIGNATURE.key_fingerprint)
    catalog.record_attestations([mine], [SIGNATURE])
    assert [one.key_fingerprint for one in catalog.image(IMAGE).signatures] == [SIGNATURE.key_fingerprint]
