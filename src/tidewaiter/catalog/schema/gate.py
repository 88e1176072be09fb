"""What the gate keeps of its repositories: blobs, manifests in quarantine or visible, and what their tags say.

A blob lies in the store once. Whether a repository has it is a row here; no other repository's row makes it readable.
"""

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Index, String, Table, Text, UniqueConstraint

from tidewaiter.catalog.schema.columns import DigestText, Moment, metadata, of, row

gate_blob = Table(
    "gate_blob",
    metadata,
    of("repository", primary_key=True),
    Column("digest", DigestText, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("added_at", Moment, nullable=False),
    Index(None, "digest"),
)

gate_manifest = Table(
    "gate_manifest",
    metadata,
    row(),
    of("repository"),
    Column("digest", DigestText, nullable=False),
    Column("media_type", String(255), nullable=False),
    Column("artifact_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("subject", DigestText),
    Column("annotations", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("answer", Text, nullable=False),
    Column("pushed_by", Text, nullable=False),
    Column("pushed_at", Moment, nullable=False),
    Column("decided_at", Moment),
    CheckConstraint("state IN ('quarantined', 'visible')", name="state"),
    UniqueConstraint("repository_id", "digest"),
    Index(None, "digest"),
    Index(None, "repository_id", "subject"),
    Index(None, "state"),
)

gate_member = Table(
    "gate_member",
    metadata,
    of("gate_manifest", primary_key=True),
    Column("digest", DigestText, primary_key=True),
    Index(None, "digest"),
)

gate_tag = Table(
    "gate_tag",
    metadata,
    of("repository", primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("digest", DigestText),
    Column("waiting", DigestText),
    Column("set_at", Moment, nullable=False),
    CheckConstraint("digest IS NOT NULL OR waiting IS NOT NULL", name="says_something"),
)
