"""Tables of the catalog, in the nouns of the architecture.

Whatever many images share is stored once and named by its content: a layer, a component, a set of components,
a finding (one component version under one advisory). So a new advisory costs as many rows as the component
versions it touches, not as many as there are images. No type here belongs to one database only.
"""

import datetime as dt
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Identity = BigInteger().with_variant(Integer, "sqlite")
"""Row number: 64 bits everywhere (SQLite numbers rows by itself only when the type is spelled INTEGER)."""

DigestText = String(135)
"""`algorithm:hex`, at most that of SHA-512."""


class Moment(TypeDecorator[dt.datetime]):
    """A point in time in UTC; SQLite, which has no zones, stores it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        moment = value.astimezone(dt.UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002 - the base class names it
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=dt.UTC)


def _row(**options: Any) -> Column[int]:  # noqa: ANN401 - passed on to Column
    return Column("id", Identity, primary_key=True, autoincrement=True, **options)


def _of(table: str, *, name: str | None = None, primary_key: bool = False, nullable: bool = False) -> Column[int]:
    return Column(
        name or f"{table}_id", Identity, ForeignKey(f"{table}.id"), primary_key=primary_key, nullable=nullable
    )


component_set = Table(
    "component_set",
    metadata,
    _row(),
    Column("digest", DigestText, nullable=False, unique=True),
    Column("size", Integer, nullable=False),
)

component = Table(
    "component",
    metadata,
    _row(),
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
    _of("component_set", primary_key=True),
    _of("component", primary_key=True),
    Index(None, "component_id"),
)

layer = Table(
    "layer",
    metadata,
    _row(),
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
    _of("layer", primary_key=True),
    _of("component", primary_key=True),
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
    _row(),
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
    _of("base", primary_key=True),
    Column("digest", DigestText, nullable=False),
    Index(None, "digest"),
)

# What someone said of a base: approved until, or retired. By manifest digest, whether it was built here or not.
base_approval = Table(
    "base_approval",
    metadata,
    _row(),
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
    _row(),
    Column("digest", DigestText, nullable=False, unique=True),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("facts", JSON),
    _of("component_set", nullable=True),
    Column("created", Moment),
    Column("recorded_at", Moment, nullable=False),
    Index(None, "component_set_id"),
)

artifact_layer = Table(
    "artifact_layer",
    metadata,
    _of("artifact", primary_key=True),
    Column("position", Integer, primary_key=True),
    _of("layer"),
    Column("kind", String(16), nullable=False),
    Column("title", Text, nullable=False),
    Column("contents", JSON, nullable=False),
    Index(None, "layer_id"),
)

repository = Table("repository", metadata, _row(), Column("name", String(255), nullable=False, unique=True))

repository_artifact = Table(
    "repository_artifact",
    metadata,
    _of("repository", primary_key=True),
    _of("artifact", primary_key=True),
    Column("changed_at", Moment, nullable=False),
    Index(None, "artifact_id"),
    Index(None, "changed_at"),
)

verdict = Table(
    "verdict",
    metadata,
    _row(),
    _of("artifact"),
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
)


def _tagging() -> list[Column[Any] | CheckConstraint]:
    """What a tag says now and what it said before; `verdict_id` is the one that cleared it."""
    return [
        _of("artifact"),
        Column("visibility", String(8), nullable=False),
        _of("verdict", nullable=True),
        Column("set_at", Moment, nullable=False),
        CheckConstraint(
            "(visibility IN ('built', 'pulled') AND verdict_id IS NULL) "
            "OR (visibility = 'cleared' AND verdict_id IS NOT NULL)",
            name="cleared_by_verdict",
        ),
    ]


tag = Table(
    "tag",
    metadata,
    _of("repository", primary_key=True),
    Column("name", String(128), primary_key=True),
    *_tagging(),
    Index(None, "artifact_id"),
    Index(None, "verdict_id"),
)

tag_history = Table(
    "tag_history",
    metadata,
    _row(),
    _of("repository"),
    Column("name", String(128), nullable=False),
    *_tagging(),
    Index(None, "repository_id", "name"),
)

build = Table(
    "build",
    metadata,
    _row(),
    Column("key", DigestText, nullable=False, unique=True),
    _of("artifact"),
    _of("repository"),
    _of("base", nullable=True),
    Column("environment", String(64), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("source", Text, nullable=False),
    Column("commit", String(64), nullable=False),
    Column("dirty", Boolean, nullable=False),
    Column("branch", Text, nullable=False),
    Column("pipeline_run", Text, nullable=False),
    Column("builder", Text, nullable=False),
    Column("base_lock", DigestText),
    Column("python_lock", DigestText),
    Column("materials", JSON, nullable=False),
    Column("reused_layers", Integer, nullable=False),
    Column("built_layers", Integer, nullable=False),
    Column("started", Moment, nullable=False),
    Column("finished", Moment, nullable=False),
    Column("seconds", Float, nullable=False),
    Index(None, "artifact_id", "finished"),
    Index(None, "commit"),
    Index(None, "base_id"),
)

advisory = Table(
    "advisory",
    metadata,
    _row(),
    Column("name", String(128), nullable=False, unique=True),
    Column("published", Moment),
    Column("modified", Moment),
)

# Every name under which an advisory is known, its own included.
advisory_alias = Table(
    "advisory_alias",
    metadata,
    Column("alias", String(128), primary_key=True),
    _of("advisory", primary_key=True),
    Index(None, "advisory_id"),
)

finding = Table(
    "finding",
    metadata,
    _of("component", primary_key=True),
    _of("advisory", primary_key=True),
    Column("severity", String(16), nullable=False),
    Column("score", Float),
    Column("vector", Text, nullable=False),
    Column("fixed_in", JSON, nullable=False),
    Column("found_as", Text, nullable=False),
    Column("advisories_revision", Text, nullable=False),
    Column("found_at", Moment, nullable=False),
    Index(None, "advisory_id"),
)

# That the components of a set were compared with the advisories of a revision, and which could not be.
scan = Table(
    "scan",
    metadata,
    _row(),
    _of("component_set"),
    Column("advisories_revision", Text, nullable=False),
    Column("advisories_as_of", Moment),
    Column("not_checked", JSON, nullable=False),
    Column("scanned_at", Moment, nullable=False),
    UniqueConstraint("component_set_id", "advisories_revision"),
    Index(None, "scanned_at"),
)

# A package as advisories speak of it, and the state of the advisory data that its versions' findings come from.
package = Table(
    "package",
    metadata,
    _row(),
    Column("ecosystem", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    UniqueConstraint("ecosystem", "name"),
)

# Components whose findings are those of their package's state; one that is missing here is to be matched.
component_package = Table(
    "component_package",
    metadata,
    _of("component", primary_key=True),
    _of("package"),
    Index(None, "package_id"),
)

# Why a component, or some advisories about it, could not be judged when it was matched.
component_gap = Table(
    "component_gap",
    metadata,
    _of("component", primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("advisories", JSON, nullable=False),
)

# The advisories that every component of the catalog was matched with last: one row.
matching = Table(
    "matching",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("advisories_revision", Text, nullable=False),
    Column("coverage", JSON, nullable=False),
    Column("matched_at", Moment, nullable=False),
)

signature = Table(
    "signature",
    metadata,
    _row(),
    _of("artifact"),
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
    _row(),
    _of("artifact"),
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
    _row(),
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

audit_event = Table(
    "audit_event",
    metadata,
    _row(),
    Column("at", Moment, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Index(None, "subject"),
)
