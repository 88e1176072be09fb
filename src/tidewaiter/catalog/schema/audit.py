"""The audit log: what waits, numbered entries, hashes, the last checkpoint."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from tidewaiter.catalog.schema.columns import DigestText, Identity, Moment, metadata, row

# The audit log (`audit`). An entry waits here from the change that it is about, whose transaction wrote it, until the
# sequencer numbers it: row numbers may become visible out of their order, positions do not.
audit_pending = Table(
    "audit_pending",
    metadata,
    row(),
    Column("entry", LargeBinary, nullable=False),
)

# Numbered entries; `at`, `action` and `subject` repeat what the entry says, to be searched.
audit_entry = Table(
    "audit_entry",
    metadata,
    Column("position", Identity, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Index(None, "subject"),
)

# Hashes of the Merkle tree, 256 in a whole tile (C2SP tlog-tiles).
audit_tile = Table(
    "audit_tile",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", Identity, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

# The last checkpoint: one row, none before the first entry.
audit_state = Table(
    "audit_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("checkpoint", LargeBinary, nullable=False),
)

# What is too long for an entry, which names it by its digest.
audit_document = Table(
    "audit_document",
    metadata,
    Column("digest", DigestText, primary_key=True),
    Column("document", LargeBinary, nullable=False),
)
