"""Runs of pipelines, their steps and logs, and the workers that carry them out."""

from sqlalchemy import JSON, BigInteger, Boolean, CheckConstraint, Column, Index, Integer, String, Table, Text

from tidewaiter.catalog.schema.columns import Moment, metadata, of, row

# A run. `key`: whoever asks again with it gets the same run. `attempts` counts the claims of it, and is the number by
# which the last of them is told from those before; `losses`: of them, workers that fell silent since a step was done.
# `round`: which of the engine's workflows carries it out. `resume_at`: not before.
pipeline_run = Table(
    "pipeline_run",
    metadata,
    row(),
    Column("name", String(32), nullable=False, unique=True),
    Column("key", String(128), unique=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("team", String(64), nullable=False),
    Column("repository", String(500), nullable=False),
    Column("asked", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("resume_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("worker", String(128), nullable=False),
    Column("shape", String(32), nullable=False),
    Column("cancelling", Boolean, nullable=False),
    Column("progress", JSON),
    Column("result", JSON, nullable=False),
    Column("error", JSON),
    CheckConstraint(
        "state IN ('queued', 'running', 'done', 'denied', 'failed', 'cancelled', 'poisoned')", name="state"
    ),
    Index(None, "state", "id"),
    Index(None, "team", "state"),
    Index(None, "repository", "id"),
    Index(None, "ended_at"),
)

# A step of a run. `deaths`: how often its process died.
pipeline_step = Table(
    "pipeline_step",
    metadata,
    of("pipeline_run", primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("name", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment),
    Column("answer", JSON, nullable=False),
    Column("error", JSON),
)

# What a run said while it worked.
pipeline_line = Table(
    "pipeline_line",
    metadata,
    of("pipeline_run", primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("step", String(32), nullable=False),
    Column("text", Text, nullable=False),
)

# A process that carries runs out. Its `beats` grow for as long as it lives.
pipeline_worker = Table(
    "pipeline_worker",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("beats", BigInteger, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("seen_at", Moment, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("version", String(64), nullable=False),
)
