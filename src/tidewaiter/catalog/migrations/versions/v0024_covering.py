"""Indexes that answer by themselves what lists and `affected` ask of 100,000 images; tags with odd names apart.

And up to which component all were matched, so that nobody counts them for each question.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_COVERING = (
    ("artifact", "ix_artifact_component_set_id", ("component_set_id", "id")),
    ("repository_artifact", "ix_repository_artifact_artifact_id", ("artifact_id", "repository_id")),
)

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("matching", sa.Column("through", _IDENTITY, nullable=True))
    for table, narrower, columns in _COVERING:
        op.create_index("_".join(("ix", table, *columns)), table, list(columns), unique=False)
        op.drop_index(narrower, table)
    for table in ("tag", "synced_tag"):
        op.create_index(
            f"ix_{table}_odd",
            table,
            ["artifact_id"],
            unique=False,
            postgresql_where=sa.text("name ~ '[^A-Za-z0-9._-]'"),
            sqlite_where=sa.text("name GLOB '*[^A-Za-z0-9._-]*'"),
        )
