"""The first schema: images, layers, components, findings, builds, verdicts, tags, signatures, audit events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_CLEARED = "(visibility = 'built' AND verdict_id IS NULL) OR (visibility = 'cleared' AND verdict_id IS NOT NULL)"


def upgrade() -> None:
    op.create_table(
        "advisory",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("published", sa.DateTime(timezone=True), nullable=True),
        sa.Column("modified", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_advisory"),
        sa.UniqueConstraint("name", name="uq_advisory_name"),
    )
    op.create_table(
        "audit_event",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_event"),
    )
    op.create_index("ix_audit_event_subject", "audit_event", ["subject"], unique=False)
    op.create_table(
        "base",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("lock_digest", sa.String(length=135), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_base"),
        sa.UniqueConstraint("name", "lock_digest", name="uq_base_name_lock_digest"),
    )
    op.create_table(
        "component",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("purl", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ecosystem", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("source_name", sa.Text(), nullable=False),
        sa.Column("source_version", sa.Text(), nullable=False),
        sa.Column("supplier", sa.Text(), nullable=False),
        sa.Column("licenses", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_component"),
        sa.UniqueConstraint("purl", name="uq_component_purl"),
    )
    op.create_index("ix_component_name", "component", ["name"], unique=False)
    op.create_table(
        "component_set",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_component_set"),
        sa.UniqueConstraint("digest", name="uq_component_set_digest"),
    )
    op.create_table(
        "layer",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("diff_id", sa.String(length=135), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("unpacked_size", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_layer"),
        sa.UniqueConstraint("digest", name="uq_layer_digest"),
    )
    op.create_index("ix_layer_diff_id", "layer", ["diff_id"], unique=False)
    op.create_table(
        "repository",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_repository"),
        sa.UniqueConstraint("name", name="uq_repository_name"),
    )
    op.create_table(
        "advisory_alias",
        sa.Column("alias", sa.String(length=128), nullable=False),
        sa.Column("advisory_id", _IDENTITY, nullable=False),
        sa.ForeignKeyConstraint(["advisory_id"], ["advisory.id"], name="fk_advisory_alias_advisory_id"),
        sa.PrimaryKeyConstraint("alias", "advisory_id", name="pk_advisory_alias"),
    )
    op.create_index("ix_advisory_alias_advisory_id", "advisory_alias", ["advisory_id"], unique=False)
    op.create_table(
        "artifact",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=True),
        sa.Column("component_set_id", _IDENTITY, nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["component_set_id"], ["component_set.id"], name="fk_artifact_component_set_id"),
        sa.PrimaryKeyConstraint("id", name="pk_artifact"),
        sa.UniqueConstraint("digest", name="uq_artifact_digest"),
    )
    op.create_index("ix_artifact_component_set_id", "artifact", ["component_set_id"], unique=False)
    op.create_table(
        "component_set_member",
        sa.Column("component_set_id", _IDENTITY, nullable=False),
        sa.Column("component_id", _IDENTITY, nullable=False),
        sa.ForeignKeyConstraint(["component_id"], ["component.id"], name="fk_component_set_member_component_id"),
        sa.ForeignKeyConstraint(
            ["component_set_id"], ["component_set.id"], name="fk_component_set_member_component_set_id"
        ),
        sa.PrimaryKeyConstraint("component_set_id", "component_id", name="pk_component_set_member"),
    )
    op.create_index("ix_component_set_member_component_id", "component_set_member", ["component_id"], unique=False)
    op.create_table(
        "finding",
        sa.Column("component_id", _IDENTITY, nullable=False),
        sa.Column("advisory_id", _IDENTITY, nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("vector", sa.Text(), nullable=False),
        sa.Column("fixed_in", sa.JSON(), nullable=False),
        sa.Column("found_as", sa.Text(), nullable=False),
        sa.Column("advisories_revision", sa.Text(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["advisory_id"], ["advisory.id"], name="fk_finding_advisory_id"),
        sa.ForeignKeyConstraint(["component_id"], ["component.id"], name="fk_finding_component_id"),
        sa.PrimaryKeyConstraint("component_id", "advisory_id", name="pk_finding"),
    )
    op.create_index("ix_finding_advisory_id", "finding", ["advisory_id"], unique=False)
    op.create_table(
        "layer_component",
        sa.Column("layer_id", _IDENTITY, nullable=False),
        sa.Column("component_id", _IDENTITY, nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("licenses", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["component_id"], ["component.id"], name="fk_layer_component_component_id"),
        sa.ForeignKeyConstraint(["layer_id"], ["layer.id"], name="fk_layer_component_layer_id"),
        sa.PrimaryKeyConstraint("layer_id", "component_id", name="pk_layer_component"),
    )
    op.create_table(
        "scan",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("component_set_id", _IDENTITY, nullable=False),
        sa.Column("advisories_revision", sa.Text(), nullable=False),
        sa.Column("advisories_as_of", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_checked", sa.JSON(), nullable=False),
        sa.Column("scanned_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["component_set_id"], ["component_set.id"], name="fk_scan_component_set_id"),
        sa.PrimaryKeyConstraint("id", name="pk_scan"),
        sa.UniqueConstraint(
            "component_set_id", "advisories_revision", name="uq_scan_component_set_id_advisories_revision"
        ),
    )
    op.create_index("ix_scan_scanned_at", "scan", ["scanned_at"], unique=False)
    op.create_table(
        "artifact_layer",
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("layer_id", _IDENTITY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("contents", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_artifact_layer_artifact_id"),
        sa.ForeignKeyConstraint(["layer_id"], ["layer.id"], name="fk_artifact_layer_layer_id"),
        sa.PrimaryKeyConstraint("artifact_id", "position", name="pk_artifact_layer"),
    )
    op.create_index("ix_artifact_layer_layer_id", "artifact_layer", ["layer_id"], unique=False)
    op.create_table(
        "attachment",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("blob_digest", sa.String(length=135), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_attachment_artifact_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attachment"),
        sa.UniqueConstraint("artifact_id", "kind", "blob_digest", name="uq_attachment_artifact_id_kind_blob_digest"),
    )
    op.create_table(
        "build",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=135), nullable=False),
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("repository_id", _IDENTITY, nullable=False),
        sa.Column("base_id", _IDENTITY, nullable=True),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("commit", sa.String(length=64), nullable=False),
        sa.Column("dirty", sa.Boolean(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("pipeline_run", sa.Text(), nullable=False),
        sa.Column("builder", sa.Text(), nullable=False),
        sa.Column("base_lock", sa.String(length=135), nullable=True),
        sa.Column("python_lock", sa.String(length=135), nullable=True),
        sa.Column("materials", sa.JSON(), nullable=False),
        sa.Column("reused_layers", sa.Integer(), nullable=False),
        sa.Column("built_layers", sa.Integer(), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_build_artifact_id"),
        sa.ForeignKeyConstraint(["base_id"], ["base.id"], name="fk_build_base_id"),
        sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], name="fk_build_repository_id"),
        sa.PrimaryKeyConstraint("id", name="pk_build"),
        sa.UniqueConstraint("key", name="uq_build_key"),
    )
    op.create_index("ix_build_artifact_id_finished", "build", ["artifact_id", "finished"], unique=False)
    op.create_index("ix_build_base_id", "build", ["base_id"], unique=False)
    op.create_index("ix_build_commit", "build", ["commit"], unique=False)
    op.create_table(
        "repository_artifact",
        sa.Column("repository_id", _IDENTITY, nullable=False),
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_repository_artifact_artifact_id"),
        sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], name="fk_repository_artifact_repository_id"),
        sa.PrimaryKeyConstraint("repository_id", "artifact_id", name="pk_repository_artifact"),
    )
    op.create_index("ix_repository_artifact_artifact_id", "repository_artifact", ["artifact_id"], unique=False)
    op.create_index("ix_repository_artifact_changed_at", "repository_artifact", ["changed_at"], unique=False)
    op.create_table(
        "signature",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("key_fingerprint", sa.String(length=135), nullable=False),
        sa.Column("builder", sa.Text(), nullable=False),
        sa.Column("format", sa.String(length=32), nullable=False),
        sa.Column("manifest_digest", sa.String(length=135), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_signature_artifact_id"),
        sa.PrimaryKeyConstraint("id", name="pk_signature"),
        sa.UniqueConstraint(
            "artifact_id",
            "manifest_digest",
            "key_fingerprint",
            name="uq_signature_artifact_id_manifest_digest_key_fingerprint",
        ),
    )
    op.create_table(
        "verdict",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("policy_revision", sa.Text(), nullable=False),
        sa.Column("advisories_revision", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("verdict IN ('allow', 'deny')", name=op.f("ck_verdict_answer")),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_verdict_artifact_id"),
        sa.PrimaryKeyConstraint("id", name="pk_verdict"),
        sa.UniqueConstraint("artifact_id", "environment", "name", name="uq_verdict_artifact_id_environment_name"),
    )
    op.create_index(
        "ix_verdict_artifact_id_environment_decided_at",
        "verdict",
        ["artifact_id", "environment", "decided_at"],
        unique=False,
    )
    op.create_table(
        "tag",
        sa.Column("repository_id", _IDENTITY, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("visibility", sa.String(length=8), nullable=False),
        sa.Column("verdict_id", _IDENTITY, nullable=True),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            _CLEARED,
            name=op.f("ck_tag_cleared_by_verdict"),
        ),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_tag_artifact_id"),
        sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], name="fk_tag_repository_id"),
        sa.ForeignKeyConstraint(["verdict_id"], ["verdict.id"], name="fk_tag_verdict_id"),
        sa.PrimaryKeyConstraint("repository_id", "name", name="pk_tag"),
    )
    op.create_index("ix_tag_artifact_id", "tag", ["artifact_id"], unique=False)
    op.create_index("ix_tag_verdict_id", "tag", ["verdict_id"], unique=False)
    op.create_table(
        "tag_history",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("repository_id", _IDENTITY, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("visibility", sa.String(length=8), nullable=False),
        sa.Column("verdict_id", _IDENTITY, nullable=True),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            _CLEARED,
            name=op.f("ck_tag_history_cleared_by_verdict"),
        ),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_tag_history_artifact_id"),
        sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], name="fk_tag_history_repository_id"),
        sa.ForeignKeyConstraint(["verdict_id"], ["verdict.id"], name="fk_tag_history_verdict_id"),
        sa.PrimaryKeyConstraint("id", name="pk_tag_history"),
    )
    op.create_index("ix_tag_history_repository_id_name", "tag_history", ["repository_id", "name"], unique=False)
