"""Who is told what happened, what was sent to them, what only time brings about; answers that are given again."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from tidewaiter.catalog.schema.columns import DigestText, Moment, metadata, of, row

# A subscription. Secrets are derived from a key of the home, so that none stands here: `generation` says which one,
# `key` from which key. `position` and `number` name the last event that was looked at for it.
webhook = Table(
    "webhook",
    metadata,
    row(),
    Column("name", String(64), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("types", JSON, nullable=False),
    Column("projects", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("key", DigestText, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("earlier_until", Moment),
    Column("position", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("resume_at", Moment),
)

# One message to one endpoint; `attempts` lists when it was tried, and what came of it. `next_at`: not before. What is
# told in words has in `same` what is the same for the same news.
webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    row(),
    of("webhook"),
    Column("name", String(64), nullable=False, unique=True),
    Column("event", String(64), nullable=False),
    Column("type", String(64), nullable=False),
    Column("same", Text),
    Column("body", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("ended_at", Moment),
    UniqueConstraint("webhook_id", "event"),
    Index(None, "webhook_id", "state", "next_at"),
    Index(None, "webhook_id", "same", "created_at"),
    Index(None, "state", "created_at"),
)

# Which server does what only one may do, and until when it need not say so again.
owned_work = Table(
    "owned_work",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", Moment, nullable=False),
)

# What was told once and is not told again: that a waiver ends soon.
announced = Table(
    "announced",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("at", Moment, nullable=False),
)

# What was answered to a request with an Idempotency-Key. `name` hashes who asked, for what, and the key; `request`
# hashes what was asked; `required`: what who asked had to be allowed. A row whose `status` is 0 belongs to a request
# that is under way, or was cut off.
idempotent_answer = Table(
    "idempotent_answer",
    metadata,
    Column("name", DigestText, primary_key=True),
    Column("request", DigestText, nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("required", JSON),
    Column("until", Moment, nullable=False),
    Index(None, "until"),
)

# Work that a server was asked for and that takes longer than an answer may. `until`: whoever does it says again before
# then that it lives.
server_job = Table(
    "server_job",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("subject", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("answer", JSON, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("until", Moment, nullable=False),
    Column("ended_at", Moment),
    Index(None, "created_at"),
)
