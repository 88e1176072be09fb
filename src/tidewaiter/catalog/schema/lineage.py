"""Decisions of classes; what runs where, serves which model, belongs to whom; and histories."""

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from tidewaiter.catalog.schema.columns import DigestText, Moment, metadata, of, row

# What a Rego package answered about all images that are alike in what it reads; the key names pack, engine and reading.
decision = Table(
    "decision",
    metadata,
    row(),
    Column("key", DigestText, nullable=False, unique=True),
    Column("answer", LargeBinary, nullable=False),
)

# Who answers for what: a repository (or folder of them), a cluster or namespace, one workload, one model. No `until`:
# still.
ownership = Table(
    "ownership",
    metadata,
    row(),
    Column("kind", String(16), nullable=False),
    Column("subject", String(800), nullable=False),
    Column("owner", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("until", Moment),
    Index(None, "kind", "subject"),
)

# A container of what runs in a cluster.
workload = Table(
    "workload",
    metadata,
    row(),
    Column("cluster", String(255), nullable=False),
    Column("namespace", String(255), nullable=False),
    Column("name", String(255), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("container", String(255), nullable=False),
    UniqueConstraint("cluster", "namespace", "name", "kind", "container"),
)

model_version = Table(
    "model_version",
    metadata,
    row(),
    Column("name", String(255), nullable=False),
    Column("version", String(255), nullable=False),
    UniqueConstraint("name", "version"),
)


def _period() -> list[Column[Any] | Index]:
    """From when to when something had an image; no `gone_at`: it still has it.

    `known`: the image was in the catalog when it was recorded; else it may have come since.
    """
    return [
        Column("digest", DigestText, nullable=False),
        Column("known", Boolean, nullable=False),
        Column("stage", String(64), nullable=False),
        Column("first_seen", Moment, nullable=False),
        Column("last_seen", Moment, nullable=False),
        Column("gone_at", Moment),
        Index(None, "digest"),
    ]


workload_period = Table("workload_period", metadata, row(), of("workload"), *_period(), Index(None, "workload_id"))

model_period = Table("model_period", metadata, row(), of("model_version"), *_period(), Index(None, "model_version_id"))

# What findings said, and from when to when it was known; those without `until` are the rows of `finding`.
finding_period = Table(
    "finding_period",
    metadata,
    row(),
    of("component"),
    of("advisory"),
    Column("severity", String(16), nullable=False),
    Column("fixed_in", JSON, nullable=False),
    Column("found_as", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("until", Moment),
    Index(None, "component_id"),
    Index(None, "advisory_id"),
)

# When a verdict was decided before it was decided again from the same inputs.
verdict_earlier = Table(
    "verdict_earlier",
    metadata,
    row(),
    of("verdict"),
    Column("decided_at", Moment, nullable=False),
    Column("valid_until", Moment, nullable=False),
    Index(None, "verdict_id"),
)

# Since when the history of a fact is kept.
recorded_since = Table(
    "recorded_since",
    metadata,
    Column("fact", String(32), primary_key=True),
    Column("since", Moment, nullable=False),
)
