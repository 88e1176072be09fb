"""What else the log compares and the graph asks for."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("repository_artifact", sa.Column("since", sa.DateTime(timezone=True), nullable=True))
