"""What was said of images: signatures, attached documents, waivers, attestations."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from tidewaiter.catalog.schema.columns import DigestText, Moment, metadata, of, row

signature = Table(
    "signature",
    metadata,
    row(),
    of("artifact"),
    Column("key_fingerprint", String(135), nullable=False),
    Column("builder", Text, nullable=False),
    Column("format", String(32), nullable=False),
    Column("manifest_digest", DigestText, nullable=False),
    Column("created", Moment, nullable=False),
    UniqueConstraint("artifact_id", "manifest_digest", "key_fingerprint"),
)

attachment = Table(
    "attachment",
    metadata,
    row(),
    of("artifact"),
    Column("kind", String(32), nullable=False),
    Column("media_type", Text, nullable=False),
    Column("blob_digest", DigestText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created", Moment, nullable=False),
    UniqueConstraint("artifact_id", "kind", "blob_digest"),
)

waiver = Table(
    "waiver",
    metadata,
    row(),
    Column("name", String(64), nullable=False, unique=True),
    Column("scope", JSON, nullable=False),
    Column("owner", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("requested_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("approved_at", Moment),
    Column("revoked_by", Text, nullable=False),
    Column("revoked_at", Moment),
    Column("revocation", Text, nullable=False),
    Index(None, "expires_at"),
)

# Attestations of an image that lie in the store. In the tag format the newest row's manifest holds all of them.
attestation = Table(
    "attestation",
    metadata,
    row(),
    of("artifact"),
    Column("format", String(16), nullable=False),
    Column("predicate_type", Text, nullable=False),
    Column("manifest_digest", DigestText, nullable=False),
    Column("blob_digest", DigestText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("key_fingerprint", String(135), nullable=False),
    Column("builder", Text, nullable=False),
    Column("created", Moment, nullable=False),
    UniqueConstraint("artifact_id", "format", "blob_digest"),
    Index(None, "artifact_id"),
)
