"""What waits in front of the store: pushed, not yet allowed."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DIGEST = sa.String(length=135)
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Blobs, manifests and tags of the repositories behind the gate."""
    op.create_table(
        "gate_blob",
        sa.Column("repository_id", _IDENTITY, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("added_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], name="fk_gate_blob_repository_id"),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_gate_blob"),
    )
    op.create_index("ix_gate_blob_digest", "gate_blob", ["digest"], unique=False)
    _manifests()
    op.create_table(
        "gate_tag",
        sa.Column("repository_id", _IDENTITY, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("digest", _DIGEST, nullable=True),
        sa.Column("waiting", _DIGEST, nullable=True),
        sa.Column("set_at", _MOMENT, nullable=False),
        sa.CheckConstraint("digest IS NOT NULL OR waiting IS NOT NULL", name=op.f("ck_gate_tag_says_something")),
        sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], name="fk_gate_tag_repository_id"),
        sa.PrimaryKeyConstraint("repository_id", "name", name="pk_gate_tag"),
    )


def _manifests() -> None:
    op.create_table(
        "gate_manifest",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("repository_id", _IDENTITY, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("media_type", sa.String(length=255), nullable=False),
        sa.Column("artifact_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("subject", _DIGEST, nullable=True),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("answer", "pushed_by")),
        sa.Column("pushed_at", _MOMENT, nullable=False),
        sa.Column("decided_at", _MOMENT, nullable=True),
        sa.CheckConstraint("state IN ('quarantined', 'visible')", name=op.f("ck_gate_manifest_state")),
        sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], name="fk_gate_manifest_repository_id"),
        sa.PrimaryKeyConstraint("id", name="pk_gate_manifest"),
        sa.UniqueConstraint("repository_id", "digest", name="uq_gate_manifest_repository_id_digest"),
    )
    op.create_index("ix_gate_manifest_digest", "gate_manifest", ["digest"], unique=False)
    op.create_index("ix_gate_manifest_repository_id_subject", "gate_manifest", ["repository_id", "subject"])
    op.create_index("ix_gate_manifest_state", "gate_manifest", ["state"], unique=False)
    op.create_table(
        "gate_member",
        sa.Column("gate_manifest_id", _IDENTITY, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.ForeignKeyConstraint(["gate_manifest_id"], ["gate_manifest.id"], name="fk_gate_member_gate_manifest_id"),
        sa.PrimaryKeyConstraint("gate_manifest_id", "digest", name="pk_gate_member"),
    )
    op.create_index("ix_gate_member_digest", "gate_member", ["digest"], unique=False)
