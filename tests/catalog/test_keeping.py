"""The keep predicate: what the catalog wants to stay in the store."""

from pathlib import Path

import catalog_sample as sample

from tidewaiter.catalog.catalog import Catalog
from tidewaiter.catalog.records import AttachmentRecord, SignatureRecord


def test_tags_signatures_and_documents_keep(tmp_path: Path) -> None:
    """A tag of any visibility and a signature keep an image; its documents stay with it, and nobody else's do."""
    with Catalog.open(sample.home(tmp_path)) as catalog:
        for name in ("tagged", "moved", "signed", "forgotten"):
            catalog.record_build(sample.build(name))
            catalog.record_attachment(
                AttachmentRecord(
                    digest=sample.digest(name),
                    kind="spdx",
                    media_type="application/spdx+json",
                    blob_digest=sample.digest(f"sbom of {name}"),
                    size=1,
                    created=sample.NOW,
                )
            )
        catalog.set_tag("team/model", "1", sample.digest("moved"))
        catalog.set_tag("team/model", "1", sample.digest("tagged"))
        catalog.record_signature(
            SignatureRecord(
                digest=sample.digest("signed"),
                key_fingerprint="sha256:" + "1" * 64,
                builder="local",
                manifest_digest=sample.digest("signature"),
                created=sample.NOW,
                format="tag",
            )
        )
        kept = catalog.kept_digests()
    assert kept.manifests == {sample.digest(name) for name in ("tagged", "signed", "signature")}
    assert kept.blobs == {sample.digest(f"sbom of {name}") for name in ("tagged", "signed")}


def test_approved_bases_are_kept(tmp_path: Path) -> None:
    """A base stays while it is approved, and no longer."""
    with Catalog.open(sample.home(tmp_path)) as catalog:
        catalog.approve_base("debian", sample.digest("base"), owner="ml", expires=None)
        assert catalog.kept_digests().manifests == {sample.digest("base")}
        catalog.retire_base("debian", sample.digest("base"), reason="old")
        assert catalog.kept_digests().manifests == frozenset()


def test_an_empty_catalog_keeps_nothing(tmp_path: Path) -> None:
    """Nothing recorded, nothing wanted."""
    with Catalog.open(sample.home(tmp_path)) as catalog:
        assert catalog.kept_digests() == (frozenset(), frozenset())
