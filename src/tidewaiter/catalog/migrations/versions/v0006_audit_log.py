"""Attestations; and the audit log, in which what was an event becomes the first entries."""

import datetime as dt
import hashlib
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ENTRY_BYTES = 65_535
_AT_ONCE = 1000


def upgrade() -> None:
    _attestations()
    _log()
    _take_events()
    op.drop_index("ix_audit_event_subject", table_name="audit_event")
    op.drop_table("audit_event")


def _attestations() -> None:
    op.create_table(
        "attestation",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("artifact_id", _IDENTITY, nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("predicate_type", sa.Text(), nullable=False),
        sa.Column("manifest_digest", sa.String(length=135), nullable=False),
        sa.Column("blob_digest", sa.String(length=135), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("key_fingerprint", sa.String(length=135), nullable=False),
        sa.Column("builder", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name="fk_attestation_artifact_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attestation"),
        sa.UniqueConstraint(
            "artifact_id", "format", "blob_digest", name="uq_attestation_artifact_id_format_blob_digest"
        ),
    )
    op.create_index("ix_attestation_artifact_id", "attestation", ["artifact_id"], unique=False)


def _log() -> None:
    op.create_table(
        "audit_pending",
        sa.Column("id", _IDENTITY, autoincrement=True, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_pending"),
    )
    op.create_table(
        "audit_entry",
        sa.Column("position", _IDENTITY, autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_audit_entry"),
    )
    op.create_index("ix_audit_entry_subject", "audit_entry", ["subject"], unique=False)
    op.create_table(
        "audit_tile",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", _IDENTITY, autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name="pk_audit_tile"),
    )
    op.create_table(
        "audit_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("checkpoint", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_state"),
    )
    op.create_table(
        "audit_document",
        sa.Column("digest", sa.String(length=135), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_audit_document"),
    )


def _canonical(value: object) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _entry(row: Any) -> tuple[bytes, bytes]:  # noqa: ANN401 - a row of a table that is no longer known
    """An event as entries were written when this migration was; and its document when it is too long for one."""
    at = row.at if isinstance(row.at, dt.datetime) else dt.datetime.fromisoformat(row.at)
    at = at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC)
    fields: dict[str, Any] = {
        "version": 1,
        "time": at.replace(microsecond=0, tzinfo=None).isoformat() + "Z",
        "actor": "local",
        "action": row.action,
        "subject": row.subject,
    }
    detail = row.detail if isinstance(row.detail, dict) else msgspec.json.decode(row.detail)
    entry = _canonical({**fields, "detail": detail} if detail else fields)
    if len(entry) <= _ENTRY_BYTES:
        return entry, b""
    document = _canonical({"detail": detail, "states": []})
    return _canonical({**fields, "document": "sha256:" + hashlib.sha256(document).hexdigest()}), document


def _take_events() -> None:
    connection = op.get_bind()
    pending = sa.table("audit_pending", sa.column("entry", sa.LargeBinary()))
    names = ("id", "at", "action", "subject", "detail")
    events = sa.table("audit_event", *(sa.column(name) for name in names))
    last = 0
    while rows := connection.execute(
        sa.select(events).where(events.c.id > last).order_by(events.c.id).limit(_AT_ONCE)
    ).all():
        last = rows[-1].id
        made = [_entry(row) for row in rows]
        documents = {"sha256:" + hashlib.sha256(long).hexdigest(): long for _, long in made if long}
        for digest, document in documents.items():
            known = sa.text("SELECT 1 FROM audit_document WHERE digest = :digest")
            if connection.execute(known, {"digest": digest}).first() is None:
                connection.execute(
                    sa.text("INSERT INTO audit_document (digest, document) VALUES (:digest, :document)"),
                    {"digest": digest, "document": document},
                )
        connection.execute(pending.insert(), [{"entry": entry} for entry, _ in made])
