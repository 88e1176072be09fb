"""What was seen elsewhere, beside the tags of the store."""

from sqlalchemy import (
    Column,
    Index,
    String,
    Table,
    Text,
)

from tidewaiter.catalog.schema.columns import Moment, metadata, odd, of, row

# What was seen in registries, layouts and archives (`synced`), beside the tags of the store, which alone are cleared.
# `problem` is why the packages of an image cannot be known, as the release `reader` found out.
synced_manifest = Table(
    "synced_manifest",
    metadata,
    of("artifact", primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("artifact_type", Text, nullable=False),
    Column("problem", Text, nullable=False),
    Column("reader", String(64), nullable=False),
)

# The manifests that an index lists.
synced_child = Table(
    "synced_child",
    metadata,
    of("artifact", name="parent_id", primary_key=True),
    of("artifact", name="child_id", primary_key=True),
    Column("platform", Text, nullable=False),
    Index(None, "child_id"),
)

synced_referrer = Table(
    "synced_referrer",
    metadata,
    of("artifact", name="subject_id", primary_key=True),
    of("artifact", name="referrer_id", primary_key=True),
)

synced_tag = Table(
    "synced_tag",
    metadata,
    of("repository", primary_key=True),
    Column("name", String(512), primary_key=True),
    of("artifact"),
    Column("set_at", Moment, nullable=False),
    Index(None, "artifact_id"),
    odd("synced_tag"),
)

# Each change of such a tag: from what to what; no `artifact_id` means that it was gone.
synced_tag_history = Table(
    "synced_tag_history",
    metadata,
    row(),
    of("repository"),
    Column("name", String(512), nullable=False),
    of("artifact", name="previous_id", nullable=True),
    of("artifact", nullable=True),
    Column("set_at", Moment, nullable=False),
    Index(None, "repository_id", "name"),
    Index(None, "artifact_id"),
)
