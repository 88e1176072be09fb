"""What happened, as a stream; who is told of it; answers that are given again for the same key."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DIGEST = sa.String(length=135)


def upgrade() -> None:
    _webhooks()
    op.create_table(
        "owned_work",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        _moment("until"),
        sa.PrimaryKeyConstraint("name", name="pk_owned_work"),
    )
    op.create_table(
        "announced",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        _moment("at"),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_announced"),
    )
    op.create_table(
        "idempotent_answer",
        sa.Column("name", _DIGEST, nullable=False),
        sa.Column("request", _DIGEST, nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        _moment("until"),
        sa.PrimaryKeyConstraint("name", name="pk_idempotent_answer"),
    )
    op.create_index("ix_idempotent_answer_until", "idempotent_answer", ["until"], unique=False)
    op.create_table(
        "server_job",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        _moment("created_at"),
        _moment("until"),
        _moment("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_server_job"),
    )
    op.create_index("ix_server_job_created_at", "server_job", ["created_at"], unique=False)


def _moment(name: str, *, nullable: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _webhooks() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", sa.JSON(), nullable=False),
        sa.Column("projects", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        _moment("created_at"),
        sa.Column("key", _DIGEST, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        _moment("earlier_until", nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        _moment("resume_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_webhook"),
        sa.UniqueConstraint("name", name="uq_webhook_name"),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("webhook_id", _IDENTITY, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.JSON(), nullable=False),
        _moment("created_at"),
        _moment("next_at"),
        _moment("ended_at", nullable=True),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhook.id"], name="fk_webhook_delivery_webhook_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_delivery"),
        sa.UniqueConstraint("name", name="uq_webhook_delivery_name"),
        sa.UniqueConstraint("webhook_id", "event", name="uq_webhook_delivery_webhook_id_event"),
    )
    for columns in (["webhook_id", "state", "next_at"], ["state", "created_at"]):
        name = "_".join(("ix_webhook_delivery", *columns))
        op.create_index(name, "webhook_delivery", columns, unique=False)
