"""Images by digest: components, layers, bases, repositories and tags, verdicts, builds."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from tidewaiter.catalog.schema.columns import DigestText, Moment, metadata, odd, of, row

component_set = Table(
    "component_set",
    metadata,
    row(),
    Column("digest", DigestText, nullable=False, unique=True),
    Column("size", Integer, nullable=False),
)

component = Table(
    "component",
    metadata,
    row(),
    Column("purl", Text, nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("ecosystem", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("source_name", Text, nullable=False),
    Column("source_version", Text, nullable=False),
    Column("supplier", Text, nullable=False),
    Column("licenses", JSON, nullable=False),
    Index(None, "name"),
)

component_set_member = Table(
    "component_set_member",
    metadata,
    of("component_set", primary_key=True),
    of("component", primary_key=True),
    Index(None, "component_id"),
)

layer = Table(
    "layer",
    metadata,
    row(),
    Column("digest", DigestText, nullable=False, unique=True),
    Column("diff_id", DigestText, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("unpacked_size", BigInteger, nullable=False),
    Column("files", Integer, nullable=False),
    Index(None, "diff_id"),
)

# Where a layer says that it holds a component, and under which licences: a fact of the layer's bytes, so that one
# image cannot change what is shown of another that has the same package version.
layer_component = Table(
    "layer_component",
    metadata,
    of("layer", primary_key=True),
    of("component", primary_key=True),
    Column("location", Text, nullable=False),
    Column("licenses", JSON, nullable=False),
    Index(None, "component_id"),
)

# A base that images were built on, by what made it: its lock, or itself when it came as an image. `owner`,
# `approved_at` and `expires_at` are empty: who approved is said by digest in `base_approval`. They stay, since SQLite
# before 3.35 drops no column of a table that others refer to.
base = Table(
    "base",
    metadata,
    row(),
    Column("name", Text, nullable=False),
    Column("lock_digest", DigestText, nullable=False),
    Column("owner", Text),
    Column("approved_at", Moment),
    Column("expires_at", Moment),
    UniqueConstraint("name", "lock_digest"),
)

# The manifest of a base alone.
base_image = Table(
    "base_image",
    metadata,
    of("base", primary_key=True),
    Column("digest", DigestText, nullable=False),
    Index(None, "digest"),
)

# What someone said of a base: approved until, or retired. By manifest digest, whether it was built here or not.
base_approval = Table(
    "base_approval",
    metadata,
    row(),
    Column("name", Text, nullable=False),
    Column("digest", DigestText, nullable=False),
    Column("owner", Text, nullable=False),
    Column("approved_at", Moment),
    Column("expires_at", Moment),
    Column("retired_at", Moment),
    Column("reason", Text, nullable=False),
    UniqueConstraint("name", "digest"),
    Index(None, "digest"),
)

artifact = Table(
    "artifact",
    metadata,
    row(),
    Column("digest", DigestText, nullable=False, unique=True),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("facts", JSON),
    of("component_set", nullable=True),
    Column("created", Moment),
    Column("recorded_at", Moment, nullable=False),
    Index(None, "component_set_id", "id"),
)

artifact_layer = Table(
    "artifact_layer",
    metadata,
    of("artifact", primary_key=True),
    Column("position", Integer, primary_key=True),
    of("layer"),
    Column("kind", String(16), nullable=False),
    Column("title", Text, nullable=False),
    Column("contents", JSON, nullable=False),
    Index(None, "layer_id"),
)

repository = Table("repository", metadata, row(), Column("name", String(255), nullable=False, unique=True))

repository_artifact = Table(
    "repository_artifact",
    metadata,
    of("repository", primary_key=True),
    of("artifact", primary_key=True),
    Column("changed_at", Moment, nullable=False),
    # Since when the image is there; empty: since it was recorded, or since some day after it.
    Column("since", Moment),
    Index(None, "artifact_id", "repository_id"),
    Index(None, "changed_at"),
    Index(None, "repository_id", "changed_at"),
)

verdict = Table(
    "verdict",
    metadata,
    row(),
    of("artifact"),
    Column("environment", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("verdict", String(8), nullable=False),
    Column("policy_revision", Text, nullable=False),
    Column("advisories_revision", Text, nullable=False),
    Column("document", JSON, nullable=False),
    Column("decided_at", Moment, nullable=False),
    Column("valid_until", Moment, nullable=False),
    CheckConstraint("verdict IN ('allow', 'deny')", name="answer"),
    UniqueConstraint("artifact_id", "environment", "name"),
    Index(None, "artifact_id", "environment", "decided_at"),
    Index(None, "verdict", "environment", "artifact_id"),
)


def _tagging(*uncleared: str) -> list[Column[Any] | CheckConstraint]:
    """What a tag says now and what it said before; `verdict_id` is the one that cleared it."""
    others = ", ".join(f"'{one}'" for one in uncleared)
    return [
        of("artifact"),
        Column("visibility", String(8), nullable=False),
        of("verdict", nullable=True),
        Column("set_at", Moment, nullable=False),
        CheckConstraint(
            f"(visibility IN ({others}) AND verdict_id IS NULL) OR (visibility = 'cleared' AND verdict_id IS NOT NULL)",
            name="cleared_by_verdict",
        ),
    ]


tag = Table(
    "tag",
    metadata,
    of("repository", primary_key=True),
    Column("name", String(128), primary_key=True),
    *_tagging("built", "pulled"),
    Index(None, "artifact_id"),
    odd("tag"),
    Index(None, "verdict_id"),
)

# `gone`: from then on the tag meant nothing, and until then that image.
tag_history = Table(
    "tag_history",
    metadata,
    row(),
    of("repository"),
    Column("name", String(128), nullable=False),
    *_tagging("built", "pulled", "gone"),
    Index(None, "repository_id", "name"),
    Index(None, "artifact_id"),
)

build = Table(
    "build",
    metadata,
    row(),
    Column("key", DigestText, nullable=False, unique=True),
    of("artifact"),
    of("repository"),
    of("base", nullable=True),
    Column("environment", String(64), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("commit", String(64), nullable=False),
    Column("dirty", Boolean, nullable=False),
    Column("branch", Text, nullable=False),
    Column("pipeline_run", Text, nullable=False),
    # What the CI said of its job; nothing outside of one, and before this was kept.
    Column("ci", JSON(none_as_null=True)),
    Column("builder", Text, nullable=False),
    Column("base_lock", DigestText),
    Column("python_lock", DigestText),
    Column("materials", JSON, nullable=False),
    Column("reused_layers", Integer, nullable=False),
    Column("built_layers", Integer, nullable=False),
    Column("started", Moment, nullable=False),
    Column("finished", Moment, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("committed", Moment),
    Index(None, "artifact_id", "finished"),
    Index(None, "finished"),
    Index(None, "commit"),
    Index(None, "pipeline_run"),
    Index(None, "base_id"),
    Index(None, "environment", "artifact_id"),
)
