"""Lead times: when the commit of a build was made; what it led to is known already."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("build", sa.Column("committed", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_build_finished", "build", ["finished"], unique=False)
