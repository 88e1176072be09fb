"""What a CI said of the job that built an image."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("build", sa.Column("ci", sa.JSON(), nullable=True))
