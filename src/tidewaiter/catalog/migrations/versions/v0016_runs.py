"""Runs of pipelines."""

import datetime as dt

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_ROW = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _moment(name: str, *, nullable: bool = False) -> sa.Column[dt.datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _of_run() -> sa.Column[int]:
    return sa.Column("pipeline_run_id", _ROW, nullable=False)


def _run_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["pipeline_run_id"], ["pipeline_run.id"], name=f"fk_{table}_pipeline_run_id")


def upgrade() -> None:
    op.create_table(
        "pipeline_run",
        sa.Column("id", _ROW, autoincrement=True, nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("key", sa.String(128), nullable=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("team", sa.String(64), nullable=False),
        sa.Column("repository", sa.String(500), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        _moment("created_at"),
        _moment("started_at", nullable=True),
        _moment("ended_at", nullable=True),
        _moment("resume_at"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(128), nullable=False),
        sa.Column("shape", sa.String(32), nullable=False),
        sa.Column("cancelling", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'denied', 'failed', 'cancelled', 'poisoned')",
            name=op.f("ck_pipeline_run_state"),
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pipeline_run"),
        sa.UniqueConstraint("name", name="uq_pipeline_run_name"),
        sa.UniqueConstraint("key", name="uq_pipeline_run_key"),
    )
    op.create_index("ix_pipeline_run_state_id", "pipeline_run", ["state", "id"])
    op.create_index("ix_pipeline_run_team_state", "pipeline_run", ["team", "state"])
    op.create_index("ix_pipeline_run_repository_id", "pipeline_run", ["repository", "id"])
    op.create_index("ix_pipeline_run_ended_at", "pipeline_run", ["ended_at"])
    op.create_table(
        "pipeline_step",
        _of_run(),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        _moment("started_at", nullable=True),
        _moment("ended_at", nullable=True),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        _run_key("pipeline_step"),
        sa.PrimaryKeyConstraint("pipeline_run_id", "number", name="pk_pipeline_step"),
    )
    op.create_table(
        "pipeline_line",
        _of_run(),
        sa.Column("number", sa.Integer(), nullable=False),
        _moment("at"),
        sa.Column("step", sa.String(32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        _run_key("pipeline_line"),
        sa.PrimaryKeyConstraint("pipeline_run_id", "number", name="pk_pipeline_line"),
    )
    op.create_table(
        "pipeline_worker",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        _moment("started_at"),
        _moment("seen_at"),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_pipeline_worker"),
    )
