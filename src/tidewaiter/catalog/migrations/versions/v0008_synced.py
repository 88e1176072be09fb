"""What is seen in registries, layouts and archives: manifests, what an index lists, referrers, tags with history."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "synced_manifest",
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("artifact_type", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("reader", sa.String(length=64), nullable=False),
        _artifact("synced_manifest", "artifact_id"),
        sa.PrimaryKeyConstraint("artifact_id", name="pk_synced_manifest"),
    )
    op.create_table(
        "synced_child",
        sa.Column("parent_id", _IDENTITY, nullable=False),
        sa.Column("child_id", _IDENTITY, nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        _artifact("synced_child", "parent_id"),
        _artifact("synced_child", "child_id"),
        sa.PrimaryKeyConstraint("parent_id", "child_id", name="pk_synced_child"),
    )
    op.create_index("ix_synced_child_child_id", "synced_child", ["child_id"], unique=False)
    op.create_table(
        "synced_referrer",
        sa.Column("subject_id", _IDENTITY, nullable=False),
        sa.Column("referrer_id", _IDENTITY, nullable=False),
        _artifact("synced_referrer", "subject_id"),
        _artifact("synced_referrer", "referrer_id"),
        sa.PrimaryKeyConstraint("subject_id", "referrer_id", name="pk_synced_referrer"),
    )
    _tags()


def _artifact(table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["artifact.id"], name=f"fk_{table}_{column}")


def _repository(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["repository_id"], ["repository.id"], name=f"fk_{table}_repository_id")


def _tags() -> None:
    op.create_table(
        "synced_tag",
        sa.Column("repository_id", _IDENTITY, nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        _artifact("synced_tag", "artifact_id"),
        _repository("synced_tag"),
        sa.PrimaryKeyConstraint("repository_id", "name", name="pk_synced_tag"),
    )
    op.create_index("ix_synced_tag_artifact_id", "synced_tag", ["artifact_id"], unique=False)
    op.create_table(
        "synced_tag_history",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("repository_id", _IDENTITY, nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("previous_id", _IDENTITY, nullable=True),
        sa.Column("artifact_id", _IDENTITY, nullable=True),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        _artifact("synced_tag_history", "previous_id"),
        _artifact("synced_tag_history", "artifact_id"),
        _repository("synced_tag_history"),
        sa.PrimaryKeyConstraint("id", name="pk_synced_tag_history"),
    )
    op.create_index(
        "ix_synced_tag_history_repository_id_name", "synced_tag_history", ["repository_id", "name"], unique=False
    )
