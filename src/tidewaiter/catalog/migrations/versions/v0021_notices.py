"""What was told in words, so that the same is not said again."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhook_delivery", sa.Column("same", sa.Text(), nullable=True))
    op.create_index(
        "ix_webhook_delivery_webhook_id_same_created_at", "webhook_delivery", ["webhook_id", "same", "created_at"]
    )
