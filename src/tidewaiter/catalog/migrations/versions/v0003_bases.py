"""Bases by manifest digest, and who approved or retired them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "base_image",
        sa.Column("base_id", _IDENTITY, nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["base.id"], name="fk_base_image_base_id"),
        sa.PrimaryKeyConstraint("base_id", name="pk_base_image"),
    )
    op.create_index("ix_base_image_digest", "base_image", ["digest"], unique=False)
    op.create_table(
        "base_approval",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_base_approval"),
        sa.UniqueConstraint("name", "digest", name="uq_base_approval_name_digest"),
    )
    op.create_index("ix_base_approval_digest", "base_approval", ["digest"], unique=False)
