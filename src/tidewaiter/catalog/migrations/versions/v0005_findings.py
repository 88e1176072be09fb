"""Findings are kept up to date by package: which state of the advisory data each was matched with."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "package",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("ecosystem", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_package"),
        sa.UniqueConstraint("ecosystem", "name", name="uq_package_ecosystem_name"),
    )
    op.create_table(
        "component_package",
        sa.Column("component_id", _IDENTITY, nullable=False),
        sa.Column("package_id", _IDENTITY, nullable=False),
        sa.ForeignKeyConstraint(["component_id"], ["component.id"], name="fk_component_package_component_id"),
        sa.ForeignKeyConstraint(["package_id"], ["package.id"], name="fk_component_package_package_id"),
        sa.PrimaryKeyConstraint("component_id", name="pk_component_package"),
    )
    op.create_index("ix_component_package_package_id", "component_package", ["package_id"], unique=False)
    op.create_table(
        "component_gap",
        sa.Column("component_id", _IDENTITY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("advisories", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["component_id"], ["component.id"], name="fk_component_gap_component_id"),
        sa.PrimaryKeyConstraint("component_id", "position", name="pk_component_gap"),
    )
    op.create_table(
        "matching",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("advisories_revision", sa.Text(), nullable=False),
        sa.Column("coverage", sa.JSON(), nullable=False),
        sa.Column("matched_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_matching"),
    )
    op.create_index("ix_layer_component_component_id", "layer_component", ["component_id"], unique=False)
