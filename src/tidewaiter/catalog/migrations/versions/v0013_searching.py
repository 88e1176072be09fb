"""What lists, searches and questions about 100,000 images are answered from; what verdicts were asked about."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


_INDEXES = (
    ("build", ("pipeline_run",)),
    ("build", ("environment", "artifact_id")),
    ("repository_artifact", ("repository_id", "changed_at")),
    ("verdict", ("verdict", "environment", "artifact_id")),
)


def upgrade() -> None:
    _questions()
    for table, columns in _INDEXES:
        op.create_index("_".join(("ix", table, *columns)), table, list(columns), unique=False)


def _questions() -> None:
    op.create_table(
        "question_class",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_question_class"),
        sa.UniqueConstraint("digest", name="uq_question_class_digest"),
    )
    op.create_table(
        "question",
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("question_class_id", _IDENTITY, nullable=False),
        sa.Column("own", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_question_artifact_id"),
        sa.ForeignKeyConstraint(["question_class_id"], ["question_class.id"], name="fk_question_question_class_id"),
        sa.PrimaryKeyConstraint("artifact_id", "environment", name="pk_question"),
    )
    op.create_index("ix_question_question_class_id", "question", ["question_class_id"], unique=False)
    op.create_table(
        "outdated_set",
        sa.Column("component_set_id", _IDENTITY, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["component_set_id"], ["component_set.id"], name="fk_outdated_set_component_set_id"),
        sa.PrimaryKeyConstraint("component_set_id", name="pk_outdated_set"),
    )
