"""Webhooks that were taken, and when schedules come round."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """What makes runs by itself."""
    op.create_table(
        "hook_delivery",
        sa.Column("sender", sa.String(length=100), nullable=False),
        sa.Column("delivery", sa.String(length=200), nullable=False),
        sa.Column("runs", sa.Text(), nullable=False),
        sa.Column("until", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sender", "delivery", name="pk_hook_delivery"),
    )
    op.create_index("ix_hook_delivery_until", "hook_delivery", ["until"], unique=False)
    op.create_table(
        "schedule_turn",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("next_at", _MOMENT, nullable=False),
        sa.Column("retry_at", _MOMENT, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_schedule_turn"),
    )
